"""Writes a mask codec that anyone can read: each of the 16 codes is 2 x 2 bits of an 8 x 8 picture, which the decoder's
transposed convolutions enlarge smoothly to 64 x 64. It stands in for the trained codec in tests and in doc/. No encoder.

    python3 tools/make_toy_codec.py tests/golden/codec/toy.npz
    python3 tools/make_toy_codec.py --codes < PICTURE     # 8 lines of 8 characters, # inside: prints the <seg...> tokens

Needs numpy (made with 2.x); nothing is random. The layout is that of vae-oid.npz, narrower."""
import sys

import numpy as np


def codes(lines):
    rows = [line.rstrip("\n").ljust(8) for line in lines][:8]
    text = ""
    for y in range(4):
        for x in range(4):
            bits = [rows[2 * y + dy][2 * x + dx] == "#" for dy in range(2) for dx in range(2)]
            text += "<seg%03d>" % sum(1 << i for i, bit in enumerate(bits) if bit)
    return text


def codec():
    f = lambda a: np.asarray(a, np.float32)
    out = {"_vq_vae._embedding": f([[code >> bit & 1 for bit in range(4)] for code in range(128)])}
    out["decoder.0.weight"], out["decoder.0.bias"] = f(np.eye(4)[:, :, None, None]), f(np.zeros(4))
    for block in (2, 3):  # residual blocks that add nothing
        for i, (o, c, k) in zip((0, 2, 4), ((1, 4, 3), (1, 1, 3), (4, 1, 1))):
            out[f"decoder.{block}.net.{i}.weight"], out[f"decoder.{block}.net.{i}.bias"] = f(np.zeros((o, c, k, k))), f(np.zeros(o))
    bits = np.zeros((4, 1, 4, 4))  # channel 2 dy + dx becomes output 2 y + dy, 2 x + dx
    for dy in range(2):
        for dx in range(2):
            bits[2 * dy + dx, 0, 1 + dy, 1 + dx] = 1
    out["decoder.4.weight"], out["decoder.4.bias"] = f(bits), f([0])
    linear = np.outer([0.25, 0.75, 0.75, 0.25], [0.25, 0.75, 0.75, 0.25])[None, None]
    for i in (6, 8, 10):
        out[f"decoder.{i}.weight"], out[f"decoder.{i}.bias"] = f(linear), f([0])
    out["decoder.12.weight"], out["decoder.12.bias"] = f([[[[6]]]]), f([-3])  # steep, so that edges are not too soft
    return out


if sys.argv[1:] == ["--codes"]:
    print(codes(sys.stdin.readlines()))
else:
    np.savez_compressed(sys.argv[1], **codec())
