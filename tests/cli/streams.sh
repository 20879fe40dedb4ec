# Closed pipes, full disks, closed descriptors, Ctrl-C.
. "$SOURCE/tests/cli/lib.sh"
run="run -m $MODEL -i $PICTURE -p caption"

# a reader that leaves: failure without a message
# shellcheck disable=SC2086 # words
{
    { "$PROGRAM" $run --ignore-eos -n 64 --json 2>err; echo $? >status; } | true
    [ "$(cat status)" != 130 ] || say_failure "closed pipe: taken for an interrupt"
    { sleep 0.3; "$PROGRAM" $run --ignore-eos -n 64 2>err; echo $? >status; } | true
    [ "$(cat status)" = 1 ] || say_failure "closed pipe: exit status $(cat status), expected 1"
    [ ! -s err ] || say_failure "closed pipe: something on stderr"

    last="$run >/dev/full"
    for form in "" "--json" "-q"; do
        "$PROGRAM" $run -n 4 $form >/dev/full 2>err
        [ $? = 1 ] || say_failure "/dev/full $form: exit status 1 expected"
        stderr_says "standard output"
    done
    "$PROGRAM" --help >/dev/full 2>err
    [ $? = 1 ] || say_failure "/dev/full --help: exit status 1 expected"
    last="$run >&-"
    "$PROGRAM" $run -n 4 >&- 2>err
    [ $? = 1 ] || say_failure "closed stdout: exit status 1 expected"
    "$PROGRAM" embed -m "$MODEL" -i "$PICTURE" -o x.npy >&- 2>/dev/null <&-
    [ "$(head -c 6 x.npy | tail -c 5)" = NUMPY ] || say_failure "closed descriptors: x.npy is not a NumPy file"

    # Ctrl-C while generating, and while waiting for standard input
    rm -f out
    "$PROGRAM" $run --ignore-eos -n 30000 >out 2>err &
    pid=$!
    for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
        sleep 0.2
        [ ! -s out ] || break
    done
    kill -INT $pid
    wait $pid
    status=$?
    last="$run, interrupted"
    [ $status = 130 ] || say_failure "$last: exit status $status, expected 130"
    [ ! -s err ] || say_failure "$last: something on stderr"
    mkfifo pipe
    sleep 5 >pipe &
    holder=$!
    "$PROGRAM" run -m "$MODEL" -i "$PICTURE" -p - <pipe >out 2>err &
    pid=$!
    sleep 0.5
    kill -INT $pid
    wait $pid
    status=$?
    kill $holder
    [ $status = 130 ] || say_failure "interrupted while reading standard input: exit status $status, expected 130"
}

# On a terminal control characters are shown and not obeyed; elsewhere, and in what JSON says, the text is the text.
esc=$(printf '\033') c1=$(printf '\302\233') del=$(printf '\177') cr=$(printf '\r')
answer="a${esc}[2J${c1}1m${cr}b${del}	c"
expect 0 score -m "$MODEL" -i "$PICTURE" -p x --answer "$answer"
[ "$(cut -f 2- out)" = "$answer" ] || say_failure "score: a pipe gets another text"
if script -qec true /dev/null </dev/null >/dev/null 2>&1; then # it is there, and there are pseudo-terminals
    last="on a terminal"
    cat >on_terminal <<END
"$PROGRAM" score -m "$MODEL" -i "$PICTURE" -p x --answer "$answer" 2>err
END
    script -qec "sh on_terminal" /dev/null </dev/null | tr -d '\r' >out
    [ "$(cut -f 2- out)" = 'a\u001b[2J\u009b1m\u000db\u007f	c' ] || say_failure "a terminal gets another text"
    sed 's/score/score --json/' on_terminal >on_terminal_json
    script -qec "sh on_terminal_json" /dev/null </dev/null | tr -d '\r' >out
    ! grep -q "$c1\|$del" out || say_failure "JSON on a terminal has control characters"
    if command -v jq >/dev/null 2>&1; then
        [ "$(jq -j '.candidates[0].text' out)" = "$answer" ] || say_failure "JSON on a terminal says something else"
    fi
else
    echo "left out: a terminal: script is not installed, or there are no pseudo-terminals here"
fi
finish
