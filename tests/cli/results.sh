# run, score, embed, inspect and bench: the JSON of the contract, and plain output that agrees with it.
. "$SOURCE/tests/cli/lib.sh"
need jq
run="run -m $MODEL -i $PICTURE"

expect 0 $run -p "caption en" -n 6 --ignore-eos --json
json_is '.schema == 1 and (.text | type) == "string" and .finish == "length" and (.tokens | length) == 6 and (.logprobs | length) == 6'
json_is '.logprobs | all(. <= 0)'
json_is '.images == [{"width": 384, "height": 288}] and .objects == [] and .usage.generated_tokens == 6 and .usage.image_tokens > 0'
json_is '.timing_ms | [.load, .preprocess, .vision, .prefill, .decode, .total] | all(type == "number" and . >= 0)'
json_is '.timing_ms | .total + 0.01 >= .load + .vision + .prefill + .decode'
jq -j .text out >text
expect 0 $run -p "caption en" -n 6 --ignore-eos
head -c -1 out | cmp -s - text || say_failure "plain text differs from the JSON's"
cp out plain
[ ! -s err ] || say_failure "run: something on stderr that is no terminal"
expect 0 $run -p "caption en" -n 6 --ignore-eos -q
cmp -s out plain || say_failure "-q changes the answer"

# the same prompt and picture by other ways in
printf 'caption en\n' >prompt.txt
expect 0 $run -p @prompt.txt -n 6 --ignore-eos
cmp -s out plain || say_failure "-p @FILE: another answer"
expect_from prompt.txt 0 $run -p - -n 6 --ignore-eos
cmp -s out plain || say_failure "-p -: another answer"
expect_from "$PICTURE" 0 run -m "$MODEL" -i - --prompt="caption en" -n6 --ignore-eos
cmp -s out plain || say_failure "-i -: another answer"
expect 0 $run -p "caption en" -n 6 --ignore-eos -t 1
cmp -s out plain || say_failure "-t 1: another answer"
expect 0 $run -i "$PICTURE" -p "caption en" -n 2 --json
json_is '(.images | length) == 2'
one=$(jq .usage.image_tokens out)
expect 0 $run -p "caption en" -n 2 --json
[ "$one" = $((2 * $(jq .usage.image_tokens out))) ] || say_failure "two pictures: not twice the image tokens"

# sampling: the seed decides; beams: alternatives
expect 0 $run -p x -n 8 --ignore-eos --temp 100000 --seed 1
cp out seed1
expect 0 $run -p x -n 8 --ignore-eos --temp 100000 --seed 1
cmp -s out seed1 || say_failure "same seed, another answer"
expect 0 $run -p x -n 8 --ignore-eos --temp 100000 --seed 2
! cmp -s out seed1 || say_failure "another seed, the same answer"
expect 0 $run -p x -n 6 --num-beams 3 --num-return 2 --json
json_is '(.alternatives | length) == 2 and .alternatives[0].text == .text and .alternatives[0].tokens == .tokens'
json_is '.alternatives[0].score >= .alternatives[1].score'

# score: sums, order, best; a greedy answer is at least as good as any other of its length
expect 0 score -m "$MODEL" -i "$PICTURE" -p "answer" --answer yes --answer no --answer yes --json
json_is '.schema == 1 and [.candidates[].text] == ["yes", "no", "yes"] and .candidates[0].logprob == .candidates[2].logprob'
json_is '[.candidates[] | (.token_logprobs | add) - .logprob | fabs] | max < 1e-4'
json_is '.candidates as $c | .best as $b | all($c[]; .logprob <= $c[$b].logprob)'
json_is 'all(.candidates[]; (.tokens | length) == (.token_logprobs | length))'
jq -r '.candidates[] | .text' out >texts
expect 0 score -m "$MODEL" -i "$PICTURE" -p "answer" --answers texts
[ "$(cut -f 2 out)" = "$(cat texts)" ] || say_failure "score: plain output has other answers"

# embed: shapes as the file says
expect 0 inspect -m "$MODEL" --json
json_is '.schema == 1 and .parameters > 0 and .memory_bytes.f32 > .memory_bytes.bf16 and .tokenizer == true'
side=$(jq .resolution out) tokens=$(jq .image_tokens out) width=$(jq .vision.width out) text_width=$(jq .text.width out)
for form in "pixels:[3,$side,$side]" "vision:[$tokens,$width]" "projector:[$tokens,$text_width]" "mean:[1,$width]"; do
    expect 0 embed -m "$MODEL" -i "$PICTURE" --what "${form%%:*}" -o x.npy --json
    json_is ".shape == ${form#*:}"
    values=$(jq '.shape | reduce .[] as $n (1; . * $n)' out)
    [ "$(wc -c <x.npy)" = $((128 + 4 * values)) ] || say_failure "embed ${form%%:*}: size of the file"
    head -c 128 x.npy | tr -d ' ' | grep -qaF "'shape':$(echo "${form#*:}" | tr '[]' '()')" || say_failure "embed ${form%%:*}: header of the file"
    expect 0 embed -m "$MODEL" -i "$PICTURE" --what "${form%%:*}" -o -
    cmp -s out x.npy || say_failure "embed ${form%%:*}: -o - differs"
done
expect 0 embed -m "$MODEL" -i "$PICTURE" --what hidden -p "caption en" -o x.npy --json
json_is ".shape[1] == $text_width and .shape[0] > $tokens"

expect 0 inspect -m "$MODEL" --tensors --json
json_is '(.tensors | length) > 10 and all(.tensors[]; (.name | length) > 0 and (.shape | length) > 0)'
codec=${MODEL%/models/*}/codec
for file in narrow.npz narrow.safetensors; do
    expect 0 inspect -m "$codec/$file" --json
    json_is '.kind == "mask_codec" and .code_width == 12 and .codes == 16 and .mask_size == [64, 64] and .encoder == true and .parameters > 10000'
done
parameters=$(jq .parameters out)
expect 0 inspect -m "$codec/narrow.npz"
stdout_says "parameters  $parameters"
stdout_says "64 x 64 from 16 codes of width 12, with encoder"
expect_error 1 inspect -m "$codec/golden.safetensors"
stderr_says "_vq_vae._embedding: tensor missing"
expect 0 bench -m "$MODEL" -n 4 --runs 2 --json
json_is '[.vision_ms, .prefill_ms, .prefill_tok, .decode_tok_s, .peak_rss_bytes] | all(type == "number" and . > 0)'
json_is '.limits.read_gb_s > 0 and .fractions.decode > 0'
finish
