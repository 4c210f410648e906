#!/bin/sh
# Builds the fixtures of dwarf.test.ts: one program by two compilers in every form of debug information that is read, and the
# answers that LLVM's and GNU's tools give. Debian packages: gcc-aarch64-linux-gnu clang llvm dwz binutils-aarch64-linux-gnu gdb-multiarch.
# Run in this folder; the results are committed. CLANG, LLVM (a suffix such as -19) choose versions.
set -e
cd "$(dirname "$0")"
out=$PWD/files
rm -rf "$out" && mkdir "$out"
gcc=aarch64-linux-gnu-gcc
clang="${CLANG:-clang} --target=aarch64-linux-gnu"
common="-O2 -ffreestanding -fno-stack-protector -fno-asynchronous-unwind-tables -ffile-prefix-map=$PWD=/src -fdebug-prefix-map=$out=/src"
link="aarch64-linux-gnu-ld -static --build-id -N"

# one NAME COMPILER OPTIONS...
one() {
	name=$1; compiler=$2; shift 2
	for s in program second; do
		(cd "$out" && $compiler $common "$@" -c ../$s.c -o $name-$s.o)
	done
	(cd "$out" && $gcc -g -ffile-prefix-map=$PWD=/src -fdebug-prefix-map=$out=/src -c ../entry.S -o entry.o)
	(cd "$out" && $link -o $name.elf entry.o $name-program.o $name-second.o)
}
# macros NAME COMPILER OPTIONS...
macros() {
	name=$1; compiler=$2; shift 2
	(cd "$out" && $compiler $common -O1 "$@" -c ../macros.c -o macros.o && aarch64-linux-gnu-ld -static -N -e 0 -o $name-macros.elf macros.o)
}
macros gcc5 $gcc -g3 -gdwarf-5
macros gcc4 $gcc -g3 -gdwarf-4
macros clang5 "$clang" -gdwarf-5 -fdebug-macro
# The kernel's third language; where there is no rustc the old file stays.
if command -v rustc >/dev/null; then
	(cd "$out" && RUSTC_BOOTSTRAP=1 rustc --target aarch64-unknown-linux-gnu --edition 2021 --crate-type lib --emit obj -C debuginfo=2 \
		-C opt-level=0 -C panic=abort -C relocation-model=static --remap-path-prefix "$(dirname "$PWD")=/src" -o rust.o ../shapes.rs
	aarch64-linux-gnu-ld -static -N -e 0 -o rust.elf rust.o)
else
	git checkout -- "$out/rust.elf.gz" && gunzip "$out/rust.elf.gz"
fi
one gcc5 $gcc -gdwarf-5
one gcc4 $gcc -gdwarf-4
one gcc5-types $gcc -gdwarf-5 -fdebug-types-section
one gcc4-types $gcc -gdwarf-4 -fdebug-types-section
one clang5 "$clang" -gdwarf-5
one clang4 "$clang" -gdwarf-4
one gcc5-split $gcc -gdwarf-5 -gsplit-dwarf
one clang5-split "$clang" -gdwarf-5 -gsplit-dwarf
one gcc4-split $gcc -gdwarf-4 -gsplit-dwarf
(cd "$out"
# A module's shape: one relocatable file.
aarch64-linux-gnu-ld -r -o module.ko gcc5-program.o gcc5-second.o
# As the kernel's linker script leaves it: code is not what comes first.
echo 'SECTIONS { .data 0 : { *(.data*) } .text 0 : { *(.text*) } }' > order.ld
aarch64-linux-gnu-ld -r -T order.ld -o data-first.ko module.ko
rm order.ld
aarch64-linux-gnu-objcopy --compress-debug-sections=zlib gcc5.elf zlib.elf
aarch64-linux-gnu-objcopy --compress-debug-sections=zstd gcc5.elf zstd.elf
# A package instead of .dwo files.
"llvm-dwp${LLVM:--19}" -e clang5-split.elf -o clang5-package.elf.dwp
cp clang5-split.elf clang5-package.elf
# dwz's common file.
cp gcc5.elf dwz.elf
cp gcc5.elf dwz-other.elf
dwz -m common.debug -M common.debug dwz.elf dwz-other.elf
rm -f dwz-other.elf *.o)
node record.mjs
gzip -9n "$out"/*
ls -l "$out" | awk '{ total += $5 } END { print total, "bytes" }'
