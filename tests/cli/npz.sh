# A big_vision file as a model: every command opens it, with the tokenizer beside it, and answers as the directory does.
. "$SOURCE/tests/cli/lib.sh"
need jq

mkdir model
expect 0 convert -m "$MODEL" -o model/m.npz -q
expect_error 1 run -m model/m.npz -i "$PICTURE" -p x
stderr_says "model/m.npz: no tokenizer: found neither tokenizer.json nor tokenizer.model nor paligemma_tokenizer.model beside it"
cp "$MODEL/tokenizer.json" model

for dtype in f32 bf16 q8; do
    expect 0 run -m "$MODEL" --dtype $dtype -i "$PICTURE" -p "caption en" -n 12 --json
    jq -c '.text, .tokens, .logprobs, .usage' out >wanted
    expect 0 run -m model/m.npz --dtype $dtype -i "$PICTURE" -p "caption en" -n 12 --json
    jq -c '.text, .tokens, .logprobs, .usage' out >got
    cmp -s wanted got || say_failure "$last: not the answer of the directory"
done
expect 0 inspect -m "$MODEL" --tensors --json
jq -S 'del(.path, .memory_bytes, .tensors[].file)' out >wanted
expect 0 inspect -m model/m.npz --tensors --json
json_is '.kind == "model" and ([.tensors[].file] | unique == ["model/m.npz"])'
jq -S 'del(.path, .memory_bytes, .tensors[].file)' out >got
cmp -s wanted got || say_failure "$last: not what it says of the directory"
expect 0 score -m model/m.npz -i "$PICTURE" -p "answer en" --answer yes --answer no
expect 0 embed -m model/m.npz -i "$PICTURE" -o m.npy
expect 0 tokenize -m model/m.npz -p "caption en"
expect 0 run -m model/m.npz -i "$PICTURE" -p x --plan
stdout_says "loading          0.0 MiB"
expect 0 convert -m model/m.npz -o again.npz -q
cmp -s model/m.npz again.npz || say_failure "$last: another file"
expect 0 quantize -m model/m.npz -o a.gguf --dtype q4
expect 0 quantize -m "$MODEL" -o b.gguf --dtype q4
cmp -s a.gguf b.gguf || say_failure "$last: another .gguf file than from the directory"

# damaged, and of another kind
head -c 100000 model/m.npz >model/cut.npz
expect_error 1 inspect -m model/cut.npz
stderr_says "model/cut.npz: no zip directory at its end (not an npz file, or truncated)"
expect_error 1 run -m "${MODEL%/models/*}/codec/narrow.npz" --tokenizer "$MODEL/tokenizer.json" -i "$PICTURE" -p x
stderr_says "img/embedding/kernel: array missing: expected a big_vision PaliGemma"
# its own config, which a file of no released size has, comes before one beside it
sed 's/"hidden_size": 44/"hidden_size": 48/' "$MODEL/config.json" >model/config.json
expect 0 run -m model/m.npz -i "$PICTURE" -p "caption en" -n 12 --json
jq -c '.text, .tokens, .logprobs, .usage' out >got
expect 0 run -m "$MODEL" -i "$PICTURE" -p "caption en" -n 12 --json
jq -c '.text, .tokens, .logprobs, .usage' out >wanted
cmp -s wanted got || say_failure "$last: not the answer of the directory"
finish
