# finetune: adapters and models that the other commands take, runs that go on where they stopped, and every way to go wrong. (The
# arithmetic against the references: tests/test_backprop.c, tests/test_trainer.c.)
. "$SOURCE/tests/cli/lib.sh"
need jq
images=$SOURCE/tests/golden/models/images
row() { printf '{"image": "%s", "prefix": "%s", "suffix": "%s"}\n' "$1" "$2" "$3"; }
cp "$images/landscape.jpg" "$images/gray.png" "$images/tall.png" .
{ row landscape.jpg "caption en" "a wide land" && row gray.png "answer en what color?" gray && row tall.png "detect tower" "<loc0100><loc0200><loc0800><loc0600> tower"; } >train.jsonl
train() { # STATUS OUTDIR ARGUMENT...
    wanted=$1 output=$2
    shift 2
    expect "$wanted" finetune -m "$MODEL" --data train.jsonl -o "$output" --batch-size 2 --lr 1e-2 -q "$@"
}
losses() { sed 's/,"ms":[^}]*//' "$1/log.jsonl"; } # all that does not depend on the clock
same() { cmp -s "$1" "$2" || say_failure "$1 is not $2"; }

# An adapter: the log, falling loss, files, use.
train 0 lora --method lora --max-steps 8 --save-steps 3 --val train.jsonl --eval-steps 4 --warmup-steps 2 --json
json_is '.schema == 1 and .output == "lora" and .steps == 8 and .loss > 0 and .eval_loss > 0 and .eval_accuracy >= 0'
[ "$(ls lora | tr '\n' ' ')" = "README.md adapter_config.json adapter_model.safetensors checkpoint-3 checkpoint-6 checkpoint-8 log.jsonl trainer_state.json " ] ||
    say_failure "files of an adapter: $(ls lora)"
jq -es '[.[] | select(.loss)] | length == 8 and .[0].loss > .[7].loss + 1 and .[0].lr == 0 and .[1].lr == 0.005 and .[2].lr == 0.01 and all(.tokens > 30 and .grad_norm > 0 and .ms > 0)
    and [.[].step] == [1, 2, 3, 4, 5, 6, 7, 8]' lora/log.jsonl >/dev/null || say_failure "log.jsonl: $(cat lora/log.jsonl)"
jq -es '[.[] | select(.eval_loss)] | [.[].step] == [4, 8] and .[0].eval_loss > .[1].eval_loss' lora/log.jsonl >/dev/null || say_failure "validation: $(cat lora/log.jsonl)"
jq -e '.global_step == 8 and (.log_history | length) == 10' lora/checkpoint-8/trainer_state.json >/dev/null || say_failure "trainer_state.json"
jq -e '.peft_type == "LORA" and .r == 8 and .lora_alpha == 8 and (.target_modules | length) == 7' lora/adapter_config.json >/dev/null || say_failure "adapter_config.json"
score() { "$PROGRAM" score -m "$MODEL" -i gray.png -p "answer en what color?" --answer gray "$@" 2>err | cut -f1; }
[ "$(printf '%s\n%s\n' "$(score)" "$(score --lora lora)" | sort -g | tail -n 1)" = "$(score --lora lora)" ] || say_failure "the answer became no likelier"
expect 0 inspect -m lora
expect 0 run -m "$MODEL" --lora lora -i gray.png -p "answer en what color?" -n 3

train 0 more --lora-init lora --lora-rank 8 --lora-targets down_proj,up_proj,gate_proj,o_proj,v_proj,k_proj,q_proj --lora-dropout 0.3 --max-steps 1
jq -e '.lora_dropout == 0.3' more/adapter_config.json >/dev/null || say_failure "--lora-init and --lora-dropout"
[ "$(jq .loss more/log.jsonl | cut -c1-5)" != "$(head -n 1 lora/log.jsonl | jq .loss | cut -c1-5)" ] || say_failure "--lora-init changes nothing"

# Threads, and going on from a checkpoint, change no bit.
train 0 one --method lora --max-steps 8 --save-steps 3 --val train.jsonl --eval-steps 4 --warmup-steps 2 -t 1
same one/adapter_model.safetensors lora/adapter_model.safetensors
same one/checkpoint-8/optimizer.safetensors lora/checkpoint-8/optimizer.safetensors
rm -r one/checkpoint-6 one/checkpoint-8 one/adapter_model.safetensors
train 0 one --method lora --max-steps 8 --save-steps 3 --val train.jsonl --eval-steps 4 --warmup-steps 2 --resume
same one/adapter_model.safetensors lora/adapter_model.safetensors
same one/checkpoint-8/optimizer.safetensors lora/checkpoint-8/optimizer.safetensors
losses one >one.log
losses lora >lora.log
same one.log lora.log

# Samples are in the log, and change nothing else.
train 0 samples --method lora --max-steps 8 --val train.jsonl --eval-steps 4 --warmup-steps 2 --samples 2
same samples/adapter_model.safetensors lora/adapter_model.safetensors
jq -es '[.[] | select(.kind == "sample")] | [.[].step] == [4, 4, 8, 8] and [.[].line] == [1, 2, 1, 2] and .[2].prefix == "caption en" and .[2].want == "a wide land" and all(.got | type == "string")' \
    samples/log.jsonl >/dev/null || say_failure "samples: $(cat samples/log.jsonl)"
jq -c 'select(.kind != "sample")' samples/log.jsonl | sed 's/,"ms":[^}]*//' >samples.log
jq -c . lora/log.jsonl | sed 's/,"ms":[^}]*//' | cmp -s - samples.log || say_failure "other lines of the log"
train 0 samples2 --method lora --max-steps 1 --samples 9 --tensorboard samples2/board -q
[ "$(jq -s '[.[] | select(.kind == "sample")] | length' samples2/log.jsonl)" = 3 ] || say_failure "samples without --val: $(cat samples2/log.jsonl)"
grep -q 'samples/2' samples2/board/events.* || say_failure "samples are not in the event file"
# Nor does what is kept of a step, which a bound on memory decides.
train 0 little --method lora --max-steps 4 --memory 8.4MB
train 0 plain --method lora --max-steps 4
same little/adapter_model.safetensors plain/adapter_model.safetensors
expect_error 1 finetune -m "$MODEL" --data train.jsonl -o wrong --memory 1MB -q
stderr_says "0.001 GB are allowed"

# Dropout is another run, and the same one again when it is resumed.
train 0 drop --method lora --max-steps 4 --save-steps 2 --lora-dropout 0.3
jq -e '.lora_dropout == 0.3' drop/adapter_config.json >/dev/null || say_failure "adapter_config.json with dropout"
! cmp -s drop/adapter_model.safetensors plain/adapter_model.safetensors || say_failure "dropout changes nothing"
train 0 drop2 --method lora --max-steps 4 --lora-dropout 0.3 --resume drop/checkpoint-2
same drop2/adapter_model.safetensors drop/adapter_model.safetensors

# A model: in 16 bits with masters in f32, some of it frozen; old checkpoints go.
train 0 full --method full --freeze img,embed --dtype bf16 --max-steps 4 --save-steps 1 --save-total-limit 2
[ "$(echo full/checkpoint-*)" = "full/checkpoint-3 full/checkpoint-4" ] || say_failure "kept: $(echo full/checkpoint-*)"
for file in config.json model.safetensors preprocessor_config.json tokenizer.json trainer_state.json log.jsonl; do
    [ -s "full/$file" ] || say_failure "no $file"
done
expect 0 score -m full -i gray.png -p "answer en what color?" --answer gray
train 0 again --method full --freeze img,embed --dtype bf16 --max-steps 4 --resume full/checkpoint-3
same again/model.safetensors full/model.safetensors
same again/checkpoint-4/optimizer.safetensors full/checkpoint-4/optimizer.safetensors

train 0 pure --method full --pure-bf16 --stochastic-rounding --optim adamw8bit --max-steps 4 --save-steps 2
train 0 pure2 --method full --pure-bf16 --stochastic-rounding --optim adamw8bit --max-steps 4 --resume pure/checkpoint-2 -t 1
same pure2/model.safetensors pure/model.safetensors
same pure2/checkpoint-4/optimizer.safetensors pure/checkpoint-4/optimizer.safetensors

# In 4 bits; optimizers; TensorBoard; a recipe, and the command line over it.
train 0 qlora --method qlora --max-steps 2 --optim paged_adamw8bit --lora-scope llm --lora-targets q_proj,v_proj --lora-rank 2 --lora-rslora --tensorboard board
jq -e '.target_modules == ".*language_model.*\\.(q_proj|v_proj)" and .use_rslora and .r == 2' qlora/adapter_config.json >/dev/null || say_failure "adapter_config.json of the text model"
ls board/events.out.tfevents.* >/dev/null || say_failure "no event file"
expect 0 run -m "$MODEL" --dtype nf4 --lora qlora -i gray.png -p x -n 1
printf '{"description": "one", "method": "full", "train": "llm.attn", "optim": "sgd", "lr": 0.03, "schedule": "cosine", "max-steps": 3, "no-shuffle": true, "loss": "big_vision"}' >recipe.json
expect 0 finetune -m "$MODEL" --data train.jsonl -o recipe --config recipe.json --max-steps 2 -q
jq -es '[.[].lr] == [0.03, 0.015]' recipe/log.jsonl >/dev/null || say_failure "recipe: $(cat recipe/log.jsonl)"
for recipe in "$SOURCE"/recipes/bv-*.json; do # steps of their batches would take long: all but the data
    expect_error 1 finetune -m "$MODEL" --data nowhere.jsonl -o wrong --config "$recipe" -q
    stderr_says "nowhere.jsonl"
done
for recipe in "$SOURCE"/recipes/a*.json; do
    expect 0 finetune -m "$MODEL" --data train.jsonl -o "recipe-$(basename "$recipe" .json)" --config "$recipe" --max-steps 1 -q
done

# Stopped: a checkpoint, and from there on as if nothing had been. Killed: whatever is there is whole.
train 0 straight --method lora --epochs 12 --save-steps 0 -t 1
for stop in INT:0 KILL:0.03 KILL:0.07; do
    signal=${stop%:*}
    rm -rf stopped
    "$PROGRAM" finetune -m "$MODEL" --data train.jsonl -o stopped --batch-size 2 --lr 1e-2 -q -t 1 --method lora --epochs 12 --save-steps 1 --save-total-limit 3 >out 2>err &
    running=$!
    while ! [ -s stopped/log.jsonl ] && kill -0 $running 2>/dev/null; do sleep 0.01; done
    sleep "${stop#*:}"
    kill -"$signal" $running 2>/dev/null
    wait $running 2>/dev/null
    status=$?
    [ "$signal" != INT ] || [ $status = 130 ] || say_failure "exit status $status after SIGINT"
    whole=0
    for checkpoint in stopped/checkpoint-*; do
        case $checkpoint in *.tmp* | *\*) continue ;; esac
        whole=1
        for file in adapter_config.json adapter_model.safetensors optimizer.safetensors train_state.json trainer_state.json; do
            [ -s "$checkpoint/$file" ] || say_failure "after SIG$signal: no $checkpoint/$file"
        done
    done
    [ $whole = 1 ] || continue # killed before the first one
    train 0 stopped --method lora --epochs 12 --save-steps 0 --resume -t 1
    same stopped/adapter_model.safetensors straight/adapter_model.safetensors
    ! ls stopped | grep -q tmp || say_failure "left behind: $(ls stopped)"
done

# Wrong data, wrong numbers, wrong places
fails() { # what it says, then arguments
    says=$1
    shift
    expect_error 1 finetune -m "$MODEL" -o wrong -q --max-steps 2 "$@"
    stderr_says "$says"
    [ ! -e wrong ] || say_failure "$last: leaves $(ls -d wrong wrong/*)"
}
: >empty.jsonl
row missing.png a b >missing.jsonl
fails "empty.jsonl: no rows" --data empty.jsonl
fails "none of them good" --data missing.jsonl
fails "nowhere.jsonl" --data nowhere.jsonl
fails "is no linear layer" --data train.jsonl --lora-targets q_proj,nothing
fails "modules_to_save" --data train.jsonl --lora-init "$SOURCE/tests/golden/lora/saved"
fails "lora: rank: it has 8, 4 was asked for" --data train.jsonl --lora-init lora --lora-rank 4
fails "lora: alpha: it has 8, 16 was asked for" --data train.jsonl --lora-init lora --lora-rank 8 --lora-alpha 16
fails "targets: it has q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj, q_proj,v_proj was asked for" --data train.jsonl --lora-init lora --lora-targets q_proj,v_proj
fails "down_proj (text model) was asked for" --data train.jsonl --lora-init lora --lora-scope llm
fails "alpha / sqrt(rank) was asked for" --data train.jsonl --lora-init lora --lora-rslora
fails "none of the groups" --data train.jsonl --method full --train nothing
fails "no checkpoint in it" --data train.jsonl --resume
fails "batch_size: was 2 and is now 8" --data train.jsonl --resume lora/checkpoint-3
fails "optimizer: was" --data train.jsonl --batch-size 2 --resume lora/checkpoint-3 --optim sgd
fails "another method, optimizer or set of parameters" --data train.jsonl --batch-size 2 --resume lora/checkpoint-3 --lora-targets q_proj
expect_error 1 finetune -m "$MODEL" --data train.jsonl -o deep/down/wrong -q --resume
[ ! -e deep ] || say_failure "leaves $(ls -d deep/*)"
expect_error 1 finetune -m "$MODEL" --data train.jsonl -o lora -q
stderr_says "there already"
cat missing.jsonl train.jsonl >mixed.jsonl
expect 0 finetune -m "$MODEL" --data mixed.jsonl -o mixed --max-steps 1
stderr_says "mixed.jsonl:1: ./missing.png"
printf 'no picture' >broken.png
{ row broken.png a b && cat train.jsonl; } >broken.jsonl
expect 0 finetune -m "$MODEL" --data broken.jsonl -o broken --batch-size 4 --max-steps 1
stderr_says "broken.jsonl:1"
jq -es '.[0].tokens > 100' broken/log.jsonl >/dev/null || say_failure "the other rows are not there"
expect_error 1 finetune -m "$MODEL" --data train.jsonl -o absurd --lr 1e25 --save-steps 1 --save-total-limit 1 --max-steps 9 -q
stderr_says "the loss is not a number"
[ -s absurd/checkpoint-1/adapter_model.safetensors ] || say_failure "the checkpoint from before is gone"
(ulimit -f 64 && "$PROGRAM" finetune -m "$MODEL" --data train.jsonl -o disk --max-steps 1 -q >out 2>err) && say_failure "a full disk goes unnoticed"
[ "$(ls disk)" = log.jsonl ] || say_failure "a full disk leaves $(ls disk)"

expect_error 2 finetune -m "$MODEL" -o wrong
stderr_says "--data FILE.jsonl expected"
expect_error 2 finetune -m "$MODEL" --data train.jsonl
expect_error 2 finetune -m "$MODEL" --data train.jsonl -o wrong --train proj
expect_error 2 finetune -m "$MODEL" --data train.jsonl -o wrong --method qlora --dtype f32
expect_error 2 finetune -m "$MODEL" --data train.jsonl -o wrong --lora-rank 0
expect_error 2 finetune -m "$MODEL" --data train.jsonl -o wrong --memory much
printf '{"lrr": 1}' >wrong.json
expect_error 2 finetune -m "$MODEL" --data train.jsonl -o wrong --config wrong.json
stderr_says "did you mean --lr?"
printf '{"lr": [1]}' >wrong.json
expect_error 2 finetune -m "$MODEL" --data train.jsonl -o wrong --config wrong.json
printf '[1]' >wrong.json
expect_error 1 finetune -m "$MODEL" --data train.jsonl -o wrong --config wrong.json
expect_error 1 finetune -m "$MODEL" --data train.jsonl -o wrong --config nowhere.json
[ ! -e wrong ] || say_failure "a directory is there"
finish
