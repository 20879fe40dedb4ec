# run --batch: one object a line in the order of the requests, errors in place, exit status 1 if there was one.
. "$SOURCE/tests/cli/lib.sh"
need jq
cp "$PICTURE" a.jpg
cat >good.jsonl <<END
{"image": "a.jpg", "prompt": "caption en"}
{"image": ["a.jpg", "a.jpg"], "prompt": "what is different?", "id": 7}
END
expect 0 run -m "$MODEL" --batch good.jsonl -n 5 --ignore-eos
[ "$(wc -l <out)" = 2 ] || say_failure "two lines expected"
jq -es '.[0].images == [{"width":384,"height":288}] and (.[1].images | length) == 2 and all(.[]; .schema == 1 and (.tokens | length) == 5)' out >status ||
    say_failure "batch: fields of the answers"
jq -c .tokens out | head -1 >batched
expect 0 run -m "$MODEL" -i a.jpg -p "caption en" -n 5 --ignore-eos --json
jq -c .tokens out | cmp -s - batched || say_failure "batch answers differently from a single run"

{
    head -1 good.jsonl
    echo '{"image": "a.jpg", '
    echo
    echo '{"image": "nowhere.jpg", "prompt": "x"}'
    echo '{"image": "a.jpg"}'
    echo '{"prompt": "x"}'
    echo '{"image": [], "prompt": "x"}'
    echo '[1]'
    echo '{"image": "a.jpg", "prompt": "x", "prompt": "y"}'
    printf '{"image": "a.jpg", "prompt": "\377"}\n'
    head -c 5000000 /dev/zero | tr '\0' '['
    echo
    printf '%s' '{"image": "a.jpg", "prompt": "caption en"}'
} >mixed.jsonl
expect 1 run -m "$MODEL" --batch mixed.jsonl -n 5 --ignore-eos
[ "$(wc -l <out)" = 12 ] || say_failure "12 lines expected"
[ "$(wc -l <err)" = 1 ] || say_failure "one line on stderr expected"
jq -es '[.[] | has("error")] == [false, true, true, true, true, true, true, true, true, true, true, false]' out >/dev/null ||
    say_failure "errors in other places"
jq -es 'all(.[]; has("error") != has("text"))' out >/dev/null || say_failure "an object with error must be without text"
cp out from_file
expect_from mixed.jsonl 1 run -m "$MODEL" --batch - -n 5 --ignore-eos -q
jq -c '[.error, .tokens]' from_file >a
jq -c '[.error, .tokens]' out >b
cmp -s a b || say_failure "--batch - differs from --batch FILE"

# As many at once as there may be: the same answers, in the same order.
for i in 1 2 3 4 5 6 7; do
    echo "{\"image\": \"a.jpg\", \"prompt\": \"caption $i\"}"
    echo "{\"image\": [\"b.jpg\", \"a.jpg\"], \"prompt\": \"what is in picture $i and the other one?\"}"
    [ $((i % 3)) = 0 ] && echo '{"image": "nowhere.jpg", "prompt": "x"}'
done >many.jsonl
cp "$PICTURE" b.jpg
for size in 1 3 8 64; do
    expect 1 run -m "$MODEL" --batch many.jsonl -n 12 --temp 1 --seed 4 --batch-size $size
    jq -c '[.error, .tokens, .logprobs, .text, .objects, .usage]' out >"many_$size"
    [ "$(wc -l <"many_$size")" = 16 ] || say_failure "16 lines expected"
    cmp -s many_1 "many_$size" || say_failure "--batch-size $size changes an answer"
done
json_is 'has("error") or .timing_ms.total >= .timing_ms.prefill'
expect_error 2 run -m "$MODEL" -i a.jpg -p x --batch-size 2

# Whoever writes one line and waits for its answer gets it.
mkfifo lines answers
"$PROGRAM" run -m "$MODEL" --batch - -n 3 <lines >answers 2>err &
exec 4>lines 5<answers
for i in 1 2; do
    head -1 good.jsonl >&4
    read -r answer <&5 || say_failure "no answer while the input is open"
    echo "$answer" | jq -e '.tokens | length > 0' >status || say_failure "no answer to line $i"
done
exec 4>&- 5<&-
wait $! || say_failure "batch: exit status $? at the end of its input"

expect_from /dev/null 0 run -m "$MODEL" --batch -
expect_error 1 run -m "$MODEL" --batch nowhere.jsonl
finish
