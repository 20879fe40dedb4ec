# The generator of scenes and its scorer as programs: the same pictures with any number of threads, no picture of one split in
# another, and the whole way from pictures through a model to the table.
. "$SOURCE/tests/cli/lib.sh"
need jq
scenes() { "$BUILD/bin/scenes" "$@" >out 2>err; }

scenes -o one --n 40 --seed 3 -t 1
status=$?
if [ $status != 0 ] && grep -q fonts-noto-color-emoji err; then
    echo "SKIPPED: no emoji font: $(cat err)"
    exit 77
fi
[ $status = 0 ] || say_failure "scenes -t 1: exit status $status"
scenes -o three --n 40 --seed 3 -t 3 || say_failure "scenes -t 3"
diff -r one three >differences || say_failure "three threads make something else than one: $(cat differences)"
[ -s one/images/000/000039.jpg ] || say_failure "the last picture is not there"

# Part of a run is the same as in the whole, and tasks leave pictures as they are
scenes -o part --n 10 --first 30 --seed 3 --tasks caption=1 --langs fr || say_failure "scenes --first"
tail -n 10 one/truth.jsonl | cmp -s - part/truth.jsonl || say_failure "--first 30: other scenes than in the whole run"
cmp -s one/images/000/000035.jpg part/images/000/000035.jpg || say_failure "--first 30: other pictures than in the whole run"
[ "$(jq -r .prefix part/data.jsonl | sort | uniq -c | tr -s ' ')" = " 10 caption fr" ] || say_failure "--tasks caption=1 --langs fr: $(head -n 2 part/data.jsonl)"

# Pictures take turns with levels
scenes -o turns --n 4 --seed 3 --level 1,4 || say_failure "scenes --level 1,4"
cmp -s one/images/000/000003.jpg turns/images/000/000003.jpg || say_failure "--level 1,4: picture 3 is not of level 4"
! cmp -s one/images/000/000002.jpg turns/images/000/000002.jpg || say_failure "--level 1,4: picture 2 is of level 4"

for split in heldout novel novel-heldout; do scenes -o $split --n 40 --seed 3 --split $split || say_failure "scenes --split $split"; done
[ -z "$(cksum one/images/*/* heldout/images/*/* novel/images/*/* novel-heldout/images/*/* | cut -d' ' -f1,2 | sort | uniq -d)" ] ||
    say_failure "a picture is in two splits"
jq -r '.objects[].name' novel/truth.jsonl | grep -qx fox || say_failure "no fox among 40 pictures of new kinds"
! jq -r '.objects[].name' one/truth.jsonl heldout/truth.jsonl | grep -qxE 'rabbit|duck|fox|dolphin|pear|croissant|violin|motorcycle|spider|volcano' || say_failure "something new in old splits"

scenes && say_failure "scenes without -o works"
for wrong in "--n 0" "--n x" "--seed 1073741824" "--level 5" "--level 1,0" "--level ," "--words 2" "--words x" "--size 63" "--split other" "--tasks dance=1" "--tasks caption" "--tasks caption=-1" "--langs de" "--what" "more"; do
    # shellcheck disable=SC2086
    scenes -o bad $wrong
    [ $? = 2 ] || say_failure "scenes $wrong: exit status 2 expected"
done
[ ! -e bad ] || say_failure "wrong options leave a directory"
scenes -o /dev/null/x --n 1 && say_failure "a directory that cannot be is no failure"

# A random model knows nothing; what counts is that all answers arrive
BUILD="$BUILD" WORK="$work/judged" sh "$SOURCE/tools/scenes/evaluate.sh" "$MODEL" 5 --json -n 4 >figures 2>err || say_failure "evaluate.sh: $(cat err)"
jq -e '.errors == 0 and .caption.fr.exact.n == 5 and .answer.exact.n == 5 and .detect.ap50 == 0 and .segment.mean_iou == 0' figures >/dev/null || say_failure "evaluate.sh: $(cat figures)"
"$BUILD/bin/scene-score" judged judged/answers >out || say_failure "scene-score"
grep -q '^caption en   exact  *0.0 %   0 of 5$' out || say_failure "scene-score: no line for captions"
# The right answers are right
for sheet in caption-en caption-es caption-fr answer ocr; do jq -c '{text: .suffix, objects: []}' "judged/$sheet.jsonl" >"judged/answers/$sheet.jsonl"; done
"$BUILD/bin/scene-score" --json judged judged/answers >out || say_failure "scene-score --json"
jq -e '[.caption[].exact.share, .answer.exact.share] == [1, 1, 1, 1]' out >/dev/null || say_failure "scene-score: the right answers: $(cat out)"
finish
