#!/usr/bin/env python3
"""A model at a higher resolution: the same weights, patches of the same size, and position embeddings between those that there were.

  tools/raise_resolution.py MODEL_DIR OUT_DIR IMAGE_SIZE        (numpy, safetensors)

The released models were trained at 224 pixels before 448 and 896 (Beyer et al. 2024, PaliGemma); so was the embedded one, at lower ones, and training goes
on from here. A position's embedding is the bilinear mean of the old ones around its middle."""
import json
import os
import shutil
import sys

import numpy as np
from safetensors.numpy import load_file, save_file


def between(old, new):
    """[new, old]: weights of `old` places on a side for each of `new`."""
    at = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
    return np.maximum(0, 1 - np.abs(at[:, None] - np.arange(old)))


def edit(path, change):
    value = json.load(open(path, encoding="utf-8"))
    change(value)
    with open(path, "w", encoding="utf-8") as f:
        f.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def main(source, out, size):
    patch = json.load(open(os.path.join(source, "config.json"), encoding="utf-8"))["vision_config"]["patch_size"]
    if size % patch:
        sys.exit(f"{size} is not a multiple of the patch, {patch}")
    side = size // patch
    shutil.copytree(source, out, ignore=shutil.ignore_patterns("checkpoint-*", "log.jsonl", "optimizer.safetensors", "train*_state.json"))

    def config(c):
        c["vision_config"]["image_size"] = size
        c["vision_config"]["num_image_tokens"] = c["text_config"]["num_image_tokens"] = side**2

    def preprocessor(c):
        c["size"] = {"height": size, "width": size}
        c["image_seq_length"] = side**2

    edit(os.path.join(out, "config.json"), config)
    edit(os.path.join(out, "preprocessor_config.json"), preprocessor)
    path = os.path.join(out, "model.safetensors")
    tensors = load_file(path)
    name = next(n for n in tensors if n.endswith("position_embedding.weight"))
    old = tensors[name]
    before = round(len(old)**0.5)
    weights = between(before, side)
    rows = np.einsum("yi,xj,ijw->yxw", weights, weights, old.reshape(before, before, -1))
    tensors[name] = rows.reshape(side**2, -1).astype(np.float32)
    save_file(tensors, path, {"format": "pt"})
    print(f"{out}: {before * before} patches of {patch}, now {side * side}")


if len(sys.argv) != 4:
    sys.exit(__doc__.split("\n\n")[1])
main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
