# --plan tells what a run needs, and a run that cannot have it is refused in one line.
. "$SOURCE/tests/cli/lib.sh"
need jq
expect 0 run -m "$MODEL" -i "$PICTURE" -p "caption en" --plan
stdout_says "weights in files"
stdout_says "fits             yes"
expect 0 run -m "$MODEL" --plan --json
json_is '.memory_bytes | .total == .weights_mapped + .weights + .tokenizer + .pictures + .features + .activations + .kv_cache + .logits + .loading + .program'
json_is '.memory_bytes.fits and .memory_bytes.available > 0'
one=$(jq .memory_bytes.kv_cache out)
expect 0 run -m "$MODEL" --batch nowhere.jsonl --batch-size 16 --plan --json
json_is ".memory_bytes.kv_cache > 8 * $one"
expect 0 bench --random pg2-10b-448 --dtype q4 --plan --json
json_is '.memory_bytes.weights > 5e9'
expect_error 1 run -m nowhere --plan
expect_error 2 score -m "$MODEL" -i "$PICTURE" -p x --answer y --plan

# An address space of 2 GB holds the tiny model, and no PaliGemma 3B, even at 4 bits. (A sanitizer needs more for itself.)
if [ -z "${SANITIZE-}" ]; then
    (
        failures=0
        ulimit -v 2000000
        expect_error 1 bench --random 3b-224 --dtype bf16
        stderr_says "memory: "
        stderr_says "--force"
        expect_error 1 bench --random 3b-224 --dtype bf16 --force
        stderr_says "out of memory"
        expect 0 run -m "$MODEL" -i "$PICTURE" -p "caption en" -n 2
        exit "$failures"
    ) || failures=$((failures + 1))
else
    echo "left out: limits of the address space, which the sanitizer would not survive"
fi
finish
