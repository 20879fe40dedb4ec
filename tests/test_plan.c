/* test_plan.c: memory plans are what is used: scratch, caches and weights to the byte, the whole process within a tenth; and
 * what the system says of its memory is read as it is meant. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/memory.h"
#include "infer/batch.h"
#include "infer/generate.h"
#include "infer/plan.h"
#include "paligemma.h"

#define MODELS PALI_TEST_DATA "/models/"

static void check(pali_status status) {
    if (status != PALI_OK) fail_msg("%s: %s", pali_status_name(status), pali_last_error());
}

static pali_generate_options greedy(int32_t max_tokens) {
    pali_generate_options o;
    pali_generate_options_init(&o);
    o.max_tokens = max_tokens;
    o.ignore_eos = 1;
    return o;
}

/* Image ids, then text; free(). */
static int32_t *ids_make(const model *m, size_t n_images, size_t n_text) {
    size_t n = n_images * m->cfg.vit.n_patches;
    int32_t *ids = malloc((n + n_text) * sizeof *ids);
    assert_non_null(ids);
    for (size_t i = 0; i < n + n_text; i++) ids[i] = i < n ? m->cfg.image_token : (int32_t)(3 + i % 5);
    return ids;
}

static void image_make(image *img, uint8_t shade) {
    *img = (image){40, 30, malloc(40 * 30 * 3)};
    assert_non_null(img->rgb);
    memset(img->rgb, shade, 40 * 30 * 3);
}

/* ---- To the byte -------------------------------------------------------------------------------------------- */

static void scratch_check(const char *name, pali_dtype dtype, size_t n_images, size_t n_text, size_t n_rows, int n_threads) {
    enum { TOKENS = 70 }; /* more than a cache grows by at once */
    char path[512];
    model *m, *outline;
    weights_memory memory;
    session s;
    image img;
    exec_need need = {0};
    batch b;
    size_t index, n_prefix;
    const model_options mo = {.dtype = dtype, .n_threads = 1};
    const pali_generate_options o = greedy(TOKENS);
    snprintf(path, sizeof path, "%s%s", MODELS, name);
    check(model_load(&m, path, &mo));
    check(model_outline(&outline, &memory, path, false, &mo));

    assert_int_equal(memory.block, m->weights->block_bytes);
    size_t mapped = 0;
    for (size_t i = 0; i < m->spec.n; i++) {
        const mat *w = m->spec.tensors[i].matrix, *planned = outline->spec.tensors[i].matrix;
        if (!w) continue;
        assert_int_equal(w->dtype, planned->dtype);
        if (w->data && weights_is_mapped(m->weights, w->data)) mapped += (w->rows * mat_row_bytes(w) + 63) & ~(size_t)63;
    }
    assert_int_equal(memory.mapped, mapped);
    assert_true(memory.mapped + memory.block + memory.vectors >= m->weight_bytes);

    check(session_init(&s, m, NULL, n_threads));
    image_make(&img, 90);
    const image *const images[] = {&img, &img};
    n_prefix = n_images * m->cfg.vit.n_patches + n_text;
    if (n_images) vit_need(&need, &s.e, &outline->vit);
    gemma_need(&need, &s.e, &outline->text, 1, n_prefix, n_prefix);
    gemma_need(&need, &s.e, &outline->text, n_rows, 1, n_prefix + TOKENS - 1);
    int32_t *ids = ids_make(m, n_images, n_text);
    const request q = {.images = images, .n_images = n_images, .ids = ids, .n_ids = n_prefix};
    check(batch_init(&b, &s, n_rows));
    for (size_t i = 0; i < n_rows; i++) check(batch_add(&b, &q, &o, &index));
    size_t cap = 0, pushed = 0;
    while (b.n_pending) {
        check(batch_step(&b));
        if (b.n_running < n_rows) continue;
        const kv_cache *own = &b.running[0]->d.own;
        for (; pushed < own->len; pushed++) cap = kv_capacity(cap, pushed + 1);
        assert_int_equal(own->cap, cap);
        assert_int_equal(b.running[0]->d.prefix.cap, n_prefix);
    }
    assert_int_equal(s.e.acts.n_bytes, need.acts);
    assert_int_equal(s.e.shared.n_bytes, need.shared);
    for (size_t i = 0; i < s.e.n_workers; i++) assert_int_equal(s.e.worker[i].n_bytes, need.worker);
    batch_free(&b);
    free(ids);
    free(img.rgb);
    session_free(&s);
    model_free(outline);
    model_free(m);
}

static void test_scratch(void **unused) {
    (void)unused;
    static const pali_dtype k_dtypes[] = {PALI_DTYPE_AUTO, PALI_DTYPE_BF16, PALI_DTYPE_Q8_0, PALI_DTYPE_Q4_K};
    static const char *const k_models[] = {"pg1-f32", "pg1-bf16", "pg1-mixed", "pg2-f32"};
    for (size_t i = 0; i < 4; i++) {
        scratch_check(k_models[i], k_dtypes[i], 1, 9, 1, 1);
        scratch_check(k_models[i], k_dtypes[(i + 1) % 4], 2, 40, 12, 1);
        scratch_check(k_models[i], k_dtypes[(i + 2) % 4], 0, 5, 3, 2);
    }
}

/* ---- The whole process -------------------------------------------------------------------------------------- */

/* Real widths, few layers: about a hundred megabytes of weights. */
static config middle_config(void) {
    config c;
    check(config_named(&c, "3b-224"));
    c.text.n_layers = 2;
    c.text.mlp_width = 2048;
    c.text.vocab_size = 8000;
    c.image_token = 2;
    c.vit.n_layers = 1;
    c.vit.image_size = 112;
    c.vit.n_patches = 64;
    return c;
}

static uint64_t peak_rss_bytes(void) {
    struct rusage usage;
    assert_int_equal(getrusage(RUSAGE_SELF, &usage), 0);
    return (uint64_t)usage.ru_maxrss * 1024;
}

typedef struct run {
    pali_dtype dtype;
    size_t n_images, n_sequences;
} run;

/* In a process of its own; exits 0 if the plan holds. */
static void run_measured(const run *r) {
    enum { TEXT = 40, TOKENS = 6 };
    config cfg = middle_config();
    const model_options mo = {.dtype = r->dtype, .n_threads = 1};
    const plan_request pq = {.n_threads = 1, .n_images = r->n_images, .n_text_tokens = TEXT, .max_tokens = TOKENS, .n_beams = 1, .n_sequences = r->n_sequences};
    const pali_generate_options o = greedy(TOKENS);
    model *m;
    session s;
    batch b;
    image img[2];
    weights_memory memory;
    pali_memory_plan plan;
    size_t index;
    check(model_random_of(&m, &cfg, 1, &mo));
    check(weights_plan(&memory, NULL, &m->spec, (spec_dtypes){.all = r->dtype}, NULL));
    check(plan_make(&plan, m, &memory, &pq));
    check(session_init(&s, m, NULL, 1));
    int32_t *ids = ids_make(m, r->n_images, TEXT);
    check(batch_init(&b, &s, r->n_sequences));
    for (size_t i = 0; i < 2; i++) image_make(&img[i], (uint8_t)(i * 9));
    const image *const images[] = {&img[0], &img[1]};
    const request q = {.images = images, .n_images = r->n_images, .ids = ids, .n_ids = r->n_images * cfg.vit.n_patches + TEXT};
    for (size_t i = 0; i < r->n_sequences; i++) check(batch_add(&b, &q, &o, &index));
    while (b.n_pending) check(batch_step(&b));
    double used = (double)peak_rss_bytes(), planned = (double)plan.total;
    if (!(used > 0.9 * planned && used < 1.1 * planned)) {
        print_error("dtype %d, %zu pictures, %zu sequences: %.1f MB used, %.1f MB planned\n", (int)r->dtype, r->n_images, r->n_sequences,
                    used / 1e6, planned / 1e6);
        _exit(1);
    }
    _exit(0);
}

static void test_process(void **unused) {
    (void)unused;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    skip(); /* their shadow memory is not in the plan */
#endif
    static const run k_runs[] = {{PALI_DTYPE_BF16, 2, 1}, {PALI_DTYPE_Q8_0, 1, 3}};
    for (size_t i = 0; i < sizeof k_runs / sizeof *k_runs; i++) {
        int status;
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) run_measured(&k_runs[i]);
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
}

/* ---- Arguments and the public function ---------------------------------------------------------------------- */

static void test_public(void **unused) {
    (void)unused;
    pali_memory_plan p = {.struct_size = sizeof p}, big = p;
    pali_memory_request r;
    pali_model_options o;
    pali_model_options_init(&o);
    pali_memory_request_init(&r);
    check(pali_memory_plan_load(&p, MODELS "pg1-f32", NULL));
    assert_true(p.weights_mapped > 0 && p.weights > 0 && p.total > p.weights_mapped && p.fits);
    assert_int_equal(p.total, p.weights_mapped + p.weights + p.tokenizer + p.pictures + p.features + p.activations + p.kv_cache + p.logits + p.loading + p.program);
    r.max_sequences = 16;
    check(pali_memory_plan_load(&big, MODELS "pg1-f32", &r));
    assert_true(big.kv_cache > 8 * p.kv_cache && big.logits == 16 * p.logits);
    check(pali_memory_plan_random(&p, "3b-224", NULL));
    assert_in_range(p.weights >> 20, 5500, 5700); /* 2.92 G weights of 2 bytes */
    o.dtype = PALI_DTYPE_Q4_K;
    r = (pali_memory_request){.struct_size = sizeof r, .model = &o};
    check(pali_memory_plan_random(&p, "3b-224", &r));
    assert_in_range(p.total >> 20, 1900, 2300); /* the limit that issue and README promise */

    assert_int_equal(pali_memory_plan_load(NULL, MODELS "pg1-f32", NULL), PALI_ERR_ARGUMENT);
    assert_int_equal(pali_memory_plan_load(&p, NULL, NULL), PALI_ERR_ARGUMENT);
    assert_int_equal(pali_memory_plan_load(&p, "/nowhere", NULL), PALI_ERR_IO);
    assert_int_equal(pali_memory_plan_random(&p, "3b-225", NULL), PALI_ERR_ARGUMENT);
    const pali_memory_request bad[] = {{.n_images = -1}, {.prompt_tokens = -1}, {.max_tokens = -2}, {.num_beams = 65}, {.max_sequences = 65}, {.n_threads = -1}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        r = bad[i];
        r.struct_size = sizeof r;
        assert_int_equal(pali_memory_plan_load(&p, MODELS "pg1-f32", &r), PALI_ERR_ARGUMENT);
    }
    r = (pali_memory_request){.struct_size = sizeof r, .n_images = 1000, .max_tokens = 32768};
    assert_int_equal(pali_memory_plan_load(&p, MODELS "pg1-f32", &r), PALI_ERR_LIMIT);
}

/* ---- What the system says ----------------------------------------------------------------------------------- */

static char g_root[] = "/tmp/test_plan_XXXXXX";

static void put(const char *path, const char *text) {
    char full[256];
    snprintf(full, sizeof full, "%s/%s", g_root, path);
    for (char *p = full + strlen(g_root) + 1; *p; p++) {
        if (*p != '/') continue;
        *p = 0;
        (void)mkdir(full, 0700);
        *p = '/';
    }
    FILE *f = fopen(full, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, strlen(text), f), strlen(text));
    assert_int_equal(fclose(f), 0);
}

static void test_available(void **unused) {
    (void)unused;
    memory_free x;
    assert_non_null(mkdtemp(g_root));
    memory_free_get(&x, g_root);
    assert_true(x.available == UINT64_MAX && x.total == UINT64_MAX);

    put("proc/meminfo", "MemTotal:       16000 kB\nMemFree:        1 kB\nMemAvailable:   9000 kB\n");
    memory_free_get(&x, g_root);
    assert_int_equal(x.available, 9000 * 1024);
    assert_int_equal(x.total, 16000 * 1024);

    /* version 2: the group above has the tighter limit; its file pages can be dropped */
    put("proc/self/cgroup", "0::/a/b\n");
    put("sys/fs/cgroup/a/b/memory.max", "max\n");
    put("sys/fs/cgroup/a/memory.max", "8000000\n");
    put("sys/fs/cgroup/a/memory.current", "5000000\n");
    put("sys/fs/cgroup/a/memory.stat", "anon 1000000\nfile 4000000\nfile_mapped 7\n");
    memory_free_get(&x, g_root);
    assert_int_equal(x.available, 7000000);
    assert_int_equal(x.total, 8000000);

    /* version 1 */
    put("proc/self/cgroup", "5:cpu:/a\n7:memory:/c\n");
    put("sys/fs/cgroup/memory/c/memory.limit_in_bytes", "6000000\n");
    put("sys/fs/cgroup/memory/c/memory.usage_in_bytes", "5500000\n");
    put("sys/fs/cgroup/memory/c/memory.stat", "cache 3\ntotal_cache 500000\n");
    memory_free_get(&x, g_root);
    assert_int_equal(x.available, 1000000);
    assert_int_equal(x.total, 6000000);
    put("sys/fs/cgroup/memory/c/memory.usage_in_bytes", "7000000\n");
    memory_free_get(&x, g_root);
    assert_int_equal(x.available, 0);
    put("proc/self/cgroup", "garbage\n7:memory\n::\n0::");
    memory_free_get(&x, g_root);
    assert_int_equal(x.available, 9000 * 1024);

    char command[300];
    snprintf(command, sizeof command, "rm -rf '%s'", g_root);
    assert_int_equal(system(command), 0);
    memory_free_get(&x, "");
    assert_true(x.available > 0 && x.available <= x.total);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_scratch), cmocka_unit_test(test_process), cmocka_unit_test(test_public), cmocka_unit_test(test_available)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
