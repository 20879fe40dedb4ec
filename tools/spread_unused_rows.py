#!/usr/bin/env python3
"""Gives the words that a model has never seen rows of their own again, in the table of embeddings.

  tools/spread_unused_rows.py MODEL_DIR OUT_DIR        (numpy, safetensors; seed 1)

In training from nothing every step pushes the rows of all words that are not the answer away from the answer, by the same amounts
where a word never occurs; after a million rows those of unseen words are one and the same long row (of the embedded model: cosines of
0.99998), and no adapter can ever tell one from another, for it leaves the table as it is. Here each gets a quarter of that row, so that
it stays as unlikely, and a random one as long as those of known words. Locations are left alone: those that are not multiples of 16
should not be said. Answers of the model before any fine-tuning do not change but by chance."""
import json
import os
import shutil
import sys

import numpy as np
from safetensors.numpy import load_file, save_file

SHARED, SAME = 0.25, 0.999


def main(source, out):
    shutil.copytree(source, out, ignore=shutil.ignore_patterns("checkpoint-*", "log.jsonl", "trainer_state.json"))
    path = os.path.join(out, "model.safetensors")
    tensors = load_file(path)
    name = next(n for n in tensors if n.endswith("embed_tokens.weight"))
    table = tensors[name]
    vocab = json.load(open(os.path.join(out, "tokenizer.json"), encoding="utf-8"))["model"]["vocab"]
    lengths = np.linalg.norm(table, axis=1)
    unit = table / np.maximum(lengths, 1e-9)[:, None]
    middle = np.median(unit, axis=0)
    same = unit @ (middle / np.linalg.norm(middle)) > SAME
    words = np.array(sorted(i for piece, i in vocab.items() if not piece.startswith("<loc") and same[i]))
    if len(words) == 0: # trained too little to have made them one
        print(f"0 of {len(table)} rows: none are one and the same")
        return
    shared, known = table[words].mean(0), np.median(lengths[~same])
    rows = np.random.default_rng(1).standard_normal((len(words), table.shape[1]))
    rows *= known / np.linalg.norm(rows, axis=1, keepdims=True)
    table[words] = (SHARED * shared + rows).astype(np.float32)
    save_file(tensors, path, {"format": "pt"})
    print(f"{len(words)} of {len(table)} rows: {SHARED} of a row of length {np.linalg.norm(shared):.2f}, and one of {known:.2f}")


if len(sys.argv) != 3:
    sys.exit(__doc__.split("\n\n")[1])
main(*sys.argv[1:])
