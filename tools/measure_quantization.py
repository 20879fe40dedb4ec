#!/usr/bin/env python3
"""What rounding activations to 8 bits costs in a product, by the number of activations under one scale, and what the 4- and 8-bit
types of weights cost. Prints the tables quoted in SPEED.md.

Needs numpy. Activations are normal with outliers as Gemma's have: 1 % of the channels are 50 times larger, and 0.1 % 500 times.
"""
import numpy as np

rng = np.random.default_rng(2026)


def rounded(x, group):
    """Rounds rows of x to 8 bits, one scale (the largest magnitude / 127) for each `group` columns."""
    shape = x.shape
    x = x.reshape(shape[0], -1, group)
    d = np.abs(x).max(axis=2, keepdims=True) / 127
    return (np.rint(x / np.where(d > 0, d, 1)) * d).reshape(shape)


def activations(rows, k):
    channel = np.ones(k)
    order = rng.permutation(k)
    channel[order[: k // 100]] = 50
    channel[order[: k // 1000]] = 500
    return rng.standard_normal((rows, k)) * channel


def error(a, b):
    return np.linalg.norm(a - b) / np.linalg.norm(b)


def q4_search(w, q_max=15):
    """Blocks of 32: scale and minimum of least squared error among nine clippings, fitted, then once more."""
    lo, hi = w.min(axis=1), w.max(axis=1)
    best_s, best_m, best_e = np.zeros(len(w)), lo, np.full(len(w), np.inf)

    def attempt(s, m):
        nonlocal best_s, best_m, best_e
        q = np.clip(np.floor((w - m[:, None]) / np.where(s > 0, s, 1)[:, None] + 0.5), 0, q_max)
        n, a, b, c, d = 32.0, q.sum(1), (q * q).sum(1), w.sum(1), (q * w).sum(1)
        det = n * b - a * a
        s = np.where(det > 0, (n * d - a * c) / np.where(det > 0, det, 1), s)
        m = np.where(det > 0, (c - s * a) / n, m)
        e = ((s[:, None] * q + m[:, None] - w) ** 2).sum(1)
        better = (s > 0) & (e < best_e)
        best_s, best_m, best_e = np.where(better, s, best_s), np.where(better, m, best_m), np.where(better, e, best_e)

    for i in (1, 0.9, 0.8):
        for j in (1, 0.9, 0.8):
            attempt((hi * j - lo * i) / 15, lo * i)
    attempt(best_s, best_m)
    return np.sqrt(best_e.sum() / (w ** 2).sum())


def q4_0(w):
    end = np.take_along_axis(w, np.abs(w).argmax(axis=1)[:, None], axis=1)
    d = end / -8
    q = np.clip(np.floor(w / np.where(d != 0, d, 1) + 8.5), 0, 15)
    return error(d * (q - 8), w)


print("numpy", np.__version__, "seed 2026")
print("\nrelative error of x W^T, x rounded to 8 bits, W exact")
print(f"{'k':>6} {'one scale a row':>16} {'256':>9} {'128':>9} {'64':>9} {'32':>9}   bf16 activations")
for k in (1152, 2048, 4304, 16384):
    padded = -(-k // 256) * 256
    x = np.zeros((64, padded))
    x[:, :k] = activations(64, k)
    w = rng.standard_normal((256, padded)) * 0.02
    want = x @ w.T
    bf16 = ((x.astype(np.float32).view(np.uint32) + 0x8000) & 0xFFFF0000).view(np.float32)
    cells = [error(rounded(x, g) @ w.T, want) for g in (padded, 256, 128, 64, 32)]
    print(f"{k:>6} {cells[0]:>16.2%} " + " ".join(f"{c:>9.3%}" for c in cells[1:]) + f"   {error(bf16 @ w.T, want):.3%}")
    # what the channels without outliers keep
w = rng.standard_normal((20000, 32))
print("\nrelative error of normal weights, blocks of 32")
print(f"8 bits, one scale (8.5 bits a weight)          {error(rounded(w, 32), w):.2%}")
print(f"4 bits, one scale, 8 is zero (Q4_0, 4.5 bits)  {q4_0(w):.2%}")
print(f"4 bits, scale and minimum, searched (Q4_1: 5 bits; Q4_K before its scales are rounded: 4.5 bits)  {q4_search(w):.2%}")
