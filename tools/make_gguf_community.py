#!/usr/bin/env python3
"""usage: make_gguf_community.py: writes tests/golden/gguf/community: a tiny PaliGemma as the community has them, written by the gguf
package: a Gemma text model in parts, with a tensor of each type that we read but do not hold, one of its norms in F16, and a
vision file with older names (mm.input_projection; ffn_down for the mlp's first matrix). types.safetensors has what the package makes
of the first rows of those tensors in f32.

Needs: pip install gguf numpy. Building and testing do not need it."""
import json
import pathlib
import struct
from importlib.metadata import version

import numpy as np
from gguf import GGML_QUANT_SIZES, GGUFReader, GGUFWriter, dequantize, quantize
from gguf import GGMLQuantizationType as Type

OUT = pathlib.Path(__file__).resolve().parent.parent / "tests/golden/gguf/community"
SEED = 20261127
D, F, N, K, H, W, VF, P, L = 32, 256, 2, 1, 16, 32, 64, 4, 4
ROWS = 4
TOKENS = [("<pad>", 3, 0), ("<eos>", 3, 0), ("<bos>", 3, 0), ("<unk>", 2, 0)]
TOKENS += [(f"<0x{b:02X}>", 6, 0) for b in range(256)] + [("▁cat", 1, -1), ("cat", 1, -2), ("ca", 1, -3), ("▁", 1, -4), ("c", 1, -5), ("a", 1, -6), ("t", 1, -7)]
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
    w.add_name("community")
    w.add_context_length(8192)
    w.add_embedding_length(D)
    w.add_block_count(L)
    w.add_feed_forward_length(F)
    w.add_head_count(N)
    w.add_head_count_kv(K)
    w.add_key_length(H)
    w.add_value_length(H)
    w.add_layer_norm_rms_eps(1e-6)
    w.add_file_type(1)
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
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def vision(rng):
    w = GGUFWriter(str(OUT / "mmproj-f16.gguf"), "clip")
    w.add_bool("clip.has_vision_encoder", True)
    w.add_string("clip.projector_type", "paligemma")
    w.add_bool("clip.use_gelu", True)
    for key, x in (("image_size", 8), ("patch_size", 4), ("embedding_length", W), ("block_count", 1), ("attention.head_count", 2),
                   ("feed_forward_length", VF), ("projection_dim", D)):
        w.add_uint32("clip.vision." + key, x)
    w.add_float32("clip.vision.attention.layer_norm_epsilon", 1e-6)
    w.add_array("clip.vision.image_mean", [0.5] * 3)
    w.add_array("clip.vision.image_std", [0.5] * 3)

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
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def main():
    rng = np.random.default_rng(SEED)
    OUT.mkdir(parents=True, exist_ok=True)
    text(rng)
    vision(rng)
    header, data = {"__metadata__": {"gguf": version("gguf"), "numpy": np.__version__, "seed": str(SEED)}}, b""
    for path in sorted(OUT.glob("text-*.gguf")):
        for t in GGUFReader(path).tensors:
            if t.tensor_type not in READ_ONLY:
                continue
            x = dequantize(t.data, t.tensor_type).astype("<f4")[:ROWS]
            header[t.name] = {"dtype": "F32", "shape": list(x.shape), "data_offsets": [len(data), len(data) + x.nbytes]}
            data += x.tobytes()
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    (OUT / "types.safetensors").write_bytes(struct.pack("<Q", len(head)) + head + data)


main()
