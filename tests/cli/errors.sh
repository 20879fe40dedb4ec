# What is wrong with the input: exit status 1, one line that names the file, nothing on stdout, nothing left behind.
. "$SOURCE/tests/cli/lib.sh"
run="run -m $MODEL -n 4 -p caption"

expect_error 1 run -m nowhere -i "$PICTURE" -p x
stderr_says "nowhere: No such file"
expect_error 1 run -m google/paligemma-3b-mix-224 -i "$PICTURE" -p x
mkdir empty
expect_error 1 run -m empty -i "$PICTURE" -p x
stderr_says "empty"
expect_error 1 run -m "$PICTURE" -i "$PICTURE" -p x

# a model with its largest file cut short, and one with a config that is no JSON
for broken in cut config; do
    mkdir "$broken"
    cp "$MODEL"/* "$broken"
done
for file in cut/*.safetensors; do
    head -c $(($(wc -c <"$file") / 2)) "$file" >short && mv short "$file"
done
expect_error 1 run -m cut -i "$PICTURE" -p x
stderr_says "cut/"
echo '{"model_type": "paligemma",' >config/config.json
expect_error 1 run -m config -i "$PICTURE" -p x
stderr_says "config.json"

# shellcheck disable=SC2086 # words
{
    expect_error 1 $run -i nowhere.jpg
    stderr_says "nowhere.jpg"
    expect_error 1 $run -i .
    : >zero.jpg
    expect_error 1 $run -i zero.jpg
    stderr_says "zero.jpg"
    head -c 2000 "$PICTURE" >cut.jpg
    expect_error 1 $run -i cut.jpg
    stderr_says "cut.jpg"
    echo "not a picture" >text.jpg
    expect_error 1 $run -i text.jpg
    expect_from /dev/null 1 $run -i -
    stderr_says "standard input"
    expect_error 1 $run -i nowhere.jpg -q
}
expect_error 1 run -m "$MODEL" -i "$PICTURE" -p @nowhere.txt
printf 'a\0b' >nul.txt
expect_error 1 run -m "$MODEL" -i "$PICTURE" -p @nul.txt
printf 'a\377b' >latin.txt
expect_error 1 run -m "$MODEL" -i "$PICTURE" -p @latin.txt
expect_error 1 score -m "$MODEL" -i "$PICTURE" -p x --answers nowhere.txt
expect_error 1 score -m "$MODEL" -i "$PICTURE" -p x --answers /dev/null
expect_error 1 tokenize --tokenizer nowhere.json -p x
expect_error 1 tokenize --tokenizer "$PICTURE" -p x
expect_error 1 inspect -m nowhere
expect_error 1 bench --random 4b-123

# outputs that cannot be written are known before the model is opened
: >file
for bad in "--draw nowhere/x.png" "--masks nowhere/masks" "--masks file" "--format coco -o nowhere/x" "--format csv -o ." "--format yolo -o file"; do
    # shellcheck disable=SC2086 # words
    expect_error 1 run -m nomodel -i "$PICTURE" -p x $bad
    ! grep -q nomodel err || say_failure "$last: the model was opened first"
done
expect_error 1 run -m "$MODEL" -i "$PICTURE" -p x --vae nowhere.npz
stderr_says "nowhere.npz"
expect_error 1 run -m "$MODEL" -i "$PICTURE" -p x --vae "$PICTURE"
expect_error 1 objects -m "$MODEL" -i nowhere.jpg x
expect_error 1 objects -m "$MODEL" -i "$PICTURE" "$(printf 'c\377t')"
expect_error 1 objects --tokenizer nowhere.json -i "$PICTURE" x

mkdir outdir
expect_error 1 embed -m "$MODEL" -i "$PICTURE" -o outdir/none/x.npy
expect_error 1 embed -m "$MODEL" -i nowhere.jpg -o outdir/x.npy
expect_error 1 embed -m "$MODEL" -i "$PICTURE" -o outdir
[ -z "$(ls outdir)" ] || say_failure "embed left something behind: $(ls outdir)"
finish
