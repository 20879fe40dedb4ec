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
expect_from /dev/null 0 run -m "$MODEL" --batch -
expect_error 1 run -m "$MODEL" --batch nowhere.jsonl
finish
