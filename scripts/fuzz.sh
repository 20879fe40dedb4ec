#!/bin/sh
# usage: fuzz.sh BUILD SECONDS: runs every fuzz target of the build for that long, starting from the committed corpus.
# New inputs stay in BUILD; a crash is left there and ends the run.
set -eu
build=$1 seconds=$2
for program in "$build"/tests/fuzz_*; do
    [ -f "$program" ] || continue
    name=${program##*/fuzz_}
    mkdir -p "$build/corpus/$name"
    echo "fuzz: $name for $seconds s"
    "$program" -max_total_time="$seconds" -timeout=25 -rss_limit_mb=2048 -artifact_prefix="$build/" -print_final_stats=0 \
        "$build/corpus/$name" "tests/fuzz/corpus/$name" 2>"$build/fuzz_$name.log" </dev/null || {
        tail -40 "$build/fuzz_$name.log"
        exit 1
    }
    tail -1 "$build/fuzz_$name.log"
done
