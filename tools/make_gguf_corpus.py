#!/usr/bin/env python3
"""usage: make_gguf_corpus.py: writes tests/fuzz/corpus/gguf, gguf_model and gguf_files (and one file of tokenizer): GGUF files that are
well-formed (valid_*) or wrong in one way each, the ways of the published advisories on GGUF readers among them. They are the seeds
of the fuzz targets; tests/test_gguf.c lists what each must give. Standard library only; the same bytes every time."""
import pathlib
import struct

ROOT = pathlib.Path(__file__).resolve().parent.parent / "tests/fuzz/corpus"
U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
PACK = {U8: "B", I8: "b", U16: "H", I16: "h", U32: "I", I32: "i", F32: "f", BOOL: "B", U64: "Q", I64: "q", F64: "d"}
TYPES = {"F32": (0, 1, 4), "F16": (1, 1, 2), "Q4_0": (2, 32, 18), "Q4_1": (3, 32, 20), "Q8_0": (8, 32, 34), "Q4_K": (12, 256, 144),
         "Q2_K": (10, 256, 84), "Q3_K": (11, 256, 110), "Q5_0": (6, 32, 22), "Q5_1": (7, 32, 24), "Q5_K": (13, 256, 176), "Q6_K": (14, 256, 210),
         "Q8_K": (15, 256, 292), "F64": (28, 1, 8), "BF16": (30, 1, 2), "I32": (26, 1, 4)}
MAX = 2**64 - 1


def string(text, n=None):
    raw = text if isinstance(text, bytes) else text.encode()
    return struct.pack("<Q", len(raw) if n is None else n) + raw


def scalar(kind, x):
    return string(x) if kind == STRING else struct.pack("<" + PACK[kind], x)


def value(key, kind, x):
    return string(key) + struct.pack("<I", kind) + scalar(kind, x)


def array(key, kind, items, n=None):
    return string(key) + struct.pack("<IIQ", ARRAY, kind, len(items) if n is None else n) + b"".join(scalar(kind, x) for x in items)


def info(name, dims, kind, offset):
    """dims as the file has them: fastest first."""
    return string(name) + struct.pack("<I", len(dims)) + b"".join(struct.pack("<Q", d) for d in dims) + struct.pack("<IQ", kind, offset)


def container(values=(), infos=(), data=b"", n_tensors=None, n_values=None, version=3, align=32):
    head = b"GGUF" + struct.pack("<IQQ", version, len(infos) if n_tensors is None else n_tensors, len(values) if n_values is None else n_values)
    head += b"".join(values) + b"".join(infos)
    return head + bytes(-len(head) % align) + data


def write(folder, name, raw):
    path = ROOT / folder
    path.mkdir(parents=True, exist_ok=True)
    (path / name).write_bytes(raw)


def containers():
    one = info("t", [4], 0, 0)
    yield "valid_empty", container()
    yield "valid_version_2", container(version=2)
    yield "valid_kinds", container([value(f"k{k}", k, "text" if k == STRING else 1) for k in PACK | {STRING: ""}] +
                                   [array(f"a{k}", k, ["a", ""] if k == STRING else [1, 0]) for k in PACK | {STRING: ""}])
    infos, data = [], b""
    for name, (kind, block, size) in TYPES.items():
        infos.append(info(name, [block, 2, 1, 1], kind, len(data)))
        data += bytes(2 * size) + bytes(-2 * size % 32)
    yield "valid_types", container((), infos, data)
    yield "valid_alignment", container([value("general.alignment", U32, 64)], [one], bytes(16), align=64)
    yield "empty", b""
    yield "magic_only", b"GGUF"
    yield "other_magic", b"GGML" + bytes(40)
    yield "version_0", container(version=0)
    yield "version_1", b"GGUF" + struct.pack("<III", 1, 0, 0)
    yield "version_4", container(version=4)
    yield "big_endian", b"GGUF" + struct.pack(">IQQ", 3, 0, 0)
    yield "cut_in_counts", b"GGUF" + struct.pack("<IQI", 3, 0, 0)
    yield "tensors_huge", container(n_tensors=MAX)
    yield "values_huge", container(n_values=MAX)
    yield "tensors_lie", container((), [one], bytes(32), n_tensors=1000)
    yield "values_lie", container([value("a", U8, 1)], n_values=1000)
    yield "key_empty", container([value("", U8, 1)], data=bytes(32))
    yield "key_huge", container([string("k", MAX) + bytes(20)])
    yield "key_beyond", container([string("k", 900) + bytes(20)])
    yield "key_control", container([value("a\nb", U8, 1)])
    yield "kind_unknown", container([string("key") + struct.pack("<I", 13) + bytes(32)])
    yield "array_kind_unknown", container([string("key") + struct.pack("<IIQ", ARRAY, 99, 1) + bytes(32)])
    yield "array_nested", container([string("key") + struct.pack("<IIQ", ARRAY, ARRAY, 1) + bytes(32)])
    yield "array_huge", container([array("key", U8, [], MAX)], data=bytes(32))
    yield "array_wraps", container([array("key", U64, [1, 2], 2**61 + 2)], data=bytes(32))
    yield "array_longer_than_file", container([array("key", U32, [1, 2, 3], 16)])
    yield "strings_lie", container([array("key", STRING, ["a"], 30)], data=bytes(32))
    yield "strings_huge", container([array("key", STRING, ["a"], 2**40)], data=bytes(32))
    yield "string_huge", container([string("key") + struct.pack("<I", STRING) + string("a", MAX)], data=bytes(32))
    yield "string_wraps", container([string("key") + struct.pack("<I", STRING) + string("a", MAX - 7)], data=bytes(32))
    yield "string_beyond", container([array("key", STRING, [], 1) + string("a", 100)], data=bytes(8))
    yield "value_cut", container([string("key") + struct.pack("<IH", U64, 1)], align=1)
    yield "values_cut", container([value("a", U8, 1)], n_values=2, data=bytes(20))
    yield "key_twice", container([value("b", U8, 1), value("a", U8, 1), value("b", U8, 2)])
    yield "alignment_0", container([value("general.alignment", U32, 0)], [one], bytes(32))
    yield "alignment_24", container([value("general.alignment", U32, 24)], [one], bytes(32))
    yield "alignment_huge", container([value("general.alignment", U32, 2**31)], [one], bytes(32))
    yield "alignment_string", container([value("general.alignment", STRING, "32")], [one], bytes(32))
    yield "name_empty", container((), [info("", [4], 0, 0)], bytes(32))
    yield "name_long", container((), [info("n" * 128, [4], 0, 0)], bytes(32))
    yield "name_control", container((), [info("a\x1b[2J", [4], 0, 0)], bytes(32))
    yield "name_beyond", container((), [string("n", 100) + bytes(30)], align=1)
    yield "dims_none", container((), [info("t", [], 0, 0)], bytes(32))
    yield "dims_5", container((), [info("t", [1] * 5, 0, 0)], bytes(32))
    yield "dims_huge", container((), [string("t") + struct.pack("<I", 2**32 - 1) + bytes(40)], bytes(32))
    yield "dim_0", container((), [info("t", [4, 0], 0, 0)], bytes(32))
    yield "dims_wrap", container((), [info("t", [2**33, 2**33], 0, 0)], bytes(32))
    yield "dims_wrap_to_0", container((), [info("t", [2**32, 2**32], 0, 0)], bytes(32))
    yield "bytes_wrap", container((), [info("t", [2**62], 0, 0)], bytes(32))
    yield "dims_cut", container((), [string("t") + struct.pack("<IQ", 3, 4) + bytes(12)], align=1)
    yield "type_unknown", container((), [info("t", [32], 999, 0)], bytes(64))
    yield "type_removed", container((), [info("t", [32], 4, 0)], bytes(64))
    yield "blocks_partial", container((), [info("t", [33], 8, 0)], bytes(96))
    yield "super_blocks_partial", container((), [info("t", [32, 8], 12, 0)], bytes(160))
    yield "offset_unaligned", container((), [info("t", [4], 0, 8)], bytes(64))
    yield "offset_beyond", container((), [info("t", [4], 0, 64)], bytes(32))
    yield "offset_huge", container((), [info("t", [4], 0, MAX - 31)], bytes(32))
    yield "data_cut", container((), [info("t", [4], 0, 0)], bytes(15))
    yield "data_missing", container((), [info("t", [4], 0, 0)], align=1)
    yield "overlap", container((), [info("a", [16], 0, 0), info("b", [8], 0, 32)], bytes(128))
    yield "same_place", container((), [info("a", [8], 0, 0), info("b", [8], 0, 0)], bytes(64))
    yield "name_twice", container((), [info("a", [8], 0, 0), info("b", [8], 0, 32), info("a", [8], 0, 64)], bytes(128))


# ---- Whole models: the smallest there can be, 2 wide ----

TOKENS = ["<pad>", "<eos>", "<bos>", "<unk>", "<image>", "a", "b", "ab"]


def text_values(arch):
    return {
        "general.architecture": (STRING, arch), f"{arch}.embedding_length": (U32, 2), f"{arch}.block_count": (U32, 1), f"{arch}.feed_forward_length": (U32, 2),
        f"{arch}.attention.head_count": (U32, 1), f"{arch}.attention.head_count_kv": (U32, 1), f"{arch}.attention.key_length": (U32, 2),
        f"{arch}.attention.value_length": (U32, 2), f"{arch}.attention.layer_norm_rms_epsilon": (F32, 1e-6), f"{arch}.attention.scale": (F32, 0.5),
        f"{arch}.rope.freq_base": (F32, 10000.0), f"{arch}.vocab_size": (U32, 8),
    }


VISION_VALUES = {
    "clip.has_vision_encoder": (BOOL, 1), "clip.use_gelu": (BOOL, 1), "clip.vision.image_size": (U32, 2), "clip.vision.patch_size": (U32, 1),
    "clip.vision.embedding_length": (U32, 2), "clip.vision.block_count": (U32, 1), "clip.vision.attention.head_count": (U32, 1),
    "clip.vision.feed_forward_length": (U32, 2), "clip.vision.projection_dim": (U32, 2), "clip.vision.attention.layer_norm_epsilon": (F32, 1e-6),
    "clip.vision.image_mean": (F32, [0.5] * 3), "clip.vision.image_std": (F32, [0.5] * 3),
}
OWN_VALUES = {"paligemma.resample": (U32, 3), "paligemma.image_token_id": (U32, 4)}
TOKENIZER_VALUES = {
    "tokenizer.ggml.model": (STRING, "llama"), "tokenizer.ggml.add_space_prefix": (BOOL, 0), "tokenizer.ggml.unknown_token_id": (U32, 3),
    "tokenizer.ggml.tokens": (STRING, TOKENS), "tokenizer.ggml.scores": (F32, [0.0] * 5 + [-2.0, -3.0, -1.0]),
    "tokenizer.ggml.token_type": (I32, [3, 3, 3, 2, 3, 1, 1, 1]), "tokenizer.ggml.merges": (STRING, ["a b"]),
}
V, T = "v.blk.0.", "blk.0."
TENSORS = {"v.patch_embd.weight": [1, 1, 3, 2], "v.patch_embd.bias": [2], "v.position_embd.weight": [2, 4], "v.post_ln.weight": [2], "v.post_ln.bias": [2],
           "mm.0.weight": [2, 2], "mm.0.bias": [2], "token_embd.weight": [2, 8], "output_norm.weight": [2]}
TENSORS |= {V + n + ".weight": [2, 2] for n in ("attn_q", "attn_k", "attn_v", "attn_out", "ffn_up", "ffn_down")}
TENSORS |= {V + n + ".bias": [2] for n in ("attn_q", "attn_k", "attn_v", "attn_out", "ffn_up", "ffn_down", "ln1", "ln2")}
TENSORS |= {V + n + ".weight": [2] for n in ("ln1", "ln2")}
TENSORS |= {T + n + ".weight": [2, 2] for n in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")}
TENSORS |= {T + n + ".weight": [2] for n in ("attn_norm", "ffn_norm")}


def model(arch="gemma", drop=(), **changes):
    """Values by key and tensors by name, changed or added: a value is (kind, x), a tensor a list of dims or (type, dims, data)."""
    values = text_values(arch) | VISION_VALUES | OWN_VALUES | TOKENIZER_VALUES
    tensors = dict(TENSORS)
    if arch == "gemma2":
        values |= {"gemma2.attn_logit_softcapping": (F32, 50.0), "gemma2.final_logit_softcapping": (F32, 30.0), "gemma2.attention.sliding_window": (U32, 4096),
                   "gemma2.attention.sliding_window_pattern": (BOOL, [1])}
        tensors |= {T + "post_attention_norm.weight": [2], T + "post_ffw_norm.weight": [2]}
    for key, change in changes.items():
        (tensors if isinstance(change, list) or isinstance(change[0], str) else values)[key] = change
    for key in [k for k in list(values) + list(tensors) if k.startswith(tuple(drop))] if drop else []:
        values.pop(key, None)
        tensors.pop(key, None)
    infos, data = [], b""
    for name, t in tensors.items():
        kind, dims, raw = t if isinstance(t, tuple) else ("F32", t, None)
        number, block, size = TYPES[kind]
        n = 1
        for d in dims:
            n *= d
        infos.append(info(name, dims, number, len(data)))
        data += raw if raw is not None else struct.pack("<f", 1.25) * n if kind == "F32" else bytes(n // block * size)
        data += bytes(-len(data) % 32)
    return container([array(k, kind, x) if isinstance(x, list) else value(k, kind, x) for k, (kind, x) in values.items()], infos, data)


def models():
    nan = float("nan")
    g, g2, c, t = "gemma.", "gemma2.", "clip.vision.", "tokenizer.ggml."
    yield "valid_gemma", model()
    yield "valid_gemma2", model("gemma2")
    yield "valid_blocks", model(**{T + "ffn_down.weight": ("Q8_0", [32, 2], None), V + "ffn_down.weight": ("Q4_1", [32, 2], None),
                                   "token_embd.weight": ("Q4_K", [256, 8], None), "mm.0.weight": ("BF16", [2, 2], None)})
    yield "valid_head", model(**{"output.weight": ("F16", [2, 8], None)})
    yield "valid_exact", model(**{T + "ffn_norm.exact": ("F32", [2], struct.pack("<2f", 0.25, 0.25))})
    yield "valid_little_said", model(drop=[g + "attention.scale", g + "attention.layer_norm", g + "rope", g + "vocab_size", g + "attention.value", "clip.use", "clip.has",
                                           c + "image_mean", c + "image_std", c + "projection", c + "attention.layer_norm", "paligemma.", t + "unknown", t + "merges"])
    yield "arch_missing", model(drop=["general."])
    yield "arch_kind", model(**{"general.architecture": (U32, 1)})
    yield "arch_other", model(**{"general.architecture": (STRING, "llama")})
    yield "arch_vision_only", model(**{"general.architecture": (STRING, "clip")})
    yield "arch_control", model(**{"general.architecture": (STRING, "gem\nma\x1b[2J")})
    yield "text_only", model(drop=["clip.", "v.", "mm."])
    yield "width_missing", model(drop=[g + "embedding_length"])
    yield "width_kind", model(**{g + "embedding_length": (F32, 2.0)})
    yield "width_array", model(**{g + "embedding_length": (U32, [2, 2])})
    yield "width_0", model(**{g + "embedding_length": (U32, 0)})
    yield "width_negative", model(**{g + "embedding_length": (I32, -2)})
    yield "width_huge", model(**{g + "embedding_length": (U64, MAX)})
    yield "layers_0", model(**{g + "block_count": (U32, 0)})
    yield "layers_huge", model(**{g + "block_count": (U32, 2**32 - 1)})
    yield "layers_more", model(**{g + "block_count": (U32, 2)})
    yield "heads_0", model(**{g + "attention.head_count": (U32, 0)})
    yield "heads_and_kv", model(**{g + "attention.head_count": (U32, 3), g + "attention.head_count_kv": (U32, 2)})
    yield "head_dim_odd", model(**{g + "attention.key_length": (U32, 3)})
    yield "value_length_other", model(**{g + "attention.value_length": (U32, 4)})
    yield "eps_nan", model(**{g + "attention.layer_norm_rms_epsilon": (F32, nan)})
    yield "eps_negative", model(**{g + "attention.layer_norm_rms_epsilon": (F32, -1.0)})
    yield "eps_kind", model(**{g + "attention.layer_norm_rms_epsilon": (U32, 0)})
    yield "rope_0", model(**{g + "rope.freq_base": (F32, 0.0)})
    yield "scale_infinite", model(**{g + "attention.scale": (F64, float("inf"))})
    yield "vocab_other", model(**{g + "vocab_size": (U32, 9)})
    yield "vocab_huge", model(**{g + "vocab_size": (U32, 2**31)})
    yield "softcap_nan", model("gemma2", **{g2 + "attn_logit_softcapping": (F32, nan)})
    yield "window_negative", model("gemma2", **{g2 + "attention.sliding_window": (I32, -1)})
    yield "pattern_short", model("gemma2", **{g2 + "attention.sliding_window_pattern": (BOOL, [])})
    yield "pattern_kind", model("gemma2", **{g2 + "attention.sliding_window_pattern": (U32, [1])})
    yield "image_size_missing", model(drop=[c + "image_size"])
    yield "image_size_huge", model(**{c + "image_size": (U32, 2**20)})
    yield "image_size_no_multiple", model(**{c + "image_size": (U32, 7), c + "patch_size": (U32, 2)})
    yield "patch_0", model(**{c + "patch_size": (U32, 0)})
    yield "vision_heads", model(**{c + "attention.head_count": (U32, 3)})
    yield "vision_eps_nan", model(**{c + "attention.layer_norm_epsilon": (F32, nan)})
    yield "projection_other", model(**{c + "projection_dim": (U32, 3)})
    yield "mean_other", model(**{c + "image_mean": (F32, [0.5, 0.5, 0.48])})
    yield "std_short", model(**{c + "image_std": (F32, [0.5])})
    yield "mean_kind", model(**{c + "image_mean": (STRING, ["a", "b", "c"])})
    yield "gelu_other", model(**{"clip.use_gelu": (BOOL, 0)})
    yield "encoder_none", model(**{"clip.has_vision_encoder": (BOOL, 0)})
    yield "encoder_kind", model(**{"clip.has_vision_encoder": (U32, 1)})
    yield "encoder_2", model(**{"clip.has_vision_encoder": (BOOL, 2)})
    yield "resample_9", model(**{"paligemma.resample": (U32, 9)})
    yield "image_token_negative", model(**{"paligemma.image_token_id": (I32, -1)})
    yield "tensor_missing", model(drop=[V + "ffn_up.weight"])
    yield "norm_missing", model(drop=["output_norm"])
    yield "table_missing", model(drop=["token_embd", g + "vocab_size"])
    yield "shape_other", model(**{T + "ffn_up.weight": [2, 3]})
    yield "rank_other", model(**{"v.post_ln.bias": [2, 1]})
    yield "type_other", model(**{T + "ffn_up.weight": ("F64", [2, 2], None)})
    yield "type_k_other", model(**{T + "ffn_up.weight": ("Q8_K", [256, 2], None)})
    for name in ("Q5_0", "Q5_1", "Q2_K", "Q3_K", "Q5_K", "Q6_K"):
        yield "valid_" + name.lower(), model(**{T + "ffn_up.weight": (name, [TYPES[name][1], 2], bytes((7 * i + 1) % 60 for i in range(2 * TYPES[name][2])))})
    yield "vector_read_only", model(**{T + "attn_norm.weight": ("Q6_K", [256], None)})
    yield "row_read_only", model(**{T + "ffn_up.weight": ("Q5_0", [64, 2], None)})
    yield "scale_nan", model(**{T + "ffn_up.weight": ("Q6_K", [256, 2], bytes([0x11]) * 192 + bytes([1]) * 16 + b"\x00\x7e" + bytes(210))})
    yield "scale_large", model(**{T + "ffn_up.weight": ("Q5_1", [32, 2], bytes(24) + b"\xff\x7b" + bytes([0xff]) * 22)})
    yield "vector_blocks", model(**{T + "attn_norm.weight": ("Q8_0", [32], None)})
    yield "table_blocks", model(**{"v.position_embd.weight": ("Q8_0", [32, 4], None)})
    yield "row_of_two_blocks", model(**{T + "ffn_up.weight": ("Q8_0", [64, 2], None)})
    yield "row_plain_padded", model(**{T + "ffn_up.weight": ("F16", [32, 2], None)})
    yield "exact_other", model(**{T + "ffn_norm.exact": ("F32", [2], struct.pack("<2f", 0.25, 0.5))})
    yield "exact_shape", model(**{T + "ffn_norm.exact": [3]})
    yield "exact_type", model(**{T + "ffn_norm.exact": ("F16", [2], None)})
    yield "tokens_missing", model(drop=[t + "tokens"])
    yield "tokens_kind", model(**{t + "tokens": (U32, [1] * 8)})
    yield "tokens_none", model(**{t + "tokens": (STRING, []), t + "scores": (F32, []), t + "token_type": (I32, [])})
    yield "tokens_fewer", model(**{t + "tokens": (STRING, TOKENS[:7])})
    yield "token_long", model(**{t + "tokens": (STRING, TOKENS[:7] + ["x" * 4097])})
    yield "token_added_long", model(**{t + "tokens": (STRING, TOKENS[:7] + ["x" * 256]), t + "token_type": (I32, [3, 3, 3, 2, 3, 1, 1, 4])})
    yield "unknown_long", model(**{t + "tokens": (STRING, TOKENS[:3] + ["x" * 256] + TOKENS[4:])})
    yield "scores_missing", model(drop=[t + "scores", t + "merges"])
    yield "scores_nan", model(**{t + "scores": (F32, [0.0] * 7 + [nan])})
    yield "types_missing", model(drop=[t + "token_type"])
    yield "types_short", model(**{t + "token_type": (I32, [1])})
    yield "type_0", model(**{t + "token_type": (I32, [3, 3, 3, 2, 3, 1, 1, 0])})
    yield "type_negative", model(**{t + "token_type": (I32, [3, 3, 3, 2, 3, 1, 1, -1])})
    yield "unknown_beyond", model(**{t + "unknown_token_id": (U32, 8)})
    yield "tokenizer_missing", model(drop=["tokenizer."])
    yield "tokenizer_other", model(**{t + "model": (STRING, "gpt2")})
    yield "space_prefix", model(**{t + "add_space_prefix": (BOOL, 1)})
    yield "charsmap", model(**{t + "precompiled_charsmap": (U8, [1, 2, 3])})
    yield "merges_kind", model(**{t + "merges": (U32, [1])})
    yield "merge_of_one", model(**{t + "merges": (STRING, ["ab"])})
    yield "merge_half_empty", model(**{t + "merges": (STRING, ["a b", " b"])})
    yield "merge_end_empty", model(**{t + "merges": (STRING, ["a "])})
    yield "fallback_kind", model(**{"paligemma.tokenizer.byte_fallback": (U32, 1)})


def pair(mode, first, second):
    """What fuzz_gguf_files.c takes: 0, a text model and a vision file; 1, two parts."""
    return bytes([mode]) + struct.pack("<I", len(first)) + first + second


def files():
    text, vision = {"drop": ["clip.", "v.", "mm."]}, {"drop": ["gemma", "paligemma", "tokenizer", "blk.", "output", "token_embd"]}
    tower = vision | {"general.architecture": (STRING, "clip")}
    yield "text_and_vision", pair(0, model(**text), model(**tower))
    yield "other_names", pair(0, model(**text), model(**{"mm.input_projection.weight": [2, 2], "mm.input_projection.bias": [2]}, drop=tower["drop"] + ["mm.0."],
                                                      **{"general.architecture": (STRING, "clip")}))
    yield "wide_mlp", pair(0, model(**text), model(**tower, **{"clip.vision.feed_forward_length": (U32, 4), V + "ffn_down.weight": [2, 4], V + "ffn_up.weight": [4, 2],
                                                             V + "ffn_down.bias": [4]}))
    yield "gemma_as_vision", pair(0, model(**text), model(**vision))
    yield "two_towers", pair(0, model(), model(**tower))
    yield "no_vision", pair(0, model(**text), b"")
    yield "vision_first", pair(0, model(**tower), model(**text))
    yield "sizes_differ", pair(0, model(**text), model(**tower, **{"clip.vision.embedding_length": (U32, 4)}))
    split = [{"split.no": (U16, i), "split.count": (U16, 2), "split.tensors.count": (I32, len(TENSORS))} for i in range(2)]
    tail = {"drop": ["general.", "gemma.", "clip.", "paligemma.", "tokenizer.", "blk.", "token_embd", "output"]}
    yield "parts", pair(1, model(drop=["v.", "mm."], **split[0]), model(**tail, **split[1]))
    yield "parts_in_disorder", pair(1, model(drop=["v.", "mm."], **split[1]), model(**tail, **split[0]))
    yield "parts_twice", pair(1, model(**split[0]), model(**tail, **split[1]))
    yield "parts_many", pair(1, model(**(split[0] | {"split.count": (U16, 65535)})), model(**tail, **split[1]))
    yield "parts_miscounted", pair(1, model(drop=["v.", "mm."], **(split[0] | {"split.tensors.count": (I32, 7)})), model(**tail, **split[1]))
    yield "parts_negative", pair(1, model(drop=["v.", "mm."], **(split[0] | {"split.tensors.count": (I32, -1)})), model(**tail, **split[1]))


for case, raw in containers():
    write("gguf", case, raw)
for case, raw in models():
    write("gguf_model", case, raw)
for case, raw in files():
    write("gguf_files", case, raw)
write("tokenizer", "values.gguf", model(drop=list(TENSORS)))
