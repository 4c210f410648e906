#!/bin/sh
# Builds the programs, which are committed: the tests need no cross compiler. Needs gcc-aarch64-linux-gnu.
#   build.sh [OUTPUT-FOLDER [LOAD-ADDRESS]]   elsewhere, to run them on another machine: of QEMU's `virt`, 0x40080000
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=${1:-$here}
base=${2:-0x80000}
cc=${CC:-aarch64-linux-gnu-gcc}
objcopy=${OBJCOPY:-aarch64-linux-gnu-objcopy}
objects=$(mktemp -d)
trap 'rm -rf "$objects"' EXIT
mkdir -p "$out"
cd "$here"
flags="-std=gnu11 -Os -ffreestanding -fno-pic -fno-stack-protector -fno-asynchronous-unwind-tables -fno-unwind-tables -fno-builtin
  -fno-jump-tables -mgeneral-regs-only -mstrict-align -mno-outline-atomics -mbranch-protection=none -march=armv8-a -Wall -Wextra -Werror
  -DMAX_VPS=8 -DSTACK_SIZE=8192"
for file in start.S common.c; do
  # shellcheck disable=SC2086
  $cc $flags -c -o "$objects/$file.o" $file
done
for program in $(ls ./*.c | sed 's/..\(.*\).c/\1/' | grep -v common); do
  # shellcheck disable=SC2086
  $cc $flags $(sed -n 's/^ \* FLAGS: //p' "$program.c") -c -o "$objects/$program.o" "$program.c"
  # shellcheck disable=SC2086
  $cc -nostdlib -static -no-pie -Wl,-T,link.ld -Wl,--defsym=BASE=$base -Wl,--build-id=none -Wl,-z,max-page-size=4096 -Wl,-z,noexecstack -Wl,--no-warn-rwx-segments -s \
    -o "$out/$program.elf" "$objects/start.S.o" "$objects/common.c.o" "$objects/$program.o"
done
# One as a flat binary, for the way that goes.
$objcopy -O binary "$out/exceptions.elf" "$out/exceptions.bin"
