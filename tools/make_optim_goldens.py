#!/usr/bin/env python3
"""Makes tests/golden/optim/: what the reference optimizers do to a few tensors of odd sizes in some steps.

  python3 -m venv venv && venv/bin/pip install torch transformers bitsandbytes optax "jax[cpu]" numpy safetensors
  venv/bin/python tools/make_optim_goldens.py

Values and gradients are hashes of their place, exact in bf16 or f32, that tests/test_optim.c makes too. For each case the
file cases.safetensors has the parameters CASE/STEP/NAME after some of the steps, gradient norms CASE/norm, learning rates
CASE/lr, and states of the 8-bit optimizer. Where no package has the optimizer (Transformers' old AdamW, big_vision's chain) the
formula is written out here in double.
"""
import json
import os

import bitsandbytes as bnb
import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
import transformers
from safetensors.numpy import save_file

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "golden", "optim")
STEPS = 6
# name, shape, heads along rows and columns, decayed by Transformers, decayed by big_vision
TENSORS = [
    ("kernel", (23, 13), True, True),
    ("heads_in", (64, 33), True, False),  # two heads of 32 rows
    ("heads_out", (35, 66), True, False),  # two heads of 33 columns
    ("norm", (45,), False, False),
    ("patch", (5, 3, 4, 4), True, True),
]
BIG = [("wide", (65, 67), True, True), ("embed", (65, 64), True, False), ("norm", (45,), False, False)]
OUTPUTS = {}


def hashed(n, *key):
    x = np.arange(n, dtype=np.uint64)
    seed = 0
    for k in key:
        seed = (seed * 16777619 + k) & 0xFFFFFFFF
    with np.errstate(over="ignore"):
        x = (x * np.uint64(0x9E3779B9) + np.uint64(seed)) & np.uint64(0xFFFFFFFF)
        x = ((x ^ x >> np.uint64(16)) * np.uint64(0x85EBCA6B)) & np.uint64(0xFFFFFFFF)
        x = ((x ^ x >> np.uint64(13)) * np.uint64(0xC2B2AE35)) & np.uint64(0xFFFFFFFF)
        return x ^ x >> np.uint64(16)


def numbers(n, bits, *key):
    """(-1, 1) in `bits` bits, times one of 2^0 .. 2^-7."""
    x = hashed(n, *key)
    mantissa = (x & np.uint64((1 << bits) - 1)).astype(np.float64) - (1 << (bits - 1)) + 0.5
    return (mantissa / (1 << (bits - 1)) * 2.0 ** -((x >> np.uint64(20)) & np.uint64(7)).astype(np.float64)).astype(np.float32)


def value(tensors, i, bits=16):
    return numbers(int(np.prod(tensors[i][1])), bits, 1, i).reshape(tensors[i][1])


def gradient(tensors, i, step, bits=16):
    return numbers(int(np.prod(tensors[i][1])), bits, 2 + step, i).reshape(tensors[i][1]) * np.float32(0.25)


def keep(case, step, tensors, values):
    """Everything of the last step, small tensors of the second: the first that changes anything."""
    for (name, shape, *_), x in zip(tensors, values):
        if step == STEPS or (step == 2 and np.prod(shape) < 1000):
            OUTPUTS[f"{case}/{step}/{name}"] = np.array(x, dtype=np.float32, order="C")


def with_torch(case, tensors, make, max_norm, dtype=torch.float32, bits=16, decay=0.1, end=None):
    """make(groups) gives the optimizer; a schedule with a warm-up of 1 of 8 steps, as the Trainer drives it."""
    params = [torch.nn.Parameter(torch.tensor(value(tensors, i, bits)).to(dtype)) for i in range(len(tensors))]
    groups = [{"params": [p for p, t in zip(params, tensors) if t[2]], "weight_decay": decay},
              {"params": [p for p, t in zip(params, tensors) if not t[2]], "weight_decay": 0.0}]
    opt = make(groups, params)
    schedule = transformers.get_linear_schedule_with_warmup(opt, 1, 8)
    norms, rates = [], []
    for step in range(1, STEPS + 1):
        for i, p in enumerate(params):
            p.grad = torch.tensor(gradient(tensors, i, step, bits)).to(dtype)
        if max_norm:
            norms.append(torch.nn.utils.clip_grad_norm_(params, max_norm).item())
        rates.append(schedule.get_last_lr()[0])
        opt.step()
        schedule.step()
        keep(case, step, tensors, [p.detach().float().numpy() for p in params])
        if end:
            end(step, opt, params)
    OUTPUTS[f"{case}/lr"] = np.array(rates)
    OUTPUTS[f"{case}/norm"] = np.array(norms if norms else [0.0])


class Muon:
    """torch.optim.Muon for matrices, its polynomial in double instead of bf16, and AdamW for the rest."""

    def __init__(self, groups, params):
        pick = lambda matrix: [{**g, "params": [p for p in g["params"] if (p.ndim == 2) == matrix]} for g in groups]
        groups = [[g for g in pick(matrix) if g["params"]] for matrix in (True, False)]
        muon = torch.optim.Muon(groups[0], lr=1e-2, adjust_lr_fn="match_rms_adamw")
        self.both = [muon, torch.optim.AdamW(groups[1], lr=1e-2, foreach=False, fused=False)]
        self.schedules = [transformers.get_linear_schedule_with_warmup(o, 1, 8) for o in self.both]

    def step(self):
        half, torch.bfloat16 = torch.bfloat16, torch.float64
        for o, s in zip(self.both, self.schedules):
            o.step()
            s.step()
        torch.bfloat16 = half


def muon(case):
    params = [torch.nn.Parameter(torch.tensor(value(TENSORS, i))) for i in range(len(TENSORS))]
    opt = Muon([{"params": [p for p, t in zip(params, TENSORS) if t[2] == decays], "weight_decay": 0.1 * decays} for decays in (True, False)], params)
    norms, rates = [], []
    for step in range(1, STEPS + 1):
        for i, p in enumerate(params):
            p.grad = torch.tensor(gradient(TENSORS, i, step))
        norms.append(torch.nn.utils.clip_grad_norm_(params, 1.0).item())
        rates.append(opt.schedules[0].get_last_lr()[0])
        opt.step()
        keep(case, step, TENSORS, [p.detach().numpy() for p in params])
    OUTPUTS[f"{case}/lr"] = np.array(rates)
    OUTPUTS[f"{case}/norm"] = np.array(norms)


def adamw_hf(case):
    """Transformers' AdamW until 4.x (correct_bias): decay last, of the updated value."""
    for i, t in enumerate(TENSORS):
        p, m, v = value(TENSORS, i).astype(np.float64), 0.0, 0.0
        for step in range(1, STEPS + 1):
            g, lr = gradient(TENSORS, i, step).astype(np.float64), 1e-2 * (0 if step == 1 else (9 - step) / 7)
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
            p = p - lr * np.sqrt(1 - 0.999**step) / (1 - 0.9**step) * m / (np.sqrt(v) + 1e-8)
            p = p - lr * (0.1 if t[2] else 0.0) * p
            keep(case, step, [t], [p])


def big_vision(case, scale_by, wd, to_axes, from_axes):
    """big_vision's chain: clip, scale_by, lr, absolute decay of kernels, schedule, minus."""
    schedule = lambda count: 0.5 * (1 + np.cos(np.pi * np.clip((count - 1) / 7, 0, 1))) * min(1.0, count / 1)
    params = {t[0]: jnp.asarray(to_axes(t[0], value(TENSORS, i))) for i, t in enumerate(TENSORS)}
    state = scale_by.init(params)
    norms = []
    for step in range(1, STEPS + 1):
        grads = {t[0]: jnp.asarray(to_axes(t[0], gradient(TENSORS, i, step))) for i, t in enumerate(TENSORS)}
        norms.append(float(optax.global_norm(grads)))
        grads, _ = optax.clip_by_global_norm(1.0).update(grads, optax.EmptyState())
        updates, state = scale_by.update(grads, state, params)
        for name, _, _, kernel in TENSORS:
            updates[name] = updates[name] * 1e-2 + (wd * params[name] if kernel else 0.0)
            params[name] = params[name] - float(schedule(step - 1)) * updates[name]
        keep(case, step, TENSORS, [from_axes(t[0], np.asarray(params[t[0]])) for t in TENSORS])
    OUTPUTS[f"{case}/norm"] = np.array(norms)


def adamw_8bit(case):
    """bitsandbytes' kernel for GPUs, f32 operation by operation: its path for CPUs looks codes up in a table with steps of 3e-5,
    which near zero is not the nearest code, and has no rule for signs."""
    f = np.float32
    maps = [bnb.functional.create_dynamic_map(signed).numpy() for signed in (True, False)]
    shape = BIG[0][1]
    p, n = value(BIG, 0).ravel(), int(np.prod(shape))
    pad = -n % 256
    codes, absmax = [np.full(n + pad, 127, np.uint8), np.zeros(n + pad, np.uint8)], [np.zeros((n + pad) // 256, f)] * 2
    for step in range(1, STEPS + 1):
        norm = np.sqrt(sum(np.sum(gradient(BIG, i, step).astype(np.float64) ** 2) for i in range(len(BIG))))
        g = gradient(BIG, 0, step).ravel() * min(f(1), f(1) / (f(norm) + f(1e-6)))
        m, v = ((maps[k][codes[k]].reshape(-1, 256) * absmax[k][:, None]).ravel()[:n] for k in (0, 1))
        m = m * f(0.9) + f(1 - 0.9) * g
        v = v * f(0.999) + f(1 - 0.999) * g * g
        lr = 1e-2 * (0 if step == 1 else (9 - step) / 7)
        root = np.sqrt(1 - 0.999**step)
        p = (p - f(lr / (1 - 0.9**step) * root) * m / (np.sqrt(v) + f(1e-8 * root))) * f(1 - lr * 1e-3)
        for k, x in enumerate((m, v)):
            x = np.pad(x, (0, pad)).reshape(-1, 256)
            absmax[k] = np.abs(x).max(1)
            middle = (maps[k][:-1] + maps[k][1:]) * f(0.5)
            codes[k] = np.searchsorted(middle, x / absmax[k][:, None], side="left").astype(np.uint8).ravel()
            codes[k][(x.ravel() < 0) & (maps[k][codes[k]] >= 0)] -= 1
        if step in (1, STEPS):
            for name, x in zip(("m8", "v8"), codes):
                OUTPUTS[f"{case}/{step}/{name}"] = x[:n].copy()
            for name, x in zip(("am", "av"), absmax):
                OUTPUTS[f"{case}/{step}/{name}"] = x.copy()
    keep(case, STEPS, BIG[:1], [p.reshape(shape)])


def to_heads(name, x):
    """As big_vision has them: heads an axis of their own; the patch kernel's axes in its order."""
    if name == "heads_in":
        return x.reshape(2, 32, 33)
    if name == "heads_out":
        return x.reshape(35, 2, 33)
    return x.transpose(2, 3, 1, 0) if name == "patch" else x


def from_heads(name, x):
    if name == "patch":
        return x.transpose(3, 2, 0, 1)
    return x.reshape({t[0]: t[1] for t in TENSORS}[name])


def scale_by_adafactor(dtype):
    """big_vision/optax.py: factored rms with a capped decay, no clipping, momentum (bf16) without debiasing."""
    rate = lambda i, exponent: jnp.minimum(0.999, 1.0 - (jnp.array(i, jnp.float32) + 1.0) ** (-exponent))
    rms = optax.scale_by_factored_rms(factored=True, decay_rate=0.8, min_dim_size_to_factor=32, epsilon=1e-30, decay_rate_fn=rate)
    return optax.chain(rms, optax.ema(0.9, debias=False, accumulator_dtype=dtype))


def main():
    torch.set_num_threads(1)
    os.makedirs(OUT, exist_ok=True)
    AdamW = torch.optim.AdamW
    with_torch("adamw", TENSORS, lambda g, p: AdamW(g, lr=1e-2, foreach=False, fused=False), 1.0)
    with_torch("adamw_bf16", TENSORS, lambda g, p: AdamW(g, lr=1e-2, foreach=False, fused=True), 0, torch.bfloat16, 8)
    adamw_hf("adamw_hf")
    big_vision("adam_big_vision", optax.scale_by_adam(b1=0.9, b2=0.999, eps=1e-8), 1e-3, lambda n, x: x, lambda n, x: x)
    with_torch("sgd", TENSORS, lambda g, p: torch.optim.SGD(g, lr=3e-2, foreach=False), 1.0)
    with_torch("sgd_momentum", TENSORS, lambda g, p: torch.optim.SGD(g, lr=3e-2, momentum=0.9, foreach=False), 1.0)
    muon("muon")
    adafactor = lambda g, p: transformers.Adafactor(g, lr=1e-2, scale_parameter=False, relative_step=False)
    with_torch("adafactor", TENSORS, adafactor, 1.0)
    big_vision("adafactor_big_vision", scale_by_adafactor(jnp.bfloat16), 1e-3, to_heads, from_heads)
    big_vision("adafactor_big_vision_f32", scale_by_adafactor(jnp.float32), 1e-3, to_heads, from_heads)
    adamw_8bit("adamw8bit")

    def bnb_adamw(groups, params):
        opt = bnb.optim.AdamW8bit(groups, lr=1e-2)
        opt.mng.override_config(params[1], "optim_bits", 32)  # what the Trainer asks for nn.Embedding
        return opt

    def states(step, opt, params):
        assert [opt.state[p]["state1"].dtype for p in params] == [torch.uint8, torch.float32, torch.float32]

    with_torch("adamw8bit_cpu", BIG, bnb_adamw, 1.0, decay=1e-3, end=states)
    OUTPUTS["map/signed"] = bnb.functional.create_dynamic_map(True).numpy()
    OUTPUTS["map/unsigned"] = bnb.functional.create_dynamic_map(False).numpy()
    versions = {m.__name__: m.__version__ for m in (torch, transformers, bnb, optax, jax, np)}
    save_file(OUTPUTS, os.path.join(OUT, "cases.safetensors"), {"versions": json.dumps(versions), "seed": "none: hashes"})
    print(versions, len(OUTPUTS), os.path.getsize(os.path.join(OUT, "cases.safetensors")))


main()
