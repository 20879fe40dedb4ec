#!/usr/bin/env python3
"""LoRA adapters for the tiny models of tests/golden/models, and what PEFT + Transformers say with them.

    python tools/make_lora_goldens.py [OUT = tests/golden/lora]

Writes, for each adapter NAME of ADAPTERS, NAME/adapter_config.json and NAME/adapter_model.safetensors as PEFT saves them (some
keys renamed to what older versions of Transformers made of them), and golden.json: log-probabilities of given answers with each
adapter as PeftModel.from_pretrained loads it, with two of them one after the other in one process, and with whole tables in place
of the model's (which the test makes itself: they are the model's own times 0.5). patterns.json has regular expressions, names,
and whether Python's re.match matches: those of ADAPTERS' kind and random ones. Base and adapter run in float32, unmerged.
One more, "nf4", is for a base that bitsandbytes quantized (tests/golden/bnb/pg1-nf4): greedy tokens and log-probabilities by PEFT over
the library's own layers in float32, whose product on the CPU errs for some widths and is replaced by the formula.
A and B are random, of a size that changes answers visibly: "effect" is the largest change of a log-probability.
"""
import argparse, json, pathlib, random, re, shutil, tempfile, warnings

import peft, torch, transformers
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import PaliGemmaForConditionalGeneration

from make_model_goldens import Reference, make_processor, make_tokenizer

warnings.filterwarnings("ignore")
SEED = 20240731
MODELS = pathlib.Path(__file__).parent.parent / "tests/golden/models"
SEVEN = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
ANSWERS = ["cat", "<loc0100><loc0007><loc1023><loc0512> cat"]

# config: of LoraConfig; dtype: of the file; keys: which Transformers the names are of; size: of the random values.
ADAPTERS = {
    "text": dict(model="pg1-f32", keys="4.51", config=dict(r=4, lora_alpha=8, target_modules=r".*language_model.*\.(q_proj|v_proj|down_proj|gate_proj)")),
    "recipe": dict(model="pg1-f32", keys="4.57", config=dict(r=2, target_modules=SEVEN)),
    "rslora": dict(model="pg2-f32", dtype=torch.bfloat16, config=dict(r=4, lora_alpha=3, use_rslora=True, target_modules=SEVEN[:4])),
    "patterns": dict(model="pg2-f32", config=dict(
        r=2, lora_alpha=4, target_modules=["q_proj", "v_proj", "down_proj"],
        rank_pattern={"layers.1.self_attn.q_proj": 3, r"^model\.language_model\.layers\.[02]\.(mlp|other)\.down_proj": 1, "q_proj": 1},
        alpha_pattern={"v_proj": 6, r".*vision_tower\S+layers\.\d{1,2}.*\.q_proj": 3, "_proj": 100})),
    "vision": dict(model="pg1-f32", config=dict(r=2, lora_alpha=3, target_modules=["fc1", "fc2", "out_proj", "linear", "patch_embedding"])),
    "saved": dict(model="pg1-f32", config=dict(r=2, target_modules=["k_proj"], modules_to_save=["multi_modal_projector", "norm", "layer_norm1"])),
    "biases": dict(model="pg1-f32", config=dict(r=1, bias="all", target_modules=["v_proj"])),
    "lora_bias": dict(model="pg2-f32", config=dict(r=1, lora_alpha=2, lora_bias=True, target_modules=["q_proj", "up_proj", "fc1"])),
    "tables": dict(model="pg1-f32", dtype=torch.float16, config=dict(r=1, lora_alpha=1, target_modules=["embed_tokens", "lm_head"])),
}


def base_model(name):
    return PaliGemmaForConditionalGeneration.from_pretrained(MODELS / name, dtype=torch.float32, attn_implementation="eager").eval()


def old_name(key, version):
    """A key of Transformers 5 as an older one has it."""
    if version:
        key = key.replace("model.vision_tower.", "model.vision_tower.vision_model.")
    if version == "4.51":
        key = key.replace("base_model.model.model.language_model.", "base_model.model.language_model.model.").replace(
            "base_model.model.model.", "base_model.model.")
    return key


def make_adapter(out, spec, gen, base=None, name=None):
    model = get_peft_model(base or base_model(spec["model"]), LoraConfig(task_type="CAUSAL_LM", **spec["config"]))
    with tempfile.TemporaryDirectory() as tmp:
        model.save_pretrained(tmp, save_embedding_layers=False)
        state, changed = load_file(pathlib.Path(tmp) / "adapter_model.safetensors"), {}
        for key, t in sorted(state.items()):
            noise = torch.randn(t.shape, generator=gen)
            if "lora_" in key and not key.endswith("bias"):
                t = noise * (0.45 / t.shape[1] ** 0.5 if "lora_A" in key else 0.2 if "embedding" not in key else 0.1)
            else:
                t = t + noise * (0.1 * t.std() if t.std() > 0 else 0.1)
            changed[old_name(key, spec.get("keys"))] = t.to(spec.get("dtype", torch.float32)).contiguous()
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        save_file(changed, out / "adapter_model.safetensors", {"format": "pt"})
        (out / "adapter_model.safetensors").chmod(0o644)
        config = json.loads((pathlib.Path(tmp) / "adapter_config.json").read_text())
        config["base_model_name_or_path"] = "tiny/" + (name or spec["model"])
        if isinstance(config["target_modules"], list):  # a set in memory: its order is a matter of chance
            config["target_modules"].sort()
        (out / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def load(model, directory):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        m = PeftModel.from_pretrained(model, directory).eval()
    assert not [w for w in said if "missing" in str(w.message) or "not initialized" in str(w.message)], [str(w.message) for w in said]
    return m


def dequantize(packed, state):
    """By the formula: blocks run over the flattened matrix."""
    codes = torch.stack([packed.reshape(-1) >> 4, packed.reshape(-1) & 15], 1).reshape(-1)[:state.shape.numel()].long()
    assert not state.nested and state.blocksize == 64
    return (state.code[codes] * state.absmax.repeat_interleave(64)[:codes.numel()]).to(state.dtype).reshape(state.shape)


def make_nf4(out, gen):
    import bitsandbytes
    calls = []

    def product(a, b, quant_state, out=None, bias=None):
        calls.append(1)
        return torch.nn.functional.linear(a, dequantize(b, quant_state), bias)

    bitsandbytes.matmul_4bit = product
    base = lambda: PaliGemmaForConditionalGeneration.from_pretrained(MODELS.parent / "bnb/pg1-nf4", dtype=torch.float32, device_map="cpu").eval()
    spec = dict(config=dict(r=4, lora_alpha=6, target_modules=SEVEN + ["fc2"]))
    make_adapter(out, spec, gen, base(), "pg1-nf4")
    model = load(base(), out)
    kind = type(model.base_model.model.model.language_model.layers[0].self_attn.q_proj).__module__ + " " + type(
        model.base_model.model.model.language_model.layers[0].self_attn.q_proj).__name__
    assert kind == "peft.tuners.lora.bnb Linear4bit", kind
    rgb = [(i * i * 7 + i * 13) % 256 for i in range(16 * 16 * 3)]
    pixels = (torch.tensor(rgb, dtype=torch.float32) / 127.5 - 1).reshape(1, 16, 16, 3).permute(0, 3, 1, 2)
    ids = [55] * 4 + [2, 7, 30, 12, 5]
    with torch.no_grad():
        greedy = []
        for m in (base(), model):
            tokens, logprobs, margin = [], [], 9.0
            for _ in range(8):
                row = torch.tensor([ids + tokens])
                types = torch.tensor([[0] * len(ids) + [1] * len(tokens)])
                z = m(input_ids=row, attention_mask=torch.ones_like(row), token_type_ids=types, pixel_values=pixels).logits[0, -1].log_softmax(-1)
                top = z.topk(2).values
                margin = min(margin, float(top[0] - top[1]))
                tokens.append(int(z.argmax()))
                logprobs.append(float(top[0]))
            greedy.append(dict(tokens=tokens, logprobs=logprobs, margin=margin))
    assert len(calls) == 16 * 14, len(calls)  # steps and products: seven of the text layer, six of the tower, the projector
    print("nf4", greedy)
    assert greedy[0]["tokens"] != greedy[1]["tokens"] and greedy[1]["margin"] > 0.005
    return dict(rgb=rgb, ids=ids, **greedy[1])


def make_patterns(rng):
    """[pattern, subject, 1: matches, 0: does not, -1: not a regular expression]."""
    def some(depth):
        kind = rng.randrange(9 if depth else 6)
        if kind < 3:
            return rng.choice(["a", "b", "q", "_", "0", "1", ".", r"\.", r"\d", r"\w", r"\S", "[ab]", "[^a]", "[a-q0-5_]", r"[\d.]", "[]a]", r"\-", "-"])
        if kind < 5:
            return some(max(depth - 1, 0)) + some(max(depth - 1, 0))
        if kind == 5:
            return some(0) + rng.choice(["*", "+", "?", "{2}", "{1,3}", "{,2}", "{2,}", "*?", "+?", "{x", "{1", "{3,1}", "**", "{}", "{,}"])
        inside = rng.choice(["", "?:"]) + "|".join(some(depth - 1) for _ in range(rng.randint(1, 3)))
        return "(" + inside + ")" + rng.choice(["", "", "*", "+", "?", "{2}", "{0,2}"]) if kind < 8 else rng.choice(["^", "$", r"\Z", ")", "[", "(", r"\A"])
    out = []
    names = ["layers.1.self_attn.q_proj", "model.language_model.layers.10.mlp.down_proj", "model.vision_tower.encoder.layers.3.self_attn.q_proj", "xq_proj", "q_proj"]
    fixed = ["q_proj", "layers.1.self_attn.q_proj", r"layers\.\d+\..*", r"^model\.language_model\.layers\.(0|1|10)\.mlp.*", "_proj", ".*q_proj", r"(?:.*\.)?layers\.[13]\.\S+",
             r"model\.(?!vision)\w+.*", r"(.)\1", r"(?i)Q_PROJ", r"(?P<x>q)_proj", r"\bq_proj", "q++", ""]
    cases = [(rf"(.*\.)?({p})$", n) for p in fixed for n in names]
    for _ in range(700):
        cases.append((some(3), "".join(rng.choice("aabbqq__01..x") for _ in range(rng.randrange(9)))))
    for pattern, subject in cases:
        try:
            out.append([pattern, subject, int(re.match(pattern, subject) is not None)])
        except re.error:
            out.append([pattern, subject, -1])
    return out


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("out", nargs="?", type=pathlib.Path, default=pathlib.Path(__file__).parent.parent / "tests/golden/lora")
    args = ap.parse_args()
    processor, pictures, prompt = make_processor(make_tokenizer()[0]), ["landscape.jpg"], "detect cat"
    gen = torch.Generator().manual_seed(SEED)
    answers = lambda model: Reference(model, processor, MODELS / "images").answers(pictures, prompt, ANSWERS)
    flat = lambda rows: torch.tensor([x for r in rows for x in r["logprobs"]])
    bare = {name: answers(base_model(name)) for name in ("pg1-f32", "pg2-f32")}
    cases = []

    def case(adapters, model, rows):
        effect = float((flat(rows) - flat(bare[model])).abs().max())
        print("%-24s %-8s effect %.2f" % (adapters, model, effect))
        assert effect > 0.05
        cases.append(dict(adapters=adapters, model=model, effect=effect, answers=rows))

    for name, spec in ADAPTERS.items():
        make_adapter(args.out / name, spec, gen)
        case([name], spec["model"], answers(load(base_model(spec["model"]), args.out / name)))
    # Two in one process: each alone, then the sum of both.
    m = load(base_model("pg1-f32"), args.out / "text")
    m.load_adapter(args.out / "recipe", "recipe")
    assert torch.equal(flat(answers(m)), flat(cases[0]["answers"]))
    m.set_adapter("recipe")
    assert torch.allclose(flat(answers(m)), flat(cases[1]["answers"]), atol=1e-5)
    m.base_model.set_adapter(["default", "recipe"])
    case(["text", "recipe"], "pg1-f32", answers(m))

    def half_table(name, how):
        """A copy of the table beside the model's, one that the head is tied to as well, and the model's own parameter."""
        model = base_model("pg1-f32")
        if how == "parameter":
            model.model.language_model.embed_tokens.weight.data *= 0.5
            return case([name], "pg1-f32", answers(model))
        m = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=1, target_modules=["q_proj"], modules_to_save=["embed_tokens"],
                                             ensure_weight_tying=how == "tied"))
        table = m.base_model.model.model.language_model.embed_tokens.modules_to_save["default"].weight
        with torch.no_grad():
            table *= 0.5
        return case([name], "pg1-f32", answers(m))

    half_table("half table", "copy")
    half_table("half table, tied", "tied")
    half_table("half table, parameter", "parameter")
    (args.out / "patterns.json").write_text(json.dumps(make_patterns(random.Random(SEED))).replace("], [", "],\n[") + "\n")
    nf4 = make_nf4(args.out / "nf4", gen)
    manifest = dict(script="tools/make_lora_goldens.py", seed=SEED, torch=torch.__version__, transformers=transformers.__version__,
                    peft=peft.__version__)
    (args.out / "golden.json").write_text(json.dumps(dict(manifest, images=pictures, prompt=prompt, bare=bare, cases=cases, nf4=nf4), ensure_ascii=False)
                                          .replace('{"adapters"', '\n{"adapters"') + "\n")


if __name__ == "__main__":
    main()
