#include "base/pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#include "base/cpu.h"
#include "base/mem.h"

#define POOL_MAX_THREADS 1024
#define POOL_SPIN 20000 /* polls before sleeping: some 100 us, longer than the gaps inside a decode step */
#define POOL_YIELD 1000 /* polls between yields: where others use the machine too, what is waited for may need this very processor */

typedef struct worker {
    struct pool *pool;
    size_t index;
    pthread_t thread;
} worker;

struct pool {
    size_t n_threads;
    worker *workers; /* [n_threads - 1]; the caller is worker 0 */
    pthread_mutex_t lock;
    pthread_cond_t wake;
    atomic_ulong generation; /* of the current job; workers wait for it to change */
    _Alignas(64) atomic_size_t next;    /* next task */
    _Alignas(64) atomic_size_t running; /* workers not done with the job yet */
    pool_fn fn;
    void *context;
    size_t n_tasks;
    bool quit;
};

static void cpu_relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void work(pool *p, size_t index) {
    for (;;) {
        size_t task = atomic_fetch_add_explicit(&p->next, 1, memory_order_relaxed);
        if (task >= p->n_tasks) return;
        p->fn(p->context, task, index);
    }
}

static void *worker_main(void *argument) {
    worker *w = argument;
    pool *p = w->pool;
    unsigned long seen = 0;
    for (;;) {
        for (int spin = 1; spin < POOL_SPIN && atomic_load_explicit(&p->generation, memory_order_acquire) == seen; spin++) {
            cpu_relax();
            if (spin % POOL_YIELD == 0) sched_yield();
        }
        if (atomic_load_explicit(&p->generation, memory_order_acquire) == seen) {
            pthread_mutex_lock(&p->lock);
            while (atomic_load_explicit(&p->generation, memory_order_acquire) == seen) pthread_cond_wait(&p->wake, &p->lock);
            pthread_mutex_unlock(&p->lock);
        }
        seen = atomic_load_explicit(&p->generation, memory_order_acquire);
        if (p->quit) return NULL;
        work(p, w->index);
        atomic_fetch_sub_explicit(&p->running, 1, memory_order_release);
    }
}

pali_status pool_new(pool **out, int n_threads) {
    *out = NULL;
    if (n_threads < 0 || n_threads > POOL_MAX_THREADS)
        return status_fail(PALI_ERR_ARGUMENT, "threads: %d is not between 0 and %d", n_threads, POOL_MAX_THREADS);
    size_t n = n_threads ? (size_t)n_threads : (size_t)cpu_n_physical_cores();
    pool *p = mem_calloc(1, sizeof *p);
    if (!p) return status_no_memory(sizeof *p);
    p->workers = mem_calloc(n, sizeof *p->workers);
    if (!p->workers) {
        mem_free(p);
        return status_no_memory(n * sizeof *p->workers);
    }
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->wake, NULL);
    p->n_threads = 1;
    for (size_t i = 1; i < n; i++) {
        worker *w = &p->workers[i - 1];
        *w = (worker){.pool = p, .index = i};
        int error = pthread_create(&w->thread, NULL, worker_main, w);
        if (error) {
            pool_free(p);
            return status_fail(PALI_ERR_MEMORY, "cannot start thread %zu of %zu: %s", i + 1, n, strerror(error));
        }
        p->n_threads++;
    }
    *out = p;
    return PALI_OK;
}

/* Publishes a new job; the mutex closes the window in which a worker has decided to sleep but not yet done so. */
static void announce(pool *p) {
    pthread_mutex_lock(&p->lock);
    atomic_fetch_add_explicit(&p->generation, 1, memory_order_release);
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->lock);
}

void pool_free(pool *p) {
    if (!p) return;
    p->quit = true;
    announce(p);
    for (size_t i = 0; i + 1 < p->n_threads; i++) pthread_join(p->workers[i].thread, NULL);
    pthread_cond_destroy(&p->wake);
    pthread_mutex_destroy(&p->lock);
    mem_free(p->workers);
    mem_free(p);
}

size_t pool_size(const pool *p) {
    return p->n_threads;
}

void pool_run(pool *p, size_t n_tasks, pool_fn fn, void *context) {
    if (p->n_threads == 1 || n_tasks <= 1) {
        for (size_t i = 0; i < n_tasks; i++) fn(context, i, 0);
        return;
    }
    p->fn = fn;
    p->context = context;
    p->n_tasks = n_tasks;
    atomic_store_explicit(&p->next, 0, memory_order_relaxed);
    atomic_store_explicit(&p->running, p->n_threads - 1, memory_order_relaxed);
    announce(p);
    work(p, 0);
    /* A few microseconds as a rule: tasks are small. */
    for (unsigned long spin = 1; atomic_load_explicit(&p->running, memory_order_acquire) != 0; spin++) {
        cpu_relax();
        if (spin % POOL_YIELD == 0) sched_yield();
    }
}
