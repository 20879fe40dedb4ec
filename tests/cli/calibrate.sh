# 4 bits with --calibrate: another file, which answers as the model did, about pictures that were not shown; and what can go wrong. (That
# products are nearer: tests/test_compensate.c. How much an answer gains takes thousands of them to see: SPEED.md.)
. "$SOURCE/tests/cli/lib.sh"
need jq
golden=$SOURCE/tests/golden/judged
cp -r "$golden/images" images
# the first eight pictures to learn from, the others to ask about
for task in answer caption-en caption-es caption-fr detect segment; do head -n 8 "$golden/$task.jsonl"; done >seen.jsonl
for task in answer caption-en caption-es caption-fr detect segment; do tail -n 8 "$golden/$task.jsonl"; done >unseen.jsonl

expect_error 2 quantize -m "$MODEL" -o x.gguf --dtype q8 --calibrate seen.jsonl
stderr_says "--dtype q4 expected"
expect_error 2 convert -m "$MODEL" -o x --dtype q4 --calibrate seen.jsonl # before any work
stderr_says "ends in .gguf"
expect_error 2 quantize -m "$MODEL" -o x.gguf --dtype q4 --calibrate seen.jsonl --calibrate-rows 0
expect_error 1 quantize -m "$MODEL" -o x.gguf --dtype q4 --calibrate none.jsonl
stderr_says "calibrate: none.jsonl: No such file"
: >empty.jsonl
expect_error 1 quantize -m "$MODEL" -o x.gguf --dtype q4 --calibrate empty.jsonl
stderr_says "empty.jsonl: empty"
{ head -n 1 seen.jsonl; echo '{"image": "images/000/000000.jpg"}'; } >bad.jsonl
expect_error 1 quantize -m "$MODEL" -o x.gguf --dtype q4 --calibrate bad.jsonl
stderr_says "bad.jsonl: line 2: request: prompt: a string expected"
{ head -n 1 seen.jsonl; echo '{"image": "missing.jpg", "prompt": "x"}'; } >bad.jsonl
expect_error 1 quantize -m "$MODEL" -o x.gguf --dtype q4 --calibrate bad.jsonl
stderr_says "bad.jsonl: line 2: missing.jpg: "
expect 0 quantize -m "$MODEL" -o x.gguf --dtype q4 --calibrate bad.jsonl --calibrate-rows 1 --json # the bad line is not read
json_is '.calibrated_rows == 1 and .dtype == "q4"'
# what adapters make of a model is what is calibrated
lora=$SOURCE/tests/golden/lora/recipe
for calibrate in "" "--calibrate bad.jsonl --calibrate-rows 1"; do
    expect 0 merge -m "$MODEL" --lora "$lora" -o "x${calibrate:+y}.gguf" --dtype q4 -q $calibrate
done
! cmp -s x.gguf xy.gguf || say_failure "$last: changes nothing"
expect 0 run -m xy.gguf -i "$PICTURE" -p "caption en" -n 4
rm bad.jsonl empty.jsonl x.gguf xy.gguf
nothing_but images seen.jsonl unseen.jsonl

[ -n "$BUILTIN_MODEL" ] || finish
mkdir elsewhere
quantize="--dtype q4 --vision-dtype f32 --embed-dtype f32"
expect 0 convert -o f32 --dtype f32
expect 0 quantize -m f32 -o plain.gguf $quantize
expect 0 quantize -m f32 -o minded.gguf $quantize --calibrate seen.jsonl -t 1
(cd elsewhere && expect 0 convert -m ../f32 -o again.gguf $quantize --calibrate ../seen.jsonl -t 2) # pictures lie beside the file
cmp -s minded.gguf elsewhere/again.gguf || say_failure "other threads, another directory: another file"
[ "$(wc -c <plain.gguf)" = "$(wc -c <minded.gguf)" ] || say_failure "$last: another size than without --calibrate"

! cmp -s plain.gguf minded.gguf || say_failure "--calibrate changes nothing"

answers() { # MODEL: their texts
    expect 0 run -m "$1" --batch unseen.jsonl -n 24 --json -q
    jq -c .text out
}
answers f32 >wanted
answers minded.gguf >got
same=$(paste -d '\t' wanted got | awk -F '\t' '$1 == $2' | wc -l)
[ "$same" -ge 32 ] || say_failure "$same of $(wc -l <wanted) answers as in f32: at least 32 expected" # boxes and masks part at near ties
echo "$same answers of $(wc -l <wanted) as in f32"
finish
