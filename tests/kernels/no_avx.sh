#!/bin/sh
# usage: no_avx.sh KERNEL_CHECK: runs the kernel checker on an x86-64 without AVX (qemu's Westmere), where merely filling the
# table of a level that the processor lacks would end it. Status 77: no emulator here, and says so.
set -eu
command -v qemu-x86_64 >/dev/null 2>&1 || { echo "skipped: qemu-x86_64 is not installed (\"make deps\" installs it)"; exit 77; }
output=$(qemu-x86_64 -cpu Westmere "$1")
echo "$output"
case $output in
*"avx2: this machine has not got it"*) ;;
*) echo "the emulated processor has AVX2: this run proves nothing"; exit 1 ;;
esac
