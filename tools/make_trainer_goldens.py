#!/usr/bin/env python3
"""20 steps of fine-tuning the tiny model, as pali_finetune does them, by Transformers' Trainer and PEFT: loss, learning rate and gradient norm of each.

    python tools/make_trainer_goldens.py [OUT = tests/golden/train]

Reads OUT/run.jsonl (seven rows: batches of 2, accumulated twice, so that the last window of an epoch is short in rows), writes
OUT/run.json. Everything in float32 on the CPU. LoRA begins with tests/golden/lora/recipe, so that no random numbers are needed.
"""
import argparse, json, pathlib, tempfile, warnings

import peft, torch, transformers
from peft import PeftModel
from PIL import Image
from transformers import PaliGemmaForConditionalGeneration, Trainer, TrainingArguments

from make_model_goldens import make_processor, make_tokenizer

warnings.filterwarnings("ignore")
GOLDEN = pathlib.Path(__file__).parent.parent / "tests/golden"
STEPS = 20
COMMON = dict(max_steps=STEPS, per_device_train_batch_size=2, gradient_accumulation_steps=2, warmup_steps=2, logging_steps=1, save_strategy="no", report_to=[],
              remove_unused_columns=False, use_cpu=True, disable_tqdm=True, dataloader_pin_memory=False, optim="adamw_torch")

# groups: substrings of the names of what is trained; arguments: of TrainingArguments.
RUNS = {
    "lora": dict(arguments=dict(learning_rate=2e-3, weight_decay=0.01)),
    "frozen vision": dict(groups=["language_model", "multi_modal_projector"], arguments=dict(learning_rate=1e-3, weight_decay=0.01)),
    "full": dict(groups=[""], arguments=dict(learning_rate=1e-3, weight_decay=0.01, lr_scheduler_type="cosine")),
    "attention": dict(groups=["language_model.layers", "self_attn"], arguments=dict(learning_rate=1e-2, optim="sgd", max_grad_norm=0.5, lr_scheduler_type="constant_with_warmup")),
}


class Rows(torch.utils.data.Dataset):
    def __init__(self, path):
        self.rows = [json.loads(line) for line in path.read_text().splitlines()]
        self.dir = path.parent

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        return self.rows[i]


def picture(path):
    """Transparency over white, as the image processor of Transformers 5 does."""
    image = Image.open(path)
    if image.mode in ("RGBA", "LA", "P"):
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (255, 255, 255, 255)), image)
    return image.convert("RGB")


def run(name, spec, rows, model_dir):
    processor = make_processor(make_tokenizer()[0])
    model = PaliGemmaForConditionalGeneration.from_pretrained(model_dir, dtype=torch.float32, attn_implementation="eager")
    if name == "lora":
        model = PeftModel.from_pretrained(model, GOLDEN / "lora/recipe", is_trainable=True)
    else:
        for n, p in model.named_parameters():
            p.requires_grad = all(g in n for g in spec["groups"]) if name == "attention" else any(g in n for g in spec["groups"])

    def collate(batch):
        return processor(text=["<image>" + r["prefix"] for r in batch], images=[[picture(rows.dir / r["image"])] for r in batch],
                         suffix=[r["suffix"] for r in batch], return_tensors="pt", padding="longest")

    with tempfile.TemporaryDirectory() as out:
        trainer = Trainer(model=model, train_dataset=rows, data_collator=collate, args=TrainingArguments(output_dir=out, **{**COMMON, **spec["arguments"]}))
        trainer.train()
    log = [h for h in trainer.state.log_history if "loss" in h]
    return dict(parameters=sum(p.numel() for p in model.parameters() if p.requires_grad), loss=[h["loss"] for h in log], grad_norm=[float(h["grad_norm"]) for h in log],
                lr=[h["learning_rate"] for h in log])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", nargs="?", type=pathlib.Path, default=GOLDEN / "train")
    out = parser.parse_args().out
    torch.set_num_threads(1)
    rows = Rows(out / "run.jsonl")
    result = dict(versions=dict(transformers=transformers.__version__, peft=peft.__version__, torch=torch.__version__), steps=STEPS,
                  runs={name: run(name, spec, rows, GOLDEN / "models/pg1-f32") for name, spec in RUNS.items()})
    (out / "run.json").write_text(json.dumps(result, indent=1) + "\n")


main()
