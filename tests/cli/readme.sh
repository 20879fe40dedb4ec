# The commands of the README and of doc/ work as written: lines after "$ " that begin with paligemma or build/bin/paligemma,
# with the tiny model in the place of the real one. Commands that build, install or download are what runs this test, and are listed.
. "$SOURCE/tests/cli/lib.sh"
ln -s "$MODEL" paligemma-3b-mix-224
ln -s "$SOURCE/examples" examples
cp "$PICTURE" cat.jpg
cp "$SOURCE/tests/golden/codec/narrow.npz" vae-oid.npz
echo '{"image": "cat.jpg", "prompt": "caption en"}' >requests.jsonl
mkdir -p build/bin
ln -s "$PROGRAM" build/bin/paligemma
PATH=$work/build/bin:$PATH
n=0
ln -s "$SOURCE/tests" tests
ln -s tests/golden/lora/recipe my-adapter
ln -s tests/golden/lora/text other-adapter
ln -s "$SOURCE/doc" doc
ln -s "$SOURCE/recipes" recipes
ln -s "$SOURCE/models" models
echo '{"image": "cat.jpg", "prefix": "caption en", "suffix": "a cat asleep"}' | tee val.jsonl >train.jsonl
cat "$SOURCE/README.md" "$SOURCE"/doc/*.md | sed -n 's/^ *\$ //p' >commands
while read -r line; do
    case $line in
    *--random*) echo "left out: $line" && continue ;;
    *paligemma\ *) ;;
    *) echo "left out: $line" && continue ;;
    esac
    case $line in
    *' -m '* | *--tokenizer* | *' data '*) ;;
    *) [ -n "$BUILTIN_MODEL" ] || { echo "left out, for the program is built without a model: $line" && continue; } ;;
    esac
    n=$((n + 1))
    rm -f out err
    n_files=$(ls | wc -l)
    eval "$line" >out 2>err </dev/null || say_failure "$line"
    [ -s out ] || [ -s err ] || [ "$(ls | wc -l)" -gt $((n_files + 2)) ] || say_failure "$line: printed and wrote nothing"
done <commands
echo "$n commands run"
[ "$n" -ge 5 ] || say_failure "too few commands were found"

# Its C program is examples/caption.c without the comment above it; the examples compile and run, as C and as C++.
sed -n '/^```c$/,/^```$/p' "$SOURCE/README.md" | sed '/^```/d' >in_readme.c
sed '1,/\*\/$/d' "$SOURCE/examples/caption.c" | cmp -s - in_readme.c || say_failure "README.md: its C program is not examples/caption.c"
build_example() { # COMPILER SOURCE FLAG...
    compiler=$1 source=$2
    shift 2
    # shellcheck disable=SC2086 # flags are words
    "$compiler" "$@" $SANITIZE -Wall -Wextra -Werror -I"$SOURCE/include" "$source" -o example -L"$BUILD" -lpaligemma -lm \
        -Wl,-rpath,"$BUILD" >out 2>err || say_failure "$compiler $*: $source does not compile"
}
run_examples() { # COMPILER FLAG...
    compiler=$1
    shift
    build_example "$compiler" "$SOURCE/examples/caption.c" "$@"
    ./example paligemma-3b-mix-224 cat.jpg "caption en" >out 2>err || say_failure "$compiler: caption fails"
    build_example "$compiler" "$SOURCE/examples/similar.c" "$@"
    ./example paligemma-3b-mix-224 cat.jpg cat.jpg >out 2>err
    stdout_says 1.0000
    ! ./example nowhere cat.jpg cat.jpg >out 2>err || say_failure "similar takes a model that is not there"
    build_example "$compiler" "$SOURCE/examples/adapters.c" "$@"
    ./example paligemma-3b-mix-224 cat.jpg "caption en" my-adapter other-adapter >out 2>err || say_failure "$compiler: adapters fails"
    [ "$(grep -cE '^(bare model|my-adapter|other-adapter): ' out)" = 3 ] || say_failure "$compiler: adapters: not three answers"
    build_example "$compiler" "$SOURCE/examples/objects.c" "$@"
    ./example paligemma-3b-mix-224 cat.jpg "segment cat" tests/golden/codec/toy.npz >out 2>err || say_failure "$compiler: objects fails"
    grep -qE '^.+: score [^ ]+, box( [0-9.]+){4}$' out || say_failure "$compiler: objects: no box"
    grep -qE '^    [0-9]+ pixels: .' out || say_failure "$compiler: objects: no mask"
}
last="examples"
run_examples "$CC" -std=c11
if command -v "$CXX" >/dev/null 2>&1; then
    run_examples "$CXX" -xc++ -std=c++11
else
    echo "left out: the examples as C++: no C++ compiler"
fi
finish
