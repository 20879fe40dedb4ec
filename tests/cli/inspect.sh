# inspect: what it says of a model, and of one that does not open; .gguf files as the community has them, by every command's -m.
. "$SOURCE/tests/cli/lib.sh"
need jq
community=$SOURCE/tests/golden/gguf/community

# a whole model: nothing is wrong, the lists are empty, the sums agree
expect 0 inspect -m "$MODEL" --json --tensors
json_is '.schema == 1 and .kind == "model" and .problem == null and .missing == [] and .unfit == [] and .extra == []'
json_is 'all(.tensors[]; .state == "found" and .bytes > 0 and (has("held") | not))'
json_is '([.tensors[] | .shape | reduce .[] as $n (1; . * $n)] | add) == .parameters and ([.dtypes[].elements] | add) == .parameters'
json_is '([.dtypes[].bytes] | add) == ([.tensors[].bytes] | add) and ([.dtypes[].tensors] | add) == (.tensors | length)'
expect 0 inspect -m "$MODEL"
for word in missing unfit extra held; do
    ! grep -q "$word" out || say_failure "inspect: $word in a whole model"
done

# adapters, of themselves
expect 0 inspect -m "$SOURCE/tests/golden/lora/rslora" --json --tensors
json_is '.kind == "adapter" and .problem == null and .rslora == true and .rank > 0 and .alpha > 0 and .updated > 0 and (.targets | length) > 0'
json_is '([.tensors[] | .shape | reduce .[] as $n (1; . * $n)] | add) == .parameters and all(.tensors[]; .state == "found")'
expect 0 inspect -m "$SOURCE/tests/golden/lora/text"
stdout_says "made for    tiny/pg1-f32"
stdout_says "rank        4, alpha 8: scale 2"

# checkpoints of bitsandbytes
expect 0 inspect -m "$SOURCE/tests/golden/bnb/pg1-nf4" --tokenizer "$MODEL/tokenizer.json" --json
json_is '.problem == null and .dtypes.nf4.tensors > 10 and .dtypes.nf4.bytes * 2 < .dtypes.nf4.elements * 1.5 and .missing == [] and .extra == []'

# the real shapes, without any file
for case in 3b-224:2923466480 3b-896:2927890160 pg2-3b-448:3033127152 pg2-10b-224:9662638832 pg2-28b-448:27651371760; do
    expect 0 inspect --random "${case%:*}" --json
    json_is ".parameters == ${case#*:} and .path == \"${case%:*}\" and .memory_bytes.f32 > 1.9 * .memory_bytes.bf16"
done
expect_error 1 inspect --random 3b-225

# a model with a shard less: what is there, what is missing, and the line that says so
mkdir broken
cp "$MODEL"/*.json broken
expect_error 1 inspect -m broken
stderr_says "broken: found neither model.safetensors nor"
cp "$community"/text-*.gguf .
for option in "" --tensors; do
    expect 1 inspect -m text-00001-of-00003.gguf $option
    stdout_says "model       unknown (text-00001-of-00003.gguf)"
    stdout_says "q6_k (1 tensors"
    stderr_says "paligemma: model: text-00001-of-00003.gguf: a text model without vision tower"
    [ "$(wc -l <err)" = 1 ] || say_failure "$last: not one line on stderr"
done
stdout_says "blk.3.ffn_down.weight q6_k [32, 256] text-00003-of-00003.gguf"
expect 1 inspect -m text-00001-of-00003.gguf --json
json_is '.kind == "model" and (.problem | test("without vision tower")) and .dtypes.q2_k.tensors == 1 and (has("variant") | not) and (has("memory_bytes") | not)'
expect_error 1 inspect -m text-00001-of-00003.gguf -q
expect_error 1 run -m text-00001-of-00003.gguf -i "$PICTURE" -p cat
stderr_says "expected a mmproj file beside it"

# text model, parts and vision file: found beside it, or given
cp "$community/mmproj-f16.gguf" tower.gguf
expect 0 run -m text-00003-of-00003.gguf --mmproj tower.gguf -i "$PICTURE" -p cat -n 4 --json
jq -c '.tokens, .logprobs' out >given
mv tower.gguf mmproj.gguf
expect 0 run -m text-00001-of-00003.gguf -i "$PICTURE" -p cat -n 4 --json -v
jq -c '.tokens, .logprobs' out >beside
cmp -s given beside || say_failure "--mmproj: another answer than with the file beside the model"
stderr_says "tensors of type Q5_0 (4) are held as q8_0"
stderr_says "tensors of type Q6_K (1) are held as q8_0"
expect 0 run -m text-00001-of-00003.gguf -i "$PICTURE" -p cat -n 4
[ ! -s err ] || say_failure "$last: something on stderr"
expect 0 inspect -m text-00002-of-00003.gguf
stdout_says "vocabulary  270, with tokenizer"
expect 0 inspect -m text-00002-of-00003.gguf --tensors
stdout_says "language_model.layers.3.mlp.down_proj.weight q6_k [32, 256] text-00003-of-00003.gguf (held as q8_0)"
expect 0 inspect -m text-00002-of-00003.gguf --json --tensors
json_is '[.tensors[] | select(.held)] | length == 12 and all(.[]; .held == "q8_0")'
expect 0 quantize -m text-00002-of-00003.gguf -o one.gguf --dtype bf16 # one file of all of it
expect 0 inspect -m one.gguf --json
json_is '.problem == null and .tokenizer and .dtypes.bf16.tensors > 30 and .missing == [] and .extra == []'
cp mmproj.gguf other-mmproj.gguf
expect_error 1 inspect -m text-00001-of-00003.gguf
stderr_says "several mmproj files beside it"
expect 0 inspect -m text-00001-of-00003.gguf --mmproj other-mmproj.gguf
rm text-00002-of-00003.gguf
expect_error 1 inspect -m text-00001-of-00003.gguf --mmproj other-mmproj.gguf
stderr_says "text-00002-of-00003.gguf: cannot open"
finish
