# The examples in each command's help work as written, with the tiny model in the place of the real one.
. "$SOURCE/tests/cli/lib.sh"
ln -s "$MODEL" paligemma-3b-mix-224
ln -s "$SOURCE/tests/golden/lora/recipe" my-adapter
cp "$PICTURE" cat.jpg
echo '{"image": "cat.jpg", "prompt": "caption en"}' >requests.jsonl
mkdir pictures
cp "$PICTURE" pictures/house.jpg
cp "$SOURCE/doc/pictures/house.coco.json" annotations.json
cp "$SOURCE/tests/golden/codec/narrow.npz" vae-oid.npz
n=0
for command in run detect segment caption ask ocr objects score embed tokenize inspect bench quantize convert merge data; do
    "$PROGRAM" "$command" --help | sed -n '/^Examples:/,$p' | sed 1d >examples
    [ -s examples ] || say_failure "$command: no examples"
    while read -r line; do
        case $line in
        *--random*) continue ;; # gigabytes
        *39208*) line=$(echo "$line" | sed 's/39208 4401/4 5/') ;; # ids of the real vocabulary
        esac
        n=$((n + 1))
        rm -f out
        (paligemma() { "$PROGRAM" "$@"; } && eval "$line") >out 2>err </dev/null || say_failure "$line"
    done <examples
done
echo "$n examples run"
[ "$n" -ge 8 ] || say_failure "too few examples were found"
finish
