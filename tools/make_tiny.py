#!/usr/bin/env python3
"""The untrained embedded model: a small PaliGemma 1 directory in the hub's layout, with a tokenizer of its own.

    tools/make_tiny.py --words WORDS.txt -o DIR [sizes] [initialisation] [--seed 0]

WORDS.txt: a text a line, of what prompts and answers are made (# begins a remark); its words become tokens. Training
(doc/tiny-model.md) begins with DIR, which has the files of a download: config.json, model.safetensors (f32), tokenizer.json and the
small ones, and made.json (arguments, versions, sizes). Needs numpy, tokenizers, safetensors.

Tokenizer. Gemma's structure: spaces become U+2581, byte fallback, then BPE over the whole text; <pad> <eos> <bos> <unk>, newlines, bytes,
merges, characters; <loc....>, <seg...>, <image> are added behind. No merge has a space mark, digit, capital or sign inside (but " ;", which
separates objects), so a word is one token wherever it stands, with a space mark before it or without, and a word in capitals is spelled.

Weights. The head is the table of embeddings: a row of the stream points where its own token does, so with rows of unit length the first logits
would be sqrt(width) for the token that is already there. So rows begin shorter (--embed-norm), and the first loss is near the logarithm
of the vocabulary. (A small final norm instead, --head-scale, does that too, but all that is learned first then comes slowly.) What is given beforehand is only that places have neighbours: positions of patches are sines and cosines of
their row and column, and so are the embeddings of <loc....> tokens of their number.
"""
import argparse
import json
import pathlib
import re
import sys

import numpy as np
import safetensors
import tokenizers
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors

MARK = "▁"
SPECIAL = ["<pad>", "<eos>", "<bos>", "<unk>"]
CHARACTERS = ("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
              "áàâäãåæçéèêëíìîïñóòôöõœúùûüýÿßÁÀÂÄÇÉÈÊËÍÎÏÑÓÔÖŒÚÙÛÜ" " .,;:!?¿¡'’\"()[]{}<>-–—_/\\+*=&%$€#@°«»…|~^`")
WORD = re.compile(r"[a-zß-öø-ÿœ]+")
N_LOC, N_SEG = 1024, 128


# ---- Tokenizer -----------------------------------------------------------------------------------------------------

def words_of(text):
    """Words of lower-case letters and how often each stands there; a word that touches a capital is spelled."""
    counts = {}
    for line in text.splitlines():
        for m in WORD.finditer("" if line.startswith("#") else line):
            if not (line[:m.start()][-1:].isalpha() or line[m.end():][:1].isalpha()):
                counts[m.group()] = counts.get(m.group(), 0) + 1
    return counts


def learn_merges(counts):
    """Merges that make a token of every word: the pair that is most frequent over the list, until none is left. Each word counts once, so
    that what words share is a token rather than what one of them repeats."""
    words = [list(w) for w in sorted(counts)]
    merges = []
    while True:
        pairs = {}
        for w in words:
            for pair in zip(w, w[1:]):
                pairs[pair] = pairs.get(pair, 0) + 1
        if not pairs:
            return merges
        best = min(pairs, key=lambda p: (-pairs[p], len(p[0]) + len(p[1]), p))
        merges.append(best)
        for w in words:
            i = 0
            while i + 1 < len(w):
                if (w[i], w[i + 1]) == best:
                    w[i:i + 2] = [w[i] + w[i + 1]]
                i += 1


def make_tokenizer(counts):
    merges = learn_merges(counts)
    merges += [(MARK, w) for w in sorted(counts)]  # of the lowest rank: a word is whole before its mark joins it
    merges += [(MARK, ";"), ("\n", "\n"), (MARK, MARK)]
    pieces = SPECIAL + ["<mask>", "\n", "\n\n", MARK * 2] + [f"<0x{b:02X}>" for b in range(256)]
    for piece in [a + b for a, b in merges] + [MARK] + sorted(set(CHARACTERS) - {" "}):
        if piece not in pieces:
            pieces.append(piece)
    known = set(pieces)
    for w in counts:
        for c in w:
            if c not in known:
                sys.exit(f"make_tiny: {w!r}: {c!r} is none of the alphabet")
    t = Tokenizer(models.BPE(vocab={p: i for i, p in enumerate(pieces)}, merges=merges, byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    t.normalizer = normalizers.Replace(" ", MARK)
    t.decoder = decoders.Sequence([decoders.Replace(MARK, " "), decoders.ByteFallback(), decoders.Fuse()])
    t.post_processor = processors.TemplateProcessing(single="<bos> $A", pair="<bos> $A <bos>:1 $B:1", special_tokens=[("<bos>", 2)])
    t.add_special_tokens([AddedToken(p, normalized=False, special=True) for p in SPECIAL])
    t.add_tokens([AddedToken(f"<loc{i:04d}>", normalized=False) for i in range(N_LOC)])
    t.add_tokens([AddedToken(f"<seg{i:03d}>", normalized=False) for i in range(N_SEG)])
    t.add_special_tokens([AddedToken("<image>", normalized=False, special=True)])
    return t


def check_tokenizer(t, counts):
    encode = lambda text: t.encode(text, add_special_tokens=False).tokens
    for w in counts:
        assert encode(w) == [w] and encode(f"a {w}, {w}")[1:] == [MARK + w, ",", MARK + w], w
        assert encode(w.upper()) == list(w.upper()) or not w.upper().isalpha(), w
    for text in ("<image>", "<loc0000>", "<loc1023>", "<seg000>", "<seg127>", "\n"):
        assert encode(text) == [text], text
    for text in (CHARACTERS, "日本 \t zyx\n\n  Wörter"):
        assert t.decode(t.encode(text, add_special_tokens=False).ids) == text, text


# ---- Weights -------------------------------------------------------------------------------------------------------

def orthogonal(rng, rows, cols):
    """[rows, cols], rows >= cols: orthonormal columns."""
    q, r = np.linalg.qr(rng.standard_normal((rows, cols)))
    return q * np.sign(np.diag(r))


def waves(x, n, cycles):
    """[len(x), 2 n]: sine and cosine of x in 0..1 at n frequencies, geometrically spaced between the two of `cycles`."""
    angle = 2 * np.pi * np.outer(x, np.geomspace(*cycles, n))
    return np.stack([np.sin(angle), np.cos(angle)], -1).reshape(len(x), 2 * n)


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


class Init:
    def __init__(self, a, tokenizer):
        self.a, self.tokenizer, self.rng, self.tensors = a, tokenizer, np.random.default_rng(a.seed), {}

    def put(self, name, value):
        assert name not in self.tensors
        self.tensors[name] = np.ascontiguousarray(value, np.float32)

    def matrix(self, name, out, fan_in, gain=1.0, shape=None):
        """Normal without its tails, of deviation gain / sqrt(fan_in)."""
        x = self.rng.standard_normal((out, fan_in))
        while (far := np.abs(x) > 2).any():
            x[far] = self.rng.standard_normal(far.sum())
        x *= gain / np.sqrt(fan_in) / 0.8796  # the deviation that is left
        self.put(name, x.reshape(shape or (out, fan_in)))

    def linear(self, name, out, fan_in, gain=1.0):
        self.matrix(name + ".weight", out, fan_in, gain)
        self.put(name + ".bias", np.zeros(out))

    def layer_norm(self, name, width):
        self.put(name + ".weight", np.ones(width))
        self.put(name + ".bias", np.zeros(width))

    def tower(self):
        a, p, w = self.a, "vision_tower.vision_model.", self.a.vision_width
        side = a.image_size // a.patch
        self.matrix(p + "embeddings.patch_embedding.weight", w, 3 * a.patch**2, shape=(w, 3, a.patch, a.patch))
        self.put(p + "embeddings.patch_embedding.bias", np.zeros(w))
        y, x = np.divmod(np.arange(side * side), side)
        code = [waves((v + 0.5) / side, -(-w // 4), (0.25, side / 2)) for v in (y, x)]
        self.put(p + "embeddings.position_embedding.weight", np.hstack(code)[:, :w] * np.sqrt(2) * a.position_rms)
        for i in range(a.vision_layers):
            q, gain = f"{p}encoder.layers.{i}.", 1 / np.sqrt(2 * a.vision_layers)
            self.layer_norm(q + "layer_norm1", w)
            for name in ("q", "k", "v"):
                self.linear(f"{q}self_attn.{name}_proj", w, w)
            self.linear(q + "self_attn.out_proj", w, w, gain)
            self.layer_norm(q + "layer_norm2", w)
            self.linear(q + "mlp.fc1", a.vision_mlp, w)
            self.linear(q + "mlp.fc2", w, a.vision_mlp, gain)
        self.layer_norm(p + "post_layernorm", w)
        self.linear("multi_modal_projector.linear", a.width, w)

    def table(self):
        """Rows of one length; <loc....>: a part that all have, the code of the number, a part of its own."""
        a, n = self.a, self.tokenizer.get_vocab_size()
        rows = unit(self.rng.standard_normal((self.vocab_rows(), a.width)))
        if a.loc_code > 0:
            n_waves = min(a.loc_waves, a.width // 2)
            code = unit(waves(np.arange(N_LOC) / (N_LOC - 1), n_waves, (a.loc_low, a.loc_high))) @ orthogonal(self.rng, a.width, 2 * n_waves).T
            first = self.tokenizer.token_to_id("<loc0000>")
            common = unit(self.rng.standard_normal(a.width))
            own = rows[first:first + N_LOC]
            rows[first:first + N_LOC] = unit(a.loc_common * common + a.loc_code * code + a.loc_own * own)
        rows[n:] = 0  # no token: as in the released tables, rows to a round number
        self.put("language_model.model.embed_tokens.weight", rows * a.embed_norm)

    def vocab_rows(self):
        return -(-self.tokenizer.get_vocab_size() // 64) * 64

    def decoder(self):
        a, d, hd = self.a, self.a.width, self.a.head_dim
        for i in range(a.layers):
            q, gain = f"language_model.model.layers.{i}.", 1 / np.sqrt(2 * a.layers)
            self.put(q + "input_layernorm.weight", np.zeros(d))
            self.put(q + "post_attention_layernorm.weight", np.zeros(d))
            self.matrix(q + "self_attn.q_proj.weight", a.heads * hd, d)
            self.matrix(q + "self_attn.k_proj.weight", a.kv_heads * hd, d)
            self.matrix(q + "self_attn.v_proj.weight", a.kv_heads * hd, d)
            self.matrix(q + "self_attn.o_proj.weight", d, a.heads * hd, gain)
            self.matrix(q + "mlp.gate_proj.weight", a.mlp, d)
            self.matrix(q + "mlp.up_proj.weight", a.mlp, d)
            self.matrix(q + "mlp.down_proj.weight", d, a.mlp, gain)
        self.put("language_model.model.norm.weight", np.full(d, a.head_scale - 1))


# ---- Files ---------------------------------------------------------------------------------------------------------

def write_json(path, value):
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_configs(out, a, tokenizer, vocab_rows):
    image, n_patches = tokenizer.token_to_id("<image>"), (a.image_size // a.patch) ** 2
    ids = dict(bos_token_id=2, eos_token_id=1, pad_token_id=0)
    write_json(out / "config.json", dict(
        architectures=["PaliGemmaForConditionalGeneration"], **ids, hidden_size=a.width, ignore_index=-100, image_token_index=image,
        model_type="paligemma", projection_dim=a.width,
        text_config=dict(head_dim=a.head_dim, hidden_size=a.width, intermediate_size=a.mlp, max_position_embeddings=1024, model_type="gemma",
                         num_attention_heads=a.heads, num_hidden_layers=a.layers, num_image_tokens=n_patches, num_key_value_heads=a.kv_heads,
                         torch_dtype="float32", vocab_size=vocab_rows),
        torch_dtype="float32", transformers_version="4.42.0.dev0",
        vision_config=dict(hidden_size=a.vision_width, image_size=a.image_size, intermediate_size=a.vision_mlp, model_type="siglip_vision_model",
                           num_attention_heads=a.vision_heads, num_hidden_layers=a.vision_layers, num_image_tokens=n_patches, patch_size=a.patch,
                           projection_dim=a.width, projector_hidden_act="gelu_fast", vision_use_head=False),
        vocab_size=image))
    write_json(out / "generation_config.json", dict(_from_model_config=True, **ids, transformers_version="4.42.0.dev0"))
    write_json(out / "preprocessor_config.json", dict(
        do_convert_rgb=None, do_normalize=True, do_rescale=True, do_resize=True, image_mean=[0.5] * 3, image_processor_type="SiglipImageProcessor",
        image_seq_length=n_patches, image_std=[0.5] * 3, processor_class="PaliGemmaProcessor", resample=3, rescale_factor=1 / 255,
        size=dict(height=a.image_size, width=a.image_size)))
    flags = lambda special: dict(lstrip=False, normalized=False, rstrip=False, single_word=False, special=special)
    added = {i: t for i, t in sorted(tokenizer.get_added_tokens_decoder().items())}
    names = dict(bos_token="<bos>", eos_token="<eos>", pad_token="<pad>", unk_token="<unk>")
    write_json(out / "tokenizer_config.json", dict(
        add_bos_token=True, add_eos_token=False, added_tokens_decoder={str(i): dict(content=t.content, **flags(t.special)) for i, t in added.items()},
        additional_special_tokens=["<image>"], **names, clean_up_tokenization_spaces=False, model_max_length=int(1e30),
        processor_class="PaliGemmaProcessor", sp_model_kwargs={}, spaces_between_special_tokens=False, tokenizer_class="GemmaTokenizer", use_default_system_prompt=False))
    as_map = lambda content: dict(content=content, **{k: v for k, v in flags(True).items() if k != "special"})
    write_json(out / "special_tokens_map.json", dict({k: as_map(v) for k, v in names.items()}, additional_special_tokens=[as_map("<image>")]))


def arguments():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--words", type=pathlib.Path, required=True)
    ap.add_argument("-o", "--out", type=pathlib.Path, required=True)
    ap.add_argument("--seed", type=int, default=0)
    sizes = dict(image_size=128, patch=16, vision_width=160, vision_layers=6, vision_mlp=640, vision_heads=5,
                 width=160, layers=4, mlp=448, heads=4, kv_heads=1, head_dim=40)
    for name, value in sizes.items():
        ap.add_argument("--" + name.replace("_", "-"), type=int, default=value, metavar="N", help=f"default {value}")
    for name, value, text in (
            ("head_scale", 1.0, "what the final norm multiplies by"),
            ("embed_norm", 0.35, "length of a row of the table"),
            ("position_rms", 0.5, "of the patches' position code; a patch's own embedding has about this"),
            ("loc_code", 1.0, "weight of the code in <loc....>; 0: they are as other tokens"),
            ("loc_common", 0.3, "weight of what all <loc....> share"),
            ("loc_own", 0.2, "weight of the random part of each"),
            ("loc_low", 0.5, "cycles over the range of the slowest wave"),
            ("loc_high", 40.0, "cycles of the fastest")):
        ap.add_argument("--" + name.replace("_", "-"), type=float, default=value, metavar="F", help=f"{text}; default {value}")
    ap.add_argument("--loc-waves", type=int, default=32, metavar="N", help="frequencies; default 32")
    return ap.parse_args()


def main():
    a = arguments()
    counts = words_of(a.words.read_text())
    tokenizer = make_tokenizer(counts)
    check_tokenizer(tokenizer, counts)
    init = Init(a, tokenizer)
    init.tower()
    init.table()
    init.decoder()
    a.out.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(a.out / "tokenizer.json"))
    write_configs(a.out, a, tokenizer, init.vocab_rows())
    save_file(init.tensors, a.out / "model.safetensors", {"format": "pt"})
    n_parameters = int(sum(t.size for t in init.tensors.values()))
    given = {k: v.name if isinstance(v, pathlib.Path) else v for k, v in vars(a).items() if k != "out"}
    write_json(a.out / "made.json", dict(script="tools/make_tiny.py", arguments=given, n_words=len(counts), n_ids=tokenizer.get_vocab_size(),
                                         n_parameters=n_parameters, python=sys.version.split()[0], numpy=np.__version__,
                                         tokenizers=tokenizers.__version__, safetensors=safetensors.__version__))
    print(f"{a.out}: {len(counts)} words, {tokenizer.get_vocab_size()} ids, {n_parameters} parameters")


if __name__ == "__main__":
    main()
