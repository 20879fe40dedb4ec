# run --json: objects, their boxes, codes and scores computed again from the tokens and log-probabilities beside them; what
# --constrain, --nms, --min-score and --box-scale do. Ids are those of the tiny tokenizer.
. "$SOURCE/tests/cli/lib.sh"
need jq
models=$(dirname "$MODEL")

cat >again.jq <<'END'
def is_loc: . >= 321 and . < 1345;
def is_seg: . >= 1345 and . < 1473;
def is_blank: . == 262 or . == 314 or . == 38;           # "_", "__", the byte of a space
def is_end: . == 289 or . == 310 or . == 65 or . == 1; # ";", "_;", the byte of ";", <eos>
def until_end: map(.token | is_end) as $ends | .[:($ends | index(true)) // length];
def trimmed: if length > 0 and (.[0].token | is_blank) then .[1:] | trimmed
             elif length > 0 and (.[-1].token | is_blank) then .[:-1] | trimmed else . end;
# the objects of a constrained answer: each begins with the first location after something else
def again($images): [.tokens, .logprobs] | transpose | map({token: .[0], logprob: .[1]}) as $all
    | [range($all | length) | select(($all[.].token | is_loc) and (. == 0 or ($all[. - 1].token | is_loc | not)))] as $starts
    | [range($starts | length) | $all[$starts[.]:($starts[. + 1] // ($all | length))]]
    | map((.[4:] | map(select(.token | is_seg | not)) | until_end | trimmed) as $words
        | (map(select(.token | is_seg) | .token - 1345)) as $codes
        | {loc: map(.token - 321)[:4], seg: (if $codes == [] then null else $codes end),
           score: ((map(.logprob)[:4] | add / 4) + ($words | map(.logprob) | add // 0) | exp), has_label: ($words != [])});
def near($x): (. - $x | fabs) <= 1e-6 * ($x | fabs); # what 9 digits of the log-probabilities leave
.objects as $o | again(.images) as $a | ($o | length) == ($a | length)
and all(range($o | length); $o[.] as $x | $a[.] as $y | $x.loc == $y.loc and $x.seg == $y.seg and ($x.label != null) == $y.has_label
    and ($x.score | near($y.score)) and $x.mask == null and $x.valid
    and ($x.box | [.[1], .[0], .[3], .[2]] | [., $x.loc, [288, 384, 288, 384]] | transpose | all((.[0] - .[1] / 1024 * .[2] | fabs) < 1e-6)))
and ((.logprobs | add | exp) as $p | .probability | near($p))
END

n_objects=0
for name in pg1-f32 pg2-bf16; do
    for seed in 1 2 3 4; do
        kind=$([ $((seed % 2)) = 0 ] && echo detect || echo segment)
        expect 0 run -m "$models/$name" -i "$PICTURE" -p "$kind cat" --constrain $kind --temp $((seed / 2 + 1)) --seed $seed -n 90 --json
        jq -ef again.jq out >/dev/null || say_failure "$last: objects do not follow from tokens and logprobs"
        json_is "all(.objects[]; if \"$kind\" == \"detect\" then .label != null and .seg == null else (.seg | length) == 16 end)"
        n_objects=$((n_objects + $(jq '.objects | length' out)))
    done
done
[ $n_objects -ge 8 ] || say_failure "only $n_objects objects to look at"

# several objects of one answer, and what the options leave of them
many="run -m $models/pg1-mixed -i $PICTURE -p detect --constrain segment --temp 3 --seed 10 -n 250 --json"
expect 0 $many
cp out all
json_is '(.objects | length) >= 4'
bound=$(jq ".objects | map(.score) | sort | .[length / 2 | floor] * 0.9999999" all) # the printed score is rounded
expect 0 $many --min-score "$bound"
cp out some
jq -en --slurpfile a all --slurpfile s some "\$s[0].objects == (\$a[0].objects | map(select(.score >= $bound))) and \$s[0].tokens == \$a[0].tokens" \
    >/dev/null || say_failure "--min-score: not those with at least that score"
[ "$(jq '.objects | length' some)" -lt "$(jq '.objects | length' all)" ] || say_failure "--min-score leaves out nothing"
cat >nms.jq <<'END'
def area: ([.[2] - .[0], 0] | max) * ([.[3] - .[1], 0] | max);
def over($q): [([.[0], $q[0]] | max), ([.[1], $q[1]] | max), ([.[2], $q[2]] | min), ([.[3], $q[3]] | min)] | area;
def iou($q): over($q) / (area + ($q | area) - over($q));
def nms: reduce (to_entries | sort_by(-.value.score, .key))[] as $o ([];
    if any(.[]; .value.label == $o.value.label and (.value.loc | iou($o.value.loc)) >= 0.01) then . else . + [$o] end)
    | sort_by(.key) | map(.value);
$s[0].objects == ($a[0].objects | nms)
END
# (labels of a random model are never the same: that boxes are left out is test_locate's matter)
expect 0 $many --nms 0.01
cp out some
jq -en --slurpfile a all --slurpfile s some -f nms.jq >/dev/null || say_failure "--nms: not what suppression leaves"
expect 0 $many --box-scale 1023
json_is 'all(.objects[]; (.box[2] - .loc[3] / 1023 * 384 | fabs) < 1e-6 and (.box[1] - .loc[0] / 1023 * 288 | fabs) < 1e-6)'

# beams: objects of the first sequence; batches; plain text
expect 0 run -m "$MODEL" -i "$PICTURE" -p detect --constrain detect --num-beams 3 --num-return 2 -n 30 --json
jq -ef again.jq out >/dev/null || say_failure "$last: objects of another sequence"
json_is 'all(.alternatives[]; .probability <= 1)'
echo "{\"image\": \"$PICTURE\", \"prompt\": \"segment cat\"}" >requests
expect 0 run -m "$MODEL" --batch requests --constrain segment -n 30
jq -ef again.jq out >/dev/null || say_failure "--batch: objects do not follow from tokens and logprobs"
jq -c .objects out >batched
expect 0 run -m "$MODEL" -i "$PICTURE" -p "segment cat" --constrain segment -n 30 --json
jq -c .objects out | cmp -s - batched || say_failure "--batch has other objects"
expect 0 run -m "$MODEL" -i "$PICTURE" -p "detect cat" --constrain detect -n 30
grep -qE '^(<loc[0-9]{4}>){4}' out || say_failure "$last: no box"
# plain text needs no log-probabilities, which is another way through the head: the same words
for how in "--seed 1" "--temp 2 --seed 5"; do
    for kind in detect segment; do
        given="run -m $models/pg2-f32 -i $PICTURE -p cat --constrain $kind $how -n 50"
        expect 0 $given --json
        jq -r .text out >text
        expect 0 $given
        cmp -s out text || say_failure "$last: another text than with --json"
    done
done
expect_error 2 run -m "$MODEL" -i "$PICTURE" -p x --constrain everything
expect_error 2 run -m "$MODEL" -i "$PICTURE" -p x --constrain detect --ignore-eos
expect_error 1 run -m "$MODEL" -i "$PICTURE" -p x --constrain detect -n 4
stderr_says "at least 5"
expect_error 2 run -m "$MODEL" -i "$PICTURE" -p x --nms 1.5
expect_error 2 run -m "$MODEL" -i "$PICTURE" -p x --box-scale 1000
finish
