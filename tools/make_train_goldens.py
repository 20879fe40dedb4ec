#!/usr/bin/env python3
"""What Transformers' Trainer and PEFT make of twenty updates of the tiny models: tests/golden/train/steps.json and steps.safetensors.

    python tools/make_train_goldens.py [OUT = tests/golden/train]

The rows are those of steps.jsonl: nine, so that with micro-batches of two and windows of three both the last micro-batch and the last
window of an epoch are short. Everything runs in float32 with eager attention on one thread.

steps.json has, for each case of CASES: loss, learning rate and gradient norm of every update as Trainer logs them; how many values
are trained; for each trained tensor (named as the weights, or as PEFT saves it) [norm, probe] of how far it has moved, where probe is
the sum of change[i] * cos(i) in double (not of the tower's k_proj.bias, which rounding moves); and "noise", by how much all of it
differs in a run whose weights are off by a rounding: how well these numbers are determined. Besides the settings, and the rows of
every micro-batch in their order.
steps.safetensors has the A of adapters as they begin (B is zero), "A/<model>/<name>", and both as one run ended, "<case>/<name>".
"qlora" has a base whose matrices bitsandbytes quantized; they are f32 matrices by the formula here, since its own products err on the
CPU for some widths.
"""
import argparse, json, pathlib, sys, tempfile, warnings

import accelerate, bitsandbytes, peft, PIL, torch, transformers
from bitsandbytes.functional import quantize_4bit
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from PIL import Image
from safetensors.torch import save_file
from transformers import PaliGemmaForConditionalGeneration, Trainer, TrainingArguments

from make_lora_goldens import SEVEN, dequantize
from make_model_goldens import make_processor, make_tokenizer

warnings.filterwarnings("ignore")
transformers.utils.logging.set_verbosity_error()
SEED = 42
ROOT = pathlib.Path(__file__).parent.parent
MODELS = ROOT / "tests/golden/models"
EPOCHS, BATCH, WINDOW, WARMUP, DECAY, MAX_NORM, RANK, ALPHA = 10, 2, 3, 2, 0.1, 1.0, 4, 8  # a decay that can be seen after 20 updates
ENDS = "lora"  # the case whose adapters are kept as they end

CASES = {
    "full": dict(model="pg1-f32", method="full", lr=4e-4),
    "frozen_vision": dict(model="pg1-f32", method="frozen_vision", lr=1e-3),
    "attention_sgd": dict(model="pg1-f32", method="attention", lr=0.1, optim="sgd"),
    "lora": dict(model="pg1-f32", method="lora", lr=3e-3),
    "lora_text": dict(model="pg1-f32", method="lora_text", lr=3e-3),
    "qlora": dict(model="pg1-f32", method="lora", lr=3e-3, nf4=True),
    "full_gemma2": dict(model="pg2-f32", method="full", lr=4e-4),
    "lora_gemma2": dict(model="pg2-f32", method="lora", lr=3e-3),
}


# ---- Rows --------------------------------------------------------------------------------------------------------

def read_rows(path):
    rows = []
    for i, line in enumerate(path.read_text().splitlines()):
        row = json.loads(line)
        names = row["image"] if isinstance(row["image"], list) else [row["image"]]
        rows.append(dict(row, i=i, pictures=[Image.open(path.parent / n) for n in names]))
    return rows


class Collator:
    """Rows to a padded batch; remembers which came."""

    def __init__(self, processor):
        self.processor, self.seen = processor, []

    def __call__(self, rows):
        self.seen.append([r["i"] for r in rows])
        batch = self.processor(images=[r["pictures"] for r in rows], text=["<image>" * len(r["pictures"]) + r["prefix"] for r in rows],
                               suffix=[r["suffix"] for r in rows], return_tensors="pt", padding="longest")
        if len(rows) > 1:
            lengths = batch["attention_mask"].sum(1)
            for mask, n in zip(batch["attention_mask"], lengths):
                assert not mask[:len(mask) - n].any(), "padding is not on the left"
        return dict(batch)


# ---- Models ------------------------------------------------------------------------------------------------------

def quantized(w):
    packed, state = quantize_4bit(w, blocksize=64, quant_type="nf4")
    return dequantize(packed, state)


def base_model(spec, off):
    """off: weights are multiplied by 1 + off * (a random number)."""
    model = PaliGemmaForConditionalGeneration.from_pretrained(MODELS / spec["model"], dtype=torch.float32, attn_implementation="eager")
    assert all(getattr(m, "p", 0) == 0 for m in model.modules() if isinstance(m, torch.nn.Dropout)) and model.config.text_config.attention_dropout == 0
    gen = torch.Generator().manual_seed(SEED)
    with torch.no_grad():
        for name, module in model.named_modules():
            if spec.get("nf4") and isinstance(module, torch.nn.Linear) and name != "lm_head":
                module.weight.copy_(quantized(module.weight))
        for p in model.parameters():
            p.mul_(1 + off * torch.randn(p.shape, generator=gen))
    return model


def make_trainable(spec, model, starts):
    method = spec["method"]
    if method == "full":
        return model
    if method == "frozen_vision":
        for p in model.model.vision_tower.parameters():
            p.requires_grad = False
        return model
    if method == "attention":
        for name, p in model.named_parameters():
            p.requires_grad = "language_model" in name and name.split(".")[-2] in SEVEN[:4]
        return model
    names = SEVEN if method == "lora" else r".*language_model.*\.(" + "|".join(SEVEN) + ")"
    model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=RANK, lora_alpha=ALPHA, target_modules=names))
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "lora_A" in name:  # the same for every case of a base
                p.copy_(starts.setdefault("A/" + spec["model"] + "/" + saved_name(name), p.detach().clone()))
            assert "lora_B" not in name or not p.any()
    return model


def saved_name(name):
    return name.replace(".default.weight", ".weight")


def trained(model):
    return {saved_name(name): p.detach().clone() for name, p in model.named_parameters() if p.requires_grad and name != "lm_head.weight"}


# ---- Runs --------------------------------------------------------------------------------------------------------

class Watched(Trainer):
    """Trainer that remembers how many targets each micro-batch's loss was divided by."""

    def training_step(self, model, inputs, num_items_in_batch=None):
        self.divisors.append(int(num_items_in_batch))
        self.targets.append(int((inputs["labels"][:, 1:] != -100).sum()))
        return super().training_step(model, inputs, num_items_in_batch)


def run(spec, rows, processor, starts, off=0.0):
    torch.manual_seed(SEED)
    model = make_trainable(spec, base_model(spec, off), starts)
    collator, before = Collator(processor), trained(model)
    args = TrainingArguments(output_dir=tempfile.gettempdir(), num_train_epochs=EPOCHS, per_device_train_batch_size=BATCH, gradient_accumulation_steps=WINDOW,
                             learning_rate=spec["lr"], warmup_steps=WARMUP, weight_decay=DECAY, max_grad_norm=MAX_NORM, optim=spec.get("optim", "adamw_torch"),
                             logging_steps=1, save_strategy="no", report_to="none", remove_unused_columns=False, use_cpu=True, seed=SEED,
                             dataloader_pin_memory=False, disable_tqdm=True)
    trainer = Watched(model=model, args=args, train_dataset=rows, data_collator=collator)
    trainer.divisors, trainer.targets = [], []
    trainer.remove_callback(transformers.PrinterCallback)
    trainer.train()
    steps = [e for e in trainer.state.log_history if "loss" in e]
    per_epoch = -(-len(rows) // BATCH)
    assert len(steps) == EPOCHS * -(-per_epoch // WINDOW) and len(collator.seen) == EPOCHS * per_epoch
    for epoch in range(EPOCHS):  # the loss is the mean over the targets of the window
        for first in range(epoch * per_epoch, (epoch + 1) * per_epoch, WINDOW):
            window = slice(first, min(first + WINDOW, (epoch + 1) * per_epoch))
            assert set(trainer.divisors[window]) == {sum(trainer.targets[window])}
    after = trained(model)
    moved = {name: after[name].double() - p.double() for name, p in before.items()}
    numbers = {key: [e[key] for e in steps] for key in ("loss", "learning_rate", "grad_norm")}
    return numbers, moved, collator.seen, model


def apart(a, b):
    return max(abs(x - y) / abs(x) for x, y in zip(a, b))


def norm_and_probe(change):
    flat = change.reshape(-1)
    return [float(flat.norm()), float((flat * torch.cos(torch.arange(flat.numel(), dtype=torch.float64))).sum())]


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("out", nargs="?", type=pathlib.Path, default=ROOT / "tests/golden/train")
    args = ap.parse_args()
    torch.set_num_threads(1)
    rows, processor = read_rows(ROOT / "tests/golden/train/steps.jsonl"), make_processor(make_tokenizer()[0])
    starts, ends, cases, order = {}, {}, [], None
    for name, spec in CASES.items():
        numbers, moved, seen, model = run(spec, rows, processor, starts)
        order = order or seen
        assert order == seen
        other, moved2, _, _ = run(spec, rows, processor, starts, off=6e-8)
        noise = {key: apart(numbers[key], other[key]) for key in ("loss", "grad_norm")}
        n_trained = sum(v.numel() for v in moved.values())
        for k in [k for k in moved if k.endswith("k_proj.bias")]:  # adding a constant to all keys changes nothing: its gradient is rounding
            del moved[k]
        noise["moved"] = max(float((moved[k] - moved2[k]).norm() / v.norm()) for k, v in moved.items())
        losses, norms = numbers["loss"], numbers["grad_norm"]
        print("%-14s loss %.4f to %.4f, norms %.2f to %.2f, noise %s" % (name, losses[0], losses[-1], min(norms), max(norms), noise), flush=True)
        assert noise["loss"] < 1e-5 and noise["grad_norm"] < 2e-5 and noise["moved"] < 2e-4
        if name == ENDS:
            ends = {name + "/" + saved_name(k): v.contiguous() for k, v in get_peft_model_state_dict(model, save_embedding_layers=False).items()}
            assert set(ends) == {name + "/" + k for k in moved}
        cases.append(dict(name=name, **spec, n_trained=n_trained, noise=noise, **numbers,
                          moved={k: norm_and_probe(v) for k, v in sorted(moved.items())}))
    head = dict(script="tools/make_train_goldens.py", seed=SEED, python=sys.version.split()[0], torch=torch.__version__, transformers=transformers.__version__,
                peft=peft.__version__, accelerate=accelerate.__version__, bitsandbytes=bitsandbytes.__version__, pillow=PIL.__version__, rank=RANK, alpha=ALPHA,
                epochs=EPOCHS, batch_size=BATCH, grad_accum=WINDOW, warmup=WARMUP, weight_decay=DECAY, max_grad_norm=MAX_NORM, order=order)
    text = json.dumps(dict(head, cases=cases)).replace('{"name"', '\n{"name"').replace('"moved": {"', '\n "moved": {"')
    (args.out / "steps.json").write_text(text + "\n")
    save_file({k: v.contiguous() for k, v in {**starts, **ends}.items()}, args.out / "steps.safetensors", {"format": "pt"})
    (args.out / "steps.safetensors").chmod(0o644)


if __name__ == "__main__":
    main()
