#!/bin/sh
# Builds guest.elf, which is committed: the tests need no cross compiler. Needs gcc-aarch64-linux-gnu.
set -eu
cd "$(dirname "$0")/../../.."
here=test/guests/old-host
shared=test/guests/embedded
cc=${CC:-aarch64-linux-gnu-gcc}
objects=$(mktemp -d)
trap 'rm -rf "$objects"' EXIT
flags="-std=gnu11 -Og -g -gno-record-gcc-switches -ffreestanding -fno-pic -fno-stack-protector -fno-asynchronous-unwind-tables -fno-unwind-tables
  -fno-omit-frame-pointer -mno-omit-leaf-frame-pointer -mgeneral-regs-only -mstrict-align -mno-outline-atomics -march=armv8-a
  -Wall -Wextra -Werror -ffile-prefix-map=$PWD=."
list=
for file in $shared/start.S $here/main.c $shared/console.c $shared/memory.c $shared/fdt.c $shared/acpi.c $shared/gic.c $shared/time.c \
  $shared/psci.c $shared/smp.c; do
  object=$objects/$(basename "$file").o
  # shellcheck disable=SC2086
  $cc $flags -c -o "$object" "$file"
  list="$list $object"
done
# shellcheck disable=SC2086
$cc -nostdlib -static -no-pie -Wl,-T,$shared/link.ld -Wl,--build-id=none -Wl,-z,max-page-size=4096 -Wl,-z,noexecstack -o $here/guest.elf $list
