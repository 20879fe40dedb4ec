#!/usr/bin/env python3
"""Times Hugging Face Transformers on a PaliGemma checkpoint, for the comparison in SPEED.md.

    python tools/time_transformers.py CHECKPOINT PICTURE [--prompt "caption en"] [--dtype bf16 f32] [--threads 2]
                                      [--runs 3] [--tokens 64] [--attn eager] [--json OUT]

Every run is a process of its own (so that loading and start-up are real) which loads the model, answers once, then answers
--repeat times more. Reported per dtype are medians over runs, with the smallest and largest:
    start_to_first_s   process start (interpreter and imports included) until the first token is known
    import_s, load_s   importing the libraries; opening the checkpoint and the processor
    first_ms           picture and prompt to first token: preprocessing, vision, prefill (warm)
    vision_ms          the image tower and projector alone (warm)
    decode_tok_s       tokens per second after the first, eos ignored (warm)
    peak_rss_mib       largest resident set, pages of mapped weights included
Files are warm in the page cache after the first run; that run is done but not counted.
"""
import argparse, json, os, resource, statistics, subprocess, sys, time


def child(args):
    started = args.started
    import torch
    from PIL import Image
    from transformers import PaliGemmaForConditionalGeneration, PaliGemmaProcessor, PreTrainedTokenizerFast, logging
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(args.threads)
    imported = time.time()

    tokenizer = PreTrainedTokenizerFast(tokenizer_file=os.path.join(args.checkpoint, "tokenizer.json"), bos_token="<bos>",
                                        eos_token="<eos>", pad_token="<pad>", unk_token="<unk>",
                                        extra_special_tokens={"image_token": "<image>"})
    images = SiglipImageProcessorPil.from_pretrained(args.checkpoint)
    dtype = {"bf16": torch.bfloat16, "f32": torch.float32, "f16": torch.float16}[args.dtype[0]]
    model = PaliGemmaForConditionalGeneration.from_pretrained(args.checkpoint, dtype=dtype, attn_implementation=args.attn).eval()
    model.generation_config.eos_token_id = None
    model.generation_config.cache_implementation = None
    vision = model.config.vision_config
    images.image_seq_length = (vision.image_size // vision.patch_size) ** 2
    processor = PaliGemmaProcessor(images, tokenizer)
    loaded = time.time()

    class Stamps:
        """A streamer: generate puts the prompt first, then each token as it is known."""
        def __init__(self): self.at = []
        def put(self, value): self.at.append(time.time())
        def end(self): pass

    def answer(n):
        stamps, begin = Stamps(), time.time()
        batch = processor(images=[[Image.open(args.picture)]], text=["<image>" + args.prompt], return_tensors="pt")
        batch.pop("labels", None)
        # A base Gemma tokenizer makes <image> an id of its own; the model wants the one of its config.
        own, wanted = tokenizer.convert_tokens_to_ids("<image>"), model.config.image_token_id
        batch["input_ids"] = torch.where(batch["input_ids"] == own, wanted, batch["input_ids"])
        batch["pixel_values"] = batch["pixel_values"].to(dtype)
        model.generate(**batch, max_new_tokens=n, do_sample=False, eos_token_id=None, pad_token_id=0, streamer=stamps)
        at = stamps.at[1:]
        assert len(at) == n
        return batch, at[0], at[0] - begin, (n - 1) / (at[-1] - at[0])

    with torch.inference_mode():
        batch, first, _, _ = answer(2)
        result = dict(start_to_first_s=first - started, import_s=imported - started, load_s=loaded - imported)
        warm = [answer(args.tokens) for _ in range(args.repeat)]
        vision_s = []
        for _ in range(args.repeat):
            begin = time.time()
            model.get_image_features(batch["pixel_values"])
            vision_s.append(time.time() - begin)
        result.update(first_ms=1000 * statistics.median(w[2] for w in warm), vision_ms=1000 * statistics.median(vision_s),
                      decode_tok_s=statistics.median(w[3] for w in warm),
                      peak_rss_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, prompt_tokens=batch["input_ids"].shape[1])
    print(json.dumps(result))


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("checkpoint")
    ap.add_argument("picture")
    ap.add_argument("--prompt", default="caption en")
    ap.add_argument("--dtype", nargs="+", default=["bf16", "f32"], choices=["bf16", "f32", "f16"])
    ap.add_argument("--threads", type=int, default=2)
    ap.add_argument("--runs", type=int, default=3, help="counted processes per dtype")
    ap.add_argument("--repeat", type=int, default=2, help="warm answers per process")
    ap.add_argument("--tokens", type=int, default=64)
    ap.add_argument("--attn", choices=["sdpa", "eager"], help="default: what Transformers chooses")
    ap.add_argument("--json", help="write all runs here too")
    ap.add_argument("--started", type=float, help=argparse.SUPPRESS)
    args = ap.parse_args()
    if args.started:
        return child(args)
    import torch, transformers
    everything = dict(torch=torch.__version__, transformers=transformers.__version__, threads=args.threads, attn=args.attn,
                      tokens=args.tokens, prompt=args.prompt, runs={})
    environment = dict(os.environ, OMP_NUM_THREADS=str(args.threads), MKL_NUM_THREADS=str(args.threads))
    for dtype in args.dtype:
        runs = []
        for i in range(args.runs + 1):
            command = [sys.executable, __file__, args.checkpoint, args.picture, "--prompt", args.prompt, "--dtype", dtype, "--threads",
                       str(args.threads), "--repeat", str(args.repeat), "--tokens", str(args.tokens)]
            command += ["--attn", args.attn] if args.attn else []
            out = subprocess.run(command + ["--started", repr(time.time())], env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
            if i > 0:
                runs.append(json.loads(out.splitlines()[-1]))
        everything["runs"][dtype] = runs
        print(f"{dtype}, {args.threads} threads, torch {torch.__version__}, transformers {transformers.__version__}, "
              f"{runs[0]['prompt_tokens']} input tokens, {args.tokens} generated")
        for key in runs[0]:
            if key != "prompt_tokens":
                values = [r[key] for r in runs]
                print(f"  {key:17s} {statistics.median(values):10.2f}   ({min(values):.2f} .. {max(values):.2f})")
    if args.json:
        with open(args.json, "w") as f:
            json.dump(everything, f, indent=1)


if __name__ == "__main__":
    main()
