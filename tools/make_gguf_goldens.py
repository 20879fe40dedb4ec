#!/usr/bin/env python3
"""usage: make_gguf_goldens.py: writes tests/golden/gguf: peer.gguf, a tiny PaliGemma 2 written by the gguf package with one tensor
at least of each type we read, as converters write them (no keys of ours, alignment 32, norms with 1 added, 16-bit where rows are
no whole blocks), and peer.safetensors, what that package makes of its tensors in f32.

Needs: pip install gguf numpy. Building and testing do not need it."""
import pathlib

import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf import GGUFReader, GGUFWriter, dequantize, quantize

from gguf_golden import BYTES_AND_SPECIALS, add_text, add_tokens, add_tower, finish, write_safetensors

OUT = pathlib.Path(__file__).resolve().parent.parent / "tests/golden/gguf"
SEED = 20261126
D, F, N, K, H, W, VF, P = 32, 256, 2, 1, 16, 32, 43, 4
TOKENS = BYTES_AND_SPECIALS + [("▁cat", 1, -1), ("cat", 1, -2), ("ca", 1, -3), ("▁", 1, -10), ("c", 1, -11), ("a", 1, -12), ("t", 1, -13), ("\n", 1, -14), ("  ", 4, 0)]
TOKENS += [("<image>", 3, 0)] + [(f"<loc{i:04}>", 4, 0) for i in range(4)] + [("<seg000>", 4, 0)]
VOCAB = len(TOKENS)


def q4_k(rng, rows, cols):
    """The package cannot quantize this type: random blocks, which hold something for every bit."""
    n = rows * cols // 256
    blocks = rng.integers(0, 256, (n, 144), dtype=np.uint8)
    blocks[:, 0:4] = rng.uniform(0.001, 0.01, (n, 2)).astype("<f2").view(np.uint8)
    return blocks.reshape(rows, -1)


def main():
    rng = np.random.default_rng(SEED)
    OUT.mkdir(exist_ok=True)
    w = GGUFWriter(str(OUT / "peer.gguf"), "gemma2")
    add_text(w, "peer", D, 1, F, N, K, H)
    w.add_attn_logit_softcapping(50.0)
    w.add_final_logit_softcapping(30.0)
    w.add_sliding_window(4096)
    add_tower(w, "linear", W, VF, D)
    add_tokens(w, TOKENS)

    def add(name, kind, *shape):
        x = rng.normal(0, 0.3, shape).astype(np.float32)
        if "norm" in name:
            x += 1
        data = q4_k(rng, *shape) if kind == Type.Q4_K else quantize(x, kind)
        w.add_tensor(name, data, raw_dtype=kind)

    add("token_embd.weight", Type.Q8_0, VOCAB, D)
    for name, kind, *shape in (("attn_q", Type.Q4_0, N * H, D), ("attn_k", Type.Q4_1, K * H, D), ("attn_v", Type.F16, K * H, D), ("attn_output", Type.BF16, D, N * H),
                               ("ffn_gate", Type.Q8_0, F, D), ("ffn_up", Type.Q4_1, F, D), ("ffn_down", Type.Q4_K, D, F),
                               ("attn_norm", Type.F32, D), ("post_attention_norm", Type.F32, D), ("ffn_norm", Type.F32, D), ("post_ffw_norm", Type.F32, D)):
        add(f"blk.0.{name}.weight", kind, *shape)
    add("output_norm.weight", Type.F32, D)
    add("v.patch_embd.weight", Type.F16, W, 3, 4, 4)
    add("v.patch_embd.bias", Type.F32, W)
    add("v.position_embd.weight", Type.F16, P, W)
    for name, kind, *shape in (("attn_q", Type.Q8_0, W, W), ("attn_k", Type.Q4_0, W, W), ("attn_v", Type.F16, W, W), ("attn_out", Type.F32, W, W),
                               ("ffn_up", Type.Q8_0, VF, W), ("ffn_down", Type.F16, W, VF)):
        add(f"v.blk.0.{name}.weight", kind, *shape)
        add(f"v.blk.0.{name}.bias", Type.F32, shape[0])
    for name in ("v.blk.0.ln1", "v.blk.0.ln2", "v.post_ln"):
        add(name + ".weight", Type.F32, W)
        add(name + ".bias", Type.F32, W)
    add("mm.0.weight", Type.BF16, D, W)
    add("mm.0.bias", Type.F32, D)
    finish(w)

    def decoded(t):
        return t.data if t.tensor_type in (Type.F32, Type.F16) else dequantize(t.data, t.tensor_type)

    tensors = GGUFReader(OUT / "peer.gguf").tensors
    write_safetensors(OUT / "peer.safetensors", SEED, [(t.name, decoded(t).reshape([int(n) for n in reversed(t.shape)])) for t in tensors])


main()
