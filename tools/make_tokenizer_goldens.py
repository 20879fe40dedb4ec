#!/usr/bin/env python3
"""Writes what the reference tokenizers say of many strings.

usage: make_tokenizer_goldens.py GEMMA_TOKENIZER_JSON [OUT]      (default tests/golden/tokenizer)

  gemma.jsonl   [text, ids, decoded or null]  by the `tokenizers` package with the real tokenizer, whose file is not committed
  runs.jsonl    [ids, decoded]                decoding of arbitrary id sequences, byte runs above all
  spm.model     a small SentencePiece BPE model built like Gemma's: identity, byte fallback, no dummy prefix, user-defined
                pieces, some pieces marked unused
  spm.jsonl     [text, ids]                   by the `sentencepiece` package
Seed and versions are in manifest.json. No string holds the text of a special token: what is to become of those is our own
policy, tested apart.
"""
import io, json, os, random, sys
import sentencepiece as spm, tokenizers
from sentencepiece import sentencepiece_model_pb2 as pb
from tokenizers import Tokenizer

REAL = sys.argv[1]
OUT = sys.argv[2] if len(sys.argv) > 2 else os.path.join(os.path.dirname(__file__), "../tests/golden/tokenizer")
SEED = 5
random.seed(SEED)

BLOCKS = [(0x20, 0x7e)] * 6 + [(0xa0, 0x24f), (0x370, 0x3ff), (0x400, 0x4ff), (0x590, 0x5ff), (0x600, 0x6ff), (0x900, 0x97f), (0xe00, 0xe7f),
          (0x3040, 0x30ff), (0x4e00, 0x9fff), (0xac00, 0xd7a3), (0x1f300, 0x1faff), (0x2000, 0x206f), (0, 0x1f), (0x10000, 0x10ffff), (0xe000, 0xf8ff)]
WORDS = ("the quick brown fox caption detect segment answer en What is on flower describe <table> </td> https://www.example.com/ 12345 3.14 "
         "foo_bar(); {\\ \n\n \t\t \n  \u2581 \u2581\u2581 \u00e9t\u00e9 Gr\u00f6\u00dfe na\u00efve \u0435\u0449\u0451 \u65e5\u672c \uc548\ub155 \u0928\u092e\u0938\u094d\u0924\u0947 \u0e44\u0e17\u0e22 \u0645\u0631\u062d\u0628\u0627 "
         "\u05e9\u05dc\u05d5\u05dd \U0001f600 \U0001f469\u200d\U0001f469\u200d\U0001f467 <start_of_turn> [toxicity=0] <unused5> <0x0A> <mask>").split(" ")
FIXED = ["", "\n", "\n\n", "a\n\nb", "  x", "x  y", "\t", "\t\t", " ; ", "\u65e5\u672c\U0001f600", "cat", " cat", "caption en\n", "detect cat ; dog\n", "segment cat\n",
         "ocr\n", "describe en\n", "answer en What is on the flower?\n", "Where is the cow standing?\n", "on the beach", "\n" * 40, "\n" * 32, " " * 70, "\t" * 40, "</code>"]
SPECIAL = ("<bos>", "<eos>", "<pad>", "<unk>")


def character(blocks):
    while True:
        c = random.randint(*random.choice(blocks))
        if not 0xd800 <= c < 0xe000:
            return chr(c)


def strings(n):
    out = list(FIXED)
    while len(out) < n:
        kind = random.random()
        if kind < 0.3:
            s = "".join(character(BLOCKS) for _ in range(random.randint(1, 30)))
        elif kind < 0.6:
            block = [random.choice(BLOCKS[5:])]
            s = "".join(character(block) for _ in range(random.randint(1, 20)))
        else:
            s = random.choice([" ", "", "\n", "  "]).join(random.choice(WORDS) for _ in range(random.randint(1, 14)))
        if not any(p in s for p in SPECIAL):
            out.append(s)
    return out


def lines(name, rows):
    with open(os.path.join(OUT, name), "w") as f:
        for row in rows:
            f.write(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n")


def gemma():
    t = Tokenizer.from_file(REAL)
    rows = []
    for s in strings(2500):
        ids = t.encode(s, add_special_tokens=False).ids
        decoded = t.decode(ids)
        rows.append([s, ids, None if decoded == s else decoded])
    lines("gemma.jsonl", rows)
    runs = []
    for _ in range(300):  # byte pieces are 217 + value; some valid characters, some torn, some mixed with words
        ids = []
        for _ in range(random.randint(1, 5)):
            kind = random.random()
            text = "".join(character(BLOCKS) for _ in range(random.randint(1, 3))).encode()
            if kind < 0.5:
                ids += [217 + b for b in text if b != 9]
            elif kind < 0.7:
                ids += [217 + b for b in text[:-1] if b != 9]
            elif kind < 0.8:
                ids += random.choice([[2], [1], [0, 0]])
            else:
                ids += [random.randint(4, 255999) for _ in range(2)]
        runs.append([ids, t.decode(ids, skip_special_tokens=True)])
    lines("runs.jsonl", runs)


def sentencepiece():
    text = "\n".join(" ".join(random.choice(WORDS + ["caption", "cat", "dog", "house", "houses", "the", "there"]) for _ in range(12)).replace("\n", " ") for _ in range(400))
    model = io.BytesIO()
    spm.SentencePieceTrainer.train(sentence_iterator=iter(text.split("\n")), model_writer=model, model_type="bpe", vocab_size=560, byte_fallback=True,
                                   normalization_rule_name="identity", add_dummy_prefix=False, remove_extra_whitespaces=False, split_digits=True,
                                   allow_whitespace_only_pieces=True, pad_id=0, eos_id=1, bos_id=2, unk_id=3, num_threads=1, minloglevel=2,
                                   user_defined_symbols=["\n", "\n\n", "\u2581\u2581", "\u2581\u2581\u2581", "<table>", "<loc0000>", "<loc0001>", "<seg000>"])
    proto = pb.ModelProto()
    proto.ParseFromString(model.getvalue())
    normal = [i for i, p in enumerate(proto.pieces) if p.type == 1 and len(p.piece) == 3]
    for i in normal[:6]:
        proto.pieces[i].type = 5  # UNUSED: made while merging, split again
    data = proto.SerializeToString()
    with open(os.path.join(OUT, "spm.model"), "wb") as f:
        f.write(data)
    p = spm.SentencePieceProcessor(model_proto=data)
    rows = []
    for s in strings(600) + ["a<loc0001>b<table>", "<loc0002>", "   four    spaces", "houses there", "".join(random.choice("aehostu") for _ in range(300))]:
        if "\0" not in s:
            rows.append([s, p.encode(s)])
    lines("spm.jsonl", rows)


os.makedirs(OUT, exist_ok=True)
gemma()
sentencepiece()
with open(os.path.join(OUT, "manifest.json"), "w") as f:
    json.dump(dict(seed=SEED, tokenizers=tokenizers.__version__, sentencepiece=spm.__version__), f)
    f.write("\n")
