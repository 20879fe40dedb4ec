#!/usr/bin/env python3
"""Writes a random PaliGemma checkpoint of a released shape, as the hub lays it out, for timing full-size models.

    tools/make_random_checkpoint.py --shape 3b-224 --dtype bf16 -o DIR [--tokenizer DIR] [--seed 0] [--max-shard-gb 5]

Matrices are normal with deviation 0.02, biases and Gemma norms 0 (stored without the +1), LayerNorm gains 1. Each tensor
has a generator seeded by (seed, name), so that sharding and dtype change nothing; data is streamed, so memory stays at a
few hundred MB. Needs numpy (1.24 or later).
"""
import argparse
import json
import pathlib
import shutil
import struct
import zlib

import numpy as np

# Spec 1.1: generation, D, L, F, heads, kv heads, head dim, query_pre_attn_scalar
TEXT = {
    "3b": (1, 2048, 18, 16384, 8, 1, 256, None),
    "pg2-3b": (2, 2304, 26, 9216, 8, 4, 256, 256),
    "pg2-10b": (2, 3584, 42, 14336, 16, 8, 256, 256),
    "pg2-28b": (2, 4608, 46, 36864, 32, 16, 128, 144),
}
WIDTH, LAYERS, MLP, HEADS, PATCH, VOCAB = 1152, 27, 4304, 16, 14, 257216
CHUNK = 1 << 24  # elements drawn at a time
TOKENIZER_FILES = ["tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"]


def tensors(text, image_size):
    """(name, shape, kind) of every tensor in layout A (spec 3.2); kind is normal, zero or one."""
    generation, d, n_layers, f, heads, kv, head_dim, _ = text
    vision = "vision_tower.vision_model."
    yield vision + "embeddings.patch_embedding.weight", (WIDTH, 3, PATCH, PATCH), "normal"
    yield vision + "embeddings.patch_embedding.bias", (WIDTH,), "zero"
    yield vision + "embeddings.position_embedding.weight", ((image_size // PATCH) ** 2, WIDTH), "normal"
    for i in range(LAYERS):
        layer = f"{vision}encoder.layers.{i}."
        linears = [(f"self_attn.{p}_proj", WIDTH, WIDTH) for p in ("q", "k", "v", "out")] + [("mlp.fc1", MLP, WIDTH), ("mlp.fc2", WIDTH, MLP)]
        for name, rows, cols in linears:
            yield f"{layer}{name}.weight", (rows, cols), "normal"
            yield f"{layer}{name}.bias", (rows,), "zero"
        for name in ("layer_norm1", "layer_norm2"):
            yield f"{layer}{name}.weight", (WIDTH,), "one"
            yield f"{layer}{name}.bias", (WIDTH,), "zero"
    yield vision + "post_layernorm.weight", (WIDTH,), "one"
    yield vision + "post_layernorm.bias", (WIDTH,), "zero"
    yield "multi_modal_projector.linear.weight", (d, WIDTH), "normal"
    yield "multi_modal_projector.linear.bias", (d,), "zero"
    yield "language_model.model.embed_tokens.weight", (VOCAB, d), "normal"
    norms = ["input_layernorm", "post_attention_layernorm"]
    if generation == 2:
        norms += ["pre_feedforward_layernorm", "post_feedforward_layernorm"]
    for j in range(n_layers):
        layer = f"language_model.model.layers.{j}."
        for name, rows, cols in [("self_attn.q_proj", heads * head_dim, d), ("self_attn.k_proj", kv * head_dim, d), ("self_attn.v_proj", kv * head_dim, d),
                                 ("self_attn.o_proj", d, heads * head_dim), ("mlp.gate_proj", f, d), ("mlp.up_proj", f, d), ("mlp.down_proj", d, f)]:
            yield f"{layer}{name}.weight", (rows, cols), "normal"
        for name in norms:
            yield f"{layer}{name}.weight", (d,), "zero"
    yield "language_model.model.norm.weight", (d,), "zero"


def config(text, image_size, dtype):
    generation, d, n_layers, f, heads, kv, head_dim, scalar = text
    torch_dtype = {"f32": "float32", "bf16": "bfloat16", "f16": "float16"}[dtype]
    n = (image_size // PATCH) ** 2
    text_config = {"hidden_size": d, "intermediate_size": f, "model_type": "gemma" if generation == 1 else "gemma2", "num_attention_heads": heads,
                   "num_hidden_layers": n_layers, "num_image_tokens": n, "num_key_value_heads": kv, "torch_dtype": torch_dtype, "vocab_size": VOCAB}
    if generation == 2:
        text_config |= {"head_dim": head_dim, "query_pre_attn_scalar": scalar, "sliding_window": 4096}
    vision_config = {"hidden_size": WIDTH, "image_size": image_size, "intermediate_size": MLP, "model_type": "siglip_vision_model", "num_attention_heads": HEADS,
                     "num_hidden_layers": LAYERS, "num_image_tokens": n, "patch_size": PATCH, "projection_dim": d, "vision_use_head": False}
    return {"architectures": ["PaliGemmaForConditionalGeneration"], "bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0, "hidden_size": d, "ignore_index": -100,
            "image_token_index": 257152, "model_type": "paligemma", "projection_dim": d, "text_config": text_config, "torch_dtype": torch_dtype,
            "vision_config": vision_config, "vocab_size": 257152}


def encode(x, dtype):
    if dtype == "f32":
        return x.astype("<f4")
    if dtype == "f16":
        return x.astype("<f2")
    bits = x.view(np.uint32)  # finite values only: round to nearest even
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")


def data(name, n, kind, seed, dtype):
    rng = np.random.Generator(np.random.SFC64([seed, zlib.crc32(name.encode())]))
    for at in range(0, n, CHUNK):
        count = min(CHUNK, n - at)
        if kind == "normal":
            x = rng.standard_normal(count, dtype=np.float32)
            x *= np.float32(0.02)
        else:
            x = np.full(count, 1 if kind == "one" else 0, np.float32)
        yield encode(x, dtype)


def write_shard(path, items, seed, dtype):
    header, at, size = {"__metadata__": {"format": "pt"}}, 0, 4 if dtype == "f32" else 2
    for name, shape, _ in items:
        end = at + int(np.prod(shape)) * size
        header[name] = {"dtype": dtype.upper(), "shape": list(shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for name, shape, kind in items:
            for chunk in data(name, int(np.prod(shape)), kind, seed, dtype):
                out.write(chunk.data)


def main():
    shapes = [f"{prefix}-{size}" for prefix in TEXT for size in (224, 448, 896)]
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--shape", choices=shapes, required=True)
    parser.add_argument("--dtype", choices=["f32", "bf16", "f16"], default="bf16")
    parser.add_argument("-o", "--output", type=pathlib.Path, required=True)
    parser.add_argument("--tokenizer", type=pathlib.Path, help="directory whose tokenizer files are copied")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max-shard-gb", type=float, default=5, help="0: one file")
    args = parser.parse_args()
    prefix, size = args.shape.rsplit("-", 1)
    text, image_size = TEXT[prefix], int(size)

    limit = args.max_shard_gb * 1e9 or float("inf")
    shards, used = [[]], 0
    for item in tensors(text, image_size):
        n_bytes = int(np.prod(item[1])) * (4 if args.dtype == "f32" else 2)
        if used + n_bytes > limit and shards[-1]:
            shards.append([])
            used = 0
        shards[-1].append(item)
        used += n_bytes

    args.output.mkdir(parents=True, exist_ok=True)
    names = ["model.safetensors"] if len(shards) == 1 else [f"model-{i + 1:05d}-of-{len(shards):05d}.safetensors" for i in range(len(shards))]
    for name, items in zip(names, shards):
        write_shard(args.output / name, items, args.seed, args.dtype)
        print(f"{args.output / name}: {len(items)} tensors")

    def put(name, content):
        (args.output / name).write_text(json.dumps(content, indent=2) + "\n")

    if len(shards) > 1:
        total = sum((args.output / name).stat().st_size for name in names)
        put("model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": {item[0]: name for name, items in zip(names, shards) for item in items}})
    put("config.json", config(text, image_size, args.dtype))
    put("generation_config.json", {"_from_model_config": True, "bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0})
    put("preprocessor_config.json", {"do_convert_rgb": None, "do_normalize": True, "do_rescale": True, "do_resize": True, "image_mean": [0.5] * 3, "image_std": [0.5] * 3,
                                     "image_processor_type": "SiglipImageProcessor", "image_seq_length": (image_size // PATCH) ** 2, "processor_class": "PaliGemmaProcessor",
                                     "resample": 3, "rescale_factor": 0.00392156862745098, "size": {"height": image_size, "width": image_size}})
    for name in TOKENIZER_FILES:
        if args.tokenizer and (args.tokenizer / name).exists():
            shutil.copyfile(args.tokenizer / name, args.output / name)


if __name__ == "__main__":
    main()
