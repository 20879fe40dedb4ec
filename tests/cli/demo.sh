# make demo's commands, as it runs them: without a terminal, from another directory, with drawings that are pictures.
. "$SOURCE/tests/cli/lib.sh"
last="demo.sh"
sh "$SOURCE/scripts/demo.sh" "$PROGRAM" "$work" >out 2>err </dev/null || say_failure "demo.sh: exit status $?"
[ "$(grep -c "^\$ $PROGRAM " out)" -ge 10 ] || say_failure "demo.sh: commands are missing"
for name in demo-boxes.png demo-mask.png; do
    [ "$(head -c 4 $name | tail -c 3)" = PNG ] || say_failure "demo.sh: $name is no PNG"
    rm -f $name
done
nothing_but
if [ -n "$BUILTIN_MODEL" ]; then
    [ ! -s err ] || say_failure "demo.sh: something on stderr"
    # What it is asked is answered rightly, in the picture's own words
    sed -n '/^\$.* \(caption\|ask\|ocr\) /{n;p;}' out >answers
    printf '%s\n' "ghost and guitar" "fantasma y guitarra" 3 hamburger yes EXIT "carré bleu, étoile jaune et cœur rouge" | diff - answers >differences || say_failure "demo.sh: $(cat differences)"
    [ "$(grep -cE '^  [0-9]  (watermelon|hamburger|ghost|yellow star) ' out)" = 4 ] || say_failure "demo.sh: not the four objects that are there"
    ! grep -q RANDOM out || say_failure "demo.sh: not with the model inside the program"
fi
stdout_says "google/paligemma-3b-mix-224"
sh "$SOURCE/scripts/demo.sh" "$BARE" "$work" >out 2>err </dev/null || say_failure "demo.sh: a program without a model: exit status $?"
stdout_says RANDOM
finish
