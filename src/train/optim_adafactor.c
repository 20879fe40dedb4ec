/* optim_adafactor.c: Adafactor (spec training 4.3): g divided by the root of its running mean square, which is kept as means
 * of rows and of columns: u[i, j] = g[i, j] / sqrt(row[i] / mean(row) * col[j]).
 *
 * What is a row depends on who asks. Transformers takes the last two axes of the tensor; big_vision the two largest of its own
 * layout, in which attention kernels have an axis of heads: a grid of blocks, each factored by itself. Tensors whose second
 * largest axis is below 32 it leaves alone, so all vectors (the layers are an axis of its arrays, but there are fewer than 32;
 * of the 42 and 46 layers of PaliGemma 2 10B and 28B it would factor the norms across layers, which we do not).
 *
 * A parameter takes up to four passes over its gradient: means, their factors, the size of u, the update. A task is a rectangle
 * of the matrix, the same for any number of threads, and sums of tasks are added in their order. */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "train/clip.h"
#include "train/optim_state.h"

#define MIN_FACTORED 32u  /* big_vision's min_dim_size_to_factor */
#define BETA2_CAP 0.999   /* and its beta2_cap */
#define DECAY_EXPONENT 0.8
#define RMS_LIMIT 1.0     /* Transformers' clip_threshold */
#define ROW_TASKS 64u     /* of a matrix with fewer blocks */
#define FLAT_TASK 65536u  /* elements of one that is not factored */

grid adafactor_grid(const optim_options *o, const param *p) {
    grid g = {0};
    if (p->n_dims < 2) return g;
    size_t cols = p->dims[p->n_dims - 1], rows = p->n / cols;
    if (o->kind == OPTIM_ADAFACTOR) return (grid){rows, cols, rows / p->dims[p->n_dims - 2], 1};
    if (p->n_dims > 2 || rows / p->row_heads < MIN_FACTORED || cols / p->col_heads < MIN_FACTORED) return g;
    return (grid){rows, cols, p->row_heads, p->col_heads};
}

/* How a parameter is cut: a task is task_rows (of one block) by task_cols. */
typedef struct cut {
    grid g;          /* not factored: one row of all */
    bool factored;
    size_t tasks_down, tasks_across, task_rows, task_cols; /* tasks_down: of one block of rows */
    size_t n_tasks;
} cut;

static cut cut_of(const optim_options *o, const param *p) {
    cut c = {.g = adafactor_grid(o, p)};
    c.factored = c.g.rows > 0;
    if (!c.factored) c.g = (grid){1, p->n, 1, 1};
    size_t block_rows = c.g.rows / c.g.row_blocks, wanted = (ROW_TASKS + c.g.row_blocks - 1) / c.g.row_blocks;
    c.task_rows = (block_rows + wanted - 1) / wanted;
    c.tasks_down = (block_rows + c.task_rows - 1) / c.task_rows;
    c.task_cols = c.factored ? c.g.cols : FLAT_TASK;
    c.tasks_across = (c.g.cols + c.task_cols - 1) / c.task_cols;
    c.n_tasks = c.g.row_blocks * c.tasks_down * c.tasks_across;
    return c;
}

/* Bytes of each array of scratch, the largest over the parameters. */
typedef struct sizes {
    size_t row, col, partial, sums;
} sizes;

static void grow(size_t *size, size_t n, size_t bytes) {
    n = (n * bytes + MEM_ALIGN - 1) / MEM_ALIGN * MEM_ALIGN;
    if (n > *size) *size = n;
}

static sizes sizes_of(const optim_options *o, const params *p) {
    sizes s = {0};
    for (size_t i = 0; i < p->n && optim_is_adafactor(o->kind); i++) {
        cut c = cut_of(o, &p->items[i]);
        grow(&s.sums, c.n_tasks, sizeof(double));
        if (!c.factored) continue;
        grow(&s.row, c.g.rows * c.g.col_blocks, sizeof(float));
        grow(&s.col, c.g.cols * c.g.row_blocks, sizeof(float));
        grow(&s.partial, c.n_tasks * c.g.cols, sizeof(double));
    }
    return s;
}

size_t adafactor_scratch_bytes(const optim_options *o, const params *p) {
    sizes s = sizes_of(o, p);
    return s.row + s.col + s.partial + s.sums;
}

void adafactor_scratch_place(optim *o) {
    sizes s = sizes_of(&o->opt, o->list);
    char *at = o->memory;
    o->scratch.row = (void *)at;
    o->scratch.col = (void *)(at + s.row);
    o->scratch.partial = (void *)(at + s.row + s.col);
    o->scratch.sums = (void *)(at + s.row + s.col + s.partial);
}

typedef struct job {
    const optim *o;
    const param *p;
    const state *s;
    cut c;
    factors f;
    double beta2;
    float shrink; /* what u is divided by: its rms where that is above the limit */
} job;

/* The part of a row in which one factor of rows applies and that fits a chunk. */
typedef struct segment {
    size_t row, col, n, at; /* at: its place in the parameter */
} segment;

typedef struct rectangle {
    size_t row, row_end, col, col_end, block;
} rectangle;

static rectangle rectangle_of(const cut *c, size_t task) {
    size_t down = task / c->tasks_across, across = task % c->tasks_across;
    size_t block = down / c->tasks_down, block_rows = c->g.rows / c->g.row_blocks, first = down % c->tasks_down * c->task_rows;
    size_t end = first + c->task_rows < block_rows ? first + c->task_rows : block_rows, top = block * block_rows;
    size_t col = across * c->task_cols, col_end = col + c->task_cols < c->g.cols ? col + c->task_cols : c->g.cols;
    return (rectangle){top + first, top + end, col, col_end, block};
}

static segment segment_at(const cut *c, const rectangle *r, size_t row, size_t col) {
    size_t width = c->g.cols / c->g.col_blocks, n = (col / width + 1) * width - col;
    if (n > r->col_end - col) n = r->col_end - col;
    if (n > OPTIM_CHUNK) n = OPTIM_CHUNK;
    return (segment){row, col, n, row * c->g.cols + col};
}

static float *row_mean(const job *j, const segment *s) {
    return (float *)j->s->row + s->row * j->c.g.col_blocks + s->col / (j->c.g.cols / j->c.g.col_blocks);
}

static void averaged(const job *j, float *mean, double now) {
    *mean = (float)j->beta2 * *mean + (float)(1 - j->beta2) * (float)now;
}

/* Sum in a fixed order that vectors can follow. */
static double sum_of(const float *x, size_t n) {
    double lane[8] = {0};
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (size_t l = 0; l < 8; l++) lane[l] += (double)x[i + l];
    for (; i < n; i++) lane[i % 8] += (double)x[i];
    return ((lane[0] + lane[4]) + (lane[1] + lane[5])) + ((lane[2] + lane[6]) + (lane[3] + lane[7]));
}

/* g^2 of a segment, never zero. */
static void squares_of(const job *j, const segment *s, float *square) {
    float eps = (float)j->o->opt.eps;
    optim_grad(j->o, j->p, s->at, s->n, square);
    for (size_t i = 0; i < s->n; i++) square[i] = square[i] * square[i] + eps;
}

/* Pass 1: means of rows, and sums of columns task by task; or the mean squares themselves. */
static void means_task(void *context, size_t task, size_t worker) {
    (void)worker;
    const job *j = context;
    rectangle r = rectangle_of(&j->c, task);
    float square[OPTIM_CHUNK];
    double *partial = j->f.partial + task * j->c.g.cols, sum = 0;
    size_t width = j->c.g.cols / j->c.g.col_blocks;
    if (j->c.factored) memset(partial, 0, j->c.g.cols * sizeof *partial);
    for (size_t row = r.row; row < r.row_end; row++) {
        for (size_t col = r.col, n; col < r.col_end; col += n) {
            segment s = segment_at(&j->c, &r, row, col);
            n = s.n;
            squares_of(j, &s, square);
            if (!j->c.factored) {
                float *v = (float *)j->s->v.data + s.at;
                for (size_t i = 0; i < n; i++) averaged(j, &v[i], (double)square[i]);
                continue;
            }
            for (size_t i = 0; i < n; i++) partial[col + i] += (double)square[i];
            sum += sum_of(square, n);
            if ((col + n) % width) continue; /* the block's row goes on */
            averaged(j, row_mean(j, &s), sum / (double)width);
            sum = 0;
        }
    }
}

/* Pass 2: the factors of one block of rows. */
static void factors_task(void *context, size_t block, size_t worker) {
    (void)worker;
    const job *j = context;
    const grid *g = &j->c.g;
    size_t block_rows = g->rows / g->row_blocks, first = block * block_rows;
    float *col = (float *)j->s->col + block * g->cols, *col_factor = j->f.col + block * g->cols;
    const float *row = j->s->row;
    for (size_t c = 0; c < g->cols; c++) {
        double sum = 0;
        for (size_t t = 0; t < j->c.tasks_down; t++) sum += j->f.partial[(block * j->c.tasks_down + t) * g->cols + c];
        averaged(j, &col[c], sum / (double)block_rows);
        col_factor[c] = 1.0f / sqrtf(col[c]);
    }
    for (size_t b = 0; b < g->col_blocks; b++) {
        double sum = 0;
        for (size_t r = first; r < first + block_rows; r++) sum += (double)row[r * g->col_blocks + b];
        float mean = (float)(sum / (double)block_rows);
        for (size_t r = first; r < first + block_rows; r++) j->f.row[r * g->col_blocks + b] = 1.0f / sqrtf(row[r * g->col_blocks + b] / mean);
    }
}

/* u of a segment. */
static void update_of(const job *j, const rectangle *r, const segment *s, float *u) {
    optim_grad(j->o, j->p, s->at, s->n, u);
    if (!j->c.factored) {
        const float *v = (const float *)j->s->v.data + s->at;
        for (size_t i = 0; i < s->n; i++) u[i] *= 1.0f / sqrtf(v[i]);
        return;
    }
    float row = j->f.row[s->row * j->c.g.col_blocks + s->col / (j->c.g.cols / j->c.g.col_blocks)];
    const float *col = j->f.col + r->block * j->c.g.cols + s->col;
    for (size_t i = 0; i < s->n; i++) u[i] *= row * col[i];
}

/* Pass 3. */
static void size_task(void *context, size_t task, size_t worker) {
    (void)worker;
    const job *j = context;
    rectangle r = rectangle_of(&j->c, task);
    float u[OPTIM_CHUNK];
    double sum = 0;
    for (size_t row = r.row; row < r.row_end; row++) {
        for (size_t col = r.col, n; col < r.col_end; col += n) {
            segment s = segment_at(&j->c, &r, row, col);
            n = s.n;
            update_of(j, &r, &s, u);
            sum += clip_sum_squares(u, n);
        }
    }
    j->f.sums[task] = sum;
}

/* Pass 4. */
static void apply(const job *j, const rectangle *r, const segment *s) {
    const optim *o = j->o;
    float room[3][OPTIM_CHUNK], *u = room[0], *value = optim_value(o, j->p, s->at, s->n, room[1]);
    double decay = optim_decay(o, j->p), lr = o->rate.lr * o->rate.factor;
    float before = (float)(1 - (optim_is_bv(o) ? o->rate.factor : lr) * decay), step = (float)lr;
    update_of(j, r, s, u);
    for (size_t i = 0; i < s->n; i++) u[i] /= j->shrink;
    if (j->s->m.data) {
        float *m = optim_moment(o, &j->s->m, NULL, s->at, s->n, room[2]);
        float keep = (float)o->opt.momentum, add = (float)(1 - o->opt.momentum);
        for (size_t i = 0; i < s->n; i++) m[i] = keep * m[i] + add * u[i];
        optim_moment_store(o, &j->s->m, NULL, s->at, s->n, m);
        u = m;
    }
    for (size_t i = 0; i < s->n; i++) value[i] = value[i] * before - step * u[i];
    optim_value_store(o, j->p, s->at, s->n, value);
}

static void apply_task(void *context, size_t task, size_t worker) {
    (void)worker;
    const job *j = context;
    rectangle r = rectangle_of(&j->c, task);
    for (size_t row = r.row; row < r.row_end; row++) {
        for (size_t col = r.col, n; col < r.col_end; col += n) {
            segment s = segment_at(&j->c, &r, row, col);
            n = s.n;
            apply(j, &r, &s);
        }
    }
}

void adafactor_update(optim *o, exec *e, const param *p, const state *s) {
    bool bv = o->opt.kind == OPTIM_ADAFACTOR_BV;
    job j = {.o = o, .p = p, .s = s, .c = cut_of(&o->opt, p), .f = o->scratch, .shrink = 1};
    j.beta2 = 1 - pow((double)o->step, -DECAY_EXPONENT);
    if (bv && j.beta2 > BETA2_CAP) j.beta2 = BETA2_CAP;
    pool_run(e->pool, j.c.n_tasks, means_task, &j);
    if (j.c.factored) pool_run(e->pool, j.c.g.row_blocks, factors_task, &j);
    if (!bv) {
        double sum = 0;
        pool_run(e->pool, j.c.n_tasks, size_task, &j);
        for (size_t t = 0; t < j.c.n_tasks; t++) sum += j.f.sums[t];
        double rms = sqrt(sum / (double)p->n);
        if (rms > RMS_LIMIT) j.shrink = (float)(rms / RMS_LIMIT);
    }
    pool_run(e->pool, j.c.n_tasks, apply_task, &j);
}
