# Adapters merged into a model: it answers as the adapter does, and what rounding costs is printed. (Bits: tests/test_merge.c.)
. "$SOURCE/tests/cli/lib.sh"
need jq
lora=$SOURCE/tests/golden/lora
answer() { # FILE ARGUMENT...: tokens of an answer
    file=$1
    shift
    expect 0 run "$@" -i "$PICTURE" -p "caption en" -n 12 --json
    jq -c '.text, .tokens' out >"$file"
}

cp "$MODEL/config.json" .
answer bare -m "$MODEL"
answer wanted -m "$MODEL" --lora "$lora/recipe"
! cmp -s bare wanted || say_failure "the adapter changes nothing: the test is of no use"
for output in d m.gguf m.npz; do
    expect 0 merge -m "$MODEL" --lora "$lora/recipe" -o $output -q
    stdout_says "updates  0 of their norm lost"
    answer got -m $output --tokenizer "$MODEL/tokenizer.json"
    cmp -s wanted got || say_failure "$output: not the answer of the adapter"
done
expect 0 merge -m m.gguf --lora "$lora/recipe:-1" -o back --json
json_is '.merge.matrices > 0 and .merge.updates_error == 0 and .merge.worst == null'
answer got -m back
cmp -s bare got || say_failure "merged and taken out again: another answer"
rm -r d m.gguf m.npz back

# what is lost, by type: the fewer bits, the more
last_error=0
for dtype in f32 bf16 q8 q4; do
    expect 0 merge -m "$MODEL" --lora "$lora/recipe" --lora "$lora/text:0.25" -o m.gguf --dtype $dtype --json
    json_is ".merge.updates_error >= $last_error and .merge.updates_error >= .merge.weights_error and .merge.worst_error >= .merge.updates_error"
    json_is '.merge.updates_error == 0 or (.merge.worst | test("proj"))'
    last_error=$(jq .merge.updates_error out)
done
expect 0 merge -m "$MODEL" --lora "$lora/recipe" -o m.gguf --dtype bf16
stdout_says "proj.weight"
rm m.gguf

for dtype in nf4 int8; do
    expect 0 merge -m "$MODEL" --lora "$lora/recipe" -o d --dtype $dtype --json
    json_is '.merge.matrices == 30 and .merge.updates_error > 0.001 and .merge.updates_error < 1 and .merge.weights_error < .merge.updates_error'
    answer got -m d
    rm -r d
done

expect_error 1 merge -m "$MODEL" --lora nowhere -o d
expect_error 1 merge -m "$MODEL" --lora "$lora/text" -o d --dtype q8
nothing_but bare wanted got config.json
finish
