# A program that was built without a model asks for one, whatever the command, and works with -m.
. "$SOURCE/tests/cli/lib.sh"
PROGRAM=$BARE
echo '{"image": "x.jpg", "prefix": "caption en", "suffix": "x"}' >train.jsonl
for command in "run -i $PICTURE -p x" "detect -i $PICTURE cat" "score -i $PICTURE -p x --answer y" "embed -i $PICTURE -o x.npy" "run --plan" bench inspect \
    "quantize -o x.gguf" "convert -o x" "merge --lora $SOURCE/tests/golden/lora/text -o x" "finetune --data train.jsonl -o x"; do
    # shellcheck disable=SC2086 # words
    expect_error 2 $command
    stderr_says "-m PATH expected"
done
for command in "tokenize -p x" "objects -i $PICTURE x"; do
    # shellcheck disable=SC2086 # words
    expect_error 2 $command
    stderr_says "--tokenizer FILE or -m MODEL expected"
done
nothing_but train.jsonl
expect 0 tokenize -m "$MODEL" -p "detect cat"
expect 0 run -m "$MODEL" -i "$PICTURE" -p "caption en" -n 2
finish
