#!/usr/bin/env python3
"""Writes tests/golden/codec: mask codecs with random weights and what a PyTorch implementation of the same layers makes of
them in float64, masks pasted into pictures by Pillow, masks cropped by Pillow, run-length strings of pycocotools.

narrow.npz, narrow-deflated.npz, narrow.safetensors   one codec of odd widths in three files; one kernel in Fortran order
golden.safetensors   NAME.codes -> NAME.masks; NAME.crops -> NAME.z, NAME.nearest, for the narrow codec, for one of the
                     published widths whose weights the test makes by the formula of weight() below, and for the trained one
                     in models/tiny
paste.txt            picture size, location indices, rule, mask, FNV-1a 64 of the full-size mask ("none": no mask)
crop.txt             picture size, box in pixels of the double that lies on it, FNV-1a 64 of the 64 x 64 floats
rle.txt              size, kind of mask, threshold, string, or its FNV-1a 64 where it is long

Run with PyTorch, numpy, Pillow 13, pycocotools, safetensors: python tools/make_codec_goldens.py [OUT_DIR]
"""

import sys
from pathlib import Path

import numpy as np
import PIL
import pycocotools
import torch
import torch.nn.functional as F
from importlib.metadata import version
from PIL import Image
from pycocotools import mask as coco
from safetensors.numpy import save_file

SEED = 20263
OUT = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent.parent / "tests/golden/codec")
MADE_BY = f"torch {torch.__version__}, numpy {np.__version__}, Pillow {PIL.__version__}, pycocotools {version('pycocotools')}, seed {SEED}"

# ---- Weights

PUBLISHED = dict(code=512, decoder=128, blocks=[(128, 128), (128, 128)], up=[128, 64, 32, 16], down=[16, 32, 64, 128])
NARROW = dict(code=12, decoder=10, blocks=[(9, 7), (5, 11)], up=[8, 7, 6, 5], down=[3, 5, 7, 9])


def shapes(w):
    """(name, shape, inputs of one output) in the order of the formula; a shape of None inputs is a bias or the codebook."""
    out = [("_vq_vae._embedding", (128, w["code"]), None)]

    def conv(name, n_in, n_out, kernel, transposed=False):
        shape = (n_in, n_out, kernel, kernel) if transposed else (n_out, n_in, kernel, kernel)
        out.append((name + ".weight", shape, n_in * (4 if transposed else kernel * kernel)))
        out.append((name + ".bias", (n_out,), None))
        return n_out

    def blocks(names, width):
        for name, (a, b) in zip(names, w["blocks"]):
            conv(name + ".net.0", width, a, 3)
            conv(name + ".net.2", a, b, 3)
            conv(name + ".net.4", b, width, 1)

    width = conv("decoder.0", w["code"], w["decoder"], 1)
    blocks(["decoder.2", "decoder.3"], width)
    for i, up in enumerate(w["up"]):
        width = conv(f"decoder.{4 + 2 * i}", width, up, 4, True)
    conv("decoder.12", width, 1, 1)
    width = 1
    for i, down in enumerate(w["down"]):
        width = conv(f"encoder.{2 * i}", width, down, 4)
    blocks(["encoder.8", "encoder.9"], width)
    conv("encoder.10", width, w["code"], 1)
    return out


def weight(number, shape, inputs):
    """Element i of tensor `number`: a hash of both, uniform within +-sqrt(4 / inputs), or +-0.25 for biases, +-1 for the codebook."""
    h = np.arange(np.prod(shape), dtype=np.uint32) * np.uint32(2654435761) + np.uint32(number * 40503 + SEED)
    h ^= h >> np.uint32(16)
    h *= np.uint32(0x85EBCA6B)
    h ^= h >> np.uint32(13)
    h *= np.uint32(0xC2B2AE35)
    h ^= h >> np.uint32(16)
    bound = np.sqrt(4.0 / inputs) if inputs else 1.0 if len(shape) == 2 else 0.25
    return ((h.astype(np.float64) / 4294967296.0 * 2.0 - 1.0) * bound).astype(np.float32).reshape(shape)


def weights(w):
    return {name: weight(n, shape, inputs) for n, (name, shape, inputs) in enumerate(shapes(w))}


# ---- The layers, in PyTorch


class Codec:
    def __init__(self, tensors):
        self.t = {k: torch.from_numpy(np.ascontiguousarray(v)).double() for k, v in tensors.items()}

    def conv(self, x, name, **options):
        return F.conv2d(x, self.t[name + ".weight"], self.t[name + ".bias"], **options)

    def block(self, x, name):
        y = F.relu(self.conv(x, name + ".net.0", padding=1))
        y = F.relu(self.conv(y, name + ".net.2", padding=1))
        return x + self.conv(y, name + ".net.4")

    def decode(self, codes):
        x = self.t["_vq_vae._embedding"][codes].reshape(1, 4, 4, -1).permute(0, 3, 1, 2)
        x = F.relu(self.conv(x, "decoder.0"))
        x = self.block(self.block(x, "decoder.2"), "decoder.3")
        for i in (4, 6, 8, 10):
            x = F.relu(F.conv_transpose2d(x, self.t[f"decoder.{i}.weight"], self.t[f"decoder.{i}.bias"], stride=2, padding=1))
        return self.conv(x, "decoder.12")[0, 0]

    def encode(self, mask):
        x = mask[None, None].double()
        for i in (0, 2, 4, 6):  # SAME: of kernel 4 and stride 2 on an even side, 1 before and 1 after
            x = F.relu(self.conv(F.pad(x, (1, 1, 1, 1)), f"encoder.{i}", stride=2))
        x = self.block(self.block(x, "encoder.8"), "encoder.9")
        z = self.conv(x, "encoder.10")[0].permute(1, 2, 0).reshape(16, -1)
        book = self.t["_vq_vae._embedding"]
        distance = (z * z).sum(1, keepdim=True) + (book * book).sum(1) - 2 * z @ book.T
        two = distance.topk(2, largest=False).values
        assert ((two[:, 1] - two[:, 0]) / two[:, 0] > 1e-4).all(), "a nearest row that rounding could change"
        return z, distance.argmin(1)


def tensors_to_npz(path, tensors, save):
    arrays = dict(tensors)
    arrays["decoder.4.weight"] = np.asfortranarray(arrays["decoder.4.weight"])
    save(path, **arrays)


# ---- Masks by formula, exact in f32 and the same in the test


def formula_mask(kind):
    y, x = np.mgrid[0:64, 0:64]
    if kind == 0:  # noise, beyond -1..1 on both sides
        return ((x * x + 3 * y * y + 7 * x * y) % 512 - 256).astype(np.float32) / np.float32(200)
    return np.float32(1) - ((x - 30) ** 2 + (y - 34) ** 2).astype(np.float32) / np.float32(400)  # a disc


def formula_picture(width, height, kind):
    y, x = np.mgrid[0:height, 0:width]
    if kind == 0:  # a disc that touches the sides
        return np.where((2 * x - width) ** 2 * height * height + (2 * y - height) ** 2 * width * width < width * width * height * height, 255, 0).astype(np.uint8)
    if kind == 1:
        return ((x * 7 + y * 13 + x * y) % 256).astype(np.uint8)
    if kind == 2:  # a checkerboard: the most runs there can be
        return ((x + y) % 2 * 255).astype(np.uint8)
    return np.full((height, width), 0 if kind == 3 else 255, np.uint8)


def fnv(data):
    h = 0xCBF29CE484222325
    for b in bytes(data):
        h = ((h ^ b) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return f"{h:016x}"


def paste(mask, loc, width, height, rule):
    if rule == "demo":
        y0, x0, y1, x1 = (round(i / 1024 * side) for i, side in zip(loc, (height, width, height, width)))
        part = Image.fromarray((np.clip(mask * 0.5 + 0.5, 0, 1) * 255).astype("uint8"))
    else:
        y0, x0, y1, x1 = (int(i / 1023 * side) for i, side in zip(loc, (height, width, height, width)))
        part = Image.fromarray(mask)
    if y1 <= y0 or x1 <= x0:
        return None
    if rule == "demo":
        part = np.array(part.resize((x1 - x0, y1 - y0)))
    else:
        part = np.where(np.array(part.resize((x1 - x0, y1 - y0), Image.Resampling.BILINEAR)) > 0, 255, 0).astype(np.uint8)
    whole = np.zeros((height, width), np.uint8)
    whole[y0:y1, x0:x1] = part
    return whole


PASTES = [
    (640, 480, (0, 0, 1023, 1023)),
    (640, 480, (100, 200, 700, 900)),
    (480, 640, (333, 111, 777, 444)),
    (64, 64, (0, 0, 1023, 1023)),  # the evaluator's box is 64 x 64, the demo's too: no resizing at all
    (1024, 1024, (10, 20, 74, 84)),  # 64 x 64 inside
    (1024, 768, (0, 0, 2, 1023)),  # rows: 2 of 768
    (1024, 768, (500, 0, 501, 1023)),  # 1 row high
    (1024, 768, (0, 700, 1023, 701)),  # 1 column wide
    (1024, 1024, (511, 511, 512, 512)),  # 1 pixel
    (100, 100, (5, 5, 5, 900)),  # no height
    (100, 100, (900, 5, 5, 900)),  # upside down
    (100, 100, (5, 900, 900, 5)),  # left to right
    (100, 100, (500, 500, 504, 504)),  # less than a pixel, and rounds to none
    (1, 1, (0, 0, 1023, 1023)),
    (1, 1, (0, 0, 512, 512)),  # 0.5 rounds to 0
    (3, 3, (0, 0, 512, 512)),  # 1.5 rounds to 2
    (5, 5, (0, 0, 512, 512)),  # 2.5 rounds to 2
    (7, 5, (512, 512, 1023, 1023)),  # 2.5 to 2, 3.5 to 4
    (2, 3, (341, 512, 682, 1023)),  # 341 / 1023 * 3 = 1 exactly
    (3, 1023, (1, 0, 1022, 341)),
    (31, 33, (31, 31, 992, 992)),
    (1000, 30, (10, 10, 1000, 1000)),
    (30, 1000, (10, 10, 1000, 1000)),
    (200, 150, (512, 0, 1023, 1023)),
    (60, 80, (171, 256, 682, 767)),
    (4000, 3000, (0, 0, 1023, 1023)),
    (3, 2000, (0, 0, 1023, 1023)),  # as wide as 3 pixels, much higher
    (2000, 3, (0, 0, 1023, 1023)),
    (17, 130, (100, 100, 900, 1000)),
]

CROPS = [
    (640, 480, 0, (0, 0, 480, 640)),
    (640, 480, 0, (100, 60, 321, 333)),
    (64, 64, 1, (0, 0, 64, 64)),
    (200, 300, 1, (10, 20, 74, 84)),
    (200, 300, 1, (0, 0, 300, 1)),
    (200, 300, 1, (299, 0, 300, 200)),
    (200, 300, 0, (7, 9, 8, 10)),
    (1500, 900, 0, (0, 0, 900, 1500)),
    (40, 1000, 1, (0, 0, 1000, 40)),
    (33, 31, 1, (1, 2, 31, 33)),
]

RLES = [
    (1, 1, 3, 128), (1, 1, 4, 128), (5, 3, 3, 128), (5, 3, 4, 128), (3, 5, 2, 128), (8, 8, 2, 255), (64, 2, 2, 1), (65, 3, 1, 128),
    (130, 70, 0, 128), (130, 70, 1, 128), (130, 70, 1, 1), (130, 70, 1, 255), (1, 500, 1, 200), (500, 1, 1, 200), (640, 480, 0, 128),
    (1000, 1000, 3, 128), (1000, 1000, 4, 128), (4000, 3000, 0, 128),
]


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(SEED)
    golden = {}
    trained = dict(np.load(Path(__file__).parent.parent / "models/tiny/vae-oid.npz"))
    for name, tensors, n in (("narrow", weights(NARROW), 3), ("published", weights(PUBLISHED), 2), ("tiny", trained, 2)):
        codec = Codec(tensors)
        codes = rng.integers(0, 128, (n, 16)).astype(np.int32)
        codes[0, :2] = (0, 127)
        crops = [formula_mask(1), formula_mask(0)][:n]
        encoded = [codec.encode(torch.from_numpy(m)) for m in crops]
        golden[name + ".codes"] = codes
        golden[name + ".masks"] = np.stack([codec.decode(torch.from_numpy(c).long()).numpy() for c in codes]).reshape(n, -1).astype(np.float32)
        golden[name + ".crops"] = np.stack(crops).reshape(len(crops), -1)
        golden[name + ".z"] = np.stack([z.numpy() for z, _ in encoded]).reshape(len(crops), -1).astype(np.float32)
        golden[name + ".nearest"] = np.stack([c.numpy() for _, c in encoded]).astype(np.int32)
        print(name, "masks within", np.abs(golden[name + ".masks"]).max(), "z within", np.abs(golden[name + ".z"]).max(), golden[name + ".nearest"].tolist())
        if name == "narrow":
            tensors_to_npz(OUT / "narrow.npz", tensors, np.savez)
            tensors_to_npz(OUT / "narrow-deflated.npz", tensors, np.savez_compressed)
            save_file(tensors, OUT / "narrow.safetensors")
    save_file(golden, OUT / "golden.safetensors", {"made_by": MADE_BY})

    with open(OUT / "paste.txt", "w") as f:
        print(f"# {MADE_BY}\n# width height y0 x0 y1 x1 rule mask hash", file=f)
        for width, height, loc in PASTES:
            for rule in ("demo", "evaluator"):
                for kind in (0, 1):
                    whole = paste(formula_mask(kind), loc, width, height, rule)
                    print(width, height, *loc, rule, kind, "none" if whole is None else fnv(whole.tobytes()), file=f)

    with open(OUT / "crop.txt", "w") as f:
        print(f"# {MADE_BY}\n# width height mask y0 x0 y1 x1 hash", file=f)
        for width, height, kind, (y0, x0, y1, x1) in CROPS:
            part = Image.fromarray(formula_picture(width, height, kind)[y0:y1, x0:x1].astype(np.float32))
            part = np.array(part.resize((64, 64), Image.Resampling.BILINEAR))
            part = np.float32(2) * (part / np.float32(255) - np.float32(0.5))
            print(width, height, kind, y0, x0, y1, x1, fnv(part.astype("<f4").tobytes()), file=f)

    with open(OUT / "rle.txt", "w") as f:
        print(f"# {MADE_BY}\n# width height mask threshold string-or-hash", file=f)
        for width, height, kind, threshold in RLES:
            binary = (formula_picture(width, height, kind) >= threshold).astype(np.uint8)
            text = coco.encode(np.asfortranarray(binary))["counts"]
            print(width, height, kind, threshold, text.decode() if len(text) < 300 else "#" + fnv(text), file=f)


main()
