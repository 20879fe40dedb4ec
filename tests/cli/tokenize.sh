# tokenize: there and back, lines, JSON, the full model input.
. "$SOURCE/tests/cli/lib.sh"
need jq

expect 0 tokenize -m "$MODEL" -p "caption en"
cp out ids
[ "$(wc -l <ids)" = 1 ] || say_failure "one line expected"
printf 'caption en\n' >text
expect_from text 0 tokenize -m "$MODEL"
cmp -s out ids || say_failure "standard input: other ids"
expect_from ids 0 tokenize -m "$MODEL" --decode
cmp -s out text || say_failure "decode does not bring the text back"
for file in tokenizer.json tokenizer.model; do
    [ -e "$MODEL/$file" ] || continue
    expect 0 tokenize --tokenizer "$MODEL/$file" -p "caption en"
    cmp -s out ids || say_failure "--tokenizer $file: other ids than -m"
done
expect 0 tokenize -m "$MODEL" -p "caption en" --json
json_is '(.ids | length) > 0 and (.ids | length) == (.tokens | length)'
[ "$(jq -r '.ids | map(tostring) | join(" ")' out)" = "$(cat ids)" ] || say_failure "JSON has other ids"
printf 'caption en\n\ndetect cat\n' >lines
expect_from lines 0 tokenize -m "$MODEL" --lines
[ "$(wc -l <out)" = 3 ] || say_failure "--lines: three lines expected"
[ "$(head -1 out)" = "$(cat ids)" ] || say_failure "--lines: other ids"
[ -z "$(sed -n 2p out)" ] || say_failure "--lines: an empty line has no ids"
cp out many
expect_from many 0 tokenize -m "$MODEL" --lines --decode
cmp -s out lines || say_failure "--lines --decode does not bring the text back"
expect_from /dev/null 0 tokenize -m "$MODEL"
[ "$(cat out)" = "" ] || say_failure "empty input has ids"

# special tokens typed as text stay text; the model input has them
expect 0 tokenize -m "$MODEL" -p "<bos><image>" --json
json_is '(.ids | length) > 2'
expect 0 inspect -m "$MODEL" --json
n=$(jq .image_tokens out)
expect 0 tokenize -m "$MODEL" -p "caption en" -i a -i b --prompt-template --json
json_is ".ids[: 2 * $n] | unique | length == 1"
json_is ".tokens[2 * $n] == \"<bos>\" and .tokens[0] == \"<image>\""
[ "$(jq -r ".ids[2 * $n + 1 : -1] | map(tostring) | join(\" \")" out)" = "$(cat ids)" ] || say_failure "model input: other prompt ids"

for bad in "1 x" "-1" "99999999999" "1,2"; do
    echo "$bad" >bad
    expect_from bad 1 tokenize -m "$MODEL" --decode
    [ "$(wc -l <err)" = 1 ] || say_failure "--decode of \"$bad\": one line on stderr expected"
done
finish
