#!/bin/sh
# usage: install-deps.sh          installs the Debian packages that are missing (sudo where not root)
#        install-deps.sh --check  only names what a build misses; exit status 1 if there is anything
#
# Says what it does, asks nothing, and does nothing when all is there.
set -eu

# what shows that it is there                     Debian package
needed='
command:cc                                        gcc
command:cmake                                     cmake
command:ninja                                     ninja-build
command:make                                      make
command:pkg-config                                pkg-config
header:stdlib.h                                   libc6-dev
module:jansson                                    libjansson-dev
module:libpng                                     libpng-dev
module:libjpeg                                    libjpeg-dev
module:libwebp                                    libwebp-dev
header:gif_lib.h                                  libgif-dev
module:cairo                                      libcairo2-dev
module:pangocairo                                 libpango1.0-dev
module:zlib                                       zlib1g-dev
module:cmocka                                     libcmocka-dev
'
# Tests use these where they are there: NEON kernels and an x86-64 without AVX run under qemu, JSON output is read back with
# jq, the header and the examples compile as C++ too. Drawings need some font for their labels; any will do. tools/scenes draws
# its pictures with the emoji.
wanted='
command:jq                                        jq
command:g++                                       g++
path:/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf fonts-dejavu-core
path:/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf fonts-noto-color-emoji
'
if [ "$(uname -m)" = x86_64 ]; then
    wanted="$wanted
command:aarch64-linux-gnu-gcc                     gcc-aarch64-linux-gnu
path:/usr/aarch64-linux-gnu/include/stdlib.h      libc6-dev-arm64-cross
command:qemu-aarch64                              qemu-user
"
fi

is_there() {
    case $1 in
    command:*) command -v "${1#*:}" >/dev/null 2>&1 ;;
    module:*) command -v pkg-config >/dev/null 2>&1 && pkg-config --exists "${1#*:}" ;;
    header:*) [ -e "/usr/include/${1#*:}" ] ;;
    path:*) [ -e "${1#*:}" ] ;;
    esac
}

# missing LIST: the packages of the list whose sign is not there, on one line
missing() {
    echo "$1" | while read -r sign package; do
        [ -z "$sign" ] || is_there "$sign" || printf '%s ' "$package"
    done
}

missing_needed=$(missing "$needed")
if [ "${1:-}" = --check ]; then
    [ -z "$missing_needed" ] && exit 0
    echo "missing packages: $missing_needed" >&2
    echo "\"make deps\" installs them" >&2
    exit 1
fi

missing_wanted=$(missing "$wanted")
[ -n "$missing_needed$missing_wanted" ] || exit 0
if ! command -v apt-get >/dev/null 2>&1; then
    echo "install-deps: no apt-get here; please install the equivalents of: $missing_needed$missing_wanted" >&2
    [ -z "$missing_needed" ]
    exit
fi

if [ "$(id -u)" -ne 0 ] && ! command -v sudo >/dev/null 2>&1; then
    echo "install-deps: neither root nor sudo: please install $missing_needed$missing_wanted" >&2
    [ -z "$missing_needed" ]
    exit
fi

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        env DEBIAN_FRONTEND=noninteractive "$@"
    else
        sudo env DEBIAN_FRONTEND=noninteractive "$@"
    fi
}

# install PACKAGES: one attempt with the package lists as they are, one with fresh lists
install() {
    # shellcheck disable=SC2086 # the packages are words
    as_root apt-get install -y --no-install-recommends $1 </dev/null && return
    echo "install-deps: fetching fresh package lists" >&2
    as_root apt-get update </dev/null
    # shellcheck disable=SC2086
    as_root apt-get install -y --no-install-recommends $1 </dev/null
}

if [ -n "$missing_needed" ]; then
    echo "install-deps: installing $missing_needed"
    install "$missing_needed"
fi
if [ -n "$missing_wanted" ]; then
    echo "install-deps: installing for the tests: $missing_wanted"
    install "$missing_wanted" || echo "install-deps: not installed: $missing_wanted: the tests that use them are left out" >&2
fi
