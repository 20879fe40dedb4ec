# Training data from COCO files: tokens of boxes and masks, what prompts ask for, what is left out, and bad files.
. "$SOURCE/tests/cli/lib.sh"
need jq
vae=$SOURCE/tests/golden/codec/narrow.npz
mkdir pictures
cp "$PICTURE" pictures/a.jpg
cp "$PICTURE" pictures/b.jpg
cp "$PICTURE" pictures/c.jpg

# The box of spec training 8.2: y 10 to 40 of 60, x 20 to 60 of 80; a second object, a crowd, and objects that are nothing
cat >coco.json <<'EOF'
{"info": {}, "images": [{"id": 10, "file_name": "a.jpg", "width": 80, "height": 60}, {"id": 11, "file_name": "none.jpg", "width": 80, "height": 60},
            {"id": 12, "file_name": "b.jpg", "width": 80, "height": 60}, {"id": 13, "file_name": "c.jpg", "width": 80, "height": 60}],
 "annotations": [
  {"id": 1, "image_id": 10, "category_id": 7, "bbox": [20, 10, 40, 30], "segmentation": [[20, 10, 60, 10, 60, 40, 20, 40]]},
  {"id": 2, "image_id": 12, "category_id": 5, "bbox": [-10, 0, 100, 60], "segmentation": [[-10, 0, 90, 0, 90, 60, -10, 60]]},
  {"id": 3, "image_id": 10, "category_id": 5, "bbox": [0, 0, 80, 60], "iscrowd": 1, "segmentation": {"size": [60, 80], "counts": [0, 4800]}},
  {"id": 4, "image_id": 10, "category_id": 5, "bbox": [5, 5, 0, 2]},
  {"id": 5, "image_id": 99, "category_id": 5, "bbox": [5, 5, 2, 2]},
  {"id": 6, "image_id": 10, "category_id": 7, "bbox": [0, 0, 80, 30], "segmentation": [[0, 0, 80, 0, 80, 30, 0, 30]]}],
 "categories": [{"id": 5, "name": "Cat"}, {"id": 7, "name": "big dog"}]}
EOF
convert="data coco-to-jsonl --coco coco.json --images pictures"
row() { sed -n "$1p" rows.jsonl; }
row_is() { [ "$(row "$1" | jq -r ".$2")" = "$3" ] || say_failure "$last: row $1: $2 is not \"$3\": $(row "$1")"; }

expect 0 $convert -o rows.jsonl
[ ! -s out ] || say_failure "$last: something on stdout"
stderr_says "3 rows with 3 objects"
stderr_says "1 pictures that are not there; the first: none.jpg"
stderr_says "1 objects that are crowds"
stderr_says "left out: 1 objects; the first: annotation 4: bbox: no area"
stderr_says "1 objects of pictures that are not in the list"
[ "$(wc -l <rows.jsonl)" = 3 ] || say_failure "$last: three rows expected"
row_is 1 image pictures/a.jpg
row_is 1 id 10
row_is 1 prefix "detect cat ; big dog"
row_is 1 suffix "<loc0170><loc0256><loc0682><loc0767> big dog ; <loc0000><loc0000><loc0512><loc1023> big dog"
row_is 2 suffix "<loc0000><loc0000><loc1023><loc1023> cat"
row_is 3 suffix ""
row_is 3 prefix "detect cat ; big dog"

expect 0 $convert -o rows.jsonl --loc-scale 1024 --classes present --json
json_is '.schema == 1 and .rows == 2 and .objects == 3 and .left_out == {"pictures": 1, "crowds": 1, "bad": 1, "strays": 1} and .output == "rows.jsonl"'
row_is 1 prefix "detect big dog"
row_is 1 suffix "<loc0170><loc0256><loc0682><loc0768> big dog ; <loc0000><loc0000><loc0512><loc1023> big dog"
row_is 2 prefix "detect cat"

expect 0 $convert -o rows.jsonl --classes each --crowds -q
[ ! -s err ] || say_failure "$last: notes"
[ "$(wc -l <rows.jsonl)" = 3 ] || say_failure "$last: three rows expected"
row_is 1 prefix "detect cat"
row_is 1 suffix "<loc0000><loc0000><loc1023><loc1023> cat"
row_is 2 prefix "detect big dog"
row_is 2 suffix "<loc0170><loc0256><loc0682><loc0767> big dog ; <loc0000><loc0000><loc0512><loc1023> big dog"

# where the pictures are: below the output, elsewhere, standard output
expect 0 $convert -o -
[ "$(head -1 out | jq -r .image)" = "$(pwd -P)/pictures/a.jpg" ] || say_failure "$last: the path from the root expected"
mkdir elsewhere
expect 0 $convert -o elsewhere/rows.jsonl
[ "$(head -1 elsewhere/rows.jsonl | jq -r .image)" = "$(pwd -P)/pictures/a.jpg" ] || say_failure "$last: the path from the root expected"
expect 0 data coco-to-jsonl --coco coco.json --images ./pictures/../pictures/ -o pictures/rows.jsonl
[ "$(head -1 pictures/rows.jsonl | jq -r .image)" = a.jpg ] || say_failure "$last: the file's name alone expected"

# masks: one rectangle as a polygon, as run lengths and as a string (of pycocotools 2.0.11), and another one
expect 0 $convert -o rows.jsonl --task segment --vae "$vae"
row_is 1 prefix "segment cat ; big dog"
one='(<loc[0-9]{4}>){4}(<seg[0-9]{3}>){16} big dog'
row 1 | jq -r .suffix | grep -Eqx "$one ; $one" || say_failure "$last: row 1: $(row 1)"
row 1 | jq -r .suffix >polygon
runs=$(jq -nc '[1210, (range(39) | 30, 30), 30, 1220]')
string=$(printf '"jU1n0n%s"' "$(printf '0%.0s' $(seq 1 78))VU1")
for counts in "$runs" "$string"; do
    jq -c ".annotations[0].segmentation = {size: [60, 80], counts: $counts}" coco.json >other.json
    expect 0 data coco-to-jsonl --coco other.json --images pictures -o rows.jsonl --task segment --vae "$vae"
    row 1 | jq -r .suffix | cmp -s - polygon || say_failure "$last: another mask for $counts: $(row 1)"
done
jq -c '.annotations[0].segmentation = [[20, 10, 60, 10, 20, 40]]' coco.json >other.json
expect 0 data coco-to-jsonl --coco other.json --images pictures -o rows.jsonl --task segment --vae "$vae"
row 1 | jq -r .suffix | cmp -s - polygon && say_failure "$last: the same codes for half of the rectangle"

# segmentations that are none
bad_mask() { # SEGMENTATION MESSAGE
    jq -c ".annotations[0].segmentation = $1" coco.json >other.json
    expect 0 data coco-to-jsonl --coco other.json --images pictures -o rows.jsonl --task segment --vae "$vae"
    stderr_says "left out: 2 objects; the first: annotation 1: segmentation: $2"
}
bad_mask null "polygons or run lengths expected"
bad_mask '[]' "polygons or run lengths expected"
bad_mask '[[1, 2, 3]]' "polygon: pairs of numbers expected"
bad_mask '[[1, 2, 3, 4, "5", 6]]' "polygon: pairs of numbers expected"
bad_mask '[[1, 1, 1, 1, 1, 1]]' "no pixel inside"
bad_mask '{"size": [80, 60], "counts": [4800]}' "size: [60, 80], the picture's, expected"
bad_mask '{"size": [60, 80]}' "counts: run lengths expected"
bad_mask '{"size": [60, 80], "counts": [4799]}' "counts: runs for 4799 pixels of 4800"
bad_mask '{"size": [60, 80], "counts": [1, 4800]}' "counts[1]: a run inside the picture expected"
bad_mask '{"size": [60, 80], "counts": [-1, 4801]}' "counts[0]: a run inside the picture expected"
bad_mask '{"size": [60, 80], "counts": "jU1"}' "counts: run-length string: "

# wrong use and bad files; nothing is written
rm -f rows.jsonl
expect_error 2 data
stderr_says "coco-to-jsonl expected"
expect_error 2 data yolo-to-jsonl --coco coco.json --images pictures -o rows.jsonl
expect_error 2 data coco-to-jsonl --images pictures -o rows.jsonl
expect_error 2 data coco-to-jsonl --coco coco.json -o rows.jsonl
expect_error 2 data coco-to-jsonl --coco coco.json --images pictures
expect_error 2 $convert -o rows.jsonl --task segment
expect_error 2 $convert -o rows.jsonl --classes some
expect_error 2 $convert -o - --json
expect_error 1 $convert -o rows.jsonl --task segment --vae "$SOURCE/tests/golden/codec/toy.npz"
stderr_says "encoder"
expect_error 1 $convert -o nowhere/rows.jsonl
expect_error 1 data coco-to-jsonl --coco coco.json --images nowhere -o rows.jsonl
expect_error 1 data coco-to-jsonl --coco coco.json --images elsewhere -o rows.jsonl
stderr_says "a.jpg: no such picture, nor any other"
expect_error 1 data coco-to-jsonl --coco nowhere.json --images pictures -o rows.jsonl
head -c 900 coco.json >cut.json
expect_error 1 data coco-to-jsonl --coco cut.json --images pictures -o rows.jsonl
stderr_says "cut.json: byte 900: "
jq -c '.images[1].id = 10' coco.json >other.json
expect_error 1 data coco-to-jsonl --coco other.json --images pictures -o rows.jsonl
stderr_says "images: id 10 comes twice"
[ ! -e rows.jsonl ] || say_failure "a failure left rows.jsonl"
finish
