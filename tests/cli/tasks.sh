# detect, segment, caption, ask, ocr: the documented prompts, and otherwise run.
. "$SOURCE/tests/cli/lib.sh"
need jq
options="-m $MODEL -i $PICTURE -n 12 --ignore-eos"

# same PROMPT COMMAND ARGUMENT...: the command's answer is run's to that prompt
same() {
    prompt=$1 command=$2
    shift 2
    expect 0 run $options -p "$prompt" --json
    jq -c '[.tokens, .logprobs]' out >wanted
    expect 0 "$command" $options --json "$@"
    jq -c '[.tokens, .logprobs]' out | cmp -s - wanted || say_failure "$last: not the answer to \"$prompt\""
}
same "detect cat" detect cat
same "detect cat ; big dog" detect " Cat" "big DOG "
same "detect äpfel ; été" detect ÄPFEL ÉTÉ
same "detect -x" detect -- -x
same "segment cat ; dog" segment cat dog
same "caption en" caption
same "caption fr" caption --lang fr
same "answer en What is it?" ask "What is it?"
same "answer en What is it?" ask What is it?
same "answer de Was ist das?" ask --lang de "Was ist das?"
same "ocr" ocr
expect 0 run $options -p "detect cat"
cp out plain
expect 0 detect $options cat --raw
cmp -s out plain || say_failure "--raw: not the plain answer"
expect 0 ocr $options
cp out plain
expect 0 run $options -p ocr
cmp -s out plain || say_failure "ocr: not the plain answer"
expect 0 detect -m "$MODEL" -i "$PICTURE" -n 1 cat
[ ! -s out ] || say_failure "nothing found: something on stdout"
stderr_says "nothing found"
finish
