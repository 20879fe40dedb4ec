#!/usr/bin/env python3
"""Holds a directory that paligemma quantized against Transformers with bitsandbytes.

    paligemma convert -m MODEL -o WRITTEN --dtype nf4
    python3 tools/check_bnb.py MODEL WRITTEN

The library quantizes MODEL with the quantization_config of WRITTEN; every tensor of its state must have the bytes of WRITTEN, as
loaded by Transformers, and logits of a prompt must be equal. Nothing may be missing or left over.
"""
import argparse
import json
import pathlib

import torch
from transformers import BitsAndBytesConfig, PaliGemmaForConditionalGeneration

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("model", type=pathlib.Path)
parser.add_argument("written", type=pathlib.Path)
args = parser.parse_args()

config = json.loads((args.written / "config.json").read_text())
dtype = getattr(torch, config.get("torch_dtype") or config["dtype"])
options = {k: v for k, v in config["quantization_config"].items() if not k.startswith("_") and k != "quant_method"}
load = dict(device_map="cpu", dtype=dtype, output_loading_info=True)
theirs, _ = PaliGemmaForConditionalGeneration.from_pretrained(args.model, quantization_config=BitsAndBytesConfig(**options), **load)
ours, info = PaliGemmaForConditionalGeneration.from_pretrained(args.written, **load)
for kind, names in info.items():
    assert not names, f"{kind}: {names}"


def as_bytes(t):
    return t.detach().contiguous().view(-1).view(torch.uint8) if t.dim() else t.detach().reshape(1).view(torch.uint8)


a, b = theirs.state_dict(), ours.state_dict()
assert a.keys() == b.keys(), a.keys() ^ b.keys()
quantized = 0
for name in a:
    assert isinstance(a[name], str) or a[name].dtype == b[name].dtype and torch.equal(as_bytes(a[name]), as_bytes(b[name])), name
    quantized += name.endswith((".absmax", ".SCB"))
assert quantized

size, n_image = config["vision_config"]["image_size"], (config["vision_config"]["image_size"] // config["vision_config"]["patch_size"]) ** 2
image = config.get("image_token_id", config.get("image_token_index"))
ids = torch.tensor([[image] * n_image + [2] + list(range(5, 25))])
torch.manual_seed(1)
pixels = (torch.rand(1, 3, size, size) * 2 - 1).to(dtype)
with torch.no_grad():
    x, y = (m(input_ids=ids, attention_mask=torch.ones_like(ids), token_type_ids=torch.zeros_like(ids), pixel_values=pixels).logits for m in (theirs, ours))
assert torch.equal(x, y)
print(f"{args.written}: {len(a)} tensors, {quantized} of quantized matrices, and the logits are those of bitsandbytes")
