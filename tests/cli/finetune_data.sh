# finetune: what it makes of rows and pictures: kept features, crops and flips, several answers, several files.
. "$SOURCE/tests/cli/lib.sh"
need jq
images=$SOURCE/tests/golden/models/images
cp "$images/landscape.jpg" "$images/gray.png" "$images/tall.png" .
row() { printf '{"image": "%s", "prefix": "%s", "suffix": %s}\n' "$1" "$2" "$3"; }
{ row landscape.jpg "caption en" '"a wide land"' && row gray.png "answer en what color?" '"gray"' && row tall.png "detect tower" '"<loc0100><loc0200><loc0800><loc0600> tower"'; } >train.jsonl
train() { # STATUS OUTDIR ARGUMENT...
    wanted=$1 output=$2
    shift 2
    expect "$wanted" finetune -m "$MODEL" -o "$output" --batch-size 2 --lr 1e-2 "$@"
}
same() { cmp -s "$1/adapter_model.safetensors" "$2/adapter_model.safetensors" || say_failure "$1 is not $2"; }
differ() { ! cmp -s "$1/adapter_model.safetensors" "$2/adapter_model.safetensors" || say_failure "$1 is $2"; }
losses() { jq -c 'select(.loss) | .loss' "$1/log.jsonl"; }

# Features of a frozen tower, kept for other runs.
train 0 plain --data train.jsonl --lora-scope llm --max-steps 6
train 0 kept --data train.jsonl --lora-scope llm --max-steps 6 --feature-cache features
[ "$(ls features | wc -l)" = 3 ] || say_failure "features: $(ls features)"
train 0 found --data train.jsonl --lora-scope llm --max-steps 6 --feature-cache features
same kept plain
same found plain
train 0 other --data train.jsonl --lora-scope llm --dtype bf16 --max-steps 2 --feature-cache features # another tower
[ "$(ls features | wc -l)" = 6 ] || say_failure "features of two towers: $(ls features)"
expect_error 1 finetune -m "$MODEL" --data train.jsonl -o wrong --lora-scope llm --feature-cache train.jsonl
stderr_says "train.jsonl: not a directory"
[ ! -e wrong ] || say_failure "left: wrong"

# Crops and flips: another run, the same for all threads and when it goes on; the frozen tower's features are not kept, and that is said.
train 0 augmented --data train.jsonl --lora-scope llm --max-steps 6 --save-steps 3 --augment ic,flip --feature-cache none --val train.jsonl -t 1
stderr_says "augment: pictures are other ones in every epoch"
[ "$(ls none | wc -l)" = 3 ] || say_failure "features of validation: $(ls none)"
differ augmented plain
train 0 resumed --data train.jsonl --lora-scope llm --max-steps 6 --augment flip,ic --resume augmented/checkpoint-3 -t 2
same resumed augmented
train 0 random --data train.jsonl --max-steps 2 --augment rc -v
! grep -q "augment:" err || say_failure "a note though the tower is trained"
expect_error 1 finetune -m "$MODEL" --data train.jsonl -o wrong --lora-scope llm --batch-size 2 --resume augmented/checkpoint-3
stderr_says "crop: was 1 and is now 0"
expect_error 1 finetune -m "$MODEL" --data train.jsonl -o wrong --augment ic,spin
stderr_says 'augment: "spin": ic, rc or flip expected'

# Dropout of the branches: another run, the same one for all threads and when it goes on; validation is without.
train 0 dropped --data train.jsonl --lora-scope llm --max-steps 6 --save-steps 3 --dropout 0.3 -t 1
differ dropped plain
train 0 dropped2 --data train.jsonl --lora-scope llm --max-steps 6 --dropout 0.3 --resume dropped/checkpoint-3 -t 2
same dropped2 dropped
train 0 dropped3 --data train.jsonl --max-steps 1 --lr 0 --dropout 0.3 --val train.jsonl
train 0 undropped --data train.jsonl --max-steps 1 --lr 0 --val train.jsonl
[ "$(losses dropped3)" != "$(losses undropped)" ] || say_failure "--dropout changes nothing"
[ "$(jq -c 'select(.eval_loss) | .eval_loss' dropped3/log.jsonl)" = "$(jq -c 'select(.eval_loss) | .eval_loss' undropped/log.jsonl)" ] || say_failure "--dropout changes the validation"

# big_vision's resize and its limit of text: other losses; a text whose answer is cut away entirely teaches nothing.
train 0 bilinear --data train.jsonl --max-steps 1 --lr 0 --resize big_vision
train 0 antialiased --data train.jsonl --max-steps 1 --lr 0 --resize big_vision_aa
train 0 model --data train.jsonl --max-steps 1 --lr 0 --resize model
[ "$(for name in bilinear antialiased model; do losses $name; done | sort -u | wc -l)" = 3 ] || say_failure "--resize: $(for name in bilinear antialiased model; do losses $name; done)"
train 0 short --data train.jsonl --max-steps 1 --lr 0 --text-len 9 --batch-size 3
train 0 long --data train.jsonl --max-steps 1 --lr 0 --text-len 900 --batch-size 3
jq -es '.[0].tokens < .[1].tokens and .[0].loss != .[1].loss' short/log.jsonl long/log.jsonl >/dev/null || say_failure "--text-len: $(cat short/log.jsonl long/log.jsonl)"
train 0 nothing --data train.jsonl --max-steps 1 --text-len 1 --val train.jsonl
jq -es '.[0].loss == 0 and .[0].grad_norm == 0' nothing/log.jsonl >/dev/null || say_failure "no answers: $(cat nothing/log.jsonl)"

# Several answers: a row of two is as rows of one, one after the other.
row gray.png "answer en what color?" '["gray", "a dull one"]' >two.jsonl
row gray.png "answer en what color?" '"gray"' >first.jsonl
row gray.png "answer en what color?" '"a dull one"' >second.jsonl
for name in two first second; do train 0 $name --data $name.jsonl --epochs 2 --lr 0; done
[ "$(losses two | sort)" = "$({ losses first | head -n 1 && losses second | head -n 1; } | sort)" ] || say_failure "losses of two answers: $(losses two)"
# Several files: together as one of all rows; with weights in that proportion, and a run that goes on draws as if it had not stopped.
sed -n 1p train.jsonl >a.jsonl
sed -n 2,3p train.jsonl >b.jsonl
train 0 together --data a.jsonl --data b.jsonl --lora-scope llm --max-steps 6
same together plain
train 0 mixed --data a.jsonl:1 --data b.jsonl:3 --epochs 4 --save-steps 3 --no-shuffle
differ mixed plain
printf '{"data": ["a.jsonl", "b.jsonl:3"], "no-shuffle": true, "epochs": 4}' >mixture.json
train 0 again --config mixture.json --resume mixed/checkpoint-3 -t 1
same again mixed
train 0 replaced --config mixture.json --data train.jsonl --lora-scope llm --max-steps 6 --epochs 1
jq -e '.settings.rows == [[3, 0.0]]' replaced/checkpoint-6/train_state.json >/dev/null || say_failure "--data beside a recipe's: $(jq .settings.rows replaced/checkpoint-6/train_state.json)"
expect_error 1 finetune -m "$MODEL" --data a.jsonl:1 --data b.jsonl:2 --no-shuffle -o wrong --batch-size 2 --resume mixed/checkpoint-3
stderr_says "rows: was [[1, 1.0], [3, 3.0]] and is now [[1, 1.0], [3, 2.0]]"
expect_error 2 finetune -m "$MODEL" --data a.jsonl:0 -o wrong
stderr_says "a number from 1e-09 to 1e+09 expected after the colon"
: >empty.jsonl
expect_error 1 finetune -m "$MODEL" --data a.jsonl --data empty.jsonl -o wrong
stderr_says "empty.jsonl: no rows"
printf '{"data": ["a.jsonl", ["b.jsonl"]]}' >wrong.json
expect_error 2 finetune -m "$MODEL" --config wrong.json -o wrong
[ ! -e wrong ] || say_failure "left: wrong"
finish
