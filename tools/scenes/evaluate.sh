#!/bin/sh
# usage: evaluate.sh MODEL N [OPTION...]     the table of README.md for N held-out pictures that no training saw
#
# MODEL "builtin" is the one inside the program. Options go to `paligemma run` (--dtype q8, -t 2, --vae FILE ...); --json, first,
# prints the figures as JSON. Environment: BUILD (default build) is where the programs are; SEED (default 7); LEVEL (default 3);
# SIZE of the pictures (default 192, pixels); SPLIT heldout or novel-heldout; WORK keeps pictures and answers, and pictures that are there
# already are asked about again.
set -eu
if [ $# -lt 2 ]; then
    sed -n 's/^# //p' "$0" | head -5 >&2
    exit 2
fi
model=$1
number=$2
shift 2
json=
[ "${1:-}" != --json ] || { json=--json; shift; }

bin=$(cd "${BUILD:-build}/bin" && pwd)
if [ "$model" != builtin ]; then
    [ ! -e "$model" ] || model=$(cd "$(dirname "$model")" && pwd)/$(basename "$model") # the work is done elsewhere
    set -- -m "$model" "$@"
fi
if [ -z "${WORK:-}" ]; then
    WORK=$(mktemp -d)
    trap 'rm -rf "$WORK"' EXIT
fi
mkdir -p "$WORK/answers"
[ -s "$WORK/truth.jsonl" ] || "$bin/scenes" -o "$WORK" --n "$number" --size "${SIZE:-192}" --seed "${SEED:-7}" --split "${SPLIT:-heldout}" --level "${LEVEL:-3}"
cd "$WORK"
for sheet in caption-en caption-es caption-fr answer detect segment ocr; do
    [ -s "$sheet.jsonl" ] || continue
    # Answers are at most four objects with masks; a model that knows no end must have one.
    "$bin/paligemma" run --batch "$sheet.jsonl" --json -q -n 96 "$@" >"answers/$sheet.jsonl" || [ -s "answers/$sheet.jsonl" ]
done
# shellcheck disable=SC2086
"$bin/scene-score" $json . answers
