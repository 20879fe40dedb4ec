#!/bin/sh
# usage: aarch64.sh SOURCE_DIR: builds the kernel checker for aarch64 and runs it under qemu. Status 77: no cross compiler or
# no emulator here, and says so.
set -eu
source=$1
for tool in aarch64-linux-gnu-gcc qemu-aarch64; do
    command -v "$tool" >/dev/null 2>&1 || { echo "skipped: $tool is not installed (\"make deps\" installs it)"; exit 77; }
done
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$source"
flags="-std=c11 -O2 -D_DEFAULT_SOURCE -ffp-contract=off -fno-math-errno -Wall -Wextra -Wconversion -Werror -Iinclude -Isrc -Itests"
# shellcheck disable=SC2086 # the flags are words
aarch64-linux-gnu-gcc $flags -march=armv8.2-a+dotprod -c src/kernels/arm/dotprod.c -o "$dir/dotprod.o"
# shellcheck disable=SC2086
aarch64-linux-gnu-gcc $flags -static \
    tests/kernels/*.c src/kernels/kernels.c src/kernels/ref/*.c src/kernels/arm/neon.c "$dir/dotprod.o" src/base/cpu.c src/base/clock.c src/base/rng.c src/base/status.c \
    -o "$dir/check" -lm -lpthread
qemu-aarch64 "$dir/check"
