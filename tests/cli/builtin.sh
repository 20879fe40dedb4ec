# The model inside the program: what every command uses without -m, equal to its file with -m; and its mask codec.
. "$SOURCE/tests/cli/lib.sh"
[ -n "$BUILTIN_MODEL" ] || {
    echo "SKIPPED: the program was built without a model"
    exit 77
}

# same ARGUMENT...: the command prints without -m what it prints with the model's file (times apart)
same() {
    name=$1
    shift
    expect 0 "$name" -m "$BUILTIN_MODEL" "$@"
    sed 's/"timing_ms":{[^}]*}//' out >with_file
    expect 0 "$name" "$@"
    sed 's/"timing_ms":{[^}]*}//' out >without
    [ -s without ] || say_failure "$last: printed nothing"
    cmp -s with_file without || say_failure "$last: not what -m $BUILTIN_MODEL prints"
}
same run -i "$PICTURE" -p "caption en" -n 8 --json
same detect -i "$PICTURE" house -n 8 --json
same ask -i "$PICTURE" "is there a house?" -n 4 --json
same run -i "$PICTURE" -p "caption en" -n 4 --json --dtype f32
same score -i "$PICTURE" -p "answer en is there a house?" --answer yes --answer no
same tokenize -p "detect cat ; dog"
same tokenize -p "caption en" --prompt-template -i "$PICTURE"

echo "{\"image\": \"$PICTURE\", \"prompt\": \"caption en\"}" >requests.jsonl
same run --batch requests.jsonl -n 4
expect 0 embed -i "$PICTURE" -o a.npy
expect 0 embed -m "$BUILTIN_MODEL" -i "$PICTURE" -o b.npy
cmp -s a.npy b.npy || say_failure "embed: not what the file gives"

expect 0 inspect
stdout_says "(built-in model)"
expect 0 inspect --json
json_is '.path == "built-in model" and .problem == null and .tokenizer'
expect 0 run --plan -i "$PICTURE" -p "caption en"
expect 0 bench --runs 1 -n 2 --json
json_is '.decode_tok_s > 0'

# It is written like any other, and read back the same.
expect 0 convert -o tiny.gguf
expect 0 run -m tiny.gguf -i "$PICTURE" -p "caption en" -n 8
cp out written
expect 0 run -i "$PICTURE" -p "caption en" -n 8
cmp -s out written || say_failure "convert: the file answers otherwise"
expect 0 quantize -o tiny-q4.gguf --dtype q4

# Another model is never replaced by it, and messages name what is meant.
expect_error 1 run -m nowhere -i "$PICTURE" -p "caption en"
stderr_says "nowhere"
expect_error 1 run --tokenizer nowhere.json -i "$PICTURE" -p "caption en"
expect 0 tokenize --tokenizer "$MODEL/tokenizer.json" -p "detect cat"
cp out own
expect 0 tokenize -m "$MODEL" -p "detect cat"
cmp -s out own || say_failure "tokenize: --tokenizer is not what counts"

# An adapter for it.
echo "{\"image\": \"$PICTURE\", \"prefix\": \"caption en\", \"suffix\": \"house\"}" >train.jsonl
expect 0 finetune --data train.jsonl -o adapter --method lora --max-steps 1
expect 0 run --lora adapter -i "$PICTURE" -p "caption en" -n 2

# The codec: masks of an answer that is there already.
answer="<loc0100><loc0100><loc0900><loc0900>$(printf '<seg%03d>' 3 7 11 15 19 23 27 31 35 39 43 47 51 55 59 63) cat"
expect 0 objects -i "$PICTURE" "$answer" --json
if [ -n "$BUILTIN_CODEC" ]; then
    json_is '.objects[0].mask.counts | length > 0'
    cp out built_in
    expect 0 objects -i "$PICTURE" "$answer" --json --vae "$BUILTIN_CODEC"
    cmp -s out built_in || say_failure "objects: not the mask of $BUILTIN_CODEC"
else
    json_is '.objects[0].mask == null'
fi
cp -r "$MODEL" other
expect 0 objects -m other -i "$PICTURE" "$answer" --json
json_is '.objects[0].mask == null'
expect 0 objects --tokenizer "$MODEL/tokenizer.json" -i "$PICTURE" "$answer" --json
json_is '.objects[0].mask == null'
finish
