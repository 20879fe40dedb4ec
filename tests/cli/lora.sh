# --lora: adapters change what is computed, add up, scale, and fail in one line. (Parity with PEFT: tests/test_adapter.c.)
. "$SOURCE/tests/cli/lib.sh"
need jq
lora=$SOURCE/tests/golden/lora
picture=$SOURCE/tests/golden/models/images/landscape.jpg
score() { # ARGUMENT...: the answer's log-probability
    "$PROGRAM" score -m "$MODEL" -i "$picture" -p "detect cat" --answer cat "$@" 2>err | cut -f1
}
bare=$(score)
text=$(score --lora "$lora/text")
[ "$text" != "$bare" ] || say_failure "--lora changes nothing"
[ "$(score --lora "$lora/text:0")" = "$bare" ] || say_failure "a scale of 0 is not the bare model"
[ "$(score --lora "$lora/text:1")" = "$text" ] || say_failure "a scale of 1 is not the adapter"
near() { awk -v a="$1" -v b="$2" 'BEGIN { exit !(a - b < 0.001 && b - a < 0.001) }'; } # sums are rounded in another order
near "$(score --lora "$lora/text:0.5" --lora "$lora/text:-0.5")" "$bare" || say_failure "half and minus half do not cancel"
[ "$(score --lora "$lora/text:0.5")" != "$text" ] || say_failure "a scale changes nothing"
[ "$(score --lora "$lora/text" --dtype q8)" != "$(score --dtype q8)" ] || say_failure "--lora changes nothing over q8"
ln -s "$lora/text" "a:0.5"
[ "$(score --lora a:0.5)" = "$text" ] || say_failure "a directory with a colon in its name is not taken as it stands"
[ "$(score --lora a:0.5:0)" = "$bare" ] || say_failure "nor with a scale behind it"

# Every command that computes has it; a tower's adapter changes what the tower says, a text model's does not.
expect 0 embed -m "$MODEL" -i "$picture" -o bare.npy
expect 0 embed -m "$MODEL" -i "$picture" -o text.npy --lora "$lora/text"
expect 0 embed -m "$MODEL" -i "$picture" -o vision.npy --lora "$lora/vision"
cmp -s bare.npy text.npy || say_failure "an adapter of the text model changes the tower"
! cmp -s bare.npy vision.npy || say_failure "an adapter of the tower does not change it"
expect 0 detect -m "$MODEL" -i "$picture" cat --lora "$lora/recipe" --json -n 8
expect 0 bench -m "$MODEL" --lora "$lora/recipe" --runs 1 -n 2 --json
expect 0 run -m "$MODEL" -i "$picture" -p "detect cat" --lora "$lora/recipe" --json -n 12
jq -c '{tokens, logprobs}' out >single
printf '{"image": "%s", "prompt": "detect cat"}\n{"image": "%s", "prompt": "cat"}\n' "$picture" "$picture" >requests.jsonl
expect 0 run -m "$MODEL" --batch requests.jsonl --lora "$lora/recipe" -n 12
head -n1 out | jq -c '{tokens, logprobs}' | cmp -s - single || say_failure "--batch with an adapter differs from a single run"
expect 0 run -m "$MODEL" --plan --json
weights=$(jq .memory_bytes.weights out)
expect 0 run -m "$MODEL" --lora "$lora/recipe" --plan --json
json_is ".memory_bytes.weights > $weights"

expect_error 1 run -m "$MODEL" -i "$picture" -p x --lora nowhere
stderr_says "nowhere: no such directory"
expect_error 1 run -m "$MODEL" -i "$picture" -p x --lora nowhere:0.5
expect_error 1 run -m "$MODEL" -i "$picture" -p x --lora "$MODEL"
stderr_says "adapter_config.json"
expect_error 1 run -m "$MODEL" -i "$picture" -p x --lora "$lora/rslora"
stderr_says "adapter_model.safetensors"
expect_error 1 run -m "$MODEL" -i "$picture" -p x --lora "$lora/saved" --lora "$lora/saved"
stderr_says "another adapter has weights of its own"
expect_error 2 run -m "$MODEL" -i "$picture" -p x --lora "$lora/text:strong"
stderr_says "a number from -1e+06 to 1e+06 expected after the colon"
expect_error 2 run -m "$MODEL" -i "$picture" -p x --lora "$lora/text:nan"
expect_error 2 run -m "$MODEL" -i "$picture" -p x --lora "$lora/text:"
expect_error 1 run -m "$lora/text" -i "$picture" -p x
stderr_says "tiny/pg1-f32"
stderr_says "--lora $lora/text"
expect_error 2 tokenize -m "$MODEL" -p x --lora "$lora/text"
finish
