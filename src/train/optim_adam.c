/* optim_adam.c: the updates that see one element at a time: Adam in all its variants, and SGD (spec training 4.1 - 4.3). */
#include <math.h>

#include "base/halffloat.h"
#include "train/optim_state.h"

/* The variants differ in where eps and decay come in, which is a matter of five numbers; worked out in double as the references
 * do, and rounded once. */
static adam_rate rate_of(const optim *o, const param *p) {
    const optim_options *opt = &o->opt;
    double lr = o->rate.lr * o->rate.factor, decay = optim_decay(o, p), t = (double)o->step;
    double c1 = 1 - pow(opt->beta1, t), root = sqrt(1 - pow(opt->beta2, t));
    double before = 1, after = 1, eps = opt->eps, step = lr / c1;
    switch (opt->kind) {
    case OPTIM_ADAM_BV: before = 1 - o->rate.factor * decay; break;
    case OPTIM_ADAMW_HF:
        after = 1 - lr * decay;
        step *= root;
        root = 1;
        break;
    case OPTIM_ADAMW_8BIT:
        after = 1 - lr * decay;
        step *= root;
        eps *= root;
        root = 1;
        break;
    default: before = 1 - lr * decay; break;
    }
    return (adam_rate){(float)before, (float)after, (float)step, (float)(1 / root), (float)eps};
}

/* 1 - beta is rounded from double, not subtracted in f32: of 0.999 that would be 2e-5 off. */
static void adam(float *p, float *m, float *v, const float *g, size_t n, const optim_options *o, adam_rate r) {
    float b1 = (float)o->beta1, b2 = (float)o->beta2, a1 = (float)(1 - o->beta1), a2 = (float)(1 - o->beta2);
    for (size_t i = 0; i < n; i++) {
        m[i] = m[i] * b1 + a1 * g[i];
        v[i] = v[i] * b2 + a2 * g[i] * g[i];
        p[i] = (p[i] * r.before - r.step * m[i] / (sqrtf(v[i]) * r.root + r.eps)) * r.after;
    }
}

/* bitsandbytes leaves elements alone whose gradient is no number, and forgets their past. */
static void adam_skipping(float *p, float *m, float *v, const float *g, size_t n, const optim_options *o, adam_rate r) {
    for (size_t i = 0; i < n; i++) {
        if (isfinite(g[i])) adam(p + i, m + i, v + i, g + i, 1, o, r);
        else m[i] = v[i] = 0;
    }
}

static bool all_finite(const float *g, size_t n) {
    uint32_t bad = 0;
    for (size_t i = 0; i < n; i++) bad |= (half_f32_to_bits(g[i]) & 0x7f800000u) == 0x7f800000u;
    return !bad;
}

void adam_range(const optim *o, const param *p, const state *s, size_t begin, size_t end) {
    float room[4][OPTIM_CHUNK];
    adam_rate r = rate_of(o, p);
    for (size_t at = begin; at < end; at += OPTIM_CHUNK) {
        size_t n = end - at < OPTIM_CHUNK ? end - at : OPTIM_CHUNK;
        float *value = optim_value(o, p, at, n, room[0]), *g = room[1];
        float *m = optim_moment(o, &s->m, &o->map_m, at, n, room[2]), *v = optim_moment(o, &s->v, &o->map_v, at, n, room[3]);
        optim_grad(o, p, at, n, g);
        if (s->m.dtype == OPTIM_U8 && !all_finite(g, n)) adam_skipping(value, m, v, g, n, &o->opt, r);
        else adam(value, m, v, g, n, &o->opt, r);
        optim_moment_store(o, &s->m, &o->map_m, at, n, m);
        optim_moment_store(o, &s->v, &o->map_v, at, n, v);
        optim_value_store(o, p, at, n, value);
    }
}

/* The trace is rounded when it is kept, not before it is used: as big_vision's bf16 momentum. */
void sgd_range(const optim *o, const param *p, const state *s, size_t begin, size_t end) {
    float room[3][OPTIM_CHUNK];
    float lr = (float)(o->rate.lr * o->rate.factor), decay = (float)optim_decay(o, p), momentum = (float)o->opt.momentum;
    for (size_t at = begin; at < end; at += OPTIM_CHUNK) {
        size_t n = end - at < OPTIM_CHUNK ? end - at : OPTIM_CHUNK;
        float *value = optim_value(o, p, at, n, room[0]), *g = room[1], *m = g;
        optim_grad(o, p, at, n, g);
        for (size_t i = 0; i < n && decay != 0; i++) g[i] += decay * value[i];
        if (s->m.data) {
            m = optim_moment(o, &s->m, NULL, at, n, room[2]);
            for (size_t i = 0; i < n; i++) m[i] = momentum * m[i] + g[i];
            optim_moment_store(o, &s->m, NULL, at, n, m);
        }
        for (size_t i = 0; i < n; i++) value[i] -= lr * m[i];
        optim_value_store(o, p, at, n, value);
    }
}
