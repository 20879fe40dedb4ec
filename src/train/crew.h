/* crew.h: micro-batches of small models. Their products are so short that threads would spend their time waiting for each other, so
 * a micro-batch is cut into shares of whole samples, and a thread does all of backprop.h for one:
 *
 *   samples 1..n = share 1 | share 2 | ..      each: loss, gradients of its own       gradients += those of share 1, 2, ..
 *
 * What is cut depends on the model and the micro-batch alone, and gradients are summed in the order of the shares, so the bits do
 * not depend on the number of threads. Of large models, whose products keep all threads busy and whose gradients are too large to
 * have several times, there is one share, of all threads. */
#ifndef PALI_TRAIN_CREW_H
#define PALI_TRAIN_CREW_H

#include "train/backprop.h"

#define CREW_MAX_PARAMETERS (32u << 20) /* of a model that counts as small */
#define CREW_SHARE_ROWS 1024u           /* a share has at least about so many, or its products are too short as well */
#define CREW_MAX_SHARES 8u

typedef struct crew {
    const params *p;
    size_t n_walks;                  /* shares there may be */
    backprop walks[CREW_MAX_SHARES];
    params twins[CREW_MAX_SHARES];   /* gradients of share i; the first has those of p */
    exec *execs;                     /* [n_execs] of one thread each; none if the model is large */
    size_t n_execs;
} crew;

/* As backprop_init; e is what it will run with. Free with crew_free, also after a failure. */
pali_status crew_init(crew *c, const exec *e, const model *m, const params *p);
void crew_free(crew *c);
/* As backprop_run. */
pali_status crew_run(crew *c, exec *e, backprop_result *out, const backprop_item *items, size_t n, const backprop_options *o);
/* As backprop_need, for these or fewer items; what the crew's own threads need is in need->worker and *n_bytes. */
pali_status crew_need(exec_need *need, uint64_t *n_bytes, exec *e, crew *c, const backprop_item *items, size_t n, const backprop_options *o);

#endif
