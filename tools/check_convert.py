#!/usr/bin/env python3
"""Opens what `paligemma convert` wrote with the programs that it is for, and compares it with the model it was made from.

    tools/check_convert.py REFERENCE OUTPUT...

REFERENCE is a directory that Transformers loads; an OUTPUT is a directory (Transformers: processor, weights, logits, greedy
tokens) or a .npz file (numpy). For .gguf files there is check_gguf.py. Weights must be equal to the bit where an output has the
reference's dtype, else equal to the reference's rounded to it. Needs torch, transformers, safetensors, numpy, Pillow. Not part of
the tests."""
import pathlib
import sys

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open
from transformers import AutoProcessor, PaliGemmaForConditionalGeneration, __version__

TEXTS = ["detect cat ; dog", "caption en\n", "", " a  b", "\n\n\nx", "<loc0003><seg001> é日😀", "answer en where is the cow?", "\t0123 456"]
TORCH = {2: {"f": torch.float16, "V": torch.bfloat16}, 4: {"f": torch.float32}}


def canonical(name):
    name = name.removeprefix("model.").replace("vision_tower.vision_model.", "vision_tower.").replace("language_model.lm_head.", "lm_head.")
    return name.replace("language_model.model.", "language_model.")


def read_weights(path):
    weights = {}
    for file in sorted(path.glob("model*.safetensors")):
        with safe_open(file, "pt") as f:
            weights |= {canonical(name): f.get_tensor(name) for name in f.keys()}
    return weights


def compare(got, want, path):
    missing = set(want) - set(got) - {"lm_head.weight"}
    assert not missing and not set(got) - set(want), (missing, set(got) - set(want))
    kinds = {}
    for name, x in got.items():
        assert x.shape == want[name].shape, (name, x.shape, want[name].shape)
        rounded = want[name].to(x.dtype)
        assert torch.equal(x.contiguous().view(torch.uint8), rounded.contiguous().view(torch.uint8)), f"{path}: {name} differs"
        kinds[str(x.dtype)] = kinds.get(str(x.dtype), 0) + 1
    print(f"{path}: {len(got)} tensors equal: {kinds}")


# ---- Transformers ----

def open_model(path):
    model, info = PaliGemmaForConditionalGeneration.from_pretrained(path, dtype=torch.float32, output_loading_info=True, attn_implementation="eager")
    assert not any(info[k] for k in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs")), info
    processor = AutoProcessor.from_pretrained(path)
    processor.tokenizer.bos_token = processor.tokenizer.bos_token or "<bos>"  # a directory without tokenizer_config.json names none
    return model.eval(), processor


def answer(model, processor):
    y, x = np.mgrid[0:60, 0:80]
    picture = Image.fromarray(np.stack([x * 3 % 256, y * 4 % 256, (x * y) % 256], axis=2).astype(np.uint8))
    inputs = processor(text="<image>detect cat", images=picture, return_tensors="pt")
    with torch.no_grad():
        logits = model(**inputs).logits
        tokens = model.generate(**inputs, max_new_tokens=12, do_sample=False)[0, inputs["input_ids"].shape[1]:]
    return inputs["input_ids"], inputs["pixel_values"], logits, tokens


def check_directory(path, reference):
    want_model, want_processor = open_model(reference)
    model, processor = open_model(path)
    for text in TEXTS:
        got, want = processor.tokenizer(text).input_ids, want_processor.tokenizer(text).input_ids
        assert got == want, (text, got, want)
    got, want = answer(model, processor), answer(want_model, want_processor)
    assert torch.equal(got[0], want[0]), "input ids"
    assert torch.equal(got[1], want[1]), "pixels"
    error = float((got[2] - want[2]).abs().max())
    print(f"{path}: {len(TEXTS)} texts have the same ids; logits differ by {error:.3g} at most; "
          f"greedy tokens {'the same' if torch.equal(got[3], want[3]) else 'DIFFER'}: {got[3].tolist()}")
    assert error < 1e-6 or model.config.dtype != want_model.config.dtype


# ---- numpy ----

def npz_weights(z):
    """The table of spec 3.4, the other way round."""
    z = {name.removeprefix("params/"): z[name] for name in z.files}
    gemma2 = "llm/layers/post_ffw_norm/scale" in z
    w = {"vision_tower.embeddings.patch_embedding.weight": z["img/embedding/kernel"].transpose(3, 2, 0, 1),
         "vision_tower.embeddings.patch_embedding.bias": z["img/embedding/bias"],
         "vision_tower.embeddings.position_embedding.weight": z["img/pos_embedding"][0],
         "vision_tower.post_layernorm.weight": z["img/Transformer/encoder_norm/scale"],
         "vision_tower.post_layernorm.bias": z["img/Transformer/encoder_norm/bias"],
         "multi_modal_projector.linear.weight": z["img/head/kernel"].T,
         "multi_modal_projector.linear.bias": z["img/head/bias"],
         "language_model.embed_tokens.weight": z["llm/embedder/input_embedding"],
         "language_model.norm.weight": z["llm/final_norm/scale"]}
    block, attention = "img/Transformer/encoderblock/", "img/Transformer/encoderblock/MultiHeadDotProductAttention_0/"
    for i in range(len(z[block + "LayerNorm_0/scale"])):
        to = f"vision_tower.encoder.layers.{i}."
        for n in (0, 1):
            w[to + f"layer_norm{n + 1}.weight"] = z[block + f"LayerNorm_{n}/scale"][i]
            w[to + f"layer_norm{n + 1}.bias"] = z[block + f"LayerNorm_{n}/bias"][i]
            w[to + f"mlp.fc{n + 1}.weight"] = z[block + f"MlpBlock_0/Dense_{n}/kernel"][i].T
            w[to + f"mlp.fc{n + 1}.bias"] = z[block + f"MlpBlock_0/Dense_{n}/bias"][i]
        for name, key in (("q", "query"), ("k", "key"), ("v", "value")):
            kernel = z[attention + key + "/kernel"][i]
            w[to + f"self_attn.{name}_proj.weight"] = kernel.reshape(len(kernel), -1).T
            w[to + f"self_attn.{name}_proj.bias"] = z[attention + key + "/bias"][i].reshape(-1)
        kernel = z[attention + "out/kernel"][i]
        w[to + "self_attn.out_proj.weight"] = kernel.reshape(-1, kernel.shape[-1]).T
        w[to + "self_attn.out_proj.bias"] = z[attention + "out/bias"][i]
    norms = {"pre_attention_norm": "input_layernorm", "pre_ffw_norm": "pre_feedforward_layernorm" if gemma2 else "post_attention_layernorm"}
    norms |= {"post_attention_norm": "post_attention_layernorm", "post_ffw_norm": "post_feedforward_layernorm"} if gemma2 else {}
    for j in range(len(z["llm/layers/mlp/linear"])):
        to, at = f"language_model.layers.{j}.", "llm/layers/"
        if at + "attn/qkv_einsum/w" in z:
            q, k, v = z[at + "attn/qkv_einsum/w"][j]
        else:
            q, (k, v) = z[at + "attn/q_einsum/w"][j], z[at + "attn/kv_einsum/w"][j]
        for name, x in (("q", q), ("k", k), ("v", v)):
            w[to + f"self_attn.{name}_proj.weight"] = x.transpose(0, 2, 1).reshape(-1, x.shape[1])
        o = z[at + "attn/attn_vec_einsum/w"][j]
        w[to + "self_attn.o_proj.weight"] = o.reshape(-1, o.shape[-1]).T
        w[to + "mlp.gate_proj.weight"], w[to + "mlp.up_proj.weight"] = (x.T for x in z[at + "mlp/gating_einsum"][j])
        w[to + "mlp.down_proj.weight"] = z[at + "mlp/linear"][j].T
        for theirs, ours in norms.items():
            w[to + ours + ".weight"] = z[f"{at}{theirs}/scale"][j]
    return w


def check_npz(path, reference):
    with np.load(path) as z:
        assert z.zip.testzip() is None, "a checksum is wrong"
        weights = npz_weights(z)
    got = {}
    for name, x in weights.items():
        dtype = TORCH[x.dtype.itemsize][x.dtype.kind]
        got[name] = torch.from_numpy(np.ascontiguousarray(x).view(f"<i{x.dtype.itemsize}")).view(dtype)
    compare(got, read_weights(reference), path)


def main():
    reference = pathlib.Path(sys.argv[1])
    print(f"transformers {__version__}, torch {torch.__version__}, numpy {np.__version__}")
    for path in map(pathlib.Path, sys.argv[2:]):
        if path.suffix == ".npz":
            check_npz(path, reference)
        else:
            compare(read_weights(path), read_weights(reference), path)
            check_directory(path, reference)


main()
