# lib.sh: sourced by the tests of the program. Works in a fresh directory that is removed at the end; a failed check
# prints what was run and what came out, and the test goes on so that one run shows everything.
set -u
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
failures=0

say_failure() {
    failures=$((failures + 1))
    echo "FAILED: $*"
    [ ! -e out ] || { echo "  stdout:" && head -c 600 out; }
    [ ! -e err ] || { echo "  stderr:" && head -c 600 err; }
}

# expect STATUS ARGUMENT...: runs the program, leaves its output in out and err
expect() {
    wanted=$1
    shift
    last="paligemma $*"
    "$PROGRAM" "$@" >out 2>err
    status=$?
    [ "$status" = "$wanted" ] || say_failure "$last: exit status $status, expected $wanted"
}

# The same with standard input from a file
expect_from() {
    input=$1
    shift
    exec 3<&0 <"$input"
    expect "$@"
    exec <&3 3<&-
}

# Failures print one line that begins with the program's name, and nothing on stdout
expect_error() {
    expect "$@"
    [ ! -s out ] || say_failure "$last: something on stdout"
    [ "$(wc -l <err)" = 1 ] || say_failure "$last: not one line on stderr"
    grep -q '^paligemma: ' err || say_failure "$last: stderr without the program's name"
}

stderr_says() { grep -qF -- "$1" err || say_failure "$last: stderr does not say \"$1\""; }
stdout_says() { grep -qF -- "$1" out || say_failure "$last: stdout does not say \"$1\""; }

# json_is FILTER: the filter is true of stdout
json_is() { jq -e "$1" out >/dev/null 2>&1 || say_failure "$last: not so: $1"; }

# nothing_but FILE...: what may be in the current directory besides out and err
nothing_but() {
    for name in * .*; do
        case " . .. out err $* " in
        *" $name "*) ;;
        *) say_failure "$last: left $name behind" ;;
        esac
    done
}

need() {
    command -v "$1" >/dev/null 2>&1 || {
        echo "SKIPPED: $1 is not installed"
        exit 77
    }
}

finish() {
    [ "$failures" = 0 ] || {
        echo "$failures checks failed"
        exit 1
    }
    exit 0
}
