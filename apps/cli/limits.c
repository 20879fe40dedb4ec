/* limits.c: memory read bandwidth and the peaks of fp32, fp16 and 8-bit arithmetic.
 *
 * Every thread works for the same short time after a common start and counts what it did; the rates add up. The read
 * buffer is several times the last-level cache. The arithmetic loop has enough independent chains to fill two FMA units
 * of latency 4 and touches no memory. */
#define _GNU_SOURCE /* sched_getaffinity */
#include "limits.h"

#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#define MEASURE_S 0.3
#define MIN_BUFFER_BYTES ((size_t)256 << 20)
#define MAX_BUFFER_BYTES ((size_t)1 << 30)
#define CHAINS 12
#define STEPS 20000 /* of the arithmetic loop between two looks at the clock */

static double clock_s(void) {
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

size_t limits_n_threads(void) {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) return (size_t)CPU_COUNT(&set);
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 ? (size_t)n : 1;
}

typedef struct worker {
    pthread_t thread;
    pthread_barrier_t *barrier;
    double (*step)(struct worker *w); /* an arithmetic loop, which returns the operations it did; NULL: read */
    size_t n_bytes; /* of this thread's read buffer */
    double rate;    /* bytes or operations a second */
    float number;   /* start and result of the loops: kept here, they are neither known to the compiler nor removed */
    uint64_t word;
} worker;

/* STEPS times CHAINS multiply-adds on named variables: an array would live in memory where the compiler does not unroll. */
#define FMA_LOOP(type, set, fma, add)                                                                                    \
    float start = w->number; /* unknown to the compiler, which would otherwise merge the chains */                       \
    type a = set(0.999f), b = set(0.001f);                                                                               \
    type s0 = set(start), s1 = set(start + 1), s2 = set(start + 2), s3 = set(start + 3), s4 = set(start + 4);            \
    type s5 = set(start + 5), s6 = set(start + 6), s7 = set(start + 7), s8 = set(start + 8), s9 = set(start + 9);        \
    type s10 = set(start + 10), s11 = set(start + 11);                                                                   \
    for (int step = 0; step < STEPS; step++) {                                                                           \
        s0 = fma(s0, a, b), s1 = fma(s1, a, b), s2 = fma(s2, a, b), s3 = fma(s3, a, b), s4 = fma(s4, a, b);              \
        s5 = fma(s5, a, b), s6 = fma(s6, a, b), s7 = fma(s7, a, b), s8 = fma(s8, a, b), s9 = fma(s9, a, b);              \
        s10 = fma(s10, a, b), s11 = fma(s11, a, b);                                                                      \
    }                                                                                                                    \
    type total = add(add(add(s0, s1), add(s2, s3)), add(add(s4, s5), add(s6, s7)));                                      \
    total = add(total, add(add(s8, s9), add(s10, s11)))

typedef double arithmetic_loop(worker *w);

/* NAME_best: NULL where no loop of ours fits this processor. */
#if defined(__x86_64__)
__attribute__((target("avx512f"))) static double fma_avx512(worker *w) {
    FMA_LOOP(__m512, _mm512_set1_ps, _mm512_fmadd_ps, _mm512_add_ps);
    w->number = _mm512_cvtss_f32(total);
    return 2.0 * 16 * CHAINS * STEPS;
}

__attribute__((target("avx2,fma"))) static double fma_avx2(worker *w) {
    FMA_LOOP(__m256, _mm256_set1_ps, _mm256_fmadd_ps, _mm256_add_ps);
    w->number = _mm256_cvtss_f32(total);
    return 2.0 * 8 * CHAINS * STEPS;
}

/* In assembler: clang 14 has no half-precision types unless the whole file is for such a processor. */
__attribute__((target("avx512f"))) static inline __m512i fma_halves(__m512i s, __m512i a, __m512i b) {
    __asm__("vfmadd213ph %2, %1, %0" : "+v"(s) : "v"(a), "v"(b));
    return s;
}
#define HALVES(x) _mm512_set1_epi16((short)(0x3000 + (int)(x))) /* 0.125 and a little more */
__attribute__((target("avx512f,avx512bw"))) static double fma_avx512fp16(worker *w) {
    FMA_LOOP(__m512i, HALVES, fma_halves, _mm512_xor_si512);
    w->number = (float)_mm_cvtsi128_si32(_mm512_castsi512_si128(total));
    return 2.0 * 32 * CHAINS * STEPS;
}

#define WORDS512(x) _mm512_set1_epi32(0x01010101 + (int)(x))
__attribute__((target("avx512f,avx512vnni"))) static double dot_avx512vnni(worker *w) {
    FMA_LOOP(__m512i, WORDS512, _mm512_dpbusd_epi32, _mm512_add_epi32);
    w->number = (float)_mm_cvtsi128_si32(_mm512_castsi512_si128(total));
    return 2.0 * 64 * CHAINS * STEPS;
}

#define WORDS256(x) _mm256_set1_epi32(0x01010101 + (int)(x))
/* The sum is a factor here, or the product would be the same in every step and leave the loop. One after the other: side by side
 * they would not fit in registers. */
__attribute__((target("avx2"))) static inline __m256i dot_bytes(__m256i s, __m256i a, __m256i b) {
    s = _mm256_add_epi32(b, _mm256_madd_epi16(_mm256_maddubs_epi16(a, s), a));
    __asm__ volatile("" : "+x"(s));
    return s;
}
__attribute__((target("avx2"))) static double dot_avx2(worker *w) {
    FMA_LOOP(__m256i, WORDS256, dot_bytes, _mm256_add_epi32);
    w->number = (float)_mm256_cvtsi256_si32(total);
    return 2.0 * 32 * CHAINS * STEPS;
}

__attribute__((target("avx2,avxvnni"))) static double dot_avxvnni(worker *w) {
    FMA_LOOP(__m256i, WORDS256, _mm256_dpbusd_avx_epi32, _mm256_add_epi32);
    w->number = (float)_mm256_cvtsi256_si32(total);
    return 2.0 * 32 * CHAINS * STEPS;
}

/* Bits of cpuid's leaf 7 that the compilers' lists lack. */
static bool has_fp16(void) {
    unsigned a, b, c, d;
    return __builtin_cpu_supports("avx512f") && __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d >> 23 & 1u);
}
static bool has_avxvnni(void) {
    unsigned a, b, c, d;
    return __builtin_cpu_supports("avx2") && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 4 & 1u);
}

static arithmetic_loop *fp32_best(void) {
    if (__builtin_cpu_supports("avx512f")) return fma_avx512;
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? fma_avx2 : NULL;
}
static arithmetic_loop *fp16_best(void) {
    return has_fp16() ? fma_avx512fp16 : NULL;
}
static arithmetic_loop *int8_best(void) {
    if (__builtin_cpu_supports("avx512vnni")) return dot_avx512vnni;
    return has_avxvnni() ? dot_avxvnni : __builtin_cpu_supports("avx2") ? dot_avx2 : NULL;
}
#elif defined(__aarch64__)
#define NEON_FMA(s, a, b) vfmaq_f32(b, s, a)
static double fma_neon(worker *w) {
    FMA_LOOP(float32x4_t, vdupq_n_f32, NEON_FMA, vaddq_f32);
    w->number = vgetq_lane_f32(total, 0);
    return 2.0 * 4 * CHAINS * STEPS;
}
static arithmetic_loop *fp32_best(void) {
    return fma_neon;
}
static arithmetic_loop *fp16_best(void) {
    return NULL;
}
static arithmetic_loop *int8_best(void) {
    return NULL;
}
#else
#define SAME(x) (x)
#define PLAIN_FMA(s, a, b) ((s) * (a) + (b))
#define PLAIN_ADD(x, y) ((x) + (y))
static double fma_plain(worker *w) {
    FMA_LOOP(float, SAME, PLAIN_FMA, PLAIN_ADD);
    w->number = total;
    return 2.0 * CHAINS * STEPS;
}
static arithmetic_loop *fp32_best(void) {
    return fma_plain;
}
static arithmetic_loop *fp16_best(void) {
    return NULL;
}
static arithmetic_loop *int8_best(void) {
    return NULL;
}
#endif

/* Sums 64-byte words; wide accumulators keep enough loads in flight on any target. */
typedef uint64_t words8 __attribute__((vector_size(64)));

static double read_rate(worker *w) {
    words8 *buffer = aligned_alloc(sizeof(words8), w->n_bytes);
    if (buffer) memset(buffer, 1, w->n_bytes); /* the pages come from this thread's node */
    (void)pthread_barrier_wait(w->barrier);
    if (!buffer) return 0;
    size_t n = w->n_bytes / sizeof(words8);
    words8 s0 = {0}, s1 = {0}, s2 = {0}, s3 = {0};
    double done = 0, start = clock_s(), elapsed = 0;
    do {
        for (size_t i = 0; i + 4 <= n; i += 4) {
            s0 += buffer[i], s1 += buffer[i + 1], s2 += buffer[i + 2], s3 += buffer[i + 3];
        }
        done += (double)w->n_bytes;
        elapsed = clock_s() - start;
    } while (elapsed < MEASURE_S);
    w->word = s0[0] + s1[1] + s2[2] + s3[3];
    free(buffer);
    return done / elapsed;
}

static double step_rate(worker *w) {
    (void)w->step(w); /* lets the clock settle for wide vectors */
    (void)pthread_barrier_wait(w->barrier);
    double done = 0, start = clock_s(), elapsed = 0;
    do {
        done += w->step(w);
        elapsed = clock_s() - start;
    } while (elapsed < MEASURE_S);
    return done / elapsed;
}

static void *worker_main(void *argument) {
    worker *w = argument;
    w->rate = w->step ? step_rate(w) : read_rate(w);
    return NULL;
}

typedef struct {
    pthread_barrier_t barrier;
    worker workers[];
} crew;

/* The sum of the rates of n threads that run a loop or, where it is NULL, read n_bytes each. */
static double measure(size_t n_threads, arithmetic_loop *step, size_t n_bytes) {
    crew *c = calloc(1, sizeof *c + n_threads * sizeof c->workers[0]);
    if (!c) return 0;
    if (pthread_barrier_init(&c->barrier, NULL, (unsigned)n_threads) != 0) {
        free(c);
        return 0;
    }
    double rate = 0;
    size_t n_started = 0;
    for (; n_started < n_threads; n_started++) {
        c->workers[n_started] = (worker){.barrier = &c->barrier, .n_bytes = n_bytes, .step = step};
        if (pthread_create(&c->workers[n_started].thread, NULL, worker_main, &c->workers[n_started]) != 0) break;
    }
    /* Too few threads for the barrier: those that started wait in it for ever, so they are left to the end of the process
     * together with what they use. */
    if (n_started < n_threads) return 0;
    for (size_t i = 0; i < n_threads; i++) {
        (void)pthread_join(c->workers[i].thread, NULL);
        rate += c->workers[i].rate;
    }
    (void)pthread_barrier_destroy(&c->barrier);
    free(c);
    return rate;
}

double limits_read_gb_s(size_t n_threads) {
    size_t total = MIN_BUFFER_BYTES;
#ifdef _SC_LEVEL3_CACHE_SIZE
    long cache = sysconf(_SC_LEVEL3_CACHE_SIZE);
    if (cache > 0 && (size_t)cache * 4 > total) total = (size_t)cache * 4;
#endif
    if (total > MAX_BUFFER_BYTES) total = MAX_BUFFER_BYTES;
    size_t each = total / n_threads / 4096 * 4096;
    return measure(n_threads, NULL, each ? each : 4096) / 1e9;
}

static double arithmetic_gop_s(size_t n_threads, arithmetic_loop *step) {
    return step ? measure(n_threads, step, 0) / 1e9 : 0;
}

double limits_fp32_gop_s(size_t n_threads) {
    return arithmetic_gop_s(n_threads, fp32_best());
}

double limits_fp16_gop_s(size_t n_threads) {
    return arithmetic_gop_s(n_threads, fp16_best());
}

double limits_int8_gop_s(size_t n_threads) {
    return arithmetic_gop_s(n_threads, int8_best());
}
