#!/bin/sh
# Builds guest.elf, which is committed: the tests need no cross compiler. Needs gcc-aarch64-linux-gnu.
# The result depends on nothing but these files and the compiler (file names in it are relative to the repository).
set -eu
cd "$(dirname "$0")/../../.."
here=test/guests/embedded
cc=${CC:-aarch64-linux-gnu-gcc}
objects=$(mktemp -d)
trap 'rm -rf "$objects"' EXIT
flags="-std=gnu11 -Og -g -gno-record-gcc-switches -ffreestanding -fno-pic -fno-stack-protector -fno-asynchronous-unwind-tables -fno-unwind-tables
  -fno-omit-frame-pointer -mno-omit-leaf-frame-pointer -mgeneral-regs-only -mstrict-align -mno-outline-atomics -march=armv8-a
  -Wall -Wextra -Werror -ffile-prefix-map=$PWD=."
list=
for file in start.S main.c console.c memory.c fdt.c acpi.c gic.c time.c psci.c hyperv.c vmbus.c heartbeat.c efi.c smp.c fixture.c; do
  # shellcheck disable=SC2086
  $cc $flags -c -o "$objects/$file.o" "$here/$file"
  list="$list $objects/$file.o"
done
# shellcheck disable=SC2086
$cc -nostdlib -static -no-pie -Wl,-T,$here/link.ld -Wl,--build-id=none -Wl,-z,max-page-size=4096 -Wl,-z,noexecstack -o $here/guest.elf $list
