# A thin door to CMake. "make" builds into build/; "make check" and "make demo" install missing packages first.
#
#   make          build the library and the program
#   make deps     install the Debian packages that are missing
#   make demo     build and show what the model inside the program sees in a few pictures
#   make check    build and run all tests
#   make bench    time a random model of the real 3B shape (SHAPE=3b-448 for another), and judge the model inside the program
#   make asan | ubsan | tsan    build and run the tests under a sanitizer
#   make fuzz     run each fuzz target for FUZZ_SECONDS (needs clang)
#   make install  install under PREFIX (default /usr/local), DESTDIR respected
#   make clean    remove the build directories

PREFIX ?= /usr/local
SHAPE ?= 3b-224
DTYPE ?= bf16
PICTURES ?= 1000
FUZZ_SECONDS ?= 20
PROGRAM = build/bin/paligemma

.PHONY: all build packages deps demo check bench asan ubsan tsan fuzz install clean

all: packages build

packages:
	@scripts/install-deps.sh --check

build:
	@[ -e build/build.ninja ] || cmake --preset release
	@cmake --build --preset release

deps:
	@scripts/install-deps.sh

# deps must be done before build begins, also with -j
demo: deps
	@$(MAKE) --no-print-directory build
	@scripts/demo.sh $(PROGRAM)

check: deps
	@$(MAKE) --no-print-directory build
	@ctest --preset release

bench: packages build
	$(PROGRAM) bench --random $(SHAPE) --dtype $(DTYPE)
	tools/scenes/evaluate.sh builtin $(PICTURES)

asan ubsan tsan: deps
	@[ -e build-$@/build.ninja ] || cmake --preset $@
	@cmake --build --preset $@
	@ctest --preset $@

fuzz: packages
	@[ -e build-fuzz/build.ninja ] || cmake --preset fuzz
	@cmake --build --preset fuzz
	@scripts/fuzz.sh build-fuzz $(FUZZ_SECONDS)

install: packages build
	cmake --install build --prefix $(PREFIX)

clean:
	rm -rf build build-asan build-ubsan build-tsan build-fuzz build-clang
