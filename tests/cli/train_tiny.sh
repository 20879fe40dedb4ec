# tools/scenes/train.sh: stages one after the other, those that are done left alone, one that was stopped resumed.
. "$SOURCE/tests/cli/lib.sh"
[ -x "$BUILD/bin/scenes" ] || {
    echo "SKIPPED: the generator of scenes was not built"
    exit 77
}
"$BUILD/bin/scenes" -o probe --n 1 >out 2>err || {
    grep -q "expected the font" err || say_failure "scenes fails"
    echo "SKIPPED: $(cat err)"
    [ "$failures" = 0 ] && exit 77
}
export BUILD THREADS=1 START="$MODEL" CODEC="$SOURCE/tests/golden/codec/narrow.npz"
train() {
    last="train.sh $*"
    sh "$SOURCE/tools/scenes/train.sh" "$@" >out 2>err </dev/null
    status=$?
    [ "$status" = 0 ] || say_failure "$last: exit status $status"
}
# Raising a model's resolution is Python's work, which is not here: it is asked to do so and gives the model back.
cat >python <<END
#!/bin/sh
[ "\${1##*/}" = raise_resolution.py ] && cp -r "\$2" "\$3" && echo "\$4" >raised
END
chmod +x python
export PYTHON="$PWD/python"
cat >stages <<END
# a remark

first  64  1  -  4  caption=2,detect=1  --batch-size 6 --schedule constant
END
train run stages
[ "$(cat raised)" = 64 ] || say_failure "$last: the model was not raised to 64 pixels"
[ -s run/paligemma-tiny.gguf ] || say_failure "$last: no model"
[ ! -e run/first.data ] || say_failure "$last: left its pictures"
cmp -s run/log.jsonl run/first/log.jsonl || say_failure "$last: log.jsonl is not that of its stage"
cp run/first/model.safetensors before

# Another stage: the first is not trained again, the second begins with it and with pictures of its own.
echo "second 64 2 0.9 3 answer=2,segment=1,ocr=1 --max-steps 2 --save-steps 1" >>stages
mkdir run/second.part # a generation that was stopped
KEEP=1 train run stages
cmp -s run/first/model.safetensors before || say_failure "$last: the first stage was trained again"
grep -q "<seg" run/second.data/data.jsonl || say_failure "$last: no rows of masks"
od -An -v -tx1 run/second.data/images/000/000004.jpg | tr -d ' \n' | grep -q ffc000110800400040 || say_failure "$last: its pictures are not of 64 pixels"
[ ! -e run/second.part ] || say_failure "$last: left a part"
grep -q '"images/000/000004.jpg"' run/second.data/data.jsonl || say_failure "$last: its pictures are not those after the first stage's"
cp run/second/model.safetensors before
cp run/paligemma-tiny.gguf before.gguf

# Stopped before it was whole: from its checkpoint to the same bits.
rm run/second/config.json run/second/model.safetensors
train run stages
cmp -s run/second/model.safetensors before || say_failure "$last: resumed to other weights"
cmp -s run/paligemma-tiny.gguf before.gguf || say_failure "$last: resumed to another file"
[ ! -e run/second.data ] || say_failure "$last: left its pictures"

sh "$SOURCE/tools/scenes/train.sh" >out 2>err
[ "$?" = 2 ] || say_failure "train.sh: no usage"
finish
