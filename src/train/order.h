/* order.h: which rows come when (spec training 4.6, 4.8).
 *
 *   epoch        every row once, in the order of torch.randperm with the seed + epoch
 *   micro-batch  batch_size rows of that order; the last one of an epoch may be shorter
 *   window       grad_accum micro-batches and one update; the last one of an epoch may be shorter and is an update all the same
 *
 * Of several files the rows can be mixed by weight (8.6): each place of an epoch draws a file, with its weight as probability, and takes
 * the next of that file's rows, which come in the order of a shuffle of their own, and then of another. An epoch is then as many
 * rows as there are, though not each of them.
 *
 * A place in it is a number of updates: nothing else has to be remembered to go on. */
#ifndef PALI_TRAIN_ORDER_H
#define PALI_TRAIN_ORDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

#define ORDER_MAX_DRAWS ((uint64_t)1 << 33) /* rows of a mixture that may have been drawn before: to go through them takes a minute */
#define ORDER_MAX_ROWS 214748364u /* from 2^32 / 20 on torch draws 64-bit numbers in another way */

typedef struct order_part {
    size_t first, n;   /* its rows */
    double until;      /* sum of the shares up to it */
    uint64_t n_taken;  /* before `next` */
    uint64_t pass;     /* that `rows` is of */
    uint32_t *rows;    /* [n] */
} order_part;

typedef struct order {
    size_t n_rows, batch_size, grad_accum;
    uint64_t seed;
    bool shuffle;
    size_t n_micro, n_updates; /* of an epoch */
    uint64_t epoch;            /* the one `rows` is of */
    uint32_t *rows;            /* [n_rows] */
    order_part *parts;         /* [n_parts] of a mixture */
    size_t n_parts;
    uint64_t next;             /* the epoch that `n_taken` is known for */
} order;

/* Ready for epoch 0; order_free it. */
pali_status order_init(order *o, size_t n_rows, size_t batch_size, size_t grad_accum, uint64_t seed, bool shuffle);
/* Makes it a mixture of n files with so many rows in all; weights are more than 0. Ready for epoch 0. */
pali_status order_mix(order *o, const size_t *n_rows, const double *weights, size_t n);
void order_free(order *o);
/* Of a mixture the draws of all epochs before are gone through, unless it is the next one. */
void order_begin_epoch(order *o, uint64_t epoch);
/* The rows of micro-batch `micro` of the epoch. */
const uint32_t *order_micro(const order *o, size_t micro, size_t *n);
/* How many micro-batches the window has that begins at `micro`. */
size_t order_window(const order *o, size_t micro);

/* All updates of a run: ceil(epochs * updates of an epoch), at least 1, or max_steps where it is not 0. */
uint64_t order_total_updates(const order *o, double epochs, uint64_t max_steps);
/* Where the update after `updates` of them begins. */
void order_resume(const order *o, uint64_t updates, uint64_t *epoch, size_t *micro);
/* The epoch as a fraction, as it is logged after `updates`. */
double order_epochs_done(const order *o, uint64_t updates);

#endif
