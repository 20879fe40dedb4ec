# From any form into any other: the same answers, nothing lost, places that are refused, nothing left behind.
. "$SOURCE/tests/cli/lib.sh"
need jq

models=${MODEL%/*}
answer() { # FILE ARGUMENT...: what a run says, without its times
    file=$1
    shift
    expect 0 run "$@" -i "$PICTURE" -p "caption en" -n 12 --json
    jq -c '.text, .tokens, .logprobs, .usage' out >"$file"
}

# every way, both generations: the answer of the original
for name in pg1-f32 pg2-bf16; do
    answer wanted -m "$models/$name"
    cp "$models/$name/config.json" .
    expect 0 convert -m "$models/$name" -o d
    [ ! -s out ] && [ ! -s err ] || say_failure "$last: said something"
    expect 0 convert -m "$models/$name" -o m.gguf
    expect 0 convert -m "$models/$name" -o m.npz -q
    for way in d m.gguf; do
        expect 0 convert -m $way -o again
        answer got -m again
        cmp -s wanted got || say_failure "$name, $way: another answer"
        expect 0 convert -m $way -o again.gguf
        cmp -s m.gguf again.gguf || say_failure "$name, $way: another .gguf file"
        expect 0 convert -m $way -o again.npz -q
        cmp -s m.npz again.npz || say_failure "$name, $way: another .npz file"
        rm -r again again.gguf again.npz
    done
    expect 0 convert -m m.npz --tokenizer "$models/$name/tokenizer.json" -o again
    answer got -m again
    cmp -s wanted got || say_failure "$name, npz: another answer"
    expect 0 convert -m m.npz --tokenizer "$models/$name/tokenizer.json" -o again.gguf
    answer got -m again.gguf
    cmp -s wanted got || say_failure "$name, npz to gguf: another answer"
    expect 0 convert -m m.npz --tokenizer m.gguf -o from-gguf
    answer got -m from-gguf
    cmp -s wanted got || say_failure "$name, npz with the tokenizer of a .gguf file: another answer"
    rm -r d m.gguf m.npz again again.gguf from-gguf
done

# types, shards, the summary; what inspect says of the result
expect 0 convert -m "$MODEL" -o d --dtype f16 --shard-size 100KB --json
json_is '.schema == 1 and .output == "d" and .dtype == "f16" and .bytes == '"$(cat d/* | wc -c)"
[ "$(ls d/model-0000?-of-0000?.safetensors | wc -l)" -ge 3 ] || say_failure "$last: fewer files than expected"
jq -e '.metadata.total_size == 2 * .metadata.total_parameters' d/model.safetensors.index.json >/dev/null || say_failure "index"
for file in d/model-*; do
    [ "$(wc -c <"$file")" -lt 110000 ] || [ "$file" = "$(ls -S d/model-* | head -1)" ] || say_failure "$file: too large"
done
expect 0 inspect -m d --json
json_is '.dtypes | keys == ["f16"]'
expect 0 convert -m d -o e --dtype bf16 --vision-dtype f32 --shard-size 5GB
expect 0 inspect -m e --tensors --json
json_is '[.tensors[] | select(.name | startswith("vision_tower")) | .dtype] | unique == ["f32"]'
json_is '[.tensors[] | select(.name | startswith("language_model")) | .dtype] | unique == ["bf16"]'
rm -r d e

# quantized weights exist in .gguf files only, and that is said
expect 0 quantize -m "$MODEL" -o q.gguf --dtype q8
expect 0 convert -m q.gguf -o d
stderr_says "quantized weights became bf16"
expect 0 inspect -m d --json
json_is '.dtypes | keys == ["bf16", "f32"]'
answer got -m d
rm -r d got
expect 0 convert -m q.gguf -o same.gguf
cmp -s q.gguf same.gguf || say_failure "$last: not the same file"
expect_error 1 convert -m "$MODEL" -o d --dtype q8
stderr_says "expected f32, bf16, f16, nf4 or int8"
expect_error 1 convert -m "$MODEL" -o d.npz --dtype q4 -q
rm same.gguf

# a tokenizer of another kind travels, and is written where only its tables are there
expect 0 convert -m "$MODEL" --tokenizer "$SOURCE/tests/golden/tokenizer/spm.model" -o d
cmp -s d/tokenizer.model "$SOURCE/tests/golden/tokenizer/spm.model" || say_failure "$last: tokenizer.model is not a copy"
expect 0 tokenize --tokenizer d/tokenizer.json -p "detect cat ; dog"
cp out got
expect 0 tokenize --tokenizer d/tokenizer.model -p "detect cat ; dog"
cmp -s got out || say_failure "tokenizer.json: other ids than tokenizer.model"
rm -r d got

# places
expect_error 2 convert -m "$MODEL"
expect_error 2 convert -m "$MODEL" -o d --shard-size 0
expect_error 2 convert -m "$MODEL" -o d --shard-size 5apples
stderr_says "a size such as 2GB"
expect_error 2 convert -m "$MODEL" -o d --shard-size -1
expect_error 2 convert -m "$MODEL" --tokenizer q.gguf -o q.gguf
expect_error 1 convert -m q.gguf -o q.gguf
stderr_says "a file of the model itself"
expect 0 convert -m q.gguf -o d -q
expect_error 1 convert -m d -o d
stderr_says "d: exists and is not empty"
expect_error 1 convert -m q.gguf -o .
expect_error 1 convert -m q.gguf -o none/d
expect_error 1 convert -m none -o e
[ ! -e e ] || say_failure "$last: left e"
rm -r d

# no room, and interrupted: nothing is left
nothing_but q.gguf wanted config.json
# bitsandbytes' types, into directories only: answers are those of the same weights made while loading
expect 0 convert -m "$MODEL" -o nf4 --dtype nf4 -q
expect 0 run -m "$MODEL" --dtype nf4 -i "$SOURCE/tests/golden/models/images/landscape.jpg" -p "caption en" -n 8 --ignore-eos
cp out wanted_answer
expect 0 run -m nf4 -i "$SOURCE/tests/golden/models/images/landscape.jpg" -p "caption en" -n 8 --ignore-eos
cmp -s out wanted_answer || say_failure "the NF4 directory answers otherwise than --dtype nf4"
expect_error 1 convert -m "$MODEL" -o x.gguf --dtype nf4
stderr_says "bitsandbytes' types are for directories only"
rm -rf nf4 wanted_answer

for blocks in 1 100 900; do
    for output in d d.npz; do
        (
            ulimit -f $blocks
            exec "$PROGRAM" convert -m "$MODEL" -o $output -q
        ) >out 2>err
        status=$?
        last="convert to $output within $blocks blocks"
        [ $status = 1 ] || say_failure "$last: exit status $status"
        stderr_says "$output"
        stderr_says "File too large"
        nothing_but q.gguf wanted config.json
    done
done
finish
