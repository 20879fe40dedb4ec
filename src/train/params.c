/* params.c: the list of trainable parameters and its memory. */
#include "train/params.h"

#include <stdio.h>
#include <string.h>

#include "base/halffloat.h"
#include "base/mem.h"

#define LOAD_ROWS 16u /* converted at a time */

static const char *const k_groups[] = {"img", "proj", "embed", "llm.attn", "llm.mlp", "llm.norm"};
#define N_GROUPS (sizeof k_groups / sizeof k_groups[0])

const char *params_group_name(spec_group group) {
    return k_groups[group];
}

/* What a list names as a set; `option` is for the message. */
static pali_status parse_list(unsigned *out, const char *list, const char *option) {
    *out = 0;
    for (const char *at = list;; at++) {
        size_t n = strcspn(at, ","), i = 0;
        while (i < N_GROUPS && !(strlen(k_groups[i]) == n && memcmp(k_groups[i], at, n) == 0)) i++;
        if (i == N_GROUPS)
            return status_fail(PALI_ERR_ARGUMENT, "%s: \"%.*s\" is none of the groups img, proj, embed, llm.attn, llm.mlp, llm.norm", option,
                               n < 64 ? (int)n : 64, at);
        *out |= PARAMS_GROUP(i);
        at += n;
        if (!*at) return PALI_OK;
    }
}

pali_status params_groups_parse(unsigned *out, const char *train, const char *freeze) {
    unsigned groups = PARAMS_ALL_GROUPS, frozen = 0;
    if (train) STATUS_TRY(parse_list(&groups, train, "train"));
    if (freeze) STATUS_TRY(parse_list(&frozen, freeze, "freeze"));
    *out = groups & ~frozen;
    return *out ? PALI_OK : status_fail(PALI_ERR_ARGUMENT, "freeze: nothing is left to train");
}

static bool ends_with(const char *s, const char *end) {
    size_t n = strlen(s), m = strlen(end);
    return n >= m && strcmp(s + n - m, end) == 0;
}

/* All of the model's tensors with one axis are biases and norms, and only they; so of adapters' factors. That is what the
 * reference's patterns of names come to (bias, layernorm, rmsnorm, norm, _norm). */
static pali_status append(params *p, const char *name, spec_group group, size_t n_dims, const size_t *dims) {
    size_t n = 1;
    if (n_dims == 0 || n_dims > 4) return status_fail(PALI_ERR_ARGUMENT, "%s: %zu dimensions; 1 to 4 expected", name, n_dims);
    for (size_t i = 0; i < n_dims; i++)
        if (!mem_mul(&n, n, dims[i])) return status_fail(PALI_ERR_ARGUMENT, "%s: too large", name);
    if (strlen(name) >= PARAM_NAME_MAX) return status_fail(PALI_ERR_ARGUMENT, "%s: name longer than %u bytes", name, PARAM_NAME_MAX - 1);
    if (n == 0) return status_fail(PALI_ERR_ARGUMENT, "%s: a dimension of 0", name);
    if (p->n == p->cap) {
        size_t cap = p->cap ? 2 * p->cap : 64;
        param *grown = mem_grow(p->items, p->n, cap, sizeof *grown);
        if (!grown) return status_no_memory(cap * sizeof *grown);
        p->items = grown;
        p->cap = cap;
    }
    param *q = &p->items[p->n++];
    *q = (param){.group = group, .n_dims = n_dims, .n = n, .decay = n_dims > 1, .kernel = n_dims > 1, .row_heads = 1, .col_heads = 1};
    (void)snprintf(q->name, sizeof q->name, "%s", name);
    memcpy(q->dims, dims, n_dims * sizeof *dims);
    p->n_values += n;
    return PALI_OK;
}

pali_status params_add(params *p, const char *name, spec_group group, size_t n_dims, const size_t *dims) {
    return append(p, name, group, n_dims, dims);
}

/* A head that no file has is the embedding table again. */
static bool is_absent(const spec_tensor *t) {
    return t->optional && !t->matrix->data;
}

/* big_vision keeps the heads of attention as an axis: outer among a matrix's rows, or among its columns. */
static void set_heads(param *q, const spec_npz *npz) {
    if (q->n_dims != 2 || npz->n_dims != 3) return;
    if (q->dims[0] == npz->dims[npz->axes[0]]) q->col_heads = npz->dims[npz->axes[1]];
    else q->row_heads = npz->dims[npz->axes[0]];
}

pali_status params_of_spec(params *out, const spec *s, unsigned groups) {
    *out = (params){0};
    for (size_t i = 0; i < s->n; i++) {
        const spec_tensor *t = &s->tensors[i];
        if (!(groups & PARAMS_GROUP(t->group)) || is_absent(t)) continue;
        pali_status status = append(out, t->name, t->group, t->n_dims, t->dims);
        if (status != PALI_OK) {
            params_free(out);
            return status;
        }
        param *q = &out->items[out->n - 1];
        q->tensor = t;
        q->kernel = ends_with(t->npz.name, "/kernel");
        q->embedding = ends_with(t->name, "embed_tokens.weight") || ends_with(t->name, "position_embedding.weight");
        set_heads(q, &t->npz);
    }
    return PALI_OK;
}

void params_free(params *p) {
    mem_free(p->items);
    mem_huge_free(p->block.data, p->block.n_bytes);
    *p = (params){0};
}

/* Which of its arrays a parameter has, one rule for counting and for placing. */
typedef struct arrays {
    bool value, half, grad, grad_half;
} arrays;

static arrays arrays_of(const param *q, param_storage storage, bool half_grads) {
    bool vector = q->tensor && q->tensor->vector;
    arrays a = {.value = storage != PARAM_BF16 || vector, .half = storage != PARAM_F32 && !vector};
    a.grad_half = half_grads && !vector && q->group != SPEC_EMBED;
    a.grad = !a.grad_half;
    return a;
}

static size_t padded(size_t n) {
    return (n + PARAM_ALIGN - 1) / PARAM_ALIGN * PARAM_ALIGN;
}

uint64_t params_need(const params *p, param_storage storage, bool half_grads) {
    uint64_t n_bytes = 0;
    for (size_t i = 0; i < p->n; i++) {
        arrays a = arrays_of(&p->items[i], storage, half_grads);
        n_bytes += (uint64_t)padded(p->items[i].n) * ((size_t)(a.value + a.grad) * 4 + (size_t)(a.half + a.grad_half) * 2);
    }
    return n_bytes;
}

/* The next n elements of a block, or NULL. */
static void *take(char **at, bool wanted, size_t n, size_t size) {
    void *data = *at;
    if (!wanted) return NULL;
    *at += padded(n) * size;
    return data;
}

/* All values lie together, then all gradients: clearing and norms go through them front to back. */
pali_status params_alloc(params *p, param_storage storage, bool half_grads) {
    uint64_t n_bytes = params_need(p, storage, half_grads);
    if (n_bytes > SIZE_MAX / 2) return status_fail(PALI_ERR_MEMORY, "trainable parameters: too many for this machine");
    mem_huge_free(p->block.data, p->block.n_bytes);
    p->block.n_bytes = (size_t)n_bytes;
    p->block.data = mem_huge_alloc(p->block.n_bytes);
    if (!p->block.data) {
        p->block.n_bytes = 0;
        return status_no_memory((size_t)n_bytes);
    }
    char *at = p->block.data;
    for (size_t i = 0; i < p->n; i++) {
        param *q = &p->items[i];
        arrays a = arrays_of(q, storage, half_grads);
        q->value = take(&at, a.value, q->n, 4);
        q->half = take(&at, a.half, q->n, 2);
        q->on_grid = storage == PARAM_BF16 && !a.half;
    }
    for (size_t i = 0; i < p->n; i++) {
        param *q = &p->items[i];
        arrays a = arrays_of(q, storage, half_grads);
        q->grad = take(&at, a.grad, q->n, 4);
        q->grad_half = take(&at, a.grad_half, q->n, 2);
    }
    return PALI_OK;
}

uint64_t params_twin_bytes(const params *p) {
    uint64_t n = 0;
    for (size_t i = 0; i < p->n; i++) n += padded(p->items[i].n);
    return n * sizeof(float);
}

pali_status params_twin(params *out, const params *p) {
    const size_t n_bytes = (size_t)params_twin_bytes(p); /* no more than p has */
    *out = (params){.n = p->n, .cap = p->n, .n_values = p->n_values};
    out->items = mem_alloc(p->n, sizeof *out->items);
    if (!out->items) return status_no_memory(p->n * sizeof *out->items);
    out->block.data = mem_huge_alloc(n_bytes);
    if (!out->block.data) return status_no_memory(n_bytes);
    out->block.n_bytes = n_bytes;
    char *at = out->block.data;
    for (size_t i = 0; i < p->n; i++) {
        out->items[i] = p->items[i];
        out->items[i].grad = take(&at, true, p->items[i].n, sizeof(float));
        out->items[i].grad_half = NULL;
    }
    return PALI_OK;
}

typedef struct load {
    const exec *e;
    const param *to;
} load;

static void load_rows(void *context, size_t task, size_t worker) {
    const load *l = context;
    const param *q = l->to;
    const mat *w = q->tensor->matrix;
    size_t row = task * LOAD_ROWS, n = w->rows - row < LOAD_ROWS ? w->rows - row : LOAD_ROWS, at = row * w->cols;
    if (q->value) mat_rows_f32(l->e->k, q->value + at, w, row, n);
    if (q->half) (void)mat_rows_convert(l->e->k, q->half + at, PALI_DTYPE_BF16, w, row, n, l->e->worker[worker].data);
}

pali_status params_load(params *p, exec *e) {
    size_t max_cols = 1;
    for (size_t i = 0; i < p->n; i++) {
        const spec_tensor *t = p->items[i].tensor;
        if (t && t->matrix && t->matrix->cols > max_cols) max_cols = t->matrix->cols;
    }
    STATUS_TRY(exec_worker_scratch(e, max_cols * sizeof(float)));
    for (size_t i = 0; i < p->n; i++) {
        param *q = &p->items[i];
        load l = {e, q};
        if (!q->tensor) continue;
        if (q->tensor->matrix) {
            pool_run(e->pool, (q->tensor->matrix->rows + LOAD_ROWS - 1) / LOAD_ROWS, load_rows, &l);
            continue;
        }
        memcpy(q->value, *q->tensor->vector, q->n * sizeof *q->value);
        for (size_t j = 0; j < q->n && q->on_grid; j++) q->value[j] = half_from_bf16(half_to_bf16(q->value[j]));
    }
    return PALI_OK;
}

void params_bind(const params *p) {
    for (size_t i = 0; i < p->n; i++) {
        const param *q = &p->items[i];
        if (!q->tensor) continue;
        if (q->tensor->vector) *q->tensor->vector = q->value;
        if (!q->tensor->matrix) continue;
        mat *w = q->tensor->matrix;
        *w = (mat){.dtype = q->half ? PALI_DTYPE_BF16 : PALI_DTYPE_F32, .rows = w->rows, .cols = w->cols, .lora = w->lora,
                   .data = q->half ? (const void *)q->half : q->value};
    }
}

static size_t n_pieces(const param *q, size_t size) {
    return (q->n + size - 1) / size;
}

size_t params_n_pieces(const params *p, size_t first, size_t n, size_t size) {
    size_t sum = 0;
    for (size_t i = first; i < first + n; i++) sum += n_pieces(&p->items[i], size);
    return sum;
}

params_piece params_piece_at(const params *p, size_t first, size_t size, size_t index) {
    size_t i = first;
    for (; index >= n_pieces(&p->items[i], size); i++) index -= n_pieces(&p->items[i], size);
    size_t begin = index * size, left = p->items[i].n - begin;
    return (params_piece){i, begin, begin + (left < size ? left : size)};
}

void params_clear_grads(params *p) {
    for (size_t i = 0; i < p->n; i++) {
        param *q = &p->items[i];
        if (q->grad) memset(q->grad, 0, q->n * sizeof *q->grad);
        if (q->grad_half) memset(q->grad_half, 0, q->n * sizeof *q->grad_half);
    }
}
