#!/usr/bin/env python3
"""usage: make_gguf_community.py: writes tests/golden/gguf/community: a tiny PaliGemma as the community has them, written by the gguf
package: a Gemma text model in parts, with a tensor of each type that we read but do not hold, one of its norms in F16, and a
vision file with older names (mm.input_projection; ffn_down for the mlp's first matrix). types.safetensors has what the package makes
of the first rows of those tensors in f32.

Needs: pip install gguf numpy. Building and testing do not need it."""
import pathlib

import numpy as np
from gguf import GGML_QUANT_SIZES, GGUFReader, GGUFWriter, dequantize, quantize
from gguf import GGMLQuantizationType as Type

from gguf_golden import BYTES_AND_SPECIALS, add_text, add_tokens, add_tower, finish, write_safetensors

OUT = pathlib.Path(__file__).resolve().parent.parent / "tests/golden/gguf/community"
SEED = 20261127
D, F, N, K, H, W, VF, P, L = 32, 256, 2, 1, 16, 32, 64, 4, 4
ROWS = 4
TOKENS = BYTES_AND_SPECIALS + [("▁cat", 1, -1), ("cat", 1, -2), ("ca", 1, -3), ("▁", 1, -4), ("c", 1, -5), ("a", 1, -6), ("t", 1, -7)]
TOKENS += [("\n", 1, -8), ("<image>", 3, 0), ("<unused0>", 5, 0)]
READ_ONLY = (Type.Q5_0, Type.Q5_1, Type.Q2_K, Type.Q3_K, Type.Q5_K, Type.Q6_K)
HALVES = {Type.Q5_0: (0, 1), Type.Q5_1: (0, 2), Type.Q2_K: (80, 2), Type.Q3_K: (108, 1), Type.Q5_K: (0, 2), Type.Q6_K: (208, 1)}


def random_blocks(rng, kind, rows, cols):
    """The package cannot quantize the K types: random blocks, which hold something for every bit; only the scales are reasonable."""
    block, size = GGML_QUANT_SIZES[kind]
    blocks = rng.integers(0, 256, (rows * cols // block, size), dtype=np.uint8)
    at, n = HALVES[kind]
    blocks[:, at:at + 2 * n] = rng.uniform(-0.002, 0.004, (len(blocks), n)).astype("<f2").view(np.uint8)
    return blocks.reshape(rows, -1)


def text(rng):
    w = GGUFWriter(str(OUT / "text.gguf"), "gemma", split_max_tensors=16)
    add_text(w, "community", D, L, F, N, K, H)
    w.add_file_type(1)
    add_tokens(w, TOKENS)
    w.add_add_bos_token(True)

    def add(name, kind, *shape):
        if kind in READ_ONLY:
            data = random_blocks(rng, kind, *shape)
        else:
            data = quantize(rng.normal(1 if "norm" in name else 0, 0.3, shape).astype(np.float32), kind)
        w.add_tensor(name, data, raw_dtype=kind)

    add("token_embd.weight", Type.Q8_0, len(TOKENS), D)
    for i, down in enumerate((Type.Q2_K, Type.Q3_K, Type.Q5_K, Type.Q6_K)):
        for name, kind, *shape in (("attn_q", Type.Q5_0, N * H, D), ("attn_k", Type.Q5_1, K * H, D), ("attn_v", Type.Q4_0, K * H, D), ("attn_output", Type.Q8_0, D, N * H),
                                   ("ffn_gate", Type.Q4_0, F, D), ("ffn_up", Type.Q4_0, F, D), ("ffn_down", down, D, F),
                                   ("attn_norm", Type.F16 if i == 1 else Type.F32, D), ("ffn_norm", Type.F32, D)):
            add(f"blk.{i}.{name}.weight", kind, *shape)
    add("output_norm.weight", Type.F32, D)
    finish(w)


def vision(rng):
    w = GGUFWriter(str(OUT / "mmproj-f16.gguf"), "clip")
    add_tower(w, "paligemma", W, VF, D)

    def add(name, kind, *shape):
        w.add_tensor(name, quantize(rng.normal(0, 0.3, shape).astype(np.float32), kind), raw_dtype=kind)

    add("v.patch_embd.weight", Type.F16, W, 3, 4, 4)
    add("v.patch_embd.bias", Type.F32, W)
    add("v.position_embd.weight", Type.F16, P, W)
    for name, *shape in (("attn_q", W, W), ("attn_k", W, W), ("attn_v", W, W), ("attn_out", W, W), ("ffn_down", VF, W), ("ffn_up", W, VF)):
        add(f"v.blk.0.{name}.weight", Type.F16, *shape)
        add(f"v.blk.0.{name}.bias", Type.F32, shape[0])
    for name in ("v.blk.0.ln1", "v.blk.0.ln2", "v.post_ln"):
        add(name + ".weight", Type.F32, W)
        add(name + ".bias", Type.F32, W)
    add("mm.input_projection.weight", Type.F16, D, W)
    add("mm.input_projection.bias", Type.F32, D)
    finish(w)


def main():
    rng = np.random.default_rng(SEED)
    OUT.mkdir(parents=True, exist_ok=True)
    text(rng)
    vision(rng)
    tensors = [t for path in sorted(OUT.glob("text-*.gguf")) for t in GGUFReader(path).tensors if t.tensor_type in READ_ONLY]
    write_safetensors(OUT / "types.safetensors", SEED, [(t.name, dequantize(t.data, t.tensor_type)[:ROWS]) for t in tensors])


main()
