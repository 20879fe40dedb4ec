/* gemma.c: see gemma.h. Everything runs in float32 over weights of any dtype. Positions count from 1, as the reference's
 * do (RoPE is relative, but rounding is not). */
#include "model/gemma.h"

#include <math.h>
#include <string.h>

#include "model/gemma_block.h"
#include "tensor/attention.h"
#include "tensor/norm.h"

static pali_status ids_check(const gemma *g, const int32_t *ids, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (ids[i] < 0 || (size_t)ids[i] >= g->embed.rows)
            return status_fail(PALI_ERR_ARGUMENT, "token id %d: the model's table has %zu rows", (int)ids[i], g->embed.rows);
    return PALI_OK;
}

pali_status gemma_embed(exec *e, const gemma *g, float *out, const int32_t *ids, size_t n) {
    const mat *table = &g->embed;
    float factor = sqrtf((float)g->cfg.width);
    STATUS_TRY(ids_check(g, ids, n));
    for (size_t i = 0; i < n; i++) {
        float *row = out + i * table->cols;
        mat_rows_f32(e->k, row, table, (size_t)ids[i], 1);
        e->k->scale(row, row, table->cols, factor);
    }
    return PALI_OK;
}

typedef struct embed_job {
    float *dembed;
    const int32_t *ids;
    const float *dx;
    size_t n, width;
    float factor;
} embed_job;

#define EMBED_COLS 256u /* a task: whoever runs it, rows of a token are added in their order */

static void embed_blocks(const exec *e, void *context, size_t begin, size_t end) {
    const embed_job *j = context;
    size_t c = begin * EMBED_COLS, to = end * EMBED_COLS < j->width ? end * EMBED_COLS : j->width;
    for (size_t i = 0; i < j->n; i++)
        e->k->sum_rows(j->dembed + (size_t)j->ids[i] * j->width + c, &j->factor, j->dx + i * j->width + c, j->width, 1, to - c, true);
}

pali_status gemma_embed_backward(exec *e, const gemma *g, float *dembed, const int32_t *ids, const float *dx, size_t n) {
    size_t d = g->cfg.width;
    embed_job job = {dembed, ids, dx, n, d, sqrtf((float)d)};
    STATUS_TRY(ids_check(g, ids, n));
    exec_rows(e, (d + EMBED_COLS - 1) / EMBED_COLS, n * EMBED_COLS, embed_blocks, &job);
    return PALI_OK;
}

/* Frequency and angle as the reference computes them, in f32. */
float gemma_rope_frequency(const gemma_config *cfg, size_t i) {
    float exponent = (float)(2 * i) / (float)cfg->head_dim;
    return 1.0f / (float)pow((double)cfg->rope_theta, (double)exponent);
}

void gemma_rope_angle(float *cosine, float *sine, float frequency, size_t position) {
    double angle = (double)((float)(position + 1) * frequency);
    *cosine = (float)cos(angle);
    *sine = (float)sin(angle);
}

static void rope_table(const gemma_config *cfg, float *cosines, float *sines, const gemma_segment *segments, size_t n_segments) {
    size_t half = cfg->head_dim / 2;
    for (size_t i = 0; i < half; i++) {
        float frequency = gemma_rope_frequency(cfg, i);
        size_t row = 0;
        for (size_t s = 0; s < n_segments; s++) {
            for (size_t t = 0; t < segments[s].n_rows; t++, row++)
                gemma_rope_angle(&cosines[row * half + i], &sines[row * half + i], frequency, kv_total(segments[s].kv) + t);
        }
    }
}

typedef struct rope_job {
    const gemma_config *cfg;
    float *q, *k;
    const float *cosines, *sines;
} rope_job;

static void rope_rows(const exec *e, void *context, size_t begin, size_t end) {
    const rope_job *job = context;
    const gemma_config *cfg = job->cfg;
    size_t h = cfg->head_dim, half = h / 2;
    for (size_t t = begin; t < end; t++) {
        const float *cosines = job->cosines + t * half, *sines = job->sines + t * half;
        for (size_t n = 0; n < cfg->n_heads && job->q; n++) e->k->rope(job->q + (t * cfg->n_heads + n) * h, cosines, sines, half);
        for (size_t n = 0; n < cfg->n_kv_heads && job->k; n++) e->k->rope(job->k + (t * cfg->n_kv_heads + n) * h, cosines, sines, half);
    }
}

void gemma_rope(exec *e, const gemma_config *cfg, float *q, float *k, const float *cosines, const float *sines, size_t n) {
    rope_job job = {cfg, q, k, cosines, sines};
    exec_rows(e, n, (cfg->n_heads + cfg->n_kv_heads) * cfg->head_dim, rope_rows, &job);
}

/* Stores the new keys and values of one segment, whose first row is `row`, and says what its queries look at. */
static attention segment_attention(const gemma_config *cfg, size_t layer, const gemma_acts *a, const gemma_segment *seg, size_t row) {
    const kv_cache *kv = seg->kv, *base = kv->base;
    size_t width = cfg->n_heads * cfg->head_dim, own = layer * kv->cap * kv->row, bytes = seg->n_rows * kv->row * sizeof *kv->k;
    memcpy(kv->k + own + kv->len * kv->row, a->k + row * kv->row, bytes);
    memcpy(kv->v + own + kv->len * kv->row, a->v + row * kv->row, bytes);
    attention att = {.out = a->mix + row * width, .q = a->q + row * width, .n_queries = seg->n_rows, .n_heads = cfg->n_heads,
                     .n_kv_heads = cfg->n_kv_heads, .head_dim = cfg->head_dim, .scale = cfg->attn_scale, .softcap = cfg->attn_softcap,
                     .n_prefix = seg->prefix ? seg->n_rows : 0, .window = cfg->layer_slides[layer] ? cfg->sliding_window : 0};
    if (base) {
        size_t at = layer * base->cap * base->row;
        att.spans[0] = (attention_span){.k = base->k + at, .v = base->v + at, .len = base->len, .ld = base->row};
    }
    att.spans[1] = (attention_span){.k = kv->k + own, .v = kv->v + own, .len = kv->len + seg->n_rows, .ld = kv->row};
    return att;
}

static pali_status segments_attend(exec *e, const gemma_config *cfg, size_t layer, const gemma_acts *a, const gemma_segment *segments,
                                   size_t n_segments) {
    attention list[ATTENTION_MAX];
    size_t row = 0, n = 0;
    for (size_t s = 0; s < n_segments; row += segments[s++].n_rows) {
        if (segments[s].n_rows == 0) continue; /* scoring an empty answer: its cache may have no memory yet */
        list[n++] = segment_attention(cfg, layer, a, &segments[s], row);
        if (n < ATTENTION_MAX) continue;
        STATUS_TRY(attention_forward(e, list, n));
        n = 0;
    }
    return attention_forward(e, list, n);
}

/* Adds a branch's last product to the residual stream; Gemma 2 normalises it first. */
static pali_status branch_add(exec *e, const gemma_config *cfg, float *x, float *h, const float *in, const mat *w, const float *norm_w,
                              size_t n, linear_op alone) {
    if (!norm_w) return linear(e, x, in, w, NULL, n, LINEAR_ADD | alone);
    STATUS_TRY(linear(e, h, in, w, NULL, n, LINEAR_SET | alone));
    norm_rms_add(e, x, h, norm_w, n, cfg->width, cfg->norm_eps);
    return PALI_OK;
}

static pali_status input_see(exec *e, size_t layer, gemma_input which, const float *x, size_t n, size_t n_pictures) {
    return e->input ? e->input(e->input_user, e, layer, which, x, n, n_pictures < n ? n_pictures : n) : PALI_OK;
}

pali_status gemma_block_in(exec *e, const gemma *g, size_t layer, const float *x, const gemma_acts *a, size_t n) {
    const gemma_config *cfg = &g->cfg;
    const gemma_layer *l = &g->layers[layer];
    norm_rms(e, a->h, x, l->norm_attn_in, n, cfg->width, cfg->norm_eps);
    STATUS_TRY(input_see(e, layer, GEMMA_IN_ATTENTION, a->h, n, a->n_pictures));
    STATUS_TRY(linear(e, a->q, a->h, &l->q, NULL, n, LINEAR_SET | a->alone));
    STATUS_TRY(linear(e, a->k, a->h, &l->k, NULL, n, LINEAR_SET | a->alone));
    STATUS_TRY(linear(e, a->v, a->h, &l->v, NULL, n, LINEAR_SET | a->alone));
    gemma_rope(e, cfg, a->q, a->k, a->cos, a->sin, n);
    return PALI_OK;
}

pali_status gemma_block_out(exec *e, const gemma *g, size_t layer, float *x, const gemma_acts *a, size_t n) {
    const gemma_config *cfg = &g->cfg;
    const gemma_layer *l = &g->layers[layer];
    STATUS_TRY(branch_add(e, cfg, x, a->h, a->mix, &l->o, l->norm_attn_out, n, a->alone));
    norm_rms(e, a->h, x, l->norm_mlp_in, n, cfg->width, cfg->norm_eps);
    for (size_t t = 0; t < n; t += GEMMA_MLP_ROWS) {
        size_t rows = n - t < GEMMA_MLP_ROWS ? n - t : GEMMA_MLP_ROWS, n_pictures = a->n_pictures > t ? a->n_pictures - t : 0;
        float *h = a->h + t * cfg->width;
        STATUS_TRY(input_see(e, layer, GEMMA_IN_MLP, h, rows, n_pictures));
        STATUS_TRY(linear_geglu(e, a->mlp, h, &l->gate, &l->up, rows, LINEAR_SET | a->alone));
        STATUS_TRY(input_see(e, layer, GEMMA_IN_DOWN, a->mlp, rows, n_pictures));
        STATUS_TRY(branch_add(e, cfg, x + t * cfg->width, h, a->mlp, &l->down, l->norm_mlp_out, rows, a->alone));
    }
    return PALI_OK;
}

static pali_status block_forward(exec *e, const gemma *g, size_t layer, float *x, const gemma_acts *a, const gemma_segment *segments,
                                 size_t n_segments, size_t n) {
    STATUS_TRY(gemma_block_in(e, g, layer, x, a, n));
    STATUS_TRY(segments_attend(e, &g->cfg, layer, a, segments, n_segments));
    return gemma_block_out(e, g, layer, x, a, n);
}

/* Carves the activations of n rows out of a block; returns its size in floats. at may be NULL. */
static size_t acts_carve(gemma_acts *a, float *at, const gemma_config *cfg, size_t n) {
    size_t q = cfg->n_heads * cfg->head_dim, kv = cfg->n_kv_heads * cfg->head_dim, half = cfg->head_dim / 2;
    size_t mlp = (n < GEMMA_MLP_ROWS ? n : GEMMA_MLP_ROWS) * cfg->mlp_width;
    if (at) {
        a->h = at;
        a->q = a->h + n * cfg->width;
        a->mix = a->q + n * q;
        a->k = a->mix + n * q;
        a->v = a->k + n * kv;
        a->cos = a->v + n * kv;
        a->sin = a->cos + n * half;
        a->mlp = a->sin + n * half;
    }
    return n * (cfg->width + 2 * q + 2 * kv + 2 * half) + mlp;
}

static pali_status acts_get(exec *e, const gemma_config *cfg, gemma_acts *a, size_t n) {
    size_t floats = acts_carve(a, NULL, cfg, n);
    float *at = mem_scratch_get(&e->acts, floats, sizeof *at);
    if (!at) return status_no_memory(floats * sizeof *at);
    (void)acts_carve(a, at, cfg, n);
    return PALI_OK;
}

pali_status gemma_forward(exec *e, const gemma *g, float *x, const gemma_segment *segments, size_t n_segments) {
    gemma_acts a = {.alone = LINEAR_ALONE, .n_pictures = n_segments == 1 ? segments->n_pictures : 0};
    size_t n = 0;
    for (size_t s = 0; s < n_segments; s++) {
        if (segments[s].prefix && kv_total(segments[s].kv) != 0)
            return status_fail(PALI_ERR_INTERNAL, "a bidirectional prefix must start its sequence");
        STATUS_TRY(kv_reserve(segments[s].kv, segments[s].n_rows));
        if (segments[s].prefix || segments[s].n_rows > 1) a.alone = 0;
        n += segments[s].n_rows;
    }
    STATUS_TRY(acts_get(e, &g->cfg, &a, n));
    rope_table(&g->cfg, a.cos, a.sin, segments, n_segments);
    exec_tap(e, "text.embed", -1, x, n, g->cfg.width);
    for (size_t i = 0; i < g->cfg.n_layers; i++) {
        STATUS_TRY(exec_check_cancel(e));
        STATUS_TRY(block_forward(e, g, i, x, &a, segments, n_segments, n));
        exec_tap(e, "text.layer", (int)i, x, n, g->cfg.width);
    }
    for (size_t s = 0; s < n_segments; s++) segments[s].kv->len += segments[s].n_rows;
    return PALI_OK;
}

pali_status gemma_final_norm(exec *e, const gemma *g, float *hidden, const float *x, size_t n) {
    norm_rms(e, hidden, x, g->norm_final, n, g->cfg.width, g->cfg.norm_eps);
    exec_tap(e, "text.norm", -1, hidden, n, g->cfg.width);
    return PALI_OK;
}

typedef struct cap_job {
    float *logits;
    size_t n;
    float cap;
} cap_job;

#define CAP_CHUNK 4096u

static void cap_chunks(const exec *e, void *context, size_t begin, size_t end) {
    const cap_job *job = context;
    size_t from = begin * CAP_CHUNK, to = end * CAP_CHUNK < job->n ? end * CAP_CHUNK : job->n;
    e->k->softcap(job->logits + from, to - from, job->cap);
}

static void cap(exec *e, const gemma *g, float *logits, size_t n) {
    cap_job job = {logits, n, g->cfg.final_softcap};
    if (job.cap > 0) exec_rows(e, (n + CAP_CHUNK - 1) / CAP_CHUNK, CAP_CHUNK, cap_chunks, &job);
}

/* While a memory plan is made there is no data; a head of its own has a dtype all the same. */
static const mat *head_of(const gemma *g) {
    return g->head.dtype != PALI_DTYPE_AUTO ? &g->head : &g->embed;
}

pali_status gemma_logits(exec *e, const gemma *g, float *logits, const float *hidden, size_t n, bool alone) {
    const mat *head = head_of(g);
    STATUS_TRY(linear(e, logits, hidden, head, NULL, n, LINEAR_SET | (alone ? LINEAR_ALONE : 0)));
    cap(e, g, logits, n * head->rows);
    exec_tap(e, "logits", -1, logits, n, head->rows);
    return PALI_OK;
}

pali_status gemma_logits_some(exec *e, const gemma *g, float *logits, const float *hidden, size_t first, size_t n) {
    const mat some = mat_slice(head_of(g), first, n);
    STATUS_TRY(linear(e, logits + first, hidden, &some, NULL, 1, LINEAR_SET | LINEAR_ALONE));
    cap(e, g, logits + first, n);
    return PALI_OK;
}

void gemma_need(exec_need *need, exec *e, const gemma *g, size_t n_segments, size_t n_rows, size_t n_keys) {
    const gemma_config *cfg = &g->cfg;
    size_t n = n_segments * n_rows, mlp_rows = n < GEMMA_MLP_ROWS ? n : GEMMA_MLP_ROWS;
    linear_op alone = n_rows > 1 ? LINEAR_SET : LINEAR_ALONE;
    const attention att = {.n_queries = n_rows, .n_heads = cfg->n_heads, .n_kv_heads = cfg->n_kv_heads, .head_dim = cfg->head_dim,
                           .spans[1].len = n_keys};
    exec_need_grow(&need->acts, acts_carve(NULL, NULL, cfg, n) * sizeof(float));
    attention_need(need, e, &att);
    for (size_t i = 0; i < cfg->n_layers; i++) {
        const gemma_layer *l = &g->layers[i];
        linear_need(need, e, &l->q, NULL, n, alone);
        linear_need(need, e, &l->k, NULL, n, alone);
        linear_need(need, e, &l->v, NULL, n, alone);
        linear_need(need, e, &l->o, NULL, n, alone);
        linear_need(need, e, &l->gate, &l->up, mlp_rows, alone);
        linear_need(need, e, &l->down, NULL, mlp_rows, alone);
    }
    linear_need(need, e, head_of(g), NULL, n_rows > 1 ? 1 : n_segments, LINEAR_ALONE);
}
