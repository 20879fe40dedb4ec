#!/usr/bin/env python3
"""Times Transformers/PyTorch on a PaliGemma of a real shape with random weights in memory, for the comparison in SPEED.md.

    python tools/time_peers.py f32|bf16|int8 [--image 224] [--runs 3] [--tokens 8] [--threads 2]

int8 is PyTorch's dynamic quantization of every Linear (one scale for a tensor of weights). Needs torch and transformers; one
type a process, so that memory and caches are its own. Prints medians and the peak of the process.
"""
import argparse, resource, statistics, sys, time

import torch
import transformers
from transformers import PaliGemmaConfig, PaliGemmaForConditionalGeneration

p = argparse.ArgumentParser()
p.add_argument("kind", choices=["f32", "bf16", "int8"])
p.add_argument("--image", type=int, default=224)
p.add_argument("--runs", type=int, default=3)
p.add_argument("--tokens", type=int, default=8)
p.add_argument("--threads", type=int, default=2)
p.add_argument("--layers", type=int, default=18, help="fewer for a trial")
a = p.parse_args()
torch.set_num_threads(a.threads)
torch.manual_seed(1)

n_image = (a.image // 14) ** 2
config = PaliGemmaConfig(
    text_config=dict(model_type="gemma", hidden_size=2048, intermediate_size=16384, num_hidden_layers=a.layers, num_attention_heads=8,
                     num_key_value_heads=1, head_dim=256, vocab_size=257216),
    vision_config=dict(model_type="siglip_vision_model", hidden_size=1152, intermediate_size=4304, num_hidden_layers=27, num_attention_heads=16,
                       image_size=a.image, patch_size=14, projection_dim=2048, vision_use_head=False),
    image_token_id=257152, projection_dim=2048, hidden_size=2048)
# Initialising three billion weights takes minutes: it is left out, and they are filled below.
for name in dir(torch.nn.init):
    if name.endswith("_") and not name.startswith("_"):
        setattr(torch.nn.init, name, lambda tensor, *rest, **named: tensor)
for module in (torch.nn.Linear, torch.nn.Embedding, torch.nn.LayerNorm, torch.nn.Conv2d):
    module.reset_parameters = lambda self: None
torch.set_default_dtype(torch.bfloat16 if a.kind == "bf16" else torch.float32)
model = PaliGemmaForConditionalGeneration(config).eval()
with torch.no_grad():
    for parameter in model.parameters():
        parameter.uniform_(-0.03, 0.03)
if a.kind == "int8":
    model = torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8, inplace=True)
torch.set_default_dtype(torch.float32)

ids = torch.tensor([[257152] * n_image + [2] + [4 + i % 61 for i in range(10)]])
types = torch.zeros_like(ids)
pixels = torch.rand(1, 3, a.image, a.image).to(torch.bfloat16 if a.kind == "bf16" else torch.float32) * 2 - 1
vision, prefill, decode = [], [], []
with torch.inference_mode():
    for run in range(a.runs + 1):
        start = time.perf_counter()
        model.model.get_image_features(pixels)
        seen = time.perf_counter()
        out = model(input_ids=ids, pixel_values=pixels, attention_mask=torch.ones_like(ids), token_type_ids=types, use_cache=True, logits_to_keep=1)
        first = time.perf_counter()
        token, cache = out.logits[:, -1:].argmax(-1), out.past_key_values
        for i in range(a.tokens):
            mask = torch.ones(1, ids.shape[1] + i + 1, dtype=torch.long)
            out = model(input_ids=token, attention_mask=mask, token_type_ids=torch.ones_like(token), cache=cache, use_cache=True)
            token, cache = out.logits[:, -1:].argmax(-1), out.past_key_values
        end = time.perf_counter()
        if run:  # the first is a warm-up
            vision.append(seen - start)
            prefill.append(first - seen)
            decode.append(a.tokens / (end - first))
m = statistics.median
print(f"transformers {transformers.__version__}, torch {torch.__version__}, {a.kind}, {a.image} px, {ids.shape[1]} tokens, {a.threads} threads, "
      f"{a.runs} runs: vision {m(vision):.2f} s, vision + prefill {m(prefill):.2f} s ({min(prefill):.2f} to {max(prefill):.2f}), "
      f"decode {m(decode):.2f} tokens/s ({min(decode):.2f} to {max(decode):.2f}), peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")
sys.stdout.flush()
