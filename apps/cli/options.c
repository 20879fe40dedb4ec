#include "options.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

enum { RUN = 1u, SCORE = 2u, EMBED = 4u, TOKENIZE = 8u, INSPECT = 16u, BENCH = 32u, QUANTIZE = 64u };
/* What run has and its shorthands, which have all its other options, do not; and what they have beside them. */
enum { PROMPTED = 128u, WITH_WORDS = 256u, LISTING = 512u, IN_LANGUAGE = 1024u, OBJECTS = 2048u, CONVERT = 4096u, DATA = 8192u, MERGE = 16384u, TRAIN = 32768u };
#define LOADING (RUN | SCORE | EMBED | TOKENIZE | INSPECT | BENCH | QUANTIZE | CONVERT | OBJECTS | TRAIN)
#define EVERY (LOADING | DATA)
#define ANSWERING (RUN | SCORE)
#define COMPUTING (RUN | SCORE | EMBED | BENCH)

const command command_table[] = {
    {"run", RUN | PROMPTED, cmd_run, "answer a prompt about one or more pictures", "[-m MODEL] -i IMAGE -p PROMPT [options]",
     "Text streams to standard output as it is generated; with --json one object is printed at the end. Decoding is greedy "
     "unless --temp or --num-beams says otherwise, and then a given --seed always gives the same answer.\n\n"
     "With --batch each line of the file is a request {\"image\": \"a.jpg\", \"prompt\": \"caption en\"} (image may be a list; "
     "paths are relative to the current directory) and each line of output is the JSON answer to it, in the same order. A line "
     "that fails gets an object with \"error\" and without \"text\", the others go on, and the exit status is 1. Up to "
     "--batch-size requests are answered at once, which is faster and changes no answer; in timing_ms, vision is 0 for a "
     "picture that an earlier line had, decode is the time of the steps that a request shared with others, and total counts "
     "from reading its line, waiting included.",
     "paligemma run -m paligemma-3b-mix-224 -i cat.jpg -p \"caption en\"\n"
     "paligemma run -m paligemma-3b-mix-224 -i cat.jpg -p \"detect cat\" --json\n"
     "paligemma run -m paligemma-3b-mix-224 --lora my-adapter -i cat.jpg -p \"caption en\"\n"
     "paligemma run -m paligemma-3b-mix-224 --batch requests.jsonl > answers.jsonl"},
    {"detect", RUN | WITH_WORDS | LISTING, cmd_task, "find things in a picture: boxes", "[-m MODEL] -i IMAGE NAME... [options]",
     "Asks for the named things with the prompt \"detect NAME ; NAME\" (in lower case, as the model was trained) and prints a table "
     "of what was found: number, label, score, and the box in pixels, from the upper left corner to the lower right one. --raw "
     "prints the model's answer instead, --json the object that run prints.",
     "paligemma detect -m paligemma-3b-mix-224 -i cat.jpg cat dog\n"
     "paligemma detect -m paligemma-3b-mix-224 -i cat.jpg \"cat's left ear\" --draw found.png"},
    {"segment", RUN | WITH_WORDS | LISTING, cmd_task, "find things in a picture: boxes and outlines",
     "[-m MODEL] -i IMAGE NAME... [options]",
     "As detect with the prompt \"segment NAME ; NAME\". The table's last column is the share of the picture that the mask covers. "
     "Masks need the mask codec vae-oid.npz, beside the model or given with --vae.",
     "paligemma segment -m paligemma-3b-mix-224 -i cat.jpg cat --draw found.svg\n"
     "paligemma segment -m paligemma-3b-mix-224 -i cat.jpg cat --masks masks"},
    {"caption", RUN | IN_LANGUAGE, cmd_task, "describe a picture in a sentence", "[-m MODEL] -i IMAGE [options]",
     "Answers the prompt \"caption LANG\".", "paligemma caption -m paligemma-3b-mix-224 -i cat.jpg --lang fr"},
    {"ask", RUN | WITH_WORDS | IN_LANGUAGE, cmd_task, "answer a question about a picture", "[-m MODEL] -i IMAGE QUESTION [options]",
     "Answers the prompt \"answer LANG QUESTION\", usually with a word or two.",
     "paligemma ask -m paligemma-3b-mix-224 -i cat.jpg \"what is the cat doing?\""},
    {"ocr", RUN, cmd_task, "read the text in a picture", "[-m MODEL] -i IMAGE [options]",
     "Answers the prompt \"ocr\" with all text in the picture, from left to right and from top to bottom. Small text needs a model of a "
     "higher resolution.",
     "paligemma ocr -m paligemma-3b-mix-224 -i cat.jpg"},
    {"objects", OBJECTS | WITH_WORDS, cmd_objects, "boxes and masks of an answer that is there already",
     "[-m MODEL | --tokenizer FILE] -i IMAGE ANSWER [options]",
     "Reads an answer as the model writes it, location tokens and all, and does what detect and segment do with theirs: a table, JSON, "
     "--draw, --masks, --format. ANSWER may be - for standard input. No model runs; scores are not known.",
     "paligemma objects -m paligemma-3b-mix-224 -i cat.jpg \"<loc0256><loc0128><loc0768><loc0896> cat\" --draw found.png\n"
     "paligemma detect -m paligemma-3b-mix-224 -i cat.jpg cat --raw | paligemma objects -m paligemma-3b-mix-224 -i cat.jpg -"},
    {"score", SCORE, cmd_score, "log-probability of given answers", "[-m MODEL] -i IMAGE -p PROMPT --answer TEXT... [options]",
     "Prints one line per answer, in the given order: the log-probability of the answer followed by the end token, a tab, "
     "and the answer.",
     "paligemma score -m paligemma-3b-mix-224 -i cat.jpg -p \"answer en is this a dog?\" --answer yes --answer no"},
    {"embed", EMBED, cmd_embed, "write what the model sees in a picture as a NumPy file", "[-m MODEL] -i IMAGE -o OUT.npy [options]",
     "The array is float32: pixels [3, R, R] is the normalised model input, vision [P, width] the tower's output after its "
     "last norm, projector [P, D] that output in the text model's width, mean [1, width] the mean of vision over the "
     "patches, hidden [n, D] the text model's last hidden states over pictures and prompt (needs -p).",
     "paligemma embed -m paligemma-3b-mix-224 -i cat.jpg --what vision -o cat.npy"},
    {"tokenize", TOKENIZE, cmd_tokenize, "text to token ids and back", "[-m MODEL | --tokenizer FILE] [-p TEXT] [options]",
     "Text comes from -p or standard input; the ids are printed on one line. Special tokens written in the text stay text, "
     "except <loc....> and <seg...>.",
     "echo \"detect cat\" | paligemma tokenize --tokenizer paligemma-3b-mix-224/tokenizer.json\n"
     "echo \"39208 4401\" | paligemma tokenize --tokenizer paligemma-3b-mix-224/tokenizer.json --decode"},
    {"inspect", INSPECT, cmd_inspect, "what a model contains and needs", "[-m MODEL | --random SHAPE] [options]",
     "Variant, parameters, stored types, resolution, and an estimate of the memory needed to run at each type; then what is not as it "
     "should be: tensors that are missing, that are unfit (another shape, a type that is not read), and that are extra, asked for by no "
     "part of the model. A model that cannot be opened is shown as far as its files go, and the exit status is 1. Of a mask codec (-m "
     "vae-oid.npz): parameters and widths. Of a LoRA adapter (-m DIR): rank, alpha, and which modules it changes.\n\n"
     "--json prints an object with schema 1, kind (\"model\", \"adapter\" or \"mask_codec\"), path, problem (null, or the line that opening the model "
     "fails with) and dtypes (by stored type: tensors, elements, bytes). Where the files say what the model is, variant, generation, "
     "parameters (a tied head counted once), weight_bytes (in memory, as stored), resolution, image_tokens, vision, text, vocab_size, "
     "sliding_window, tokenizer, kv_bytes_per_token, and the lists missing, unfit and extra: name, shape and, as far as there is one, "
     "dtype, file, bytes, problem. memory_bytes says what a run needs, \"stored\" or at each --dtype, where there is no problem. "
     "--tensors adds tensors: the same for each, with state (found, missing, unfit, extra) and held, the type in memory where that is "
     "another one. Adapters have parameters, base_model, rank_min, rank (the largest), alpha, rslora, targets, updated, replaced, "
     "touches_vision and touches_text.",
     "paligemma inspect -m paligemma-3b-mix-224 --tensors\n"
     "paligemma inspect --random pg2-3b-448 --json"},
    {"bench", BENCH, cmd_bench, "time a model on this machine", "[-m MODEL | --random SHAPE] [options]",
     "Prints the median of --runs runs after one that is not counted, and how much of this machine's own measured limits "
     "they reach: memory read bandwidth for decoding, fp32 arithmetic for vision and prefill (above 100 % is possible "
     "where the kernels compute in a narrower type).",
     "paligemma bench --random 3b-224 --dtype bf16\npaligemma bench -m paligemma-3b-mix-224 --runs 5 --json"},
    {"quantize", QUANTIZE, cmd_quantize, "write a model as one .gguf file with smaller weights", "[-m MODEL] -o FILE.gguf [options]",
     "The file has weights, configuration, tokenizer and preprocessing, and is a MODEL for every command. q8 is 8 bits for each "
     "weight, in blocks of 32 with a scale; q4 is 4 bits in blocks with a scale and a minimum for the layers of the text model, "
     "and 8 bits for the rest (with attention's output, and keys and values that all heads share), unless --vision-dtype or --embed-dtype say otherwise. f32, bf16 and f16 lose nothing that the "
     "type can hold. Weights are converted a few megabytes at a time, so little memory is needed; the file appears under its "
     "name when it is whole.",
     "paligemma quantize -m paligemma-3b-mix-224 -o paligemma-3b-mix-224-q8.gguf --dtype q8"},
    {"convert", CONVERT, cmd_convert, "write a model in another form: a directory, one .gguf file, or an .npz file",
     "[-m MODEL] -o DIR|FILE.gguf|FILE.npz [options]",
     "A name that ends in .gguf is a file with weights, configuration and tokenizer, one that ends in .npz a file of big_vision's "
     "arrays, any other a new directory that Transformers loads: config.json, weights as safetensors, preprocessor and tokenizer "
     "files. What the model's own directory has of these is copied.\n\n"
     "Weights are written as they are stored, to the bit, unless --dtype says otherwise; in directories and .npz files, which have "
     "no q8 and q4, those become bf16. --dtype nf4 and int8 make directories that Transformers loads with bitsandbytes. Little memory is "
     "needed, unless the model is a compressed .npz file. The output appears under "
     "its name when it is whole. A directory that is not empty is not touched.",
     "paligemma convert -m paligemma-3b-mix-224 -o mix-224-f16 --dtype f16 --shard-size 2GB\n"
     "paligemma convert -m paligemma-3b-mix-224 -o mix-224.gguf\n"
     "paligemma convert -m mix-224.gguf -o mix-224-again\n"
     "paligemma convert -m paligemma-3b-mix-224 -o mix-224.npz"},
    {"merge", CONVERT | MERGE, cmd_merge, "write a model with LoRA adapters merged into it", "[-m MODEL] --lora DIR[:SCALE] -o DIR|FILE.gguf|FILE.npz [options]",
     "Each weight that an adapter changes becomes W + s B A, computed in f32 and rounded once to the type that is written; everything "
     "else is as convert writes it.\n\n"
     "Printed is what rounding costs, by Frobenius norms over the changed matrices: of the weights, and of the updates, which are so "
     "much smaller that 16 bits may lose a good part of them, and 8 or 4 bits more than all. --dtype f32 loses nothing; an adapter "
     "can also be used unmerged, with --lora.",
     "paligemma merge -m paligemma-3b-mix-224 --lora my-adapter -o mix-224-merged\n"
     "paligemma merge -m paligemma-3b-mix-224 --lora my-adapter:0.5 -o mix-224-merged.gguf --dtype f32"},
    {"data", DATA | WITH_WORDS, cmd_data, "training data from other forms", "coco-to-jsonl --coco FILE.json --images DIR -o OUT.jsonl [options]",
     "coco-to-jsonl writes the annotated pictures of a COCO file as lines {\"image\", \"prefix\", \"suffix\", \"id\"}: the prompt detect or "
     "segment with the names of categories, in lower case, and the answer in the model's tokens. Pictures are named from the output's "
     "directory on if they lie below it, and otherwise from the root.\n\n"
     "Left out, and counted on standard error, are pictures that are not there, crowds, and objects without an area or, for segment, "
     "without a mask. Masks may be polygons or run lengths; their codes come from the encoder of the mask codec.",
     "paligemma data coco-to-jsonl --coco annotations.json --images pictures -o train.jsonl\n"
     "paligemma data coco-to-jsonl --coco annotations.json --images pictures -o train.jsonl --task segment --vae vae-oid.npz --classes each"},
    {"finetune", TRAIN, cmd_finetune, "train a model, or an adapter for it, on your own pictures", "[-m MODEL] --data FILE.jsonl -o OUTDIR [options]",
     "Each line of the data is {\"image\": \"a.jpg\" or [\"a.jpg\", \"b.jpg\"], \"prefix\": \"the prompt\", \"suffix\": \"the answer\" or a list of "
     "answers, of which each epoch takes another}, pictures "
     "relative to the file. Learned is the answer and its end, given picture and prompt. Rows that cannot be read are reported and left "
     "out, up to a tenth of them.\n\n"
     "Into OUTDIR go log.jsonl (a line for each logged step), checkpoint-N/ after every --save-steps steps and the last, and the result: "
     "for lora and qlora an adapter that PEFT loads and --lora takes, for full a model that Transformers loads and -m takes. Ctrl-C saves a "
     "checkpoint and stops; --resume goes on from it and gives to the bit what not having stopped would have given. A loss that is not a "
     "number ends the run, and the checkpoints from before stay.\n\n"
     "A recipe for --config is a JSON object of options by their long names: {\"method\": \"lora\", \"lr\": 2e-5, \"no-shuffle\": true}. What the "
     "command line says wins.",
     "paligemma finetune -m paligemma-3b-pt-224 --data train.jsonl -o my-adapter --method lora --lr 2e-4 --epochs 3\n"
     "paligemma run -m paligemma-3b-pt-224 --lora my-adapter -i cat.jpg -p \"caption en\"\n"
     "paligemma finetune -m paligemma-3b-pt-224 --data train.jsonl --val val.jsonl -o my-model --config recipes/article.json --eval-steps 100"},
};
const size_t command_count = sizeof command_table / sizeof *command_table;

#define AT(field) offsetof(args, field)
const option option_table[] = {
    {"model", 'm', OPTION_TEXT, AT(model), "PATH", 0, 0, LOADING,
     "model: a directory in Hugging Face layout, a .gguf file or a .npz file of big_vision (default: the small one inside the program)"},
    {"mmproj", 0, OPTION_TEXT, AT(mmproj), "FILE", 0, 0, LOADING,
     "vision tower of a .gguf file that has a text model alone (default: the only *mmproj*.gguf beside it)"},
    {"tokenizer", 0, OPTION_TEXT, AT(tokenizer), "FILE", 0, 0, LOADING & ~(unsigned)BENCH,
     "tokenizer.json, tokenizer.model or a .gguf file (default: beside or in the model)"},
    {"image", 'i', OPTION_LIST, AT(images), "FILE", 0, 0, RUN | SCORE | EMBED | TOKENIZE | BENCH | OBJECTS,
     "picture, - for standard input; repeat for several pictures of one prompt, in order"},
    {"prompt", 'p', OPTION_TEXT, AT(prompt), "TEXT", 0, 0, PROMPTED | SCORE | EMBED | TOKENIZE,
     "prompt; @FILE reads a file and - standard input, less one final newline"},
    {"threads", 't', OPTION_NATURAL, AT(n_threads), "N", 1, 1024, LOADING & ~(unsigned)OBJECTS,
     "threads (default: physical cores); answers do not depend on it"},
    {"dtype", 0, OPTION_CHOICE, AT(dtype), "f32|bf16|f16|q8|q4|nf4|int8", 0, 0, COMPUTING, "convert weights while loading (default: as stored)"},
    {"dtype", 0, OPTION_CHOICE, AT(dtype), "f32|bf16|f16|q8|q4", 0, 0, QUANTIZE, "type of the weights (default: q8)"},
    {"dtype", 0, OPTION_CHOICE, AT(dtype), "f32|bf16|f16|q8|q4|nf4|int8", 0, 0, CONVERT,
     "type of the weights; q8 and q4 in .gguf files only, nf4 and int8 in directories only (default: as stored)"},
    {"vision-dtype", 0, OPTION_CHOICE, AT(vision_dtype), "f32|bf16|f16|q8|q4|nf4|int8", 0, 0, COMPUTING | CONVERT,
     "another type for the vision tower and projector (default: as --dtype, q8 for q4)"},
    {"vision-dtype", 0, OPTION_CHOICE, AT(vision_dtype), "f32|bf16|f16|q8|q4", 0, 0, QUANTIZE,
     "another type for the vision tower and projector (default: as --dtype, q8 for q4)"},
    {"embed-dtype", 0, OPTION_CHOICE, AT(embed_dtype), "f32|bf16|f16|q8|q4", 0, 0, COMPUTING | QUANTIZE | CONVERT,
     "another type for the embedding table and the head (default: as --dtype, q8 for q4; nf4 and int8 leave them as stored)"},
    {"lora", 0, OPTION_LIST, AT(loras), "DIR[:SCALE]", 0, 0, COMPUTING | MERGE,
     "use a LoRA adapter that PEFT saved, its effect times SCALE (default: 1); repeat to add up several"},
    {"max-tokens", 'n', OPTION_NATURAL, AT(max_tokens), "N", 1, 1000000, RUN | BENCH, "tokens to generate at most (run: 256, bench: 32)"},
    {"temp", 0, OPTION_REAL, AT(temperature), "F", 0, 1e6, RUN, "sampling temperature; 0, the default, is greedy"},
    {"top-k", 0, OPTION_NATURAL, AT(top_k), "N", 0, 1000000, RUN, "sample from the N likeliest tokens (0: all)"},
    {"top-p", 0, OPTION_REAL, AT(top_p), "F", 1e-9, 1, RUN, "sample from the smallest set of tokens that has probability F"},
    {"min-p", 0, OPTION_REAL, AT(min_p), "F", 0, 1, RUN, "sample from tokens with at least F times the best probability"},
    {"seed", 0, OPTION_NATURAL, AT(seed), "N", 0, 18446744073709551615.0, RUN | BENCH,
     "seed of sampling, and of bench --random (default: 0)"},
    {"num-beams", 0, OPTION_NATURAL, AT(n_beams), "N", 1, 64, RUN, "beam search with N beams (default: 1)"},
    {"num-return", 0, OPTION_NATURAL, AT(n_return), "N", 1, 64, RUN, "sequences to return from beam search (default: 1)"},
    {"length-penalty", 0, OPTION_REAL, AT(length_penalty), "F", -100, 100, RUN, "beam search: exponent of the length (default: 1)"},
    {"early-stopping", 0, OPTION_CHOICE, AT(early_stopping), "false|true|never", 0, 0, RUN, "beam search: when to stop (default: false)"},
    {"repeat-penalty", 0, OPTION_REAL, AT(repeat_penalty), "F", 1e-6, 1e6, RUN,
     "penalty of tokens already there, prompt included (default: 1)"},
    {"ignore-eos", 0, OPTION_FLAG, AT(ignore_eos), NULL, 0, 0, RUN, "do not stop at the end token (for timing)"},
    {"constrain", 0, OPTION_CHOICE, AT(constrain), "none|detect|segment", 0, 0, RUN,
     "choose only tokens that make a list of objects: boxes with labels, or boxes with masks (default: none)"},
    {"nms", 0, OPTION_REAL, AT(nms), "IOU", 0, 1, RUN,
     "leave out an object that a better one of the same label overlaps by at least IOU, intersection over union (0: none)"},
    {"min-score", 0, OPTION_REAL, AT(min_score), "F", 0, 1, RUN, "leave out objects with a score below F (0: none)"},
    {"box-scale", 0, OPTION_CHOICE, AT(box_scale), "1024|1023", 0, 0, RUN | OBJECTS,
     "what a location is a fraction of: 1024 as the published demos, 1023 as big_vision's evaluator (default: 1024)"},
    {"draw", 0, OPTION_TEXT, AT(draw), "FILE", 0, 0, RUN | OBJECTS,
     "draw the objects on the picture: a .png, .jpg or .svg file; with --batch a directory, or a name with {line} and {name} in it"},
    {"masks", 0, OPTION_TEXT, AT(masks), "DIR", 0, 0, RUN | OBJECTS,
     "write each mask as a grey PNG of the picture's size, numbered as its object"},
    {"vae", 0, OPTION_TEXT, AT(vae), "FILE", 0, 0, RUN | OBJECTS,
     "mask codec (default: vae-oid.npz or vae.safetensors beside the model; inside the program with its model)"},
    {"coco", 0, OPTION_TEXT, AT(coco), "FILE", 0, 0, DATA, "annotations: a COCO file of instances"},
    {"images", 0, OPTION_TEXT, AT(image_dir), "DIR", 0, 0, DATA, "where the pictures are"},
    {"output", 'o', OPTION_TEXT, AT(output), "FILE", 0, 0, DATA, "the JSONL file to write; - for standard output"},
    {"task", 0, OPTION_CHOICE, AT(data_task), "detect|segment", 0, 0, DATA, "boxes, or boxes and masks (default: detect)"},
    {"vae", 0, OPTION_TEXT, AT(vae), "FILE", 0, 0, DATA, "mask codec with an encoder, for segment"},
    {"classes", 0, OPTION_CHOICE, AT(classes), "all|present|each", 0, 0, DATA,
     "what a prompt asks for: all categories of the file, those in the picture, or each of those in a row of its own (default: all)"},
    {"loc-scale", 0, OPTION_CHOICE, AT(loc_scale), "1023|1024", 0, 0, DATA,
     "locations are round(fraction * 1023), as big_vision trains, or floor(fraction * 1024) (default: 1023)"},
    {"crowds", 0, OPTION_FLAG, AT(crowds), NULL, 0, 0, DATA, "keep objects that are crowds (iscrowd)"},
    {"format", 0, OPTION_CHOICE, AT(format), "coco|yolo|csv", 0, 0, RUN | OBJECTS,
     "write the objects for annotation tools instead of printing answers"},
    {"output", 'o', OPTION_TEXT, AT(output), "PATH", 0, 0, RUN | OBJECTS,
     "where --format writes: a file (default: standard output), for yolo a directory"},
    {"batch", 0, OPTION_TEXT, AT(batch), "FILE", 0, 0, PROMPTED, "answer one JSON request a line; - for standard input"},
    {"batch-size", 0, OPTION_NATURAL, AT(batch_size), "N", 1, 64, PROMPTED, "requests of --batch that are answered at once (default: 8)"},
    {"lang", 0, OPTION_TEXT, AT(lang), "CODE", 0, 0, IN_LANGUAGE, "language of the answer (default: en), one of " LANGUAGES},
    {"raw", 0, OPTION_FLAG, AT(raw), NULL, 0, 0, LISTING, "print the answer as the model wrote it, with its location tokens"},
    {"answer", 0, OPTION_LIST, AT(answers), "TEXT", 0, 0, SCORE, "an answer to score; repeatable"},
    {"answers", 0, OPTION_TEXT, AT(answers_file), "FILE", 0, 0, SCORE, "answers to score, one a line; - for standard input"},
    {"what", 0, OPTION_CHOICE, AT(what), "pixels|vision|projector|mean|hidden", 0, 0, EMBED, "which array (default: vision)"},
    {"output", 'o', OPTION_TEXT, AT(output), "FILE", 0, 0, EMBED, "the NumPy file to write; - for standard output"},
    {"output", 'o', OPTION_TEXT, AT(output), "FILE", 0, 0, QUANTIZE, "the .gguf file to write"},
    {"output", 'o', OPTION_TEXT, AT(output), "PATH", 0, 0, CONVERT, "what to write: a new directory, or a file whose name ends in .gguf or .npz"},
    {"calibrate", 0, OPTION_TEXT, AT(calibrate), "FILE.jsonl", 0, 0, QUANTIZE | CONVERT,
     "q4: answer rows {\"image\", \"prompt\"} (or \"prefix\") of this file first, and round so that what was multiplied with the weights there "
     "changes least (GPTQ); pictures are named from the file's directory on"},
    {"calibrate-rows", 0, OPTION_NATURAL, AT(calibrate_rows), "N", 1, 1000000, QUANTIZE | CONVERT, "how many of its rows (default: 128)"},
    {"shard-size", 0, OPTION_SIZE, AT(shard_size), "SIZE", 0, 0, CONVERT, "largest .safetensors file of a directory, such as 2GB or 500MiB (default: 5GB)"},
    {"prompt-template", 0, OPTION_FLAG, AT(prompt_template), NULL, 0, 0, TOKENIZE,
     "show the whole model input: image tokens of each -i, bos, prompt, newline (needs -m)"},
    {"decode", 0, OPTION_FLAG, AT(decode), NULL, 0, 0, TOKENIZE, "read ids separated by blanks, print their text without special tokens"},
    {"lines", 0, OPTION_FLAG, AT(lines), NULL, 0, 0, TOKENIZE, "each line of standard input is one text"},
    {"tensors", 0, OPTION_FLAG, AT(tensors), NULL, 0, 0, INSPECT, "list every tensor"},
    {"random", 0, OPTION_TEXT, AT(random), "SHAPE", 0, 0, BENCH | INSPECT,
     "random weights of a real shape instead of files: 3b-224, 3b-448, 3b-896, pg2-3b-224, pg2-10b-224, pg2-28b-224, ..."},
    {"runs", 0, OPTION_NATURAL, AT(n_runs), "N", 1, 1000, BENCH, "runs to take the median of (default: 3)"},
    {"prompt-tokens", 0, OPTION_NATURAL, AT(prompt_tokens), "N", 1, 100000, BENCH, "length of the prompt (default: 10)"},
    {"config", 0, OPTION_TEXT, AT(recipe), "RECIPE.json", 0, 0, TRAIN, "options by their long names, for what the command line does not say"},
    {"data", 0, OPTION_LIST, AT(train_data), "FILE.jsonl[:WEIGHT]", 0, 0, TRAIN,
     "rows to train on; of several files all rows, or, with weights, rows drawn from them in that proportion"},
    {"val", 0, OPTION_TEXT, AT(val_data), "FILE.jsonl", 0, 0, TRAIN, "rows to validate with: their loss, and the share of their tokens that the model thinks likeliest"},
    {"output", 'o', OPTION_TEXT, AT(output), "OUTDIR", 0, 0, TRAIN, "directory of the result, the checkpoints and the log"},
    {"method", 0, OPTION_CHOICE, AT(method), "full|lora|qlora", 0, 0, TRAIN,
     "what is trained: weights of the model, or adapters for it, or adapters for it in 4 bits (nf4) (default: lora)"},
    {"train", 0, OPTION_TEXT, AT(train), "GROUP,...", 0, 0, TRAIN, "full: which weights, of img, proj, embed, llm.attn, llm.mlp, llm.norm (default: all)"},
    {"freeze", 0, OPTION_TEXT, AT(freeze), "GROUP,...", 0, 0, TRAIN, "full: which of them not"},
    {"lora-rank", 0, OPTION_NATURAL, AT(lora_rank), "N", 1, 4096, TRAIN, "rank of the adapters (default: 8)"},
    {"lora-alpha", 0, OPTION_REAL, AT(lora_alpha), "F", 1e-6, 1e6, TRAIN, "their effect is multiplied by alpha / rank (default: 8)"},
    {"lora-dropout", 0, OPTION_REAL, AT(lora_dropout), "F", 0, 0.999, TRAIN, "share of what goes into them that is left out in each step (default: 0)"},
    {"lora-rslora", 0, OPTION_FLAG, AT(lora_rslora), NULL, 0, 0, TRAIN, "by alpha / sqrt(rank) instead"},
    {"lora-targets", 0, OPTION_TEXT, AT(lora_targets), "NAME,...", 0, 0, TRAIN,
     "layers that get one (default: q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj)"},
    {"lora-scope", 0, OPTION_CHOICE, AT(lora_scope), "llm|all", 0, 0, TRAIN, "those of the text model, or those of the vision tower too (default: all)"},
    {"lora-init", 0, OPTION_TEXT, AT(lora_init), "DIR", 0, 0, TRAIN, "begin with an adapter that PEFT saved; rank, alpha and targets are its own and may be left out"},
    {"optim", 0, OPTION_CHOICE, AT(optim), "adamw|adamw8bit|paged_adamw8bit|muon|sgd|adafactor|adamw_hf|adam_big_vision|adafactor_big_vision", 0, 0, TRAIN,
     "optimizer (default: adamw); paged keeps its states in a file"},
    {"lr", 0, OPTION_REAL, AT(lr), "F", 0, 1e30, TRAIN, "learning rate (default: 5e-5)"},
    {"weight-decay", 0, OPTION_REAL, AT(weight_decay), "F", 0, 1e6, TRAIN, "decay of matrices (default: 0)"},
    {"beta1", 0, OPTION_REAL, AT(beta1), "F", 0, 0.999999, TRAIN, "(default: 0.9)"},
    {"beta2", 0, OPTION_REAL, AT(beta2), "F", 0, 0.999999, TRAIN, "(default: 0.999)"},
    {"eps", 0, OPTION_REAL, AT(eps), "F", 0, 1, TRAIN, "(default: 1e-8, for adafactor 1e-30)"},
    {"momentum", 0, OPTION_REAL, AT(momentum), "F", 0, 0.999999, TRAIN, "of sgd (default: 0), muon (default: 0.95) and adafactor_big_vision (default: 0.9)"},
    {"schedule", 0, OPTION_CHOICE, AT(schedule), "linear|cosine|constant|cosine_big_vision", 0, 0, TRAIN, "learning rate after the warm-up (default: linear, to 0)"},
    {"warmup-steps", 0, OPTION_REAL, AT(warmup_steps), "N", 0, 1e12, TRAIN, "steps in which it rises from 0; below 1 a share of all steps (default: 0)"},
    {"epochs", 0, OPTION_REAL, AT(epochs), "N", 0, 1e9, TRAIN, "times that all rows are seen (default: 3)"},
    {"max-steps", 0, OPTION_NATURAL, AT(max_steps), "N", 0, 1e12, TRAIN, "steps to do, whatever --epochs says (default: 0, as --epochs says)"},
    {"batch-size", 0, OPTION_NATURAL, AT(train_batch), "N", 1, 65536, TRAIN, "rows that are computed at once (default: 8)"},
    {"grad-accum", 0, OPTION_NATURAL, AT(grad_accum), "N", 1, 1e12, TRAIN, "batches for a step (default: 1)"},
    {"max-grad-norm", 0, OPTION_REAL, AT(max_grad_norm), "F", 0, 1e30, TRAIN, "gradients are clipped to this norm; 0: they are not (default: 1)"},
    {"label-smoothing", 0, OPTION_REAL, AT(label_smoothing), "F", 0, 0.999, TRAIN, "share of probability for other tokens than the answer's (default: 0)"},
    {"dropout", 0, OPTION_REAL, AT(dropout), "F", 0, 0.999, TRAIN,
     "share of what attention and MLP of each block of the text model add that is left out in each step, as in big_vision (default: 0)"},
    {"loss", 0, OPTION_CHOICE, AT(loss), "hf|big_vision", 0, 0, TRAIN,
     "mean over all tokens of a step as in Transformers, or over the tokens of each row and then over rows as in big_vision (default: hf)"},
    {"no-shuffle", 0, OPTION_FLAG, AT(no_shuffle), NULL, 0, 0, TRAIN, "rows in the order of the file"},
    {"text-len", 0, OPTION_NATURAL, AT(text_len), "N", 0, 32768, TRAIN, "cut prompt and answer together after N + 1 tokens, as big_vision does (default: 0, never)"},
    {"resize", 0, OPTION_CHOICE, AT(resize), "model|big_vision|big_vision_aa", 0, 0, TRAIN,
     "how pictures get the model's size: as when it runs, or as big_vision's recipes trained, without or with antialiasing (default: model)"},
    {"augment", 0, OPTION_TEXT, AT(augment), "NAME,...", 0, 0, TRAIN,
     "what happens to pictures in each epoch: ic (a part of 50 to 100 %, stretched), rc (a square of 7/8), flip (half of them, boxes too; not if "
     "the text has masks, \"left\" or \"right\"); rows with locations are not cropped (default: nothing)"},
    {"seed", 0, OPTION_NATURAL, AT(train_seed), "N", 0, 9223372036854774784.0, TRAIN, "seed of whatever is drawn by lot (default: 42)"},
    {"dtype", 0, OPTION_CHOICE, AT(dtype), "f32|bf16", 0, 0, TRAIN,
     "type to compute with: for full of the trained weights, whose updates go to copies in f32 either way; for lora of the model (default: as stored)"},
    {"pure-bf16", 0, OPTION_FLAG, AT(pure_bf16), NULL, 0, 0, TRAIN,
     "full: trained weights and their gradients in bf16 only, which takes the least memory but loses small updates"},
    {"stochastic-rounding", 0, OPTION_FLAG, AT(stochastic), NULL, 0, 0, TRAIN, "round what is kept in bf16 up or down by lot, so that small updates count on average"},
    {"eval-steps", 0, OPTION_NATURAL, AT(eval_steps), "N", 0, 1e12, TRAIN, "validate after every N steps, and answer --samples (default: 0, at the end only)"},
    {"samples", 0, OPTION_NATURAL, AT(train_samples), "N", 0, 10000, TRAIN,
     "whenever it validates, answer N rows of --val (or else of --data) greedily, and write that to the log (default: 0)"},
    {"save-steps", 0, OPTION_NATURAL, AT(save_steps), "N", 0, 1e12, TRAIN, "save a checkpoint after every N steps; 0: at the end only (default: 500)"},
    {"save-total-limit", 0, OPTION_NATURAL, AT(save_limit), "N", 0, 1e12, TRAIN, "keep the last N checkpoints (default: 0, all)"},
    {"resume", 0, OPTION_MAYBE, AT(resume), "[DIR]", 0, 0, TRAIN, "go on from a checkpoint, or from the last one in OUTDIR"},
    {"logging-steps", 0, OPTION_NATURAL, AT(logging_steps), "N", 0, 1e12, TRAIN, "log every N steps (default: 1)"},
    {"feature-cache", 0, OPTION_TEXT, AT(feature_cache), "DIR", 0, 0, TRAIN,
     "keep what a frozen vision tower makes of each picture in files there, which later runs with the same tower find again (1.2 MB a picture at 224 pixels)"},
    {"tensorboard", 0, OPTION_TEXT, AT(tensorboard), "DIR", 0, 0, TRAIN, "write event files for TensorBoard"},
    {"no-sliding-window", 0, OPTION_FLAG, AT(no_sliding_window), NULL, 0, 0, COMPUTING | TRAIN,
     "PaliGemma 2: full attention in every layer, as it was trained (default: the 4096-token window, as Transformers)"},
    {"no-final-softcap", 0, OPTION_FLAG, AT(no_final_softcap), NULL, 0, 0, COMPUTING | TRAIN,
     "PaliGemma 2: no final logit cap, as big_vision (default: capped, as Transformers)"},
    {"plan", 0, OPTION_FLAG, AT(plan), NULL, 0, 0, RUN | BENCH, "print the memory that this would need, and do nothing else"},
    {"memory", 0, OPTION_SIZE, AT(memory), "SIZE", 0, 0, TRAIN,
     "stay within this, weights included, such as 4GB or 7.5GiB: the less, the more is computed again (default: three quarters of what there is to spare)"},
    {"force", 0, OPTION_FLAG, AT(force), NULL, 0, 0, COMPUTING | TRAIN, "run even if it does not seem to fit into memory"},
    {"json", 0, OPTION_FLAG, AT(json), NULL, 0, 0, EVERY, "print JSON"},
    {"quiet", 'q', OPTION_FLAG, AT(quiet), NULL, 0, 0, EVERY, "no progress, no notes; results only once all is well"},
    {"verbose", 'v', OPTION_FLAG, AT(verbose), NULL, 0, 0, EVERY, "notes on standard error"},
    {"help", 'h', OPTION_FLAG, AT(help), NULL, 0, 0, EVERY, "this help"},
};
const size_t option_count = sizeof option_table / sizeof *option_table;

static const char *const planned_commands[] = {"eval", "serve", "pull", "push"};
#define IS_ONE_OF(name, list) is_one_of(name, list, sizeof(list) / sizeof *(list))

static bool is_one_of(const char *name, const char *const *list, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (!strcmp(name, list[i])) return true;
    }
    return false;
}

bool command_is_planned(const char *name) {
    return IS_ONE_OF(name, planned_commands);
}

bool command_lists_objects(const command *cmd) {
    return cmd->bits & LISTING;
}

const command *command_find(const char *name) {
    for (size_t i = 0; i < command_count; i++) {
        if (!strcmp(command_table[i].name, name)) return &command_table[i];
    }
    return NULL;
}

#define NAME_MAX_LENGTH 32

/* Edits (insert, delete, replace) between two names; longer than NAME_MAX_LENGTH counts as far away. */
static size_t edit_distance(const char *a, const char *b) {
    size_t row[NAME_MAX_LENGTH + 1], na = strlen(a), nb = strlen(b);
    if (na > NAME_MAX_LENGTH || nb > NAME_MAX_LENGTH) return NAME_MAX_LENGTH;
    for (size_t j = 0; j <= nb; j++) row[j] = j;
    for (size_t i = 1; i <= na; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= nb; j++) {
            size_t best = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            if (row[j] + 1 < best) best = row[j] + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            row[j] = best;
        }
    }
    return row[nb];
}

/* Keeps the better of two candidates for a mistyped name. */
static void nearest_update(const char *typed, const char *candidate, const char **best, size_t *best_distance) {
    size_t distance = edit_distance(typed, candidate), n = strlen(typed);
    if (n >= 2 && !strncmp(typed, candidate, n) && distance > 1) distance = 1; /* a beginning is as good as a typo */
    if (distance < *best_distance) {
        *best = candidate;
        *best_distance = distance;
    }
}

const char *command_nearest(const char *name) {
    const char *best = NULL;
    size_t distance = 3;
    for (size_t i = 0; i < command_count; i++) nearest_update(name, command_table[i].name, &best, &distance);
    return best;
}

void args_init(args *a) {
    memset(a, 0, sizeof *a);
    a->lang = "en";
    a->what = "vision";
    a->early_stopping = "false";
    a->box_scale = "1024";
    a->constrain = "none";
    a->data_task = "detect";
    a->classes = "all";
    a->loc_scale = "1023";
    a->n_beams = a->n_return = 1;
    a->n_runs = 3;
    a->prompt_tokens = 10;
    a->top_p = a->length_penalty = a->repeat_penalty = 1;
    a->method = "lora";
    a->lora_scope = "all";
    a->loss = "hf";
    a->train_batch = 8;
    a->grad_accum = a->logging_steps = 1;
    a->train_seed = 42;
    a->save_steps = 500;
    a->lr = 5e-5;
    a->beta1 = a->beta2 = a->eps = a->momentum = -1;
    a->epochs = 3;
    a->max_grad_norm = 1;
}

void args_free(args *a) {
    free(a->images.items);
    free(a->answers.items);
    free(a->loras.items);
    free(a->train_data.items);
    free(a->words.items);
    memset(a, 0, sizeof *a);
}

static const option *option_find(const command *cmd, const char *name, size_t n_name) {
    for (size_t i = 0; i < option_count; i++) {
        const option *o = &option_table[i];
        if ((o->commands & cmd->bits) && strlen(o->name) == n_name && !memcmp(o->name, name, n_name)) return o;
    }
    return NULL;
}

static const option *option_find_letter(const command *cmd, char letter) {
    for (size_t i = 0; i < option_count; i++) {
        const option *o = &option_table[i];
        if ((o->commands & cmd->bits) && o->letter == letter) return o;
    }
    return NULL;
}

static bool choice_has(const char *words, const char *value) {
    size_t n = strlen(value);
    for (const char *p = words; n && p; p = strchr(p, '|')) {
        p += *p == '|';
        if (!strncmp(p, value, n) && (p[n] == '|' || p[n] == 0)) return true;
    }
    return false;
}

static bool natural_parse(const char *text, uint64_t *out) {
    if (*text < '0' || *text > '9') return false; /* strtoull would take blanks and signs */
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    *out = value;
    return !errno && !*end;
}

/* "2GB", "500MiB" or bytes. */
static bool size_parse(const char *text, uint64_t *out) {
    static const struct {
        const char *unit;
        double bytes;
    } k_units[] = {{"", 1}, {"B", 1}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}, {"KiB", 0x1p10}, {"MiB", 0x1p20}, {"GiB", 0x1p30}, {"TiB", 0x1p40}};
    char *end;
    if (*text < '0' || *text > '9') return false; /* strtod would take signs, blanks and names */
    double number = strtod(text, &end);
    for (size_t i = 0; i < sizeof k_units / sizeof k_units[0]; i++) {
        if (strcmp(end, k_units[i].unit) != 0) continue;
        double bytes = number * k_units[i].bytes;
        *out = bytes < 0x1p63 ? (uint64_t)bytes : 0;
        return *out > 0;
    }
    return false;
}

static bool real_parse(const char *text, double *out) {
    char *end;
    *out = strtod(text, &end);
    return *text && !*end && isfinite(*out);
}

static bool option_set(args *a, const option *o, const char *value, char *message, size_t n_message) {
    void *field = (char *)a + o->offset;
    switch (o->kind) {
    case OPTION_FLAG: *(bool *)field = true; return true;
    case OPTION_TEXT:
    case OPTION_MAYBE: *(const char **)field = value; return true;
    case OPTION_LIST: {
        text_list *list = field;
        list->items[list->n++] = value;
        return true;
    }
    case OPTION_CHOICE:
        *(const char **)field = value;
        if (choice_has(o->meta, value)) return true;
        (void)snprintf(message, n_message, "--%s: \"%s\": %s expected", o->name, value, o->meta);
        return false;
    case OPTION_NATURAL:
        if (natural_parse(value, field) && (double)*(uint64_t *)field >= o->low && (double)*(uint64_t *)field <= o->high) return true;
        (void)snprintf(message, n_message, "--%s: \"%s\": a whole number from %.0f to %.0f expected", o->name, value, o->low, o->high);
        return false;
    case OPTION_SIZE:
        if (size_parse(value, field)) return true;
        (void)snprintf(message, n_message, "--%s: \"%s\": a size such as 2GB or 500MiB expected", o->name, value);
        return false;
    case OPTION_REAL:
        if (real_parse(value, field) && *(double *)field >= o->low && *(double *)field <= o->high) return true;
        (void)snprintf(message, n_message, "--%s: \"%s\": a number from %g to %g expected", o->name, value, o->low, o->high);
        return false;
    }
    return false;
}

static bool unknown_option(const command *cmd, const char *name, size_t n_name, char *message, size_t n_message) {
    char typed[NAME_MAX_LENGTH + 1];
    (void)snprintf(typed, sizeof typed, "%.*s", (int)(n_name > NAME_MAX_LENGTH ? NAME_MAX_LENGTH : n_name), name);
    const char *best = NULL;
    size_t distance = 3;
    for (size_t i = 0; i < option_count; i++) {
        if (option_table[i].commands & cmd->bits) nearest_update(typed, option_table[i].name, &best, &distance);
    }
    if (best) {
        (void)snprintf(message, n_message, "%s: --%s: unknown option: did you mean --%s?", cmd->name, typed, best);
    } else {
        (void)snprintf(message, n_message, "%s: --%s: unknown option: \"paligemma %s --help\" lists them", cmd->name, typed, cmd->name);
    }
    return false;
}

const text_list *args_list(const args *a, const command *cmd, const char *name) {
    const option *o = option_find(cmd, name, strlen(name));
    return o && o->kind == OPTION_LIST ? (const void *)((const char *)a + o->offset) : NULL;
}

bool args_parse(args *a, const command *cmd, int argc, char **argv, char *message, size_t n_message) {
    a->images.items = calloc((size_t)argc, sizeof *a->images.items);
    a->answers.items = calloc((size_t)argc, sizeof *a->answers.items);
    a->loras.items = calloc((size_t)argc, sizeof *a->loras.items);
    a->train_data.items = calloc((size_t)argc, sizeof *a->train_data.items);
    a->words.items = calloc((size_t)argc, sizeof *a->words.items);
    if (!a->images.items || !a->answers.items || !a->loras.items || !a->train_data.items || !a->words.items) {
        (void)snprintf(message, n_message, "%s: out of memory", cmd->name);
        return false;
    }
    bool words_only = false;
    for (int i = 1; i < argc; i++) {
        const char *arg = argv[i], *value = NULL;
        const option *o;
        if (words_only || arg[0] != '-' || !arg[1]) {
            if (cmd->bits & WITH_WORDS) {
                a->words.items[a->words.n++] = arg;
                continue;
            }
            (void)snprintf(message, n_message, "%s: \"%s\": unexpected argument: options only (\"paligemma %s --help\" lists them)",
                           cmd->name, arg, cmd->name);
            return false;
        }
        if (!strcmp(arg, "--")) {
            words_only = true;
            continue;
        }
        if (arg[1] == '-') {
            size_t n_name = strcspn(arg + 2, "=");
            if (arg[2 + n_name]) value = arg + 2 + n_name + 1;
            o = option_find(cmd, arg + 2, n_name);
            if (!o) return unknown_option(cmd, arg + 2, n_name, message, n_message);
        } else {
            if (arg[2]) value = arg + 2;
            o = option_find_letter(cmd, arg[1]);
            if (!o) {
                (void)snprintf(message, n_message, "%s: %.2s: unknown option: \"paligemma %s --help\" lists them", cmd->name, arg, cmd->name);
                return false;
            }
        }
        if (o->kind == OPTION_FLAG) {
            if (value) {
                (void)snprintf(message, n_message, "%s: --%s: \"%s\": takes no value", cmd->name, o->name, value);
                return false;
            }
        } else if (!value && o->kind == OPTION_MAYBE) {
            value = i + 1 < argc && argv[i + 1][0] != '-' ? argv[++i] : "";
        } else if (!value) {
            if (i + 1 >= argc) {
                (void)snprintf(message, n_message, "%s: --%s: %s expected", cmd->name, o->name, o->meta);
                return false;
            }
            value = argv[++i];
        }
        if (!option_set(a, o, value, message, n_message)) return false;
    }
    return true;
}
