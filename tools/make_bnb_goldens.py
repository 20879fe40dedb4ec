#!/usr/bin/env python3
"""Makes tests/golden/bnb: tiny random models saved by Transformers with bitsandbytes, on the CPU; and tests/fuzz/corpus/bnb.

    python3 tools/make_bnb_goldens.py

Each directory has the files that save_pretrained wrote (one with the names of hub files, one with those of transformers 4.5x) and
golden.json: for every quantized matrix the FNV-1a of its weights as f32, which numpy computes here by the formula alone, since the
library's own CPU dequantization errs for widths that are a multiple of 16 but not of 64. quantizer.safetensors: weights, and what
the library's quantizers make of them. --compare prints how far logits of LLM.int8 and 4-bit products are from those of the same
weights in f32, for MODEL.md.
"""
import argparse
import json
import pathlib
import shutil
import tempfile

import numpy as np
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import BitsAndBytesConfig, GemmaConfig, Gemma2Config, PaliGemmaConfig, PaliGemmaForConditionalGeneration, SiglipVisionConfig
import bitsandbytes as bnb

SEED = 8
HERE = pathlib.Path(__file__).resolve().parent.parent / "tests/golden/bnb"
SKIP = ["model.vision_tower", "lm_head"]

# name: generation, dtype, BitsAndBytesConfig, key names
MODELS = {
    "pg1-nf4": (1, "float32", dict(load_in_4bit=True, bnb_4bit_quant_type="nf4"), "A"),
    "pg1-fp4": (1, "float16", dict(load_in_4bit=True, bnb_4bit_quant_type="fp4", bnb_4bit_use_double_quant=True), None),
    "pg1-int8": (1, "float16", dict(load_in_8bit=True), None),
    "pg2-nf4": (2, "bfloat16", dict(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True), "B"),
    "pg2-nf4-skip": (2, "bfloat16", dict(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_quant_storage=torch.bfloat16,
                                         llm_int8_skip_modules=SKIP), None),
    "pg2-int8": (2, "bfloat16", dict(load_in_8bit=True), None),
}


def config(generation):
    """Widths: odd ones, so that rows begin within a byte; ones that blocks straddle; whole blocks."""
    common = dict(vocab_size=56, num_hidden_layers=1, num_attention_heads=4, max_position_embeddings=128)
    if generation == 1:
        text = GemmaConfig(hidden_size=44, intermediate_size=57, num_key_value_heads=1, head_dim=12, **common)
        vision = SiglipVisionConfig(hidden_size=36, intermediate_size=43, num_hidden_layers=1, num_attention_heads=3, image_size=16, patch_size=8,
                                    vision_use_head=False)
    else:
        text = Gemma2Config(hidden_size=64, intermediate_size=64, num_key_value_heads=2, head_dim=16, query_pre_attn_scalar=16, sliding_window=8, **common)
        vision = SiglipVisionConfig(hidden_size=34, intermediate_size=38, num_hidden_layers=1, num_attention_heads=2, image_size=16, patch_size=8,
                                    vision_use_head=False)
    return PaliGemmaConfig(vision_config=vision, text_config=text, image_token_index=55, vocab_size=56, projection_dim=text.hidden_size,
                           hidden_size=text.hidden_size, bos_token_id=2, eos_token_id=1, pad_token_id=0)


def source(generation, dtype, where):
    torch.manual_seed(SEED + generation)
    model = PaliGemmaForConditionalGeneration(config(generation))
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn_like(p) * 0.2)
    model.to(getattr(torch, dtype)).save_pretrained(where)


def fnv(array):
    h = 0xCBF29CE484222325
    for byte in np.ascontiguousarray(array, dtype="<f4").tobytes():
        h = ((h ^ byte) * 0x100000001B3) & (2**64 - 1)
    return f"{h:016x}"


def as_bytes(t):
    return t.contiguous().view(torch.uint8).reshape(-1).numpy()


def dequantize_4bit(t, base):
    kind = "nf4" if base + ".quant_state.bitsandbytes__nf4" in t else "fp4"
    state = json.loads(as_bytes(t[f"{base}.quant_state.bitsandbytes__{kind}"]).tobytes())
    packed, table = as_bytes(t[base]), t[base + ".quant_map"].numpy()
    rows, cols = state["shape"]
    code = np.stack([packed >> 4, packed & 15], axis=1).reshape(-1)[: rows * cols]
    absmax = t[base + ".absmax"].numpy()
    if absmax.dtype == np.uint8:
        outer = np.repeat(t[base + ".nested_absmax"].numpy(), 256)[: absmax.size]
        absmax = t[base + ".nested_quant_map"].numpy()[absmax] * outer + np.float32(state["nested_offset"])
    w = table[code] * np.repeat(absmax.astype(np.float32), 64)[: rows * cols]
    assert w.dtype == np.float32
    return torch.from_numpy(w).to(getattr(torch, state["dtype"])).float().numpy().reshape(rows, cols), kind


def dequantize_int8(t, base):
    scb = t[base[: -len("weight")] + "SCB"].numpy()
    w = t[base].numpy().astype(np.float32) * scb[:, None] * np.float32(7.874015718698502e-3)
    assert w.dtype == np.float32
    return w


def dequantize_all(t):
    """Name: (kind, f32 array) of every quantized matrix."""
    out = {}
    for name in t:
        if name.endswith(".weight"):
            if name + ".absmax" in t:
                w, kind = dequantize_4bit(t, name)
                out[name] = (kind, w)
            elif name[: -len("weight")] + "SCB" in t:
                out[name] = ("int8", dequantize_int8(t, name))
    return out


def renamed(name, layout):
    if layout == "A":  # hub files
        return name.replace("vision_tower.", "vision_tower.vision_model.", 1) if name.startswith("vision_tower.") else name
    if layout == "B":  # in memory from 4.52 on
        name = name.replace("language_model.model.", "language_model.", 1)
        return "model." + (name.replace("vision_tower.", "vision_tower.vision_model.", 1) if name.startswith("vision_tower.") else name)
    return name


def make_model(name, generation, dtype, options, layout):
    to = HERE / name
    shutil.rmtree(to, ignore_errors=True)
    with tempfile.TemporaryDirectory() as plain:
        source(generation, dtype, plain)
        model = PaliGemmaForConditionalGeneration.from_pretrained(plain, quantization_config=BitsAndBytesConfig(**options), device_map="cpu",
                                                                  dtype=getattr(torch, dtype))
        model.save_pretrained(to)
    (to / "generation_config.json").unlink(missing_ok=True)
    (to / "model.safetensors").chmod(0o644)
    tensors = load_file(to / "model.safetensors")
    if layout:
        tensors = {renamed(k, layout): v for k, v in tensors.items()}
        save_file(tensors, to / "model.safetensors", metadata={"format": "pt"})
    quantized = {k: {"kind": kind, "shape": list(w.shape), "fnv": fnv(w)} for k, (kind, w) in dequantize_all(tensors).items()}
    golden = {"transformers": transformers.__version__, "bitsandbytes": bnb.__version__, "torch": torch.__version__, "seed": SEED,
              "n_tensors": len(tensors), "quantized": quantized}
    (to / "golden.json").write_text(json.dumps(golden, indent=1) + "\n")
    print(name, len(quantized), "quantized matrices", (to / "model.safetensors").stat().st_size, "bytes")


def make_quantizer():
    """Rows of 67: blocks straddle rows, the last one is short, the number of weights is odd."""
    torch.manual_seed(SEED)
    x = torch.randn(31, 67) * 0.05
    flat = x.view(-1)
    flat[64:128] = 0                                   # a block of zeros
    flat[128:192] = torch.linspace(-2, 2, 64)
    flat[192:256] *= 1e-40                             # subnormal
    flat[256:320] *= 1e-36
    x[20:22] = 0                                       # rows of zeros
    x[28] *= 1000
    x[29] *= 1e-7                                      # subnormal in f16
    out = {"x": x}
    for kind in ("nf4", "fp4"):
        code = bnb.functional.get_4bit_type(kind, device="cpu")
        order = torch.sort(code).values
        flat[320:335] = (order[:-1] + order[1:]) / 2   # midpoints of a block whose scale is 1
        flat[335:384] = 0
        flat[335] = 1
        out["x_" + kind] = x.clone()
        q, state = bnb.functional.quantize_4bit(x, quant_type=kind)
        out[kind], out[kind + "_absmax"], out[kind + "_table"] = q, state.absmax, state.code
    x = torch.cat([x, torch.randn(31, 67).bfloat16().float()])  # few bits: many ties
    q, scb, _ = bnb.functional.int8_vectorwise_quant(x.half())
    out["int8"], out["int8_scb"], out["x_int8"] = q, scb, x
    del out["x"]
    save_file(out, HERE / "quantizer.safetensors", metadata={"bitsandbytes": bnb.__version__, "seed": str(SEED)})
    (HERE / "quantizer.safetensors").chmod(0o644)


def make_corpus():
    """Seeds of the fuzz target: one small matrix each, then what is wrong with it."""
    to = HERE.parent.parent / "fuzz/corpus/bnb"
    shutil.rmtree(to, ignore_errors=True)
    to.mkdir(parents=True)
    torch.manual_seed(SEED)
    w = torch.randn(3, 45)

    def four_bit(kind, nested, **changes):
        q, state = bnb.functional.quantize_4bit(w, quant_type=kind, compress_statistics=nested)
        t = {f"a.weight.{k}": v for k, v in state.as_dict(packed=True).items()}
        key = f"a.weight.quant_state.bitsandbytes__{kind}"
        text = json.loads(as_bytes(t[key]).tobytes())
        text.update(changes)
        t[key] = torch.tensor(list(json.dumps(text).encode()), dtype=torch.uint8)
        return {"a.weight": q, **t}

    q, scb, _ = bnb.functional.int8_vectorwise_quant(w.half())
    int8 = {"a.weight": q, "a.SCB": scb, "a.weight_format": torch.tensor(0, dtype=torch.uint8)}
    seeds = {"nf4": four_bit("nf4", False), "fp4": four_bit("fp4", False), "nested": four_bit("nf4", True), "int8": int8,
             "shape": four_bit("nf4", False, shape=[45, 4]), "huge": four_bit("nf4", False, shape=[16777216, 16777216]),
             "block": four_bit("nf4", False, blocksize=128), "offset": four_bit("nf4", True, nested_offset=1e39),
             "half": four_bit("nf4", True, dtype="float16"), "nan": four_bit("nf4", False)}
    seeds["nan"]["a.weight.absmax"][1] = float("nan")
    for name, t in seeds.items():
        save_file(t, to / name)
        (to / name).chmod(0o644)


def compare():
    """Logits of the library's own products beside the same weights in f32."""
    for name, (generation, dtype, options, layout) in MODELS.items():
        ids = torch.tensor([[55] * 4 + [2] + list(range(5, 25))])
        torch.manual_seed(1)
        pixels = torch.rand(1, 3, 16, 16) * 2 - 1
        inputs = dict(input_ids=ids, attention_mask=torch.ones_like(ids), token_type_ids=torch.zeros_like(ids))
        with tempfile.TemporaryDirectory() as plain, torch.no_grad():
            source(generation, dtype, plain)
            kind = getattr(torch, dtype)
            model = PaliGemmaForConditionalGeneration.from_pretrained(plain, quantization_config=BitsAndBytesConfig(**options), device_map="cpu", dtype=kind)
            got = model(pixel_values=pixels.to(kind), **inputs).logits.float()
            model.save_pretrained(plain + "/q")
            tensors = load_file(plain + "/q/model.safetensors")
            dequantized = {k: torch.from_numpy(w) for k, (_, w) in dequantize_all(tensors).items()}
            exact = PaliGemmaForConditionalGeneration.from_pretrained(plain, dtype=torch.float32)
            before = exact(pixel_values=pixels, **inputs).logits
            exact.save_pretrained(plain + "/f")
            state = load_file(plain + "/f/model.safetensors")
            assert dequantized.keys() <= state.keys()
            state.update(dequantized)
            save_file(state, plain + "/f/model.safetensors", metadata={"format": "pt"})
            exact = PaliGemmaForConditionalGeneration.from_pretrained(plain + "/f", dtype=torch.float32)
            want = exact(pixel_values=pixels, **inputs).logits
            rms = want.pow(2).mean().sqrt()
            print(f"{name}: rms of logits {rms:.3f}; library {dtype} products differ from f32 products by rms {(got - want).pow(2).mean().sqrt() / rms:.2g} "
                  f"(max {(got - want).abs().max() / rms:.2g}); quantizing itself by {(want - before).pow(2).mean().sqrt() / rms:.2g}")


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--compare", action="store_true")
if parser.parse_args().compare:
    compare()
else:
    HERE.mkdir(parents=True, exist_ok=True)
    for name, how in MODELS.items():
        make_model(name, *how)
    make_quantizer()
    make_corpus()
