#!/usr/bin/env python3
"""Times llama.cpp on the text part of a PaliGemma of the real shape (Gemma 2B) with random weights, for the comparison in SPEED.md.

    python tools/time_llama.py bf16|q8_0|q4_0 [--prompt 267] [--runs 5] [--tokens 8] [--threads 2] [--layers 18] [--file DIR/x.gguf]

Needs gguf, numpy and llama-cpp-python. The file (5 GB in bf16) is written once and taken again if it is there; its blocks are
random bytes with a fixed scale, as speed does not depend on values. Words are in 8 bits beside q4_0, as llama-quantize keeps
a head that is the table of words in more bits than the rest. The prompt is causal; there is no picture: llama.cpp has no tower for PaliGemma 1.
"""
import argparse, ctypes, os, resource, statistics, sys, tempfile, time

import gguf
import llama_cpp
import numpy as np

p = argparse.ArgumentParser()
p.add_argument("kind", choices=["bf16", "q8_0", "q4_0"])
p.add_argument("--prompt", type=int, default=267)
p.add_argument("--runs", type=int, default=5)
p.add_argument("--tokens", type=int, default=8)
p.add_argument("--threads", type=int, default=2)
p.add_argument("--layers", type=int, default=18, help="fewer for a trial")
p.add_argument("--file", help="where the model is written; default: the directory for temporary files")
a = p.parse_args()

WIDTH, MLP, HEADS, HEAD, VOCABULARY = 2048, 16384, 8, 256, 257216
rng = np.random.default_rng(1)


def blocks(kind, rows, columns):
    """Random bytes of `rows` x `columns` weights: [rows, bytes of a row]."""
    if kind == "bf16":
        signs_and_fractions = rng.integers(0, 1 << 16, (rows, columns), np.uint16)
        return ((signs_and_fractions & 0x807F) | 0x3C80).view(np.uint8)  # about 0.016 to 0.03
    size = {"q8_0": 34, "q4_0": 18}[kind]
    data = rng.integers(0, 256, (rows, columns // 32, size), np.uint8)
    data[:, :, :2] = np.array([{"q8_0": 0.0003, "q4_0": 0.004}[kind]], np.float16).view(np.uint8)
    return data.reshape(rows, -1)


def write(path):
    types = {"bf16": gguf.GGMLQuantizationType.BF16, "q8_0": gguf.GGMLQuantizationType.Q8_0, "q4_0": gguf.GGMLQuantizationType.Q4_0}
    w = gguf.GGUFWriter(path, "gemma")
    w.add_context_length(8192)
    w.add_embedding_length(WIDTH)
    w.add_block_count(a.layers)
    w.add_feed_forward_length(MLP)
    w.add_head_count(HEADS)
    w.add_head_count_kv(1)
    w.add_key_length(HEAD)
    w.add_value_length(HEAD)
    w.add_layer_norm_rms_eps(1e-6)
    w.add_vocab_size(VOCABULARY)
    w.add_tokenizer_model("none")

    def matrix(name, rows, columns, kind=a.kind):
        w.add_tensor(name, blocks(kind, rows, columns), raw_dtype=types[kind])

    def norm(name):
        w.add_tensor(name, np.ones(WIDTH, np.float32))

    matrix("token_embd.weight", VOCABULARY, WIDTH, "q8_0" if a.kind == "q4_0" else a.kind)
    norm("output_norm.weight")
    for i in range(a.layers):
        norm(f"blk.{i}.attn_norm.weight")
        norm(f"blk.{i}.ffn_norm.weight")
        matrix(f"blk.{i}.attn_q.weight", HEADS * HEAD, WIDTH)
        matrix(f"blk.{i}.attn_k.weight", HEAD, WIDTH)
        matrix(f"blk.{i}.attn_v.weight", HEAD, WIDTH)
        matrix(f"blk.{i}.attn_output.weight", WIDTH, HEADS * HEAD)
        matrix(f"blk.{i}.ffn_gate.weight", MLP, WIDTH)
        matrix(f"blk.{i}.ffn_up.weight", MLP, WIDTH)
        matrix(f"blk.{i}.ffn_down.weight", WIDTH, MLP)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


path = a.file or os.path.join(tempfile.gettempdir(), f"gemma-2b-{a.layers}-{a.kind}.gguf")
if not os.path.exists(path):
    write(path + ".new")
    os.rename(path + ".new", path)

llama_cpp.llama_backend_init()
quiet = llama_cpp.llama_log_callback(lambda level, text, data: None)
llama_cpp.llama_log_set(quiet, ctypes.c_void_p(0))
model = llama_cpp.llama_model_load_from_file(path.encode(), llama_cpp.llama_model_default_params())
if not model:
    sys.exit(f"{path}: llama.cpp does not open it")
options = llama_cpp.llama_context_default_params()
options.n_ctx, options.n_batch, options.n_ubatch = 512, 512, 512
options.n_threads = options.n_threads_batch = a.threads
context = llama_cpp.llama_init_from_model(model, options)
memory = llama_cpp.llama_get_memory(context)


def step(tokens):
    array = (llama_cpp.llama_token * len(tokens))(*tokens)
    if llama_cpp.llama_decode(context, llama_cpp.llama_batch_get_one(array, len(tokens))):
        sys.exit("llama_decode failed")
    llama_cpp.llama_get_logits_ith(context, -1)  # waits for them


prefill, decode = [], []
for run in range(a.runs + 1):
    llama_cpp.llama_memory_clear(memory, True)
    start = time.perf_counter()
    step([4 + i * 7 % 60000 for i in range(a.prompt)])
    first = time.perf_counter()
    for i in range(a.tokens):
        step([100 + i])
    end = time.perf_counter()
    if run:  # the first is a warm-up
        prefill.append(first - start)
        decode.append(a.tokens / (end - first))
m = statistics.median
print(f"llama-cpp-python {llama_cpp.__version__}, {a.kind}, {a.prompt} tokens, {a.threads} threads, {a.runs} runs: "
      f"prefill {m(prefill):.2f} s ({min(prefill):.2f} to {max(prefill):.2f}), decode {m(decode):.2f} tokens/s "
      f"({min(decode):.2f} to {max(decode):.2f}), peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")
