#!/usr/bin/env python3
"""usage: make_gguf_goldens.py: writes tests/golden/gguf: peer.gguf, a tiny PaliGemma 2 written by the gguf package with one tensor
at least of each type we read, as converters write them (no keys of ours, alignment 32, norms with 1 added, 16-bit where rows are
no whole blocks), and peer.safetensors, what that package makes of its tensors in f32.

Needs: pip install gguf numpy. Building and testing do not need it."""
import json
import pathlib
import struct

import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf import GGUFReader, GGUFWriter, dequantize, quantize
from importlib.metadata import version

OUT = pathlib.Path(__file__).resolve().parent.parent / "tests/golden/gguf"
SEED = 20261126
D, F, N, K, H, W, VF, P = 32, 256, 2, 1, 16, 32, 43, 4
TOKENS = [("<pad>", 3, 0), ("<eos>", 3, 0), ("<bos>", 3, 0), ("<unk>", 2, 0)]
TOKENS += [(f"<0x{b:02X}>", 6, 0) for b in range(256)]
TOKENS += [("▁cat", 1, -1), ("cat", 1, -2), ("ca", 1, -3), ("▁", 1, -10), ("c", 1, -11), ("a", 1, -12), ("t", 1, -13), ("\n", 1, -14), ("  ", 4, 0)]
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
    w.add_name("peer")
    w.add_context_length(8192)
    w.add_embedding_length(D)
    w.add_block_count(1)
    w.add_feed_forward_length(F)
    w.add_head_count(N)
    w.add_head_count_kv(K)
    w.add_key_length(H)
    w.add_value_length(H)
    w.add_layer_norm_rms_eps(1e-6)
    w.add_attn_logit_softcapping(50.0)
    w.add_final_logit_softcapping(30.0)
    w.add_sliding_window(4096)
    w.add_bool("clip.has_vision_encoder", True)
    w.add_string("clip.projector_type", "linear")
    w.add_bool("clip.use_gelu", True)
    for key, x in (("image_size", 8), ("patch_size", 4), ("embedding_length", W), ("block_count", 1), ("attention.head_count", 2),
                   ("feed_forward_length", VF), ("projection_dim", D)):
        w.add_uint32("clip.vision." + key, x)
    w.add_float32("clip.vision.attention.layer_norm_epsilon", 1e-6)
    w.add_array("clip.vision.image_mean", [0.5] * 3)
    w.add_array("clip.vision.image_std", [0.5] * 3)
    w.add_tokenizer_model("llama")
    w.add_tokenizer_pre("default")
    w.add_token_list([t[0].encode() for t in TOKENS])
    w.add_token_scores([float(t[2]) for t in TOKENS])
    w.add_token_types([t[1] for t in TOKENS])
    w.add_pad_token_id(0)
    w.add_eos_token_id(1)
    w.add_bos_token_id(2)
    w.add_unk_token_id(3)
    w.add_add_space_prefix(False)

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
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()

    header, data = {"__metadata__": {"gguf": version("gguf"), "numpy": np.__version__, "seed": str(SEED)}}, b""
    for t in GGUFReader(OUT / "peer.gguf").tensors:
        x = dequantize(t.data, t.tensor_type).astype(np.float32) if t.tensor_type not in (Type.F32, Type.F16) else t.data.astype(np.float32)
        raw = x.astype("<f4").tobytes()
        header[t.name] = {"dtype": "F32", "shape": [int(n) for n in reversed(t.shape)], "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    (OUT / "peer.safetensors").write_bytes(struct.pack("<Q", len(head)) + head + data)


main()
