# What the model inside the program makes of 16 held-out pictures: counts that are exact (tests/golden/judged/README.md).
. "$SOURCE/tests/cli/lib.sh"
need jq
[ -n "$BUILTIN_MODEL" ] || {
    echo "SKIPPED: the program was built without a model"
    exit 77
}
golden=$SOURCE/tests/golden/judged
cp -r "$golden" judged
PALI_CPU=ref BUILD="$BUILD" WORK="$work/judged" sh "$SOURCE/tools/scenes/evaluate.sh" builtin 16 --json >figures 2>err || say_failure "evaluate.sh: $(cat err)"
jq -S . figures >found
jq -S . "$golden/figures.json" | diff - found >differences || say_failure "other figures than those of $golden/figures.json: $(cat differences)"
finish
