#!/bin/sh
# usage: demo.sh PROGRAM: answers a prompt about a picture and says what is to be expected of it.
set -eu
program=$1
cd "$(dirname "$0")/.."
model=tests/golden/models/pg1-f32
picture=examples/pictures/house.jpg
cat <<END
This demonstration uses a tiny model with RANDOM weights ($model): the answer below shows that
everything runs, from the picture's bytes to the text, but its words are noise.

\$ $program run -m $model -i $picture -p "detect house" -n 16
END
"$program" run -m "$model" -i "$picture" -p "detect house" -n 16
cat <<END

For real answers download a checkpoint, for instance google/paligemma-3b-mix-224 from huggingface.co (its licence has to
be accepted there), and give its directory:

\$ $program run -m paligemma-3b-mix-224 -i $picture -p "detect house"
END
