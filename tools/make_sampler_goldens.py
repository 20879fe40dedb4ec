#!/usr/bin/env python3
"""Makes tests/golden/sampler/cases.txt: which ids Transformers' processors leave over, and their probabilities.

Logits are a hash (tests/test_sampler.c computes the same bits), rounded to quarters so that ties are common. Ties at the
border of top-p are left out: the reference breaks them by an unstable sort.

usage: make_sampler_goldens.py OUT.txt     (made with torch 2.x and transformers 5.24; exact versions are in the file)
"""
import itertools
import sys

import numpy as np
import torch
import transformers
from transformers.generation import logits_process as lp

VOCAB = 60
SEEN = [3, 5, 3, 17, 40]


def logits_of(seed):
    with np.errstate(over="ignore"):
        x = np.uint32(seed) * np.uint32(16777619) ^ (np.arange(VOCAB, dtype=np.uint32) * np.uint32(0x9E3779B9))
        x = (x ^ (x >> np.uint32(16))) * np.uint32(0x85EBCA6B)
        x = (x ^ (x >> np.uint32(13))) * np.uint32(0xC2B2AE35)
        x = x ^ (x >> np.uint32(16))
    return ((x % np.uint32(33)).astype(np.float32) - np.float32(16)) * np.float32(0.25)


def main():
    out = open(sys.argv[1], "w")
    print(f"# transformers {transformers.__version__}, torch {torch.__version__}, numpy {np.__version__}", file=out)
    print("# SEED TEMPERATURE TOP_K TOP_P MIN_P PENALTY, then ID:PROBABILITY of what is left, likeliest first", file=out)
    seed = 0
    for temperature, top_k, top_p, min_p, penalty in itertools.product((0.7, 1.0, 2.0), (0, 1, 7), (1.0, 0.9, 0.4), (0.0, 0.2), (1.0, 1.5)):
        seed += 1
        ids = torch.tensor([SEEN])
        scores = torch.from_numpy(logits_of(seed))[None]
        if penalty != 1.0:
            scores = lp.RepetitionPenaltyLogitsProcessor(penalty)(ids, scores)
        scores = lp.TemperatureLogitsWarper(temperature)(ids, scores)
        if top_k:
            scores = lp.TopKLogitsWarper(top_k)(ids, scores)
        before = scores
        if top_p < 1.0:
            scores = lp.TopPLogitsWarper(top_p)(ids, scores)
            dropped = before[torch.isinf(scores) & ~torch.isinf(before)]
            if dropped.numel() and dropped.max() == scores[~torch.isinf(scores)].min():
                continue
        if min_p:
            scores = lp.MinPLogitsWarper(min_p)(ids, scores)
        p = torch.softmax(scores, -1)[0]
        order = [i for i in torch.argsort(p, descending=True, stable=True).tolist() if p[i] > 0]
        print(seed, temperature, top_k, top_p, min_p, penalty, *(f"{i}:{p[i]:.5g}" for i in order), file=out)
    out.close()


main()
