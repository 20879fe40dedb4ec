#include "model/calibration.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include "base/mem.h"
#include "tensor/compensate.h"
#include "tensor/linear.h"

/* Columns of each of a block's inputs. */
static void input_cols(size_t cols[GEMMA_INPUTS], const gemma_config *cfg) {
    const size_t list[GEMMA_INPUTS] = {[GEMMA_IN_ATTENTION] = cfg->width, [GEMMA_IN_MLP] = cfg->width, [GEMMA_IN_DOWN] = cfg->mlp_width};
    memcpy(cols, list, sizeof list);
}

pali_status calibration_init(calibration *c, const gemma_config *cfg, size_t n_patches) {
    size_t n = cfg->n_layers * GEMMA_INPUTS, cols[GEMMA_INPUTS];
    *c = (calibration){.inputs = mem_calloc(n, sizeof *c->inputs), .n = n};
    if (!c->inputs) return status_no_memory(n * sizeof *c->inputs);
    c->text_scale = n_patches > CALIBRATION_TEXT_ROWS ? sqrtf((float)n_patches / (float)CALIBRATION_TEXT_ROWS) : 1;
    input_cols(cols, cfg);
    for (size_t i = 0; i < n; i++) {
        calibration_input *in = &c->inputs[i];
        in->cols = cols[i % GEMMA_INPUTS];
        in->sums = mem_huge_alloc(compensate_floats(in->cols) * sizeof *in->sums);
        in->rows = mem_alloc(CALIBRATION_ROWS * in->cols, sizeof *in->rows);
        if (!in->sums || !in->rows) {
            calibration_free(c);
            return status_no_memory(calibration_bytes(cfg));
        }
    }
    return PALI_OK;
}

void calibration_free(calibration *c) {
    for (size_t i = 0; c->inputs && i < c->n; i++) {
        if (c->inputs[i].sums) mem_huge_free(c->inputs[i].sums, compensate_floats(c->inputs[i].cols) * sizeof *c->inputs[i].sums);
        mem_free(c->inputs[i].rows);
    }
    mem_free(c->inputs);
    *c = (calibration){0};
}

size_t calibration_bytes(const gemma_config *cfg) {
    size_t floats = 0, cols[GEMMA_INPUTS];
    input_cols(cols, cfg);
    for (size_t i = 0; i < GEMMA_INPUTS; i++) floats += compensate_floats(cols[i]) + CALIBRATION_ROWS * cols[i];
    return cfg->n_layers * floats * sizeof(float);
}

/* The gathered rows into the sums: x^T x is what backward does for the gradient of weights. */
static pali_status input_add(calibration_input *in, exec *e) {
    for (size_t s = 0; in->n && s < compensate_n_spans(in->cols); s++) {
        const size_t n = compensate_span_cols(in->cols, s);
        const float *x = in->rows + s * COMPENSATE_SPAN * CALIBRATION_ROWS;
        float *sums = in->sums + compensate_offset(s);
        const mat shape = mat_f32(n, n, sums);
        const linear_grad grad = {.w = sums};
        STATUS_TRY(linear_backward(e, NULL, &grad, x, x, &shape, in->n, LINEAR_SET));
    }
    in->n = 0;
    return PALI_OK;
}

static void row_gather(calibration_input *in, const kernels *k, const float *x, float scale) {
    for (size_t s = 0; s < compensate_n_spans(in->cols); s++) {
        const size_t n = compensate_span_cols(in->cols, s);
        k->scale(in->rows + s * COMPENSATE_SPAN * CALIBRATION_ROWS + in->n * n, x + s * COMPENSATE_SPAN, n, scale);
    }
    in->n++;
}

pali_status calibration_see(void *user, exec *e, size_t layer, size_t which, const float *x, size_t rows, size_t n_pictures) {
    calibration *c = user;
    calibration_input *in = &c->inputs[layer * GEMMA_INPUTS + which];
    c->n_rows += rows;
    for (size_t r = 0; r < rows; r++) {
        row_gather(in, e->k, x + r * in->cols, r < n_pictures ? 1 : c->text_scale);
        if (in->n == CALIBRATION_ROWS) STATUS_TRY(input_add(in, e));
    }
    return PALI_OK;
}

typedef struct solve_job {
    const exec *e;
    calibration_input *in;
    atomic_bool failed;
} solve_job;

static void solve_task(void *context, size_t span, size_t worker) {
    solve_job *j = context;
    float *sums = j->in->sums + compensate_offset(span);
    if (!compensate_factor(sums, compensate_span_cols(j->in->cols, span), j->e->worker[worker].data)) atomic_store(&j->failed, true);
}

pali_status calibration_solve(calibration *c, exec *e, pali_progress_fn progress, void *user) {
    if (c->n_rows == 0) return status_fail(PALI_ERR_ARGUMENT, "calibration: nothing was run");
    for (size_t i = 0; i < c->n; i++) {
        solve_job j = {.e = e, .in = &c->inputs[i]};
        const size_t widest = compensate_span_cols(j.in->cols, 0);
        STATUS_TRY(input_add(j.in, e));
        STATUS_TRY(exec_worker_scratch(e, compensate_scratch(widest) * sizeof(double)));
        pool_run(e->pool, compensate_n_spans(j.in->cols), solve_task, &j);
        if (j.failed) return status_fail(PALI_ERR_ARGUMENT, "calibration: layer %zu: what goes into it is not a number", i / GEMMA_INPUTS);
        if (progress && progress(user, "calibrating", i + 1, c->n)) return status_fail(PALI_ERR_CANCELLED, "calibration: cancelled");
    }
    c->solved = true;
    return PALI_OK;
}

const float *calibration_factors(const calibration *c, const gemma *g, const mat *w) {
    for (size_t i = 0; i < g->cfg.n_layers; i++) {
        const gemma_layer *l = &g->layers[i];
        const calibration_input *in = c->inputs + i * GEMMA_INPUTS;
        if (w == &l->q || w == &l->k || w == &l->v) return in[GEMMA_IN_ATTENTION].sums;
        if (w == &l->gate || w == &l->up) return in[GEMMA_IN_MLP].sums;
        if (w == &l->down) return in[GEMMA_IN_DOWN].sums;
    }
    return NULL;
}
