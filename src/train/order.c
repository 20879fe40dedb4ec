#include "train/order.h"

#include <math.h>

#include "base/hash.h"
#include "base/mem.h"
#include "base/rng.h"

#define N 624
#define M 397

/* Mersenne Twister MT19937 (Matsumoto and Nishimura): torch's generator on the CPU. */
typedef struct twister {
    uint32_t state[N];
    size_t at;
} twister;

/* torch takes the low half of the seed. */
static void twister_seed(twister *t, uint64_t seed) {
    t->state[0] = (uint32_t)seed;
    for (uint32_t i = 1; i < N; i++) t->state[i] = 1812433253u * (t->state[i - 1] ^ (t->state[i - 1] >> 30)) + i;
    t->at = N;
}

static void twister_turn(twister *t) {
    uint32_t *s = t->state;
    for (size_t i = 0; i < N; i++) {
        const uint32_t y = (s[i] & 0x80000000u) | (s[(i + 1) % N] & 0x7fffffffu);
        s[i] = s[(i + M) % N] ^ (y >> 1) ^ (y & 1u ? 0x9908b0dfu : 0);
    }
    t->at = 0;
}

static uint32_t twister_next(twister *t) {
    if (t->at == N) twister_turn(t);
    uint32_t y = t->state[t->at++];
    y ^= y >> 11;
    y ^= (y << 7) & 0x9d2c5680u;
    y ^= (y << 15) & 0xefc60000u;
    return y ^ (y >> 18);
}

/* rows = first, first + 1, ... in the order of torch.randperm(n). */
static void rows_fill(uint32_t *rows, size_t first, size_t n, bool shuffle, uint64_t seed) {
    twister t;
    for (size_t i = 0; i < n; i++) rows[i] = (uint32_t)(first + i);
    if (!shuffle) return;
    twister_seed(&t, seed);
    for (size_t i = 0; i + 1 < n; i++) {
        const size_t j = i + twister_next(&t) % (n - i);
        const uint32_t row = rows[i];
        rows[i] = rows[j];
        rows[j] = row;
    }
}

/* ---- Mixtures ---- */

static order_part *part_draw(const order *o, rng *r) {
    const double x = rng_uniform(r);
    order_part *p = o->parts;
    while (p + 1 < o->parts + o->n_parts && x >= p->until) p++;
    return p;
}

static uint32_t part_take(const order *o, order_part *p) {
    const uint64_t pass = p->n_taken / p->n, k = (uint64_t)(p - o->parts);
    if (pass != p->pass) rows_fill(p->rows, p->first, p->n, o->shuffle, o->seed + pass + (k << 16));
    p->pass = pass;
    return p->rows[p->n_taken++ % p->n];
}

static rng epoch_draws(const order *o, uint64_t epoch) {
    const uint64_t what[] = {o->seed, epoch};
    rng r;
    rng_seed(&r, hash_bytes((hash_key){{0}}, what, sizeof what).hash[0]);
    return r;
}

static void mixture_epoch(order *o, uint64_t epoch) {
    if (epoch < o->next) {
        for (size_t k = 0; k < o->n_parts; k++) o->parts[k].n_taken = 0;
        o->next = 0;
    }
    for (; o->next < epoch; o->next++) {
        rng r = epoch_draws(o, o->next);
        for (size_t i = 0; i < o->n_rows; i++) part_draw(o, &r)->n_taken++;
    }
    rng r = epoch_draws(o, epoch);
    for (size_t i = 0; i < o->n_rows; i++) o->rows[i] = part_take(o, part_draw(o, &r));
    o->next = epoch + 1;
}

pali_status order_mix(order *o, const size_t *n_rows, const double *weights, size_t n) {
    double sum = 0, until = 0;
    size_t first = 0;
    for (size_t k = 0; k < n; k++) sum += weights[k];
    o->parts = mem_calloc(n, sizeof *o->parts);
    if (!o->parts) return status_no_memory(n * sizeof *o->parts);
    for (; o->n_parts < n; first += n_rows[o->n_parts++]) {
        order_part *p = &o->parts[o->n_parts];
        until += weights[o->n_parts] / sum;
        *p = (order_part){.first = first, .n = n_rows[o->n_parts], .until = until, .pass = UINT64_MAX, .rows = mem_alloc(n_rows[o->n_parts], sizeof *p->rows)};
        if (!p->rows) return status_no_memory(p->n * sizeof *p->rows);
    }
    order_begin_epoch(o, 0);
    return PALI_OK;
}

/* ---- Epochs ---- */

void order_begin_epoch(order *o, uint64_t epoch) {
    o->epoch = epoch;
    if (o->n_parts) mixture_epoch(o, epoch);
    else rows_fill(o->rows, 0, o->n_rows, o->shuffle, o->seed + epoch);
}

static size_t ceil_div(size_t a, size_t b) {
    return a / b + (a % b != 0);
}

pali_status order_init(order *o, size_t n_rows, size_t batch_size, size_t grad_accum, uint64_t seed, bool shuffle) {
    *o = (order){.n_rows = n_rows, .batch_size = batch_size, .grad_accum = grad_accum, .seed = seed, .shuffle = shuffle};
    if (n_rows == 0 || n_rows > ORDER_MAX_ROWS) return status_fail(PALI_ERR_LIMIT, "rows: %zu is not between 1 and %u", n_rows, ORDER_MAX_ROWS);
    if (batch_size == 0 || grad_accum == 0) return status_fail(PALI_ERR_ARGUMENT, "batch size %zu, accumulated %zu times: at least 1 expected", batch_size, grad_accum);
    o->n_micro = ceil_div(n_rows, batch_size);
    o->n_updates = ceil_div(o->n_micro, grad_accum);
    o->rows = mem_alloc(n_rows, sizeof *o->rows);
    if (!o->rows) return status_no_memory(n_rows * sizeof *o->rows);
    order_begin_epoch(o, 0);
    return PALI_OK;
}

void order_free(order *o) {
    for (size_t k = 0; k < o->n_parts; k++) mem_free(o->parts[k].rows);
    mem_free(o->parts);
    mem_free(o->rows);
    *o = (order){0};
}

static size_t at_most(size_t n, size_t limit) {
    return n < limit ? n : limit;
}

const uint32_t *order_micro(const order *o, size_t micro, size_t *n) {
    *n = at_most(o->n_rows - micro * o->batch_size, o->batch_size);
    return o->rows + micro * o->batch_size;
}

size_t order_window(const order *o, size_t micro) {
    return at_most(o->n_micro - micro, o->grad_accum);
}

uint64_t order_total_updates(const order *o, double epochs, uint64_t max_steps) {
    if (max_steps) return max_steps;
    const double n = ceil(epochs * (double)o->n_updates);
    return !(n >= 1) ? 1 : n >= 0x1p63 ? (uint64_t)1 << 63 : (uint64_t)n;
}

void order_resume(const order *o, uint64_t updates, uint64_t *epoch, size_t *micro) {
    *epoch = updates / o->n_updates;
    *micro = (size_t)(updates % o->n_updates) * o->grad_accum;
}

double order_epochs_done(const order *o, uint64_t updates) {
    uint64_t epoch;
    size_t micro;
    order_resume(o, updates, &epoch, &micro);
    return (double)epoch + (double)micro / (double)o->n_micro;
}
