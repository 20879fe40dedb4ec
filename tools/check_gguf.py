#!/usr/bin/env python3
"""usage: check_gguf.py FILE.gguf [MODEL_DIR]: reads a file of `paligemma quantize` with the gguf package and, given the directory
it was made from, compares every tensor.

Needs: pip install gguf numpy. Not part of the tests. Values must be those of the checkpoint: exactly where the type holds them,
within half a step of the block for Q8_0, within a fifth of the largest weight of the block for the 4-bit types; Gemma's norms
have 1 added. Rows of quantized tensors may be longer than the checkpoint's, up to a whole block, then ending in zeros (Q4_1 and
Q4_K: in what they make of zeros)."""
import json
import pathlib
import re
import sys

import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf import GGUFReader, dequantize

TOP = {
    "token_embd.weight": "language_model.embed_tokens.weight",
    "output_norm.weight": "language_model.norm.weight",
    "output.weight": "lm_head.weight",
    "v.patch_embd": "vision_tower.embeddings.patch_embedding",
    "v.position_embd.weight": "vision_tower.embeddings.position_embedding.weight",
    "v.post_ln": "vision_tower.post_layernorm",
    "mm.0": "multi_modal_projector.linear",
}
VISION = {"ln1": "layer_norm1", "ln2": "layer_norm2", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
          "attn_out": "self_attn.out_proj", "ffn_up": "mlp.fc1", "ffn_down": "mlp.fc2"}
TEXT = {"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
        "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj", "attn_norm": "input_layernorm"}
NORMS = {"gemma": {"ffn_norm": "post_attention_layernorm"},
         "gemma2": {"post_attention_norm": "post_attention_layernorm", "ffn_norm": "pre_feedforward_layernorm", "post_ffw_norm": "post_feedforward_layernorm"}}


def hf_name(name, arch):
    for ours, theirs in TOP.items():
        if name == ours or name.startswith(ours + "."):
            return theirs + name[len(ours):]
    vision, layer, part, rest = re.fullmatch(r"(v\.)?blk\.(\d+)\.(\w+)\.(\w+)", name).groups()
    if vision:
        return f"vision_tower.encoder.layers.{layer}.{VISION[part]}.{rest}"
    return f"language_model.layers.{layer}.{(TEXT | NORMS[arch])[part]}.{rest}"


def canonical(name):
    name = re.sub(r"^model\.", "", name)
    if name.startswith("language_model."):
        name = name.removeprefix("language_model.").removeprefix("model.")
        return name if name.startswith("lm_head.") else "language_model." + name
    return name.replace("vision_tower.vision_model.", "vision_tower.")


def read_safetensors(path):
    raw = path.read_bytes()
    n = int.from_bytes(raw[:8], "little")
    for name, entry in json.loads(raw[8:8 + n]).items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        data = raw[8 + n + begin:8 + n + end]
        if entry["dtype"] == "BF16":
            values = (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
        else:
            values = np.frombuffer(data, {"F32": "<f4", "F16": "<f2"}[entry["dtype"]]).astype(np.float32)
        yield canonical(name), values.reshape(entry["shape"])


def compare(tensor, got, want, name):
    if tensor.tensor_type in (Type.F32, Type.F16, Type.BF16):
        if tensor.tensor_type == Type.F16:
            want = want.astype(np.float16).astype(np.float32)
        if tensor.tensor_type == Type.BF16:
            bits = want.view(np.uint32)
            want = ((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000).view(np.float32)
        assert got.shape == want.shape, (name, got.shape, want.shape)
        assert np.array_equal(got, want), name
        return 0.0
    rows, cols = want.shape
    assert got.shape[0] == rows and got.shape[1] >= cols, (name, got.shape, want.shape)
    block = 256 if tensor.tensor_type == Type.Q4_K else 32
    padded = np.zeros_like(got)
    padded[:, :cols] = want
    if tensor.tensor_type in (Type.Q8_0, Type.Q4_0):
        assert not got[:, cols:].any(), f"{name}: not zero behind column {cols}"
    blocks = np.abs(padded).reshape(rows, -1, block).max(axis=2, keepdims=True)
    error = np.abs(got - padded).reshape(rows, -1, block)
    # A step of Q8_0 is max / 127 (and its f16 rounding 2^-11 of the value); of 4 bits at most 2 max / 15, ends are clipped to 0.8.
    limit = blocks * (0.5 / 127 + 2.0**-10 if tensor.tensor_type == Type.Q8_0 else 0.3) + 1e-7
    assert (error <= limit).all(), (name, float((error / np.maximum(blocks, 1e-30)).max()))
    return float(np.sqrt(np.mean((got - padded) ** 2) / np.mean(padded**2)))


def main():
    reader = GGUFReader(sys.argv[1])
    fields = {f.name: f for f in reader.fields.values()}
    arch = fields["general.architecture"].contents()
    for name, field in fields.items():
        value = field.contents()
        print(f"{name} = {value if not isinstance(value, list) or len(value) < 30 else f'[{len(value)} values]'}")
    n = len(fields["tokenizer.ggml.tokens"].contents())
    assert n == len(fields["tokenizer.ggml.scores"].contents()) == len(fields["tokenizer.ggml.token_type"].contents())
    weights = {}
    for path in sorted(pathlib.Path(sys.argv[2]).glob("model*.safetensors")) if len(sys.argv) > 2 else []:
        weights.update(read_safetensors(path))
    errors, seen = {}, set()
    for tensor in reader.tensors:
        got = dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        if tensor.tensor_type in (Type.F32, Type.F16):
            got = tensor.data.astype(np.float32)
        assert np.isfinite(got).all(), tensor.name
        if not weights:
            continue
        name = hf_name(tensor.name.replace(".exact", ".weight"), arch)
        want = weights[name]
        seen.add(name)
        if "norm" in tensor.name and not tensor.name.startswith("v.") and not tensor.name.endswith(".exact"):
            want = np.float32(1) + want
        errors.setdefault(tensor.tensor_type.name, []).append(compare(tensor, got, want, tensor.name))
    missing = {k for k in weights if k not in seen and k != "lm_head.weight"}
    assert not missing, missing
    print(f"{len(reader.tensors)} tensors read")
    for kind, list_of in errors.items():
        print(f"{kind}: {len(list_of)} tensors, relative error {np.mean(list_of):.3g} on average, {max(list_of):.3g} at most")


main()
