#!/usr/bin/env python3
"""The tiny checkpoints of tests/golden/models as big_vision stores such models (spec inference 3.4): the published mapping the
other way round, in numpy.

    make_npz_model_goldens.py                     writes tests/golden/npz/models.json: of every array of every model its type, its
                                                  shape and the CRC-32 of its bytes, which the test's own files must have
    make_npz_model_goldens.py --corpus            writes tests/fuzz/corpus/npz_model: the smallest models there can be, whole and damaged
    make_npz_model_goldens.py DIR OUT.npz [...]   writes the checkpoint in DIR as a file; options: --deflate, --plain (no params/),
                                                  --unstack (the tower's blocks one by one), --fortran, --rows N (of the table)

Needs numpy 2; reads safetensors by itself, since numpy has no bfloat16.
"""

import argparse
import json
import struct
import zlib
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent
MODELS = ["pg1-f32", "pg1-bf16", "pg1-f16", "pg1-mixed", "pg2-f32", "pg2-bf16"]
DTYPES = {"F32": "<f4", "F16": "<f2", "BF16": "V2"}
HEADS = "MultiHeadDotProductAttention_0"


def checkpoint(directory):
    """Canonical name -> array; bfloat16 as two-byte void, as big_vision's files have it."""
    tensors = {}
    for path in sorted(directory.glob("*.safetensors")):
        if path.name == "golden.safetensors":
            continue
        data = path.read_bytes()
        (n,) = struct.unpack_from("<Q", data)
        for name, t in json.loads(data[8 : 8 + n]).items():
            if name == "__metadata__":
                continue
            begin, end = t["data_offsets"]
            array = np.frombuffer(data[8 + n + begin : 8 + n + end], DTYPES[t["dtype"]]).reshape(t["shape"])
            for prefix in ("paligemma_with_expert.", "paligemma.", "base_model.model.", "model."):
                name = name.removeprefix(prefix)
            for part, inner in (("vision_tower.", "vision_model."), ("language_model.", "model.")):
                if name.startswith(part):
                    name = part + name.removeprefix(part).removeprefix(inner)
            tensors[name] = array
    return tensors


def same(arrays):
    """A stack; layers of a mixed checkpoint differ in type, which an array can not: the widest is taken."""
    if len({a.dtype for a in arrays}) == 1:
        return np.stack(arrays)
    return np.stack([float32(a) for a in arrays])


def float32(a):
    return (a.view(np.uint16).astype(np.uint32) << 16).view(np.float32) if a.dtype.kind == "V" else a.astype(np.float32)


def big_vision(t, config):
    """The arrays that the converters of Transformers read, made so that they would give t."""
    vision, text = config["vision_config"], config["text_config"]
    heads, width = vision["num_attention_heads"], vision["hidden_size"]
    n_heads, n_kv, h, d = (text[k] for k in ("num_attention_heads", "num_key_value_heads", "head_dim", "hidden_size"))
    out = {}

    v = "vision_tower."
    out["img/embedding/kernel"] = t[v + "embeddings.patch_embedding.weight"].transpose(2, 3, 1, 0)
    out["img/embedding/bias"] = t[v + "embeddings.patch_embedding.bias"]
    out["img/pos_embedding"] = t[v + "embeddings.position_embedding.weight"][None]
    out["img/Transformer/encoder_norm/scale"] = t[v + "post_layernorm.weight"]
    out["img/Transformer/encoder_norm/bias"] = t[v + "post_layernorm.bias"]
    layers = [f"{v}encoder.layers.{i}." for i in range(vision["num_hidden_layers"])]
    for ours, theirs in (("LayerNorm_0", "layer_norm1"), ("LayerNorm_1", "layer_norm2")):
        out[f"img/Transformer/encoderblock/{ours}/scale"] = same([t[p + theirs + ".weight"] for p in layers])
        out[f"img/Transformer/encoderblock/{ours}/bias"] = same([t[p + theirs + ".bias"] for p in layers])
    for ours, theirs in (("query", "q_proj"), ("key", "k_proj"), ("value", "v_proj")):
        kernels = [t[p + f"self_attn.{theirs}.weight"].T.reshape(width, heads, width // heads) for p in layers]
        biases = [t[p + f"self_attn.{theirs}.bias"].reshape(heads, width // heads) for p in layers]
        out[f"img/Transformer/encoderblock/{HEADS}/{ours}/kernel"] = same(kernels)
        out[f"img/Transformer/encoderblock/{HEADS}/{ours}/bias"] = same(biases)
    kernels = [t[p + "self_attn.out_proj.weight"].T.reshape(heads, width // heads, width) for p in layers]
    out[f"img/Transformer/encoderblock/{HEADS}/out/kernel"] = same(kernels)
    out[f"img/Transformer/encoderblock/{HEADS}/out/bias"] = same([t[p + "self_attn.out_proj.bias"] for p in layers])
    for ours, theirs in (("Dense_0", "fc1"), ("Dense_1", "fc2")):
        out[f"img/Transformer/encoderblock/MlpBlock_0/{ours}/kernel"] = same([t[p + f"mlp.{theirs}.weight"].T for p in layers])
        out[f"img/Transformer/encoderblock/MlpBlock_0/{ours}/bias"] = same([t[p + f"mlp.{theirs}.bias"] for p in layers])
    out["img/head/kernel"] = t["multi_modal_projector.linear.weight"].T
    out["img/head/bias"] = t["multi_modal_projector.linear.bias"]

    m = "language_model."
    out["llm/embedder/input_embedding"] = t[m + "embed_tokens.weight"]
    out["llm/final_norm/scale"] = t[m + "norm.weight"]
    layers = [f"{m}layers.{i}." for i in range(text["num_hidden_layers"])]
    projection = lambda p, name, n: t[p + f"self_attn.{name}.weight"].reshape(n, h, d).transpose(0, 2, 1)
    q = [projection(p, "q_proj", n_heads) for p in layers]
    k = [projection(p, "k_proj", n_kv) for p in layers]
    v = [projection(p, "v_proj", n_kv) for p in layers]
    if n_kv == n_heads:
        out["llm/layers/attn/qkv_einsum/w"] = same([same(x) for x in zip(q, k, v)])
    else:
        out["llm/layers/attn/q_einsum/w"] = same(q)
        out["llm/layers/attn/kv_einsum/w"] = same([same(x) for x in zip(k, v)])
    out["llm/layers/attn/attn_vec_einsum/w"] = same([t[p + "self_attn.o_proj.weight"].T.reshape(n_heads, h, d) for p in layers])
    out["llm/layers/mlp/gating_einsum"] = same([same([t[p + "mlp.gate_proj.weight"].T, t[p + "mlp.up_proj.weight"].T]) for p in layers])
    out["llm/layers/mlp/linear"] = same([t[p + "mlp.down_proj.weight"].T for p in layers])
    norms = [("pre_attention_norm", "input_layernorm")]
    if text["model_type"] == "gemma2":
        norms += [("post_attention_norm", "post_attention_layernorm"), ("pre_ffw_norm", "pre_feedforward_layernorm"), ("post_ffw_norm", "post_feedforward_layernorm")]
    else:
        norms += [("pre_ffw_norm", "post_attention_layernorm")]
    for ours, theirs in norms:
        out[f"llm/layers/{ours}/scale"] = same([t[p + theirs + ".weight"] for p in layers])
    return {name: np.ascontiguousarray(a) for name, a in out.items()}


def arrays_of(directory):
    return big_vision(checkpoint(directory), json.loads((directory / "config.json").read_text()))


def goldens():
    models = {}
    for model in MODELS:
        arrays = arrays_of(ROOT / "tests/golden/models" / model)
        models[model] = {name: [a.dtype.str, list(a.shape), zlib.crc32(a.tobytes())] for name, a in arrays.items()}
    out = ROOT / "tests/golden/npz/models.json"
    lines = [f'"{model}": {{\n' + ",\n".join(f'  "{name}": {json.dumps(a)}' for name, a in models[model].items()) + "\n}" for model in MODELS]
    out.write_text(f'{{\n"numpy": "{np.__version__}",\n' + ",\n".join(lines) + "\n}\n")


def unstacked(arrays):
    stem = "img/Transformer/encoderblock/"
    for name, a in arrays.items():
        if not name.startswith(stem):
            yield name, a
            continue
        for i in range(a.shape[0]):
            yield f"img/Transformer/encoderblock_{i}/{name.removeprefix(stem)}", a[i]


def smallest(generation, n_kv):
    """A checkpoint of one or two numbers a dim."""
    d, n, h, f, w, layers = 2, 2, 2, 3, 2, 2
    shapes = {
        "embed_tokens.weight": (5, d), "norm.weight": (d,), "q_proj.weight": (n * h, d), "k_proj.weight": (n_kv * h, d), "v_proj.weight": (n_kv * h, d),
        "o_proj.weight": (d, n * h), "gate_proj.weight": (f, d), "up_proj.weight": (f, d), "down_proj.weight": (d, f),
    }
    numbers = np.random.default_rng(1)
    t = {}
    put = lambda name, *shape: t.__setitem__(name, numbers.standard_normal(shape).astype("<f2"))
    put("language_model.embed_tokens.weight", *shapes["embed_tokens.weight"])
    put("language_model.norm.weight", d)
    for i in range(layers):
        for name, shape in list(shapes.items())[2:]:
            put(f"language_model.layers.{i}.{'self_attn' if name[0] in 'qkvo' else 'mlp'}.{name}", *shape)
        for name in ("input", "post_attention", "pre_feedforward", "post_feedforward"):
            put(f"language_model.layers.{i}.{name}_layernorm.weight", d)
        v = f"vision_tower.encoder.layers.{i}."
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            put(f"{v}self_attn.{name}.weight", w, w)
            put(f"{v}self_attn.{name}.bias", w)
        for name, a, b in (("fc1", f, w), ("fc2", w, f)):
            put(f"{v}mlp.{name}.weight", a, b)
            put(f"{v}mlp.{name}.bias", a)
        for name in ("layer_norm1", "layer_norm2"):
            put(f"{v}{name}.weight", w)
            put(f"{v}{name}.bias", w)
    put("vision_tower.embeddings.patch_embedding.weight", w, 3, 1, 1)
    put("vision_tower.embeddings.patch_embedding.bias", w)
    put("vision_tower.embeddings.position_embedding.weight", 4, w)
    put("vision_tower.post_layernorm.weight", w)
    put("vision_tower.post_layernorm.bias", w)
    put("multi_modal_projector.linear.weight", d, w)
    put("multi_modal_projector.linear.bias", d)
    return big_vision(t, {
        "vision_config": {"num_attention_heads": 1, "hidden_size": w, "num_hidden_layers": layers},
        "text_config": {"num_attention_heads": n, "num_key_value_heads": n_kv, "head_dim": h, "hidden_size": d, "num_hidden_layers": layers,
                        "model_type": "gemma" if generation == 1 else "gemma2"},
    })


def corpus():
    out = ROOT / "tests/fuzz/corpus/npz_model"
    out.mkdir(parents=True, exist_ok=True)

    def write(name, arrays, save=np.savez):
        with open(out / name, "wb") as file:
            save(file, **arrays)

    first, second = smallest(1, 1), smallest(2, 2)
    write("valid", {"params/" + name: a for name, a in first.items()})
    write("valid_deflated", second, np.savez_compressed)
    write("valid_layers", dict(unstacked({name: np.asfortranarray(a) for name, a in first.items()})), np.savez_compressed)
    write("missing", {name: a for name, a in first.items() if "kv_einsum" not in name}, np.savez_compressed)
    write("shape", {name: a[:, :1] if "gating" in name else a for name, a in first.items()}, np.savez_compressed)
    write("layers", {name: a[:1] if "linear" in name else a for name, a in first.items()}, np.savez_compressed)
    write("object", {name: a.astype("V8") if "final_norm" in name else a for name, a in first.items()}, np.savez_compressed)
    whole = (out / "valid_deflated").read_bytes()
    (out / "cut").write_bytes(whole[: len(whole) - 100])
    (out / "flipped").write_bytes(whole[:700] + bytes([whole[700] ^ 255]) + whole[701:])


parser = argparse.ArgumentParser()
parser.add_argument("--corpus", action="store_true")
parser.add_argument("directory", nargs="?", type=Path)
parser.add_argument("out", nargs="?", type=Path)
for option in ("--deflate", "--plain", "--unstack", "--fortran"):
    parser.add_argument(option, action="store_true")
parser.add_argument("--rows", type=int)
a = parser.parse_args()
if a.corpus:
    corpus()
elif a.directory is None:
    goldens()
else:
    arrays = arrays_of(a.directory)
    if a.rows:
        arrays["llm/embedder/input_embedding"] = arrays["llm/embedder/input_embedding"][: a.rows]
    arrays = dict(unstacked(arrays)) if a.unstack else arrays
    save = np.savez_compressed if a.deflate else np.savez
    save(a.out, **{("" if a.plain else "params/") + name: np.asfortranarray(x) if a.fortran else x for name, x in arrays.items()})
