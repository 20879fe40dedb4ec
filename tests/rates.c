/* rates.c: how fast products with weight matrices run forward and backward. Not a test: prints, for each shape of a 3B model at
 * 224 px and each type of weights, GFLOP/s of y = x W^T, of dx = dy W and of dw += dy^T x, and what share of the micro-kernel's
 * own rate (f32, one panel in L2, times the threads) that is:
 *
 *   rates [THREADS [ROWS]]
 *
 * One thread is timed by the processor time it takes, so that others on the machine disturb it less.
 *
 * The forward of a type may use faster arithmetic than f32 (16-bit floats, 8-bit integers) and pass 100 %. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "tensor/linear.h"

#define LIMIT_K 384u
#define LIMIT_M 264u

typedef struct limit {
    const exec *e;
    float *a, *panel, *c;
} limit;

static void limit_task(void *context, size_t task, size_t worker) {
    const limit *l = context;
    size_t nr = l->e->k->nr;
    (void)task;
    for (int i = 0; i < 50; i++)
        l->e->k->gemm_panel(l->c + worker * LIMIT_M * nr, nr, l->a, LIMIT_K, l->panel, LIMIT_M, nr, LIMIT_K, false);
}

static double now_ms(const exec *e) {
    struct timespec t;
    if (e->n_workers > 1 || clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t) != 0) return clock_ms();
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static float *filled(size_t n) {
    float *x = malloc(n * sizeof *x);
    if (!x) exit(2);
    for (size_t i = 0; i < n; i++) x[i] = (float)(i % 13) / 16;
    return x;
}

/* GFLOP/s, best of ten. */
static double micro_kernel_rate(exec *e) {
    limit l = {e, filled(LIMIT_M * LIMIT_K), filled(LIMIT_K * e->k->nr), filled(e->n_workers * LIMIT_M * e->k->nr)};
    double best = 1e9, flop = 2.0 * 50 * LIMIT_M * LIMIT_K * (double)(e->k->nr * e->n_workers);
    for (int run = 0; run < 10; run++) {
        double start = now_ms(e);
        pool_run(e->pool, e->n_workers, limit_task, &l);
        double took = now_ms(e) - start;
        best = took < best ? took : best;
    }
    free(l.a);
    free(l.panel);
    free(l.c);
    return flop / best * 1e-6;
}

typedef struct product {
    exec *e;
    mat w;
    float *x, *y, *dx, *dw;
    size_t m;
} product;

typedef pali_status product_fn(const product *p);

static pali_status forward(const product *p) {
    return linear(p->e, p->y, p->x, &p->w, NULL, p->m, LINEAR_SET);
}
static pali_status backward_x(const product *p) {
    return linear_backward(p->e, p->dx, NULL, p->y, NULL, &p->w, p->m, LINEAR_SET);
}
static pali_status backward_w(const product *p) {
    return linear_backward(p->e, NULL, &(linear_grad){.w = p->dw}, p->y, p->x, &p->w, p->m, LINEAR_SET);
}

static void print_rate(const product *p, product_fn *fn, double limit_rate) {
    double best = 1e9;
    for (int run = 0; run < 6; run++) {
        double start = now_ms(p->e);
        if (fn(p) != PALI_OK) exit(2);
        double took = now_ms(p->e) - start;
        best = took < best ? took : best;
    }
    double rate = 2.0 * (double)(p->m * p->w.rows) * (double)p->w.cols / best * 1e-6;
    printf("  %7.1f (%3.0f %%)", rate, 100 * rate / limit_rate);
}

int main(int argc, char **argv) {
    static const struct {
        const char *name;
        size_t rows, cols;
    } k_shapes[] = {{"text q, o", 2048, 2048}, {"text k, v", 256, 2048}, {"text gate, up", 16384, 2048}, {"text down", 2048, 16384},
                    {"image q, k, v, o", 1152, 1152}, {"image fc1", 4304, 1152}, {"image fc2", 1152, 4304}};
    static const struct {
        const char *name;
        pali_dtype dtype;
    } k_types[] = {{"f32", PALI_DTYPE_F32}, {"bf16", PALI_DTYPE_BF16}, {"q8_0", PALI_DTYPE_Q8_0}, {"q4_k", PALI_DTYPE_Q4_K}};
    exec e;
    size_t m = argc > 2 ? strtoul(argv[2], NULL, 10) : 271;
    if (exec_init(&e, argc > 1 ? atoi(argv[1]) : 0) != PALI_OK || m == 0) return 2;
    double limit_rate = micro_kernel_rate(&e);
    printf("%s, %zu threads, %zu rows; micro-kernel %.1f GFLOP/s\n%-26s  %-16s  %-16s  %s\n", cpu_level_name(e.k->level), e.n_workers, m, limit_rate,
           "", "forward", "backward, dx", "backward, dw");
    for (size_t i = 0; i < sizeof k_shapes / sizeof k_shapes[0]; i++) {
        size_t rows = k_shapes[i].rows, cols = k_shapes[i].cols;
        product p = {.e = &e, .m = m, .x = filled(m * cols), .y = filled(m * rows), .dx = filled(m * cols), .dw = filled(rows * cols)};
        for (size_t t = 0; t < sizeof k_types / sizeof k_types[0]; t++) {
            char *data = malloc(rows * dtype_bytes(k_types[t].dtype, cols));
            if (!data) return 2;
            p.w = (mat){.dtype = k_types[t].dtype, .rows = rows, .cols = cols, .data = data};
            for (size_t r = 0; r < rows; r++) e.k->from_f32[p.w.dtype](data + r * mat_row_bytes(&p.w), p.x, cols);
            printf("%-20s %-5s", k_shapes[i].name, k_types[t].name);
            print_rate(&p, forward, limit_rate);
            print_rate(&p, backward_x, limit_rate);
            if (t == 0) print_rate(&p, backward_w, limit_rate);
            printf("\n");
            fflush(stdout);
            free(data);
        }
        free(p.x);
        free(p.y);
        free(p.dx);
        free(p.dw);
    }
    exec_free(&e);
    return 0;
}
