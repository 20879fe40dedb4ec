# Wrong usage: exit status 2, one line, a hint; help and man pages go to stdout.
. "$SOURCE/tests/cli/lib.sh"

expect_error 2
expect_error 2 rnu
stderr_says "did you mean run?"
expect_error 2 zzzzzzzz
expect_error 2 serve
stderr_says "not available in this version"
expect_error 2 run --modle=x
stderr_says "did you mean --model?"
expect_error 2 run --max
stderr_says "did you mean --max-tokens?"
expect_error 2 run --decode
expect_error 2 run -Z
expect_error 2 run --lora
stderr_says "DIR[:SCALE] expected"
expect_error 2 run --dtype nf5
stderr_says "f32|bf16|f16|q8|q4|nf4|int8 expected"
for bad in "-n 0" "-n x" "-n -1" "-n 1.5" "-n 99999999999999999999999" "--temp -1" "--temp nan" "--temp 1x" "--top-p 0" "--top-p 1.1" \
    "-t 0" "--seed 18446744073709551616" "--num-beams 0" "--dtype f64" "--json=1" "stray" "-- stray" "-n"; do
    # shellcheck disable=SC2086 # words
    expect_error 2 run -m m -i i -p p $bad
done
expect_error 2 run -m "$MODEL" -p x
expect_error 2 run -m "$MODEL" -i "$PICTURE"
expect_error 2 run -m "$MODEL" -i - -p -
expect_error 2 run -m "$MODEL" -i "$PICTURE" -p x --num-beams 2 --temp 1
expect_error 2 run -m "$MODEL" -i "$PICTURE" -p x --num-return 2
expect_error 2 run -m "$MODEL" --batch x -p y
expect_error 2 score -m "$MODEL" -i "$PICTURE" -p x
expect_error 2 embed -m "$MODEL" -i "$PICTURE"
expect_error 2 embed -m "$MODEL" -i "$PICTURE" -o x.npy --what everything
for command in detect segment; do
    expect_error 2 $command -m "$MODEL" -i "$PICTURE"
    stderr_says "$command -i cat.jpg cat dog"
    expect_error 2 $command -m "$MODEL" -i "$PICTURE" cat "  "
    expect_error 2 $command -m "$MODEL" cat
    stderr_says "$command: no picture"
    expect_error 2 $command -m "$MODEL" -i "$PICTURE" -p cat
done
expect_error 2 detect -m "$MODEL" -i "$PICTURE" "$(printf 'c\377t')"
expect_error 2 detect -m "$MODEL" -i "$PICTURE" cat --batch x
expect_error 2 ask -m "$MODEL" -i "$PICTURE"
expect_error 2 caption -m "$MODEL" -i "$PICTURE" a cat
stderr_says "unexpected argument"
expect_error 2 caption -m "$MODEL" -i "$PICTURE" --lang xx
expect_error 2 caption -m "$MODEL" -i "$PICTURE" --lang ""
expect_error 2 ask -m "$MODEL" -i "$PICTURE" --lang french "what is it?"
expect_error 2 objects -m "$MODEL" x
expect_error 2 objects -m "$MODEL" -i "$PICTURE"
expect_error 2 objects -m "$MODEL" -i "$PICTURE" a b
expect_error 2 objects -m "$MODEL" -i - -
for bad in "--draw out" "--draw out.gif" "--draw {name}.png.txt" "-o x" "--format coco --json" "--format yolo" "--format yolo -o -" "--format voc"; do
    # shellcheck disable=SC2086 # words
    expect_error 2 run -m "$MODEL" -i "$PICTURE" -p x $bad
done
: >empty.jsonl
expect_error 2 run -m "$MODEL" --batch empty.jsonl --draw out.png
stderr_says "{name}"
expect_error 2 run -m "$MODEL" --batch empty.jsonl --draw "{name}.gif"
expect_error 2 quantize -m "$MODEL"
stderr_says "-o FILE.gguf expected"
expect_error 2 quantize
expect_error 2 convert -m "$MODEL"
stderr_says "-o DIR, FILE.gguf or FILE.npz expected"
expect_error 2 merge -m "$MODEL" -o x
stderr_says "--lora DIR expected"
expect_error 2 merge -m "$MODEL" --lora "$SOURCE/tests/golden/lora/text"
stderr_says "-o DIR"
expect_error 2 convert -m "$MODEL" -o x --dtype q3
expect_error 2 quantize -m "$MODEL" -o x.gguf --dtype int8
stderr_says "f32|bf16|f16|q8|q4 expected"
expect_error 2 quantize -m "$MODEL" -o x.gguf --vision-dtype q3

expect 0 --help
stdout_says "usage: paligemma COMMAND"
for planned in eval serve; do
    ! grep -q -- "$planned" out || say_failure "help lists $planned, which this version does not have"
done
expect 0 --version
for command in run detect segment caption ask ocr objects score embed tokenize inspect bench quantize convert merge data finetune; do
    expect 0 "$command" --help
    stdout_says "usage: paligemma $command"
    mv out help
    expect 0 --help "$command"
    cmp -s out help || say_failure "--help $command and $command --help differ"
    expect 0 --man "$command"
    # every option of the help is in the man page
    grep -o -- '--[a-z][a-z-]*' help | sort -u | while read -r option; do
        sed 's/\\//g' out | grep -qF -- "$option" || echo "$option"
    done >lost
    [ ! -s lost ] || say_failure "man page of $command lacks $(cat lost)"
done
expect 0 --completion
if command -v bash >/dev/null 2>&1; then bash -n out || say_failure "completion is not valid bash"; fi
finish
