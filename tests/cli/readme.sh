# The README's commands work as written: lines after "$ " that begin with paligemma or build/bin/paligemma, with the tiny
# model in the place of the real one. Commands that build, install or download are what runs this test, and are listed.
. "$SOURCE/tests/cli/lib.sh"
ln -s "$MODEL" paligemma-3b-mix-224
ln -s "$SOURCE/examples" examples
cp "$PICTURE" cat.jpg
echo '{"image": "cat.jpg", "prompt": "caption en"}' >requests.jsonl
mkdir -p build/bin
ln -s "$PROGRAM" build/bin/paligemma
PATH=$work/build/bin:$PATH
n=0
sed -n 's/^ *\$ //p' "$SOURCE/README.md" >commands
while read -r line; do
    case $line in
    *--random*) echo "left out: $line" && continue ;;
    *paligemma\ *) ;;
    *) echo "left out: $line" && continue ;;
    esac
    n=$((n + 1))
    rm -f out
    eval "$line" >out 2>err </dev/null || say_failure "$line"
    [ -s out ] || [ -s cat.npy ] || say_failure "$line: printed nothing"
done <commands
echo "$n commands run"
[ "$n" -ge 5 ] || say_failure "too few commands were found"

# its C program compiles and runs
sed -n '/^```c$/,/^```$/p' "$SOURCE/README.md" | sed '/^```/d' >caption.c
[ -s caption.c ] || say_failure "no C program in README.md"
if [ -e "$BUILD/libpaligemma.so" ]; then
    # shellcheck disable=SC2086 # flags are words
    $CC $SANITIZE -std=c11 -Wall -Wextra -Werror -I"$SOURCE/include" caption.c -o caption -L"$BUILD" -lpaligemma -Wl,-rpath,"$BUILD" 2>err ||
        say_failure "README.md: the C program does not compile"
    ./caption paligemma-3b-mix-224 cat.jpg "caption en" >out 2>err || say_failure "README.md: the C program fails"
fi
finish
