/* pool.h: a fixed set of threads that share out numbered tasks.
 *
 * Tasks are handed out by an atomic counter, so a slow core takes fewer. Which worker runs a task never affects what the
 * task computes: that is what makes results independent of the number of threads. Workers spin for a few microseconds
 * between calls (a decode step makes ~150 of them), then sleep. */
#ifndef PALI_BASE_POOL_H
#define PALI_BASE_POOL_H

#include "base/status.h"

typedef struct pool pool;
/* task in [0, n_tasks); worker in [0, pool_size) names per-worker scratch. */
typedef void (*pool_fn)(void *context, size_t task, size_t worker);

/* n_threads counts the caller; 0: physical cores (capped by the affinity mask). */
pali_status pool_new(pool **out, int n_threads);
void pool_free(pool *p);
size_t pool_size(const pool *p);
/* Runs all tasks and returns when they are done. Not reentrant; one caller at a time. */
void pool_run(pool *p, size_t n_tasks, pool_fn fn, void *context);

#endif
