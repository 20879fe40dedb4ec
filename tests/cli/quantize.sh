# From a directory to one file and on: the file serves every command, appears whole or not at all, and replaces nothing it needs.
. "$SOURCE/tests/cli/lib.sh"

fields='.text, .tokens, .logprobs, .usage'

for dtype in f32 bf16 f16 q8 q4; do
    expect 0 quantize -m "$MODEL" -o m.gguf --dtype $dtype
    [ ! -s out ] && [ ! -s err ] || say_failure "$last: said something"
    expect 0 run -m "$MODEL" --dtype $dtype -i "$PICTURE" -p "caption en" -n 12 --json
    jq -c "$fields" out >wanted
    expect 0 run -m m.gguf -i "$PICTURE" -p "caption en" -n 12 --json
    jq -c "$fields" out >got
    cmp -s wanted got || say_failure "$last: not the answer of --dtype $dtype"
done
rm -f wanted got

# every command opens it; what inspect says of it is what it says of the directory
expect 0 quantize -m "$MODEL" -o m.gguf --dtype f32 -q
expect 0 inspect -m m.gguf --tensors --json
jq -S 'del(.path, .tensors[].file)' out >got.json
json_is '[.tensors[].file] | unique == ["m.gguf"]'
expect 0 inspect -m "$MODEL" --tensors --json
jq -S 'del(.path, .tensors[].file)' out >wanted.json
cmp -s wanted.json got.json || say_failure "inspect: $(diff wanted.json got.json | head -5)"
rm -f wanted.json got.json
expect 0 score -m m.gguf -i "$PICTURE" -p "answer en" --answer yes --answer no
expect 0 embed -m m.gguf -i "$PICTURE" -o m.npy
expect 0 embed -m "$MODEL" -i "$PICTURE" -o d.npy
cmp -s m.npy d.npy || say_failure "embed: not what the directory gives"
rm -f m.npy d.npy
expect 0 bench -m m.gguf --runs 1 -n 2
for text in "detect cat ; dog" "" "<loc0001><seg001> <bos>"; do
    expect 0 tokenize -m "$MODEL" -p "$text"
    cp out wanted
    expect 0 tokenize -m m.gguf -p "$text"
    cmp -s wanted out || say_failure "$last: other ids than the directory's"
    expect 0 tokenize --tokenizer m.gguf -p "$text"
    cmp -s wanted out || say_failure "$last: other ids than the directory's"
done
rm -f wanted

# types of the parts, and the summary
expect 0 quantize -m "$MODEL" -o p.gguf --dtype q4 --vision-dtype bf16 --embed-dtype f16 --json
json_is '.schema == 1 and .output == "p.gguf" and .dtype == "q4" and .bytes == '"$(wc -c <p.gguf)"
expect 0 inspect -m p.gguf --tensors --json
json_is '[.tensors[] | select(.name | test("vision_tower.*proj.weight|fc")) | select(.shape | length == 2) | .dtype] | unique == ["bf16"]'
json_is '[.tensors[] | select(.name | test("embed_tokens")) | .dtype] == ["f16"]'
json_is '[.tensors[] | select(.name | test("mlp.up_proj")) | .dtype] | unique == ["q4_1"]'
json_is '[.tensors[] | select(.name | test("language_model.*[kv]_proj")) | .dtype] | unique == ["q8_0"]' # all heads share them
rm -f p.gguf

# overwriting: an existing file yes, whole; the model's own file never, under no name
echo old >n.gguf
expect 0 quantize -m m.gguf -o n.gguf --dtype f32
cmp -s m.gguf n.gguf || say_failure "f32 to f32: not the same file"
rm -f n.gguf
cp m.gguf kept
ln m.gguf hard.gguf
ln -s m.gguf soft.gguf
for name in m.gguf ./m.gguf hard.gguf soft.gguf; do
    expect_error 1 quantize -m m.gguf -o $name --dtype q8
    stderr_says "$name: a file of the model itself"
done
expect_error 2 quantize -m "$MODEL" --tokenizer m.gguf -o soft.gguf
cmp -s m.gguf kept || say_failure "$last: m.gguf was changed"
rm -f hard.gguf soft.gguf kept

# names and places
expect_error 2 quantize -m "$MODEL" -o m.npz
stderr_says "m.npz: a name that ends in .gguf expected"
expect_error 1 quantize -m "$MODEL" -o none/x.gguf
stderr_says "none/x.gguf"
mkdir dir.gguf
expect_error 1 quantize -m "$MODEL" -o dir.gguf
rmdir dir.gguf
expect_error 1 quantize -m nowhere -o x.gguf
expect_error 1 quantize -m "$PICTURE" -o x.gguf
stderr_says "not a GGUF file"
[ "$(id -u)" = 0 ] || {
    mkdir closed && chmod 500 closed
    expect_error 1 quantize -m "$MODEL" -o closed/x.gguf
    rmdir closed
}
nothing_but m.gguf

# no room: a limit of the shell, in blocks of 512 bytes, for the file's first tensors and for its last
for blocks in 1 100 500 1000; do
    (
        ulimit -f $blocks
        exec "$PROGRAM" quantize -m "$MODEL" -o full.gguf --dtype f32
    ) >out 2>err
    status=$?
    last="quantize within $blocks blocks"
    [ $status = 1 ] || say_failure "$last: exit status $status"
    stderr_says "full.gguf: cannot write: File too large"
    nothing_but m.gguf
done

# files that are no PaliGemma
head -c 100000 m.gguf >cut.gguf
expect_error 1 run -m cut.gguf -i "$PICTURE" -p x
stderr_says "cut.gguf: "
stderr_says "(truncated?)"
head -c 2000 m.gguf >cut.gguf
expect_error 1 inspect -m cut.gguf
printf 'GGUF\003\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0' >empty.gguf
expect_error 1 inspect -m empty.gguf
stderr_says "empty.gguf: general.architecture: missing"
expect_error 1 tokenize --tokenizer empty.gguf -p x
stderr_says "empty.gguf: tokenizer.ggml.model: missing"
expect_error 1 run -m m.gguf --tokenizer empty.gguf -i "$PICTURE" -p x
finish
