#!/bin/sh
# Builds the programs that guests run in user space; they are committed: the tests need no cross compiler. Needs
# gcc-aarch64-linux-gnu.
set -eu
cd "$(dirname "$0")"
for program in bti debug perf; do
  ${CC:-aarch64-linux-gnu-gcc} -std=gnu11 -O1 -ffreestanding -fno-pic -fno-stack-protector -fno-asynchronous-unwind-tables \
    -fno-unwind-tables -mgeneral-regs-only -mno-outline-atomics -march=armv8-a -Wall -Wextra -Werror -nostdlib -static -no-pie \
    -Wl,--build-id=none -Wl,-z,max-page-size=65536 -Wl,-z,noexecstack -s -o "$program.elf" "$program.c"
done
# With debug information, anywhere in memory, and without frame records: its stack is only found by call frame information.
${CC:-aarch64-linux-gnu-gcc} -std=gnu11 -O2 -g -ffreestanding -fno-stack-protector -fno-optimize-sibling-calls -fno-ipa-cp \
  -fomit-frame-pointer -fasynchronous-unwind-tables -Wall -Wextra -Werror -nostdlib -static-pie -ffile-prefix-map="$PWD"=user \
  -Wl,--build-id=none -Wl,-z,max-page-size=65536 -Wl,-z,noexecstack -o stack.elf stack.c
