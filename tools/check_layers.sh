#!/bin/sh
# usage: check_layers.sh [REPOSITORY]: fails if a file under src/ includes a higher layer or lies in a folder that is no
# layer, or if a program includes anything of the library but paligemma.h and paligemma_train.h.
cd "${1:-$(dirname "$0")/..}" || exit 1
# shellcheck disable=SC2016 # awk expands these
find src apps examples -name '*.[ch]' 2>/dev/null | sort | xargs awk '
BEGIN {
    # A layer may include those of a smaller number and itself; model and input also each other.
    n = split("base:1 kernels:2 io:3 tensor:4 model:5 input:5 infer:6 train:6 eval:7 api:8", pairs, " ")
    for (i = 1; i <= n; i++) { split(pairs[i], pair, ":"); rank[pair[1]] = pair[2] }
}
function fail(why) { printf "%s:%d: %s: %s\n", FILENAME, FNR, $0, why; failed = 1 }
FNR == 1 {
    split(FILENAME, parts, "/")
    layer = parts[1] == "src" ? parts[2] : parts[1]
    files++
    if (parts[1] == "src" && !(layer in rank)) fail("a folder that is no layer")
}
/^[ \t]*#[ \t]*include[ \t]*"/ {
    split($0, quoted, "\"")
    target = quoted[2]
    if (target == "paligemma.h" || target == "paligemma_train.h") next
    split(target, steps, "/")
    if (target ~ /\.\./) fail("a path from the layer root expected")
    if (!(steps[1] in rank) || target !~ /\//) next
    if (parts[1] != "src") fail("only paligemma.h and paligemma_train.h are for programs")
    else if (rank[steps[1]] > rank[layer]) fail("a lower layer includes a higher one")
    else if (rank[steps[1]] == rank[layer] && steps[1] != layer && rank[layer] != 5) fail("layers beside each other")
}
END {
    if (!files) { print "check_layers: no files found"; failed = 1 }
    if (!failed) printf "check_layers: %d files, no upward includes\n", files
    exit failed
}'
