# Installs into a temporary prefix and builds a C and a C++ program against it, by pkg-config and by find_package.
. "$SOURCE/tests/cli/lib.sh"
cmake --install "$BUILD" --prefix "$work/prefix" >out 2>err || say_failure "cmake --install"
version=$(prefix/bin/paligemma --version 2>err) || say_failure "the installed program does not run"
[ "$version" = "$("$PROGRAM" --version)" ] || say_failure "installed program: $version"
[ -s prefix/share/man/man1/paligemma-run.1 ] || say_failure "no man page installed"
cat >use.c <<'END'
#include <paligemma.h>
#include <stdio.h>
int main(void) { return printf("%s\n", pali_version()) < 0; }
END
pc=$(find "$work/prefix" -name paligemma.pc)
PKG_CONFIG_PATH=$(dirname "$pc")
export PKG_CONFIG_PATH
libdir=$(pkg-config --variable=libdir paligemma) || say_failure "pkg-config does not find it"
# shellcheck disable=SC2046 # flags are words
"$CC" -std=c11 -Wall -Wextra -Wpedantic -Werror use.c $(pkg-config --cflags --libs paligemma) -Wl,-rpath,"$libdir" -o use 2>err ||
    say_failure "pkg-config: the program does not build"
[ "paligemma $(./use)" = "$version" ] || say_failure "pkg-config: the program does not run"
if command -v "$CXX" >/dev/null 2>&1; then
    # shellcheck disable=SC2046
    "$CXX" -xc++ -Wall -Wextra -Werror use.c $(pkg-config --cflags --libs paligemma) -o use_cc 2>err ||
        say_failure "the header is not valid C++"
else
    echo "left out: the header in C++: no C++ compiler"
fi
mkdir find
cp use.c find
cat >find/CMakeLists.txt <<'END'
cmake_minimum_required(VERSION 3.25)
project(use C)
find_package(paligemma 0.1 REQUIRED)
add_executable(use use.c)
target_link_libraries(use paligemma::paligemma)
END
(cmake -S find -B find/build -DCMAKE_PREFIX_PATH="$work/prefix" -DCMAKE_C_COMPILER="$CC" && cmake --build find/build) >out 2>err ||
    say_failure "find_package: the program does not build"
[ "paligemma $(find/build/use)" = "$version" ] || say_failure "find_package: the program does not run"

# the experimental header, which is nothing unless it is asked for
printf '#include <paligemma_train.h>\n#ifdef TRAINS\nint main(void) { pali_train_options o; pali_train_options_init(&o); return o.epochs == 3 ? 0 : 1; }\n#else\nint pali_train_options;\nint main(void) { return pali_train_options; }\n#endif\n' >train.c
for flags in "" "-DPALI_EXPERIMENTAL -DTRAINS"; do
    # shellcheck disable=SC2046,SC2086
    "$CC" -std=c11 -Wall -Wextra -Wpedantic -Werror $flags train.c $(pkg-config --cflags --libs paligemma) -Wl,-rpath,"$libdir" -o train 2>err && ./train ||
        say_failure "paligemma_train.h: $flags"
done

# the library exports its interface and nothing else
if command -v nm >/dev/null 2>&1; then
    nm -D --defined-only "$libdir/libpaligemma.so" | awk '{print $3}' | grep -v '^pali_' >out
    [ ! -s out ] || say_failure "exported beside pali_*"
fi
finish
