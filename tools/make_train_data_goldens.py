#!/usr/bin/env python3
"""Writes tests/golden/train: what the reference makes of training rows.

samples.jsonl   a row's pictures, prefix and suffix -> input ids, token types and labels of PaliGemmaProcessor, with the tokenizer of
                tests/golden/models/pg1-f32 and 16 image tokens a picture
polygons.txt    size, polygons -> COCO's string of the mask, by pycocotools

Run with PyTorch, Transformers, Pillow, pycocotools: python tools/make_train_data_goldens.py [OUT_DIR]
"""

import json
import random
import sys
from importlib.metadata import version
from pathlib import Path

import pycocotools.mask as coco
from PIL import Image
from transformers import PaliGemmaProcessor, PreTrainedTokenizerFast
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

SEED = 20264
ROOT = Path(__file__).parent.parent
OUT = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "tests/golden/train")
MADE_BY = f"transformers {version('transformers')}, pycocotools {version('pycocotools')}, seed {SEED}"

ROWS = [
    (1, "answer What is on the flower?", "bee"),
    (1, "caption en", ""),
    (1, "", "x"),
    (2, "detect cat ; dog", "<loc0170><loc0256><loc0682><loc0767> cat ; <loc0001><loc0002><loc0300><loc0400> dog"),
    (3, "segment cat", "<loc0000><loc0000><loc1023><loc1023><seg000><seg127>" + "<seg064>" * 14 + " cat"),
    (1, "ends in a newline\n", " begins with a blank"),
    (1, "two\n\n", "\n\nlines\n"),
    (1, "  blanks  ", "  blanks  "),
    (1, "was ist das? ç日本😀", "日本 é"),
    (1, "answer", "a" * 40),
]


def samples(out):
    fast = PreTrainedTokenizerFast(tokenizer_file=str(ROOT / "tests/golden/models/pg1-f32/tokenizer.json"), bos_token="<bos>", eos_token="<eos>",
                                   pad_token="<pad>", unk_token="<unk>")
    images = SiglipImageProcessorPil(size={"height": 28, "width": 28}, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    images.image_seq_length = 16
    processor = PaliGemmaProcessor(images, fast)
    for n_images, prefix, suffix in ROWS:
        x = processor(images=[[Image.new("RGB", (8, 8))] * n_images], text=["<image>" * n_images + prefix], suffix=[suffix], return_tensors="pt")
        row = dict(n_images=n_images, prefix=prefix, suffix=suffix, ids=x["input_ids"][0].tolist(), types=x["token_type_ids"][0].tolist(),
                   labels=x["labels"][0].tolist())
        out.write(json.dumps(row, ensure_ascii=False) + "\n")


def polygons():
    """Shapes of every kind that annotations have: whole, half and odd fractions, outside the picture, repeated points, several parts."""
    rng = random.Random(SEED)
    yield 20, 10, [[2, 2, 12, 2, 12, 8, 2, 8]]
    yield 20, 10, [[2.5, 2.5, 12.5, 2.5, 12.5, 8.5, 2.5, 8.5]]
    yield 20, 10, [[0, 0, 20, 0, 20, 10, 0, 10]]
    yield 20, 10, [[-5, -5, 30, -5, 30, 20, -5, 20]]
    yield 20, 10, [[-5, 3, 10, -4, 30, 5, 10, 14]]
    yield 9, 7, [[1, 1, 1, 1, 5, 1, 5, 1, 5, 5, 5, 5, 1, 5]]
    yield 9, 7, [[1, 1, 7, 5, 7, 1, 1, 5]]  # crosses itself
    yield 9, 7, [[3, 3, 3, 3, 3, 3]]  # a point
    yield 9, 7, [[1, 3, 8, 3, 4, 3]]  # a line
    yield 1, 1, [[0, 0, 1, 0, 1, 1, 0, 1]]
    yield 30, 30, [[2, 2, 12, 2, 12, 12, 2, 12], [8, 8, 20, 8, 20, 20, 8, 20], [25, 25, 28, 25, 28, 28]]
    for _ in range(40):
        w, h = rng.randint(1, 60), rng.randint(1, 60)
        parts = []
        for _ in range(rng.randint(1, 3)):
            spread = rng.choice([1.0, 1.0, 1.4])
            digits = rng.choice([0, 1, 2, 6])
            n = rng.randint(3, 12)
            points = [(round((rng.random() - 0.5) * spread * w + w / 2, digits), round((rng.random() - 0.5) * spread * h + h / 2, digits)) for _ in range(n)]
            if rng.random() < 0.3:
                points.insert(rng.randrange(n), rng.choice(points))
            parts.append([v for p in points for v in p])
        yield w, h, parts


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    with open(OUT / "samples.jsonl", "w") as f:
        f.write(json.dumps(dict(made_by=MADE_BY)) + "\n")
        samples(f)
    with open(OUT / "polygons.txt", "w") as f:
        f.write(f"# {MADE_BY}\n# width height number of polygons, points and coordinates of each, string\n")
        for w, h, parts in polygons():
            counts = coco.merge(coco.frPyObjects([[float(v) for v in p] for p in parts], h, w))["counts"].decode()
            f.write(" ".join([str(w), str(h), str(len(parts))] + [" ".join([str(len(p) // 2)] + [repr(float(v)) for v in p]) for p in parts] + [counts]) + "\n")


main()
