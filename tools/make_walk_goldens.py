#!/usr/bin/env python3
"""Losses and gradients of whole models by PyTorch, Transformers and PEFT, for tests/test_backprop.c.

    python tools/make_walk_goldens.py [OUT = tests/golden/train/walk.json]

Each case is a tiny model of tests/golden, trained whole or with an adapter of tests/golden/lora (whose values it begins with), and two
samples of different lengths with a picture each. The loss is the mean over all targets. Of every gradient: its length, and its first,
middle and last element. Everything is float32. Over NF4 weights the library's product, which on the CPU errs for some widths, is replaced
by the formula (make_lora_goldens.py).
"""
import argparse, json, pathlib

import bitsandbytes, peft, torch, transformers
from peft import PeftModel
from transformers import PaliGemmaForConditionalGeneration

from make_lora_goldens import dequantize

GOLDEN = pathlib.Path(__file__).parent.parent / "tests/golden"
CASES = [dict(model="models/pg1-f32"), dict(model="models/pg2-f32"), dict(model="models/pg1-f32", adapter="lora/recipe"),
         dict(model="bnb/pg1-nf4", adapter="lora/nf4")]
PREFIXES, SUFFIXES = [[2, 7, 30, 12, 5], [2, 9, 5]], [[21, 33, 40, 1], [8, 17, 6, 50, 11, 29, 1]]


def pixels(size, shift):
    """The same in C: level (7 i^2 + 13 i + shift) % 256 of value i, channels first."""
    i = torch.arange(3 * size * size)
    return ((i * i * 7 + i * 13 + shift) % 256).float().div(127.5).sub(1).reshape(1, 3, size, size)


def name_of(name):
    name = name.replace(".default", "")
    return name if name.startswith("base_model.") else name.removeprefix("model.")


def run(case):
    base = PaliGemmaForConditionalGeneration.from_pretrained(GOLDEN / case["model"], dtype=torch.float32, attn_implementation="eager", device_map="cpu")
    config = base.config
    model = PeftModel.from_pretrained(base, GOLDEN / case["adapter"], is_trainable=True) if "adapter" in case else base
    model.train()
    image, n_image = config.image_token_id, (config.vision_config.image_size // config.vision_config.patch_size) ** 2
    count, nll = sum(map(len, SUFFIXES)), []
    for k, (prefix, suffix) in enumerate(zip(PREFIXES, SUFFIXES)):
        ids = torch.tensor([[image] * n_image + prefix + suffix])
        types = torch.tensor([[0] * (n_image + len(prefix)) + [1] * len(suffix)])
        labels = ids.masked_fill(types == 0, -100)
        out = model(input_ids=ids, attention_mask=torch.ones_like(ids), token_type_ids=types, labels=labels,
                    pixel_values=pixels(config.vision_config.image_size, k))
        rows = torch.nn.functional.cross_entropy(out.logits[0, -len(suffix) - 1:-1], ids[0, -len(suffix):], reduction="none")
        assert abs(float(out.loss) - float(rows.mean())) < 1e-5 * float(out.loss), (out.loss, rows)
        (rows.sum() / count).backward()
        nll += rows.tolist()
    grads = {}
    for name, p in model.named_parameters():
        if p.grad is None:
            assert not p.requires_grad, name
            continue
        g = p.grad.flatten()
        grads[name_of(name)] = [float(g.double().norm()), float(g[0]), float(g[g.numel() // 2]), float(g[-1])]
    print(case, sum(nll) / count, len(grads), sum(v[0] ** 2 for v in grads.values()) ** 0.5)
    return dict(case, nll=nll, grads=grads)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("out", nargs="?", type=pathlib.Path, default=GOLDEN / "train/walk.json")
    args = ap.parse_args()
    torch.set_num_threads(1)
    bitsandbytes.matmul_4bit = lambda a, b, quant_state, out=None, bias=None: torch.nn.functional.linear(a, dequantize(b, quant_state), bias)
    cases = [run(c) for c in CASES]
    manifest = dict(script="tools/make_walk_goldens.py", torch=torch.__version__, transformers=transformers.__version__, peft=peft.__version__,
                    bitsandbytes=bitsandbytes.__version__)
    text = json.dumps(dict(manifest, prefixes=PREFIXES, suffixes=SUFFIXES, cases=cases))
    args.out.write_text(text.replace('{"model"', '\n{"model"').replace('], "', '],\n"') + "\n")


if __name__ == "__main__":
    main()
