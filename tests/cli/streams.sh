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
finish
