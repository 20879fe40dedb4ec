/* optim.c: names and defaults, the memory of states, and one update over fixed ranges of every parameter. */
#include "train/optim.h"

#include <math.h>
#include <string.h>

#include "base/halffloat.h"
#include "base/mem.h"
#include "train/optim_state.h"

#define RANGE 65536u        /* elements of one task: a multiple of OPTIM_CHUNK, large against the cost of a task */
#define MIN_8BIT 4096u      /* bitsandbytes' own bounds: smaller tensors keep 32 bits, */
#define MIN_PAGED 100000u   /* and smaller states stay in memory */
#define MAX_ARRAYS 4u       /* of one parameter */

pali_status optim_options_named(optim_options *out, const char *name) {
    static const struct {
        const char *name;
        optim_kind kind;
        bool paged;
    } k_names[] = {
        {"adamw", OPTIM_ADAMW, false},
        {"adamw_torch", OPTIM_ADAMW, false},
        {"adamw_torch_fused", OPTIM_ADAMW, false},
        {"adamw_hf", OPTIM_ADAMW_HF, false},
        {"adamw8bit", OPTIM_ADAMW_8BIT, false},
        {"adamw_8bit", OPTIM_ADAMW_8BIT, false},
        {"adamw_bnb_8bit", OPTIM_ADAMW_8BIT, false},
        {"paged_adamw8bit", OPTIM_ADAMW_8BIT, true},
        {"paged_adamw_8bit", OPTIM_ADAMW_8BIT, true},
        {"adam_big_vision", OPTIM_ADAM_BV, false},
        {"sgd", OPTIM_SGD, false},
        {"muon", OPTIM_MUON, false},
        {"adafactor", OPTIM_ADAFACTOR, false},
        {"adafactor_big_vision", OPTIM_ADAFACTOR_BV, false},
    };
    for (size_t i = 0; i < sizeof k_names / sizeof k_names[0]; i++) {
        if (strcmp(k_names[i].name, name) != 0) continue;
        optim_kind kind = k_names[i].kind;
        *out = (optim_options){.kind = kind, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .states = PALI_DTYPE_F32, .paged = k_names[i].paged};
        if (kind == OPTIM_ADAFACTOR_BV) out->momentum = 0.9;
        if (kind == OPTIM_MUON) out->momentum = 0.95;
        if (optim_is_adafactor(kind)) out->eps = 1e-30;
        if (kind == OPTIM_SGD || kind == OPTIM_ADAFACTOR_BV) out->states = PALI_DTYPE_BF16;
        return PALI_OK;
    }
    return status_fail(PALI_ERR_ARGUMENT, "optim: \"%.64s\" is none of adamw, adamw_hf, adamw8bit, paged_adamw8bit, adam_big_vision, sgd, muon, "
                       "adafactor, adafactor_big_vision", name);
}

/* An array of a parameter's state, and the pointer that leads to it. */
typedef struct slot {
    optim_array array;
    void **place;
} slot;

/* Of shape [rows, cols], [rows] where cols is 0, the parameter's own where both are. */
static void put(slot *s, size_t *n, const param *p, const char *prefix, optim_dtype dtype, void **place, size_t rows, size_t cols) {
    static const size_t k_bytes[] = {4, 2, 1};
    slot *t = &s[(*n)++];
    *t = (slot){{.prefix = prefix, .param = p->name, .dtype = dtype}, place};
    if (rows == 0) {
        t->array.n_dims = p->n_dims;
        memcpy(t->array.dims, p->dims, sizeof p->dims);
        t->array.n_bytes = p->n * k_bytes[dtype];
        return;
    }
    t->array.n_dims = cols ? 2 : 1;
    t->array.dims[0] = rows;
    t->array.dims[1] = cols;
    t->array.n_bytes = rows * (cols ? cols : 1) * k_bytes[dtype];
}

/* The arrays of one parameter: the one place that knows which there are. Pointers in s are set later, through the slots. */
static size_t slots_of(slot out[MAX_ARRAYS], const optim_options *o, const param *p, state *s) {
    size_t n = 0;
    optim_dtype dtype = o->states == PALI_DTYPE_BF16 ? OPTIM_BF16 : OPTIM_F32;
    if (optim_is_adafactor(o->kind)) {
        grid g = adafactor_grid(o, p);
        if (g.rows) {
            put(out, &n, p, "vr.", OPTIM_F32, &s->row, g.rows, g.col_blocks);
            put(out, &n, p, "vc.", OPTIM_F32, &s->col, g.row_blocks, g.cols);
        } else {
            put(out, &n, p, "v.", OPTIM_F32, &s->v.data, 0, 0);
        }
        if (o->momentum > 0) put(out, &n, p, "m.", dtype, &s->m.data, 0, 0);
    } else if (o->kind == OPTIM_SGD || optim_is_muon(o, p)) {
        if (o->momentum > 0) put(out, &n, p, "m.", dtype, &s->m.data, 0, 0);
    } else if (o->kind == OPTIM_ADAMW_8BIT && p->n >= MIN_8BIT && !p->embedding) {
        size_t blocks = (p->n + DYNAMIC8_BLOCK - 1) / DYNAMIC8_BLOCK;
        put(out, &n, p, "m8.", OPTIM_U8, &s->m.data, 0, 0);
        put(out, &n, p, "v8.", OPTIM_U8, &s->v.data, 0, 0);
        put(out, &n, p, "am.", OPTIM_F32, &s->m.absmax, blocks, 0);
        put(out, &n, p, "av.", OPTIM_F32, &s->v.absmax, blocks, 0);
    } else {
        put(out, &n, p, "m.", dtype, &s->m.data, 0, 0);
        put(out, &n, p, "v.", dtype, &s->v.data, 0, 0);
    }
    return n;
}

static size_t aligned(size_t n_bytes) {
    return (n_bytes + MEM_ALIGN - 1) / MEM_ALIGN * MEM_ALIGN;
}

static bool in_file(const optim_options *o, const param *p) {
    return o->paged && o->paged_dir && p->n >= MIN_PAGED;
}

void optim_need(const optim_options *o, const params *p, uint64_t *memory, uint64_t *file) {
    *memory = adafactor_scratch_bytes(o, p);
    *file = 0;
    for (size_t i = 0; i < p->n; i++) {
        state none = {0};
        slot slots[MAX_ARRAYS];
        size_t n = slots_of(slots, o, &p->items[i], &none);
        for (size_t j = 0; j < n; j++) *(in_file(o, &p->items[i]) ? file : memory) += aligned(slots[j].array.n_bytes);
    }
}

static pali_status check(const optim_options *o) {
    if (!(o->beta1 >= 0 && o->beta1 < 1)) return status_fail(PALI_ERR_ARGUMENT, "beta1: %g; 0 to below 1 expected", o->beta1);
    if (!(o->beta2 >= 0 && o->beta2 < 1)) return status_fail(PALI_ERR_ARGUMENT, "beta2: %g; 0 to below 1 expected", o->beta2);
    if (!(o->momentum >= 0 && o->momentum < 1)) return status_fail(PALI_ERR_ARGUMENT, "momentum: %g; 0 to below 1 expected", o->momentum);
    if (o->momentum > 0 && o->kind != OPTIM_SGD && o->kind != OPTIM_MUON && o->kind != OPTIM_ADAFACTOR_BV)
        return status_fail(PALI_ERR_ARGUMENT, "momentum: only sgd, muon and adafactor_big_vision have it");
    if (!(o->eps >= 0 && isfinite(o->eps))) return status_fail(PALI_ERR_ARGUMENT, "eps: %g; a number of at least 0 expected", o->eps);
    if (!(o->weight_decay >= 0 && isfinite(o->weight_decay)))
        return status_fail(PALI_ERR_ARGUMENT, "weight decay: %g; a number of at least 0 expected", o->weight_decay);
    return PALI_OK;
}

static pali_status take_memory(optim *o) {
    uint64_t memory, file;
    optim_need(&o->opt, o->list, &memory, &file);
    size_t scratch = adafactor_scratch_bytes(&o->opt, o->list);
    if (memory > SIZE_MAX / 2 || file > SIZE_MAX / 2) return status_fail(PALI_ERR_MEMORY, "optimizer states: too large for this machine");
    o->states = mem_calloc(o->list->n, sizeof *o->states);
    if (!o->states) return status_no_memory(o->list->n * sizeof *o->states);
    o->memory_bytes = (size_t)memory;
    o->memory = mem_huge_alloc(o->memory_bytes);
    if (!o->memory) return status_no_memory(o->memory_bytes);
    if (file) STATUS_TRY(scratchfile_open(&o->file, o->opt.paged_dir, (size_t)file));
    char *at = (char *)o->memory + scratch, *at_file = o->file.data;
    for (size_t i = 0; i < o->list->n; i++) {
        const param *p = &o->list->items[i];
        slot slots[MAX_ARRAYS];
        size_t n = slots_of(slots, &o->opt, p, &o->states[i]);
        for (size_t j = 0; j < n; j++) {
            char **from = in_file(&o->opt, p) ? &at_file : &at;
            *slots[j].place = *from;
            if (slots[j].place == &o->states[i].m.data) o->states[i].m.dtype = slots[j].array.dtype;
            if (slots[j].place == &o->states[i].v.data) o->states[i].v.dtype = slots[j].array.dtype;
            *from += aligned(slots[j].array.n_bytes);
        }
    }
    return PALI_OK;
}

pali_status optim_new(optim **out, const optim_options *options, params *p) {
    *out = NULL;
    STATUS_TRY(check(options));
    optim *o = mem_calloc(1, sizeof *o);
    if (!o) return status_no_memory(sizeof *o);
    o->opt = *options;
    o->list = p;
    pali_status status = take_memory(o);
    if (status != PALI_OK) {
        optim_free(o);
        return status;
    }
    o->opt.paged_dir = NULL; /* the caller's string; not needed again */
    adafactor_scratch_place(o);
    if (o->opt.kind == OPTIM_ADAMW_8BIT) {
        dynamic8_init(&o->map_m, true);
        dynamic8_init(&o->map_v, false);
    }
    *out = o;
    return PALI_OK;
}

void optim_free(optim *o) {
    if (!o) return;
    mem_huge_free(o->memory, o->memory_bytes);
    scratchfile_close(&o->file);
    mem_free(o->states);
    mem_free(o);
}

uint64_t optim_step(const optim *o) {
    return o->step;
}

void optim_set_step(optim *o, uint64_t step) {
    o->step = step;
}

size_t optim_n_arrays(const optim *o) {
    size_t n = 0;
    for (size_t i = 0; i < o->list->n; i++) {
        slot slots[MAX_ARRAYS];
        n += slots_of(slots, &o->opt, &o->list->items[i], &o->states[i]);
    }
    return n;
}

void optim_array_get(const optim *o, size_t i, optim_array *out) {
    slot slots[MAX_ARRAYS];
    size_t at = 0, n = 0;
    while (i >= (n = slots_of(slots, &o->opt, &o->list->items[at], &o->states[at]))) {
        i -= n;
        at++;
    }
    *out = slots[i].array;
    out->data = *slots[i].place;
}

float *optim_value(const optim *o, const param *p, size_t at, size_t n, float *room) {
    if (p->value) return p->value + at;
    o->k->to_f32[PALI_DTYPE_BF16](room, p->half + at, n);
    return room;
}

void optim_grad(const optim *o, const param *p, size_t at, size_t n, float *room) {
    float scale = o->rate.grad_scale;
    if (p->grad) {
        for (size_t i = 0; i < n; i++) room[i] = p->grad[at + i] * scale;
    } else {
        o->k->to_f32[PALI_DTYPE_BF16](room, p->grad_half + at, n);
        for (size_t i = 0; i < n; i++) room[i] *= scale;
    }
}

static uint64_t mixed(uint64_t z) { /* splitmix64's finalizer */
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* bf16 by lot: up as often as the number is near the upper neighbour, so that the mean is the number itself. The lot is a hash
 * of seed, step, parameter and place. */
static void round_by_lot(const optim *o, const param *p, size_t at, size_t n, uint16_t *half, const float *x) {
    uint64_t index = (uint64_t)(p - o->list->items), far = (uint64_t)at >> 32;
    uint32_t key = (uint32_t)mixed(mixed(mixed(mixed(o->opt.seed + 0x9e3779b97f4a7c15u) + o->step) + index) + far);
    for (size_t i = 0; i < n; i++) {
        uint32_t z = (uint32_t)(at + i) * 0x9e3779b9u + key, bits = half_f32_to_bits(x[i]);
        z = (z ^ z >> 16) * 0x85ebca6bu;
        z = (z ^ z >> 13) * 0xc2b2ae35u;
        bool finite = (bits & 0x7f800000u) != 0x7f800000u;
        half[i] = finite ? (uint16_t)((bits + (z >> 16)) >> 16) : half_to_bf16(x[i]);
    }
}

void optim_value_store(const optim *o, const param *p, size_t at, size_t n, const float *value) {
    uint16_t room[OPTIM_CHUNK], *half = p->half ? p->half + at : room;
    if (!p->half && !p->on_grid) return; /* changed in place */
    if (o->opt.stochastic && (!p->value || p->on_grid)) {
        round_by_lot(o, p, at, n, half, value);
    } else {
        o->k->from_f32[PALI_DTYPE_BF16](half, value, n);
    }
    for (size_t i = 0; i < n && p->on_grid; i++) p->value[at + i] = half_from_bf16(half[i]);
}

float *optim_moment(const optim *o, const moment *m, const dynamic8 *map, size_t at, size_t n, float *room) {
    if (m->dtype == OPTIM_F32) return (float *)m->data + at;
    if (m->dtype == OPTIM_BF16) {
        o->k->to_f32[PALI_DTYPE_BF16](room, (const uint16_t *)m->data + at, n);
        return room;
    }
    const float *absmax = (const float *)m->absmax + at / DYNAMIC8_BLOCK;
    for (size_t i = 0; i < n; i += DYNAMIC8_BLOCK) {
        size_t block = n - i < DYNAMIC8_BLOCK ? n - i : DYNAMIC8_BLOCK;
        dynamic8_decode(map, room + i, (const uint8_t *)m->data + at + i, absmax[i / DYNAMIC8_BLOCK], block);
    }
    return room;
}

void optim_moment_store(const optim *o, const moment *m, const dynamic8 *map, size_t at, size_t n, const float *x) {
    if (m->dtype == OPTIM_BF16) o->k->from_f32[PALI_DTYPE_BF16]((uint16_t *)m->data + at, x, n);
    if (m->dtype != OPTIM_U8) return;
    float *absmax = (float *)m->absmax + at / DYNAMIC8_BLOCK;
    for (size_t i = 0; i < n; i += DYNAMIC8_BLOCK) {
        size_t block = n - i < DYNAMIC8_BLOCK ? n - i : DYNAMIC8_BLOCK;
        dynamic8_encode(map, (uint8_t *)m->data + at + i, &absmax[i / DYNAMIC8_BLOCK], x + i, block);
    }
}

void optim_begin(optim *o, optim_rate rate) {
    o->step++;
    o->rate = rate;
}

typedef struct sweep {
    const optim *o;
    const exec *e;
    size_t first;
} sweep;

static void sweep_task(void *context, size_t task, size_t worker) {
    (void)worker;
    const sweep *w = context;
    const optim *o = w->o;
    const params_piece piece = params_piece_at(o->list, w->first, RANGE, task);
    const param *p = &o->list->items[piece.item];
    if (optim_is_muon(&o->opt, p)) return;
    if (o->opt.kind == OPTIM_SGD) sgd_range(o, p, &o->states[piece.item], piece.begin, piece.end);
    else adam_range(o, p, &o->states[piece.item], piece.begin, piece.end);
}

static void muon_task(void *context, size_t task, size_t worker) {
    const sweep *w = context;
    const param *p = &w->o->list->items[w->first + task];
    if (optim_is_muon(&w->o->opt, p)) muon_update(w->o, p, &w->o->states[w->first + task], w->e->worker[worker].data);
}

pali_status optim_update(optim *o, exec *e, size_t first, size_t n) {
    sweep w = {o, e, first};
    o->k = e->k;
    if (optim_is_adafactor(o->opt.kind)) {
        for (size_t i = first; i < first + n; i++) adafactor_update(o, e, &o->list->items[i], &o->states[i]);
        return PALI_OK;
    }
    if (o->opt.kind == OPTIM_MUON) {
        STATUS_TRY(exec_worker_scratch(e, optim_worker_bytes(&o->opt, o->list, e->k)));
        pool_run(e->pool, n, muon_task, &w);
    }
    pool_run(e->pool, params_n_pieces(o->list, first, n, RANGE), sweep_task, &w);
    return PALI_OK;
}
