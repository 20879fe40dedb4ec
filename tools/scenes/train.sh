#!/bin/sh
# usage: train.sh DIR [STAGES]     trains the embedded model from nothing, into DIR/paligemma-tiny.gguf (doc/tiny-model.md)
#
# A stage (a line of STAGES, default stages.txt beside this file) makes its pictures, trains on each once, and leaves the model in
# DIR/NAME. Stopped at any point, the same command goes on where it was: stages that are done stay, and the one that was stopped
# resumes from its last checkpoint. Environment: BUILD (default build) has the programs; START is the model to begin with (default:
# made by tools/make_tiny.py, which needs PYTHON, default python3, with numpy, tokenizers and safetensors; so does a stage of another
# resolution than the one before); CODEC the mask codec (default models/tiny/vae-oid.npz); THREADS; KEEP=1 keeps the pictures.
set -eu
if [ $# -lt 1 ] || [ $# -gt 2 ]; then
    sed -n 's/^# //p' "$0" >&2
    exit 2
fi
root=$(cd "$(dirname "$0")/../.." && pwd)
bin=$(cd "${BUILD:-build}/bin" && pwd)
stages=${2:-$root/tools/scenes/stages.txt}
threads=${THREADS:-$(nproc)}
dir=$1
mkdir -p "$dir"

# rows: the stage's pictures and rows in DIR/NAME.data, whole or not at all; none that a stage before had
rows() {
    [ ! -d "$dir/$name.data" ] || return 0
    rm -rf "$dir/$name.part"
    options=
    case $tasks in *segment=*) options="--codec ${CODEC:-$root/models/tiny/vae-oid.npz}" ;; esac
    [ "$words" = - ] || options="$options --words $words"
    # shellcheck disable=SC2086 # words
    "$bin/scenes" -o "$dir/$name.part" --split train --size "$side" --level "$level" --n "$pictures" --first "$first" --tasks "$tasks" $options -t "$threads"
    mv "$dir/$name.part" "$dir/$name.data"
}

# raised: $model takes pictures of the stage's side, or becomes one that does
raised() {
    [ "$(sed -n 's/.*"image_size": *\([0-9]*\).*/\1/p' "$model/config.json")" != "$side" ] || return 0
    rm -rf "$dir/$name.raised"
    "${PYTHON:-python3}" "$root/tools/raise_resolution.py" "$model" "$dir/$name.raised" "$side"
    model=$dir/$name.raised
}

# train OPTION...: from $model to DIR/NAME
train() {
    resume=
    for checkpoint in "$dir/$name"/checkpoint-*; do [ ! -d "$checkpoint" ] || resume=--resume; done
    "$bin/paligemma" finetune --config "$root/recipes/tiny.json" -m "$model" --data "$dir/$name.data/data.jsonl" -o "$dir/$name" -t "$threads" $resume "$@"
}

model=${START:-$dir/untrained}
[ -d "$model" ] || "${PYTHON:-python3}" "$root/tools/make_tiny.py" --words "$root/models/tiny/words.txt" -o "$model"
first=0
while read -r name side level words pictures tasks more; do
    case $name in '' | '#'*) continue ;; esac
    if [ ! -e "$dir/$name/config.json" ]; then
        rows
        raised
        # shellcheck disable=SC2086 # words
        train $more </dev/null
        [ "${KEEP:-0}" = 1 ] || rm -rf "$dir/$name.data"
    fi
    model=$dir/$name
    first=$((first + pictures))
    logs="${logs:-} $dir/$name/log.jsonl"
done <"$stages"
# shellcheck disable=SC2086 # words
cat $logs >"$dir/log.jsonl"
if [ -z "${START:-}" ]; then # its rows of words that never occurred were apart when it began
    rm -rf "$dir/spread"
    "${PYTHON:-python3}" "$root/tools/spread_unused_rows.py" "$model" "$dir/spread"
    model=$dir/spread
fi
"$bin/paligemma" quantize -m "$model" -o "$dir/paligemma-tiny.gguf" --dtype q8
