/* clip.c: global norm and clipping. */
#include "train/clip.h"

#include <math.h>

#define RANGE 65536u /* elements of one task */
#define CHUNK 1024u  /* bf16 gradients become f32 in such pieces */

double clip_sum_squares(const float *x, size_t n) {
    double lane[8] = {0};
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (size_t l = 0; l < 8; l++) lane[l] += (double)x[i + l] * (double)x[i + l];
    for (; i < n; i++) lane[i % 8] += (double)x[i] * (double)x[i];
    return ((lane[0] + lane[4]) + (lane[1] + lane[5])) + ((lane[2] + lane[6]) + (lane[3] + lane[7]));
}

typedef struct job {
    const kernels *k;
    const params *p;
    double *sums; /* [pieces] */
} job;

static void sum_task(void *context, size_t task, size_t worker) {
    (void)worker;
    const job *j = context;
    const params_piece piece = params_piece_at(j->p, 0, RANGE, task);
    const param *p = &j->p->items[piece.item];
    double sum = 0;
    for (size_t at = piece.begin; at < piece.end; at += CHUNK) {
        float room[CHUNK];
        size_t n = piece.end - at < CHUNK ? piece.end - at : CHUNK;
        if (!p->grad) j->k->to_f32[PALI_DTYPE_BF16](room, p->grad_half + at, n);
        sum += clip_sum_squares(p->grad ? p->grad + at : room, n);
    }
    j->sums[task] = sum;
}

pali_status clip_norm(double *out, exec *e, const params *p) {
    const size_t n = params_n_pieces(p, 0, p->n, RANGE);
    double *sums = mem_scratch_get(&e->shared, n, sizeof *sums), total = 0;
    if (!sums) return status_no_memory(n * sizeof *sums);
    job j = {e->k, p, sums};
    pool_run(e->pool, n, sum_task, &j);
    for (size_t i = 0; i < p->n; i++) {
        double sum = 0;
        for (size_t t = params_n_pieces(p, i, 1, RANGE); t > 0; t--) sum += *sums++;
        total += sum;
    }
    *out = sqrt(total);
    return PALI_OK;
}

float clip_scale(double norm, double max) {
    if (max <= 0) return 1;
    float scale = (float)max / ((float)norm + 1e-6f);
    return scale > 1 ? 1 : scale;
}

float clip_scale_bv(double norm, double max) {
    return max > 0 && norm >= max ? (float)(max / norm) : 1;
}
