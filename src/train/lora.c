/* lora.c: see lora.h. */
#include "train/lora.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "model/view.h"

#define WEIGHT ".weight"

/* The module's name without ".weight" ends in ".<target>". */
static bool is_target(const char *name, const char *target, size_t n) {
    size_t length = strlen(name) - strlen(WEIGHT);
    return length > n && name[length - n - 1] == '.' && memcmp(name + length - n, target, n) == 0;
}

/* A matrix that is a linear layer, not a table or a convolution. */
static bool is_linear(const spec_tensor *t) {
    return t->matrix && t->n_dims == 2 && t->group != SPEC_EMBED;
}

static bool in_scope(const spec_tensor *t, const lora_options *o) {
    return is_linear(t) && (!o->text_only || (t->group != SPEC_IMG && t->group != SPEC_PROJ));
}

static pali_status factor_add(params *p, const spec_tensor *t, char which, size_t rows, size_t cols) {
    char name[PARAM_NAME_MAX];
    int length = snprintf(name, sizeof name, "base_model.model.model.%.*s.lora_%c" WEIGHT, (int)(strlen(t->name) - strlen(WEIGHT)), t->name, which);
    if (length < 0 || (size_t)length >= sizeof name) return status_fail(PALI_ERR_LIMIT, "%s: name too long", t->name);
    return params_add(p, name, t->group, 2, (const size_t[2]){rows, cols});
}

/* Marks the modules that one target names. */
static pali_status target_mark(adapter *a, const spec *s, const lora_options *o, const char *target, size_t n) {
    size_t n_found = 0;
    for (size_t i = 0; i < s->n; i++) {
        if (!in_scope(&s->tensors[i], o) || !is_target(s->tensors[i].name, target, n)) continue;
        a->parts[i].rank = o->rank;
        n_found++;
    }
    if (n_found) return PALI_OK;
    return status_fail(PALI_ERR_ARGUMENT, "targets: \"%.*s\" is no linear layer of the %smodel", n < 64 ? (int)n : 64, target, o->text_only ? "text " : "");
}

static pali_status targets_mark(adapter *a, const spec *s, const lora_options *o) {
    for (const char *at = o->targets ? o->targets : LORA_TARGETS;; at++) {
        size_t n = strcspn(at, ",");
        STATUS_TRY(target_mark(a, s, o, at, n));
        at += n;
        if (!*at) return PALI_OK;
    }
}

/* The parameters of the marked modules, and what they are to the adapter. */
static pali_status factors_make(lora_training *t, const spec *s, const lora_options *o) {
    adapter *a = t->adapter;
    const float scale = (float)adapter_config_scale(&a->cfg, o->rank, o->alpha);
    for (size_t i = 0; i < s->n; i++) {
        if (!a->parts[i].rank) continue;
        STATUS_TRY(factor_add(&t->params, &s->tensors[i], 'A', o->rank, s->tensors[i].matrix->cols));
        STATUS_TRY(factor_add(&t->params, &s->tensors[i], 'B', s->tensors[i].matrix->rows, o->rank));
    }
    STATUS_TRY(params_alloc(&t->params, PARAM_F32, false));
    rng random;
    rng_seed(&random, o->seed);
    const param *q = t->params.items;
    for (size_t i = 0; i < s->n; i++) {
        const mat *w = s->tensors[i].matrix;
        adapter_part *part = &a->parts[i];
        if (!part->rank) continue;
        double limit = 1 / sqrt((double)w->cols);
        for (size_t j = 0; j < q[0].n; j++) q[0].value[j] = (float)(limit * (2 * rng_uniform(&random) - 1));
        part->scale = scale;
        part->a = mat_f32(o->rank, w->cols, q[0].value);
        part->b = mat_f32(w->rows, o->rank, q[1].value);
        q += 2;
    }
    return PALI_OK;
}

/* Every adapter of the view gets it, each with its own mask. */
static pali_status dropout_make(lora_training *t) {
    t->dropout = mem_calloc(1, sizeof *t->dropout);
    if (!t->dropout) return status_no_memory(sizeof *t->dropout);
    for (size_t i = 0; i < t->params.n / 2; i++) {
        t->view->loras[i].dropout = t->dropout;
        t->view->loras[i].site = i;
    }
    return PALI_OK;
}

static pali_status options_check(const lora_options *o) {
    if (!(o->dropout >= 0 && o->dropout < 1)) return status_fail(PALI_ERR_ARGUMENT, "dropout: %g; expected 0 or more, less than 1", o->dropout);
    if (o->rank == 0 || o->rank > ADAPTER_MAX_RANK) return status_fail(PALI_ERR_ARGUMENT, "rank: %zu; expected 1 to %u", o->rank, ADAPTER_MAX_RANK);
    if (!(o->alpha > 0 && o->alpha <= ADAPTER_MAX_ALPHA)) return status_fail(PALI_ERR_ARGUMENT, "alpha: %g; expected more than 0, at most %g", o->alpha, ADAPTER_MAX_ALPHA);
    return PALI_OK;
}

static pali_status training_make(lora_training *t, const model *base, const lora_options *o) {
    model *shape;
    t->adapter = mem_calloc(1, sizeof *t->adapter);
    if (!t->adapter) return status_no_memory(sizeof *t->adapter);
    t->adapter->cfg = (adapter_config){.rank = o->rank, .alpha = o->alpha, .rslora = o->rslora};
    STATUS_TRY(view_new(&shape, base)); /* for its table, which has the head in any case, as an adapter's parts have */
    t->adapter->n_parts = shape->spec.n;
    t->adapter->parts = mem_calloc(shape->spec.n, sizeof *t->adapter->parts);
    pali_status s = t->adapter->parts ? targets_mark(t->adapter, &shape->spec, o) : status_no_memory(shape->spec.n * sizeof *t->adapter->parts);
    if (s == PALI_OK) s = factors_make(t, &shape->spec, o);
    model_free(shape);
    const adapter_use use = {t->adapter, 1};
    if (s == PALI_OK) s = view_adapt(&t->view, base, &use, 1);
    t->p = (float)o->dropout;
    return s == PALI_OK && o->dropout > 0 ? dropout_make(t) : s;
}

pali_status lora_training_new(lora_training *out, const model *base, const lora_options *o) {
    *out = (lora_training){0};
    STATUS_TRY(options_check(o));
    pali_status s = training_make(out, base, o);
    if (s != PALI_OK) lora_training_free(out);
    return s;
}

void lora_training_free(lora_training *t) {
    model_free(t->view);
    adapter_free(t->adapter);
    params_free(&t->params);
    mem_free(t->dropout);
    *t = (lora_training){0};
}

void lora_training_dropout(lora_training *t, bool on, uint64_t key) {
    if (t->dropout) *t->dropout = (dropout){on ? t->p : 0, key};
}
