# Objects: table, JSON, drawings, mask files and annotation formats, for answers given by hand and for whatever the tiny
# model says. The mask codec is the toy one, whose masks are known: tools/make_toy_codec.py.
. "$SOURCE/tests/cli/lib.sh"
need jq
cp "$PICTURE" a.jpg
vae=$SOURCE/tests/golden/codec/toy.npz
all='<seg015>'
four="$all$all$all$all"
full="$four$four$four$four"
none=$(echo "$full" | sed 's/015/000/g')
# a mask over the whole box, one that is nowhere, a box without a mask, one without an area, one that is reversed
answer="<loc0256><loc0256><loc0768><loc0512>$full cat ; <loc0000><loc0000><loc0512><loc0512>$none \"big, red\" thing ; <loc0100><loc0100><loc0900><loc0900> cat ; <loc0300><loc0000><loc0300><loc0300> line ; <loc0900><loc0900><loc0100><loc0100> back"
objects="objects -m $MODEL -i a.jpg"

expect 0 $objects "$answer" --vae "$vae"
[ "$(wc -l <out)" = 6 ] || say_failure "table: six lines expected"
grep -Eq '^  0  cat +- +96\.0 +72\.0 +192\.0 +216\.0  1[0-2]\.[0-9] %$' out || say_failure "table: the first object"
grep -Eq '^  1  "big, red" thing .* 0\.0 %$' out || say_failure "table: the second object"
[ "$(grep -c 'no area$' out)" = 2 ] || say_failure "table: two objects without an area"
cp out table
echo "$answer" >answer.txt
expect_from answer.txt 0 objects --tokenizer "$MODEL/tokenizer.json" -i a.jpg - --vae "$vae"
cmp -s out table || say_failure "an answer from standard input: another table"
expect 0 $objects "<loc0256><loc0256><loc0768><loc0512> aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
grep -q '^  0  a\{39\}… ' out || say_failure "table: a long label"
expect 0 $objects "nothing at all"
[ ! -s out ] || say_failure "no objects: something on stdout"
stderr_says "nothing found"
expect 0 $objects "nothing at all" -q
[ ! -s err ] || say_failure "no objects, -q: a note"

# no codec: said once, and all else works; beside the model it is found
expect 0 $objects "$answer"
[ "$(wc -l <err)" = 1 ] || say_failure "no codec: one note expected"
stderr_says "--vae"
[ "$(grep -c 'not decoded$' out)" = 2 ] || say_failure "no codec: two masks not decoded"
expect 0 $objects "$answer" -q
[ ! -s err ] || say_failure "no codec, -q: a note"
for name in vae-oid.npz vae.safetensors; do
    mkdir beside
    cp "$MODEL"/* beside
    case $name in
    *.npz) cp "$vae" beside/$name ;;
    *) cp "$SOURCE/tests/golden/codec/narrow.safetensors" beside/$name ;;
    esac
    expect 0 objects -m beside -i a.jpg "$answer"
    ! grep -q 'not decoded' out || say_failure "$name beside the model is not found"
    rm -r beside
done

expect 0 $objects "$answer" --vae "$vae" --json
json_is '.schema == 1 and (.objects | length) == 5 and .images == [{"width": 384, "height": 288}] and ([.objects[].score] | unique) == [null]'
json_is '[.objects[] | .valid] == [true, true, true, false, false] and [.objects[] | .mask != null] == [true, true, false, false, false]'
json_is '.objects[0].mask.size == [288, 384] and (.objects[0].mask.counts | type) == "string" and .objects[0].box == [96, 72, 192, 216]'

# boxes are not rounded: 1 / 1024 * 2049 has ten digits behind the point
printf 'P4\n2049 1\n' >wide.pbm
head -c 257 /dev/zero >>wide.pbm
expect 0 objects -m "$MODEL" -i wide.pbm "<loc0000><loc0001><loc0512><loc0950> cat" --json
stdout_says '"box":[2.0009765625,0.0,1900.927734375,0.5]'
expect 0 objects -m "$MODEL" -i wide.pbm "<loc0000><loc0001><loc0512><loc0950> cat" --format csv
stdout_says ',2.0009765625,0,1900.927734375,0.5,1'

# drawings: every format, whole files; colours and places are the business of test_draw
for name in d.png d.JPG d.svg; do
    expect 0 $objects "$answer" --vae "$vae" --draw $name
    [ -s $name ] || say_failure "--draw $name: no file"
    cmp -s out table || say_failure "--draw $name changes the table"
done
[ "$(head -c 4 d.png | tail -c 3)" = PNG ] || say_failure "d.png is none"
[ "$(grep -c 'class="object"' d.svg)" = 4 ] || say_failure "d.svg: four objects expected, one is reversed"
[ "$(grep -c 'class="mask"' d.svg)" = 1 ] || say_failure "d.svg: one mask expected, the other is empty"
grep -q '<title>cat</title>' d.svg || say_failure "d.svg: no title of a cat"
ls >before
expect 0 $objects "$answer" --vae "$vae" --draw d.png
ls | cmp -s - before || say_failure "--draw leaves something behind: $(ls)"

# masks: numbered as the objects; one reads back as a picture of the same size
expect 0 $objects "$answer" --vae "$vae" --masks masks
[ "$(ls masks | tr '\n' ' ')" = "000.png 001.png " ] || say_failure "--masks: $(ls masks)"
expect 0 objects -m "$MODEL" -i masks/000.png "" --json
json_is '.images == [{"width": 384, "height": 288}]'
expect 0 embed -m "$MODEL" -i masks/001.png --what pixels -o - # all black: one value
[ "$(tail -c +129 out | od -An -v -tx4 -w4 | sort -u | wc -l)" = 1 ] || say_failure "--masks: 001.png is not empty"

# annotation tools
expect 0 $objects "$answer" --vae "$vae" --format csv
[ "$(head -1 out | tr -d '\r')" = "image,width,height,label,score,x0,y0,x1,y1,valid" ] || say_failure "csv: header"
[ "$(wc -l <out)" = 6 ] || say_failure "csv: six lines expected"
grep -q '^a.jpg,384,288,cat,,96,72,192,216,1' out || say_failure "csv: the first object"
grep -qF '"""big, red"" thing"' out || say_failure "csv: quotes"
expect 0 $objects "$answer" --vae "$vae" --format coco -o coco.json
[ ! -s out ] || say_failure "coco -o: something on stdout"
mv coco.json out
json_is '.images == [{"id": 1, "file_name": "a.jpg", "width": 384, "height": 288}] and [.categories[] | [.id, .name]] == [[1, "cat"], [2, "\"big, red\" thing"], [3, "line"], [4, "back"]]'
json_is '[.annotations[] | [.id, .image_id, .category_id]] == [[1, 1, 1], [2, 1, 2], [3, 1, 1]] and .annotations[0].bbox == [96, 72, 96, 144]'
json_is '.annotations[0].segmentation.size == [288, 384] and .annotations[0].area > 10000 and .annotations[0].area < 13824 and .annotations[2].area == 300 * 225'
json_is '.annotations[2] | has("segmentation") | not'
expect 0 $objects "$answer" --format yolo -o yolo
[ "$(cat yolo/classes.txt | tr '\n' '|')" = 'cat|"big, red" thing|line|back|' ] || say_failure "yolo: classes"
[ "$(cat yolo/a.txt | tr '\n' '|')" = '0 0.375000 0.500000 0.250000 0.500000|1 0.250000 0.250000 0.500000 0.500000|0 0.488281 0.488281 0.781250 0.781250|' ] ||
    say_failure "yolo: $(cat yolo/a.txt)"

# The same for what the model says: at this temperature tokens are drawn evenly from a vocabulary that is mostly locations.
sampled="-m $MODEL -n 60 --temp 100000 --seed 4 --ignore-eos"
expect 0 run $sampled -i a.jpg -p "detect cat" --json
cp out run.json
json_is '(.objects | length) > 2 and all(.objects[]; .score >= 0 and .score <= 1)'
expect 0 detect $sampled -i a.jpg cat --json
[ "$(jq -c .objects out)" = "$(jq -c .objects run.json)" ] || say_failure "detect: other objects than run's"
expect 0 detect $sampled -i a.jpg cat --draw run.svg
[ "$(wc -l <out)" = $(($(jq '.objects | length' run.json) + 1)) ] || say_failure "detect: a line for each object expected"
[ "$(grep -c 'class="object"' run.svg)" = "$(jq '[.objects[] | select(.box[2] >= .box[0] and .box[3] >= .box[1])] | length' run.json)" ] ||
    say_failure "detect --draw: an object is missing"
# what was printed is read back as the same objects
expect 0 run $sampled -i a.jpg -p "detect cat"
mv out text
expect_from text 0 $objects - --json
[ "$(jq -c '[.objects[].loc]' out)" = "$(jq -c '[.objects[].loc]' run.json)" ] || say_failure "objects: not those of the text"

# batches: names by line and picture, one annotation file, errors told
mkdir sub
cp a.jpg sub/b.jpg
cat >requests.jsonl <<END
{"image": "a.jpg", "prompt": "detect cat"}
{"image": "nowhere.jpg", "prompt": "detect cat"}
{"image": ["sub/b.jpg", "a.jpg"], "prompt": "detect dog"}
{"image": "a.jpg", "prompt": "detect dog"}
END
expect 1 run $sampled --batch requests.jsonl --draw drawings
[ "$(ls drawings | tr '\n' ' ')" = "0001-a.png 0003-b.png 0004-a.png " ] || say_failure "--batch --draw DIR: $(ls drawings)"
expect 1 run $sampled --batch requests.jsonl --draw "drawings/{name}.{line}.svg"
[ -s drawings/b.0003.svg ] || say_failure "--batch --draw with a pattern: $(ls drawings)"
expect_error 1 run $sampled --batch requests.jsonl --draw "nowhere/{name}.svg" # told before any work
stderr_says "its directory"
expect 1 run $sampled --batch requests.jsonl --format coco -o coco.json
grep -q 'line 2: ' err || say_failure "--format: the line that failed is not told"
mv coco.json out
json_is '[.images[].file_name] == ["a.jpg", "sub/b.jpg"] and ([.annotations[].image_id] | unique) == [1, 2] and all(.annotations[]; .score >= 0)'
expect 1 run $sampled --batch requests.jsonl --format yolo -o labels
[ "$(ls labels | tr '\n' ' ')" = "a.txt b.txt classes.txt " ] || say_failure "yolo: $(ls labels)"
cp a.jpg sub/a.jpg
cp a.jpg classes.jpg
cat >same.jsonl <<END
{"image": "a.jpg", "prompt": "detect cat"}
{"image": "sub/a.jpg", "prompt": "detect cat"}
{"image": "classes.jpg", "prompt": "detect cat"}
END
expect 1 run $sampled --batch same.jsonl --format yolo -o labels
[ "$(grep -c 'text file' err)" = 2 ] || say_failure "yolo: names that collide are not told"

# a reader that leaves
{ sleep 0.3; "$PROGRAM" $objects "$answer" --vae "$vae" --format csv 2>err; echo $? >status; } | true
[ "$(cat status)" = 1 ] && [ ! -s err ] || say_failure "closed pipe: exit status $(cat status)"
finish
