/* order.h: which rows come when (spec training 4.6, 4.8).
 *
 *   epoch        every row once, in the order of torch.randperm with the seed + epoch
 *   micro-batch  batch_size rows of that order; the last one of an epoch may be shorter
 *   window       grad_accum micro-batches and one update; the last one of an epoch may be shorter and is an update all the same
 *
 * A place in it is a number of updates: nothing else has to be remembered to go on. */
#ifndef PALI_TRAIN_ORDER_H
#define PALI_TRAIN_ORDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

#define ORDER_MAX_ROWS 214748364u /* from 2^32 / 20 on torch draws 64-bit numbers in another way */

typedef struct order {
    size_t n_rows, batch_size, grad_accum;
    uint64_t seed;
    bool shuffle;
    size_t n_micro, n_updates; /* of an epoch */
    uint64_t epoch;            /* the one `rows` is of */
    uint32_t *rows;            /* [n_rows] */
} order;

/* Ready for epoch 0; order_free it. */
pali_status order_init(order *o, size_t n_rows, size_t batch_size, size_t grad_accum, uint64_t seed, bool shuffle);
void order_free(order *o);
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
