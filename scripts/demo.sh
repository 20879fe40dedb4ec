#!/bin/sh
# usage: demo.sh PROGRAM [DIR]     what the model inside the program says about the pictures of models/tiny/demo; drawings go to DIR
#                                  (default: build)
set -eu
cd "$(dirname "$0")/.."
program=$1
out=${2:-build}
pictures=models/tiny/demo
model=

# show ARGUMENT...: a command as one would type it, and what it prints
show() {
    line="$program"
    for word in "$@"; do
        case $word in *' '*) line="$line \"$word\"" ;; *) line="$line $word" ;; esac
    done
    printf '$ %s\n' "$line$model"
    # shellcheck disable=SC2086 # words
    "$program" "$@" $model
    echo
}

if ! "$program" inspect >/dev/null 2>&1; then
    model=" -m tests/golden/models/pg1-f32 -n 16"
    echo "This program was built without a model, so the answers below come from one with RANDOM weights: they show that"
    echo "everything runs, but they are noise."
    echo
fi
show caption -i $pictures/ghost.jpg
show caption -i $pictures/ghost.jpg --lang es
show ask -i $pictures/fruit.jpg "how many objects are there?"
show ask -i $pictures/fruit.jpg "what is on the right?"
show ask -i $pictures/ghost.jpg "is there a guitar?"
show detect -i $pictures/fruit.jpg watermelon hamburger --draw "$out/demo-boxes.png"
show segment -i $pictures/ghost.jpg ghost --draw "$out/demo-mask.png"
show ocr -i $pictures/exit.jpg
show caption -i $pictures/paper.jpg --lang fr
show detect -i $pictures/paper.jpg "yellow star"
cat <<END
Drawn: $out/demo-boxes.png and $out/demo-mask.png (the last picture is in a style that the model has never seen).

That was a small model which knows some emoji, shapes and short words (doc/tiny-model.md). For pictures of the world get a real
checkpoint, for instance google/paligemma-3b-mix-224 from huggingface.co, whose licence has to be accepted there, and give its
directory:

\$ $program detect -m paligemma-3b-mix-224 -i photo.jpg cat dog --draw found.png
END
