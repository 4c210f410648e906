#!/bin/sh
# /init of the test guests: brings up the Hyper-V drivers of the kernel it runs on and says what it found.
# Words on the kernel command line:
#   hyperstep.shell      end in a shell on the console instead of powering off
#   hyperstep.nomod      load no module
#   hyperstep.wait=N     sleep N seconds before the end (heartbeats, a shutdown request)
#   hyperstep.run=A,B    run the command `A B` before the end
B=/bin/busybox

echo INIT-START
$B mkdir -p /proc /sys /dev /tmp
$B mount -t proc proc /proc
$B mount -t sysfs sysfs /sys
$B mount -t devtmpfs devtmpfs /dev 2>/dev/null
$B --install -s /bin 2>/dev/null

shell=0 nomod=0 wait=0 run=
for word in $($B cat /proc/cmdline); do
  case $word in
  hyperstep.shell) shell=1 ;;
  hyperstep.nomod) nomod=1 ;;
  hyperstep.wait=*) wait=${word#*=} ;;
  hyperstep.run=*) run=${word#*=} ;;
  esac
done

echo "KERNEL: $($B uname -r) $($B uname -m), $($B nproc) VP(s)"
[ ! -e /sys/hypervisor/type ] || echo "HYPERVISOR: $($B cat /sys/hypervisor/type)"
[ ! -e /sys/class/dmi/id/sys_vendor ] || echo "MACHINE: $($B cat /sys/class/dmi/id/sys_vendor) $($B cat /sys/class/dmi/id/product_name)"

if [ $nomod = 0 ]; then
  while read -r module; do
    $B insmod "/lib/modules/$module.ko" && echo "MODULE: $module loaded"
  done </lib/modules/order
fi

for dev in /sys/bus/vmbus/devices/*; do
  [ -e "$dev" ] || { echo "VMBUS: no devices"; break; }
  driver=none
  [ ! -e "$dev/driver" ] || driver=$($B basename "$($B readlink "$dev/driver")")
  echo "VMBUS: ${dev##*/} class $($B cat "$dev/class_id") state $($B cat "$dev/state") driver $driver"
done

[ "$wait" = 0 ] || $B sleep "$wait"
if [ -n "$run" ]; then
  $(echo "$run" | $B tr , ' ')
  echo "RUN: status $?"
fi
$B grep -i -E 'vmbus|hyper-v' /proc/interrupts | while read -r line; do echo "INTERRUPTS: $line"; done
if [ $shell = 1 ]; then
  echo INIT-SHELL
  $B setsid $B cttyhack /bin/sh
fi
echo INIT-DONE
$B sync
$B poweroff -f
