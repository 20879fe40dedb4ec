/* test_trainer.c: pali_finetune: 20 steps as Transformers' Trainer and PEFT do them (tools/make_trainer_goldens.py), the same adapter after
 * being stopped in the middle of an update, events, and options that are refused. (What users see: tests/cli/finetune.sh.) */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "api/handles.h"
#include "base/file.h"
#include "base/mem.h"
#include "golden.h"
#include "io/json.h"
#include "paligemma_train.h"
#include "tensor/exec.h"
#include "train/feature_cache.h"

#define DATA PALI_TEST_DATA "/train/run.jsonl"
#define INIT PALI_TEST_DATA "/lora/recipe"
#define MAX_STEPS 20

/* Sums in another order make differences that grow with every step: 7e-6 of a loss and 1.1e-4 of a norm at the end. */
#define LOSS_TOLERANCE 2e-5
#define NORM_TOLERANCE 2e-4

static pali_model *g_model;
static char g_root[] = "/tmp/pali-trainer-XXXXXX";

static const char *folder(const char *name) {
    static char path[128];
    (void)snprintf(path, sizeof path, "%s/%s", g_root, name);
    return path;
}

typedef struct record {
    size_t n, n_work, n_saved, n_bad, stop_at; /* stop_at: of the events of work; 0: never */
    double loss[MAX_STEPS], norm[MAX_STEPS], lr[MAX_STEPS];
    uint64_t n_parameters, n_steps;
    pali_train_event eval;
    size_t n_samples, n_notes;
    const char *remove; /* a directory, at the start */
    char got[4][256], want[4][64]; /* of the last samples */
} record;

static int on_event(void *user, const pali_train_event *e) {
    record *r = user;
    switch (e->kind) {
    case PALI_TRAIN_START:
        r->n_parameters = e->n_parameters;
        r->n_steps = e->n_steps;
        if (r->remove) assert_int_equal(rmdir(r->remove), 0);
        assert_true(e->n_rows == 7 && e->memory_bytes > 0 && e->memory_bytes <= e->memory_available);
        break;
    case PALI_TRAIN_WORK: return ++r->n_work == r->stop_at;
    case PALI_TRAIN_LOGGED:
        assert_true(r->n < MAX_STEPS && e->n_tokens > 0);
        r->loss[r->n] = e->loss;
        r->norm[r->n] = e->grad_norm;
        r->lr[r->n++] = e->lr;
        break;
    case PALI_TRAIN_EVAL: r->eval = *e; break;
    case PALI_TRAIN_SAVED: r->n_saved++; break;
    case PALI_TRAIN_BAD_ROW: r->n_bad++; break;
    case PALI_TRAIN_NOTE:
        r->n_notes++;
        assert_non_null(strstr(e->text, "features are no longer written: "));
        break;
    case PALI_TRAIN_SAMPLE:
        (void)snprintf(r->got[r->n_samples % 4], sizeof *r->got, "%s", e->got);
        (void)snprintf(r->want[r->n_samples++ % 4], sizeof *r->want, "%s|%s", e->prefix, e->want);
        break;
    }
    return 0;
}

static pali_train_options options_of(record *r) {
    pali_train_options o;
    pali_train_options_init(&o);
    *r = (record){0};
    o.max_steps = MAX_STEPS;
    o.batch_size = 2;
    o.grad_accum = 2;
    o.warmup_steps = 2;
    o.n_threads = 1;
    o.on_event = on_event;
    o.user = r;
    return o;
}

static void finetune(const char *out, const pali_train_options *o) {
    if (pali_finetune(g_model, DATA, folder(out), o) != PALI_OK) fail_msg("%s: %s", out, pali_last_error());
}

static void assert_series(const char *run, const char *what, const json_t *reference, const double *ours, double tolerance) {
    size_t n;
    double *theirs = golden_numbers(golden_field(reference, what), &n), worst = 0;
    assert_int_equal(n, MAX_STEPS);
    for (size_t i = 0; i < n; i++) {
        double error = fabs(ours[i] - theirs[i]) / fmax(fabs(theirs[i]), 1e-9);
        if (error > worst) worst = error;
        if (!(error <= tolerance)) fail_msg("%s: step %zu: %s is %.8g, expected %.8g", run, i + 1, what, ours[i], theirs[i]);
    }
    print_message("%s: %s: largest relative difference %.2g\n", run, what, worst);
    free(theirs);
}

static void assert_run(const json_t *goldens, const char *run, const char *out, const pali_train_options *o, const record *r) {
    const json_t *reference = golden_field(golden_field(goldens, "runs"), run);
    finetune(out, o);
    assert_int_equal(r->n, MAX_STEPS);
    assert_int_equal(r->n_parameters, (uint64_t)golden_number(reference, "parameters"));
    assert_series(run, "lr", reference, r->lr, 1e-12);
    assert_series(run, "loss", reference, r->loss, LOSS_TOLERANCE);
    assert_series(run, "grad_norm", reference, r->norm, NORM_TOLERANCE);
}

static void as_transformers(void **state) {
    (void)state;
    json_t *goldens;
    record r;
    if (json_read(&goldens, PALI_TEST_DATA "/train/run.json") != PALI_OK) fail_msg("%s", pali_last_error());

    pali_train_options o = options_of(&r);
    o.method = PALI_TRAIN_LORA;
    o.lora_init = INIT;
    o.lr = 2e-3;
    o.weight_decay = 0.01;
    assert_run(goldens, "lora", "lora", &o, &r);

    o = options_of(&r);
    o.freeze = "img";
    o.lr = 1e-3;
    o.weight_decay = 0.01;
    assert_run(goldens, "frozen vision", "frozen", &o, &r);

    o = options_of(&r);
    o.schedule = "cosine";
    o.lr = 1e-3;
    o.weight_decay = 0.01;
    assert_run(goldens, "full", "full", &o, &r);

    o = options_of(&r);
    o.train = "llm.attn";
    o.optimizer = "sgd";
    o.schedule = "constant";
    o.lr = 1e-2;
    o.max_grad_norm = 0.5;
    assert_run(goldens, "attention", "attention", &o, &r);
    json_decref(goldens);
}

static void assert_same_adapter(const char *a, const char *b) {
    char *x, *y, path[256];
    size_t n, m;
    (void)snprintf(path, sizeof path, "%s/%s/adapter_model.safetensors", g_root, a);
    assert_int_equal(file_read(&x, &n, path, 1 << 24), PALI_OK);
    (void)snprintf(path, sizeof path, "%s/%s/adapter_model.safetensors", g_root, b);
    assert_int_equal(file_read(&y, &m, path, 1 << 24), PALI_OK);
    assert_int_equal(n, m);
    assert_memory_equal(x, y, n);
    mem_free(x);
    mem_free(y);
}

/* Asked to stop after any piece of work, in the first or the second half of an update: all that is lost is the update. */
static void stops_and_goes_on(void **state) {
    (void)state;
    record r;
    pali_train_options o = options_of(&r);
    o.method = PALI_TRAIN_LORA;
    o.max_steps = 5;
    o.val_data = DATA;
    o.logging_steps = 2;
    o.n_threads = 2;
    finetune("straight", &o);
    assert_int_equal(r.n, 3); /* after 2, 4 and the last */
    assert_int_equal(r.n_saved, 1);
    assert_true(r.eval.n_tokens > 50 && r.eval.loss > 0 && isfinite(r.eval.loss) && r.eval.step == 5);
    const record straight = r;

    static const size_t k_stops[] = {3, 6, 7}; /* of the 10 pieces of work of updates, and the validation's */
    o = options_of(&r);
    o.method = PALI_TRAIN_LORA;
    o.max_steps = 5;
    o.val_data = DATA;
    o.logging_steps = 2;
    for (size_t i = 0; i < sizeof k_stops / sizeof *k_stops; i++) {
        r = (record){.stop_at = k_stops[i]};
        o.resume = i ? "" : NULL;
        assert_int_equal(pali_finetune(g_model, DATA, folder("stopped"), &o), PALI_ERR_CANCELLED);
    }
    r = (record){0};
    finetune("stopped", &o);
    assert_same_adapter("stopped", "straight");
    assert_true(r.n_steps == 5 && r.n == 0 && r.eval.loss == straight.eval.loss && r.eval.accuracy == straight.eval.accuracy);
}

/* The answer of the result to a row of the data, which is one JSON object a line. */
static void answer_of(char out[256], const char *result_dir, size_t row, int32_t max_tokens) {
    char *text, path[512];
    size_t n;
    json_t *line;
    pali_adapter *a;
    pali_session *s;
    pali_image *picture;
    pali_result *answer;
    pali_sequence first = {.struct_size = sizeof first};
    pali_generate_options o;
    assert_int_equal(file_read(&text, &n, DATA, 1 << 20), PALI_OK);
    const char *at = text;
    for (size_t i = 0; i < row; i++) at = strchr(at, '\n') + 1;
    assert_int_equal(json_parse(&line, at, strcspn(at, "\n"), "row"), PALI_OK);
    (void)snprintf(path, sizeof path, PALI_TEST_DATA "/train/%s", json_string_value(json_object_get(line, "image")));
    assert_int_equal(pali_image_load(&picture, path), PALI_OK);
    assert_int_equal(pali_adapter_load(&a, g_model, folder(result_dir)), PALI_OK);
    assert_int_equal(pali_session_new(&s, g_model, NULL), PALI_OK);
    const pali_adapter_use use = {.adapter = a, .scale = 1};
    assert_int_equal(pali_session_set_adapters(s, &use, 1), PALI_OK);
    pali_generate_options_init(&o);
    o.max_tokens = max_tokens;
    const pali_image *const pictures[] = {picture};
    assert_int_equal(pali_generate(s, pictures, 1, json_string_value(json_object_get(line, "prefix")), &o, &answer), PALI_OK);
    assert_int_equal(pali_result_get(answer, 0, &first), PALI_OK);
    (void)snprintf(out, 256, "%s", first.text);
    pali_result_free(answer);
    pali_session_free(s);
    pali_adapter_free(a);
    pali_image_free(picture);
    json_decref(line);
    mem_free(text);
}

/* They are what the adapter answers, they change no bit of it, and those of a validation that is stopped are made up for. */
static void shows_samples(void **state) {
    (void)state;
    record r;
    pali_train_options o = options_of(&r);
    o.method = PALI_TRAIN_LORA;
    o.lr = 1e-2;
    o.max_steps = 4;
    o.lora_dropout = 0.2;
    finetune("silent", &o);
    o = options_of(&r);
    o.method = PALI_TRAIN_LORA;
    o.lr = 1e-2;
    o.max_steps = 4;
    o.lora_dropout = 0.2;
    o.samples = 2;
    o.eval_steps = 2;
    r.stop_at = 10; /* after two pieces of work an update, two samples after the second, and a sample of the end */
    assert_int_equal(pali_finetune(g_model, DATA, folder("shown"), &o), PALI_ERR_CANCELLED);
    assert_int_equal(r.n_samples, 2);
    r = (record){0};
    o.resume = "";
    finetune("shown", &o);
    assert_same_adapter("shown", "silent");
    assert_int_equal(r.n_samples, 2);
    for (size_t i = 0; i < 2; i++) {
        char expected[256];
        answer_of(expected, "shown", i * 7 / 2, 400);
        assert_true(*r.got[i] && strlen(r.want[i]) > 3);
        if (strncmp(expected, r.got[i], strlen(r.got[i])) != 0) fail_msg("sample %zu is \"%s\", the adapter answers \"%s\"", i, r.got[i], expected);
    }
}

static void finetune_frozen(record *r, const char *out, const char *dir, bool remove) {
    pali_train_options o = options_of(r);
    r->remove = remove ? dir : NULL;
    o.method = PALI_TRAIN_LORA;
    o.lora_text_only = 1;
    o.lr = 1e-2;
    o.max_steps = 3;
    o.feature_cache = dir;
    finetune(out, &o);
}

/* Whatever the folder is worth: the bits are those without it, unless a file in it says otherwise and is sound. */
static void keeps_features(void **state) {
    (void)state;
    record r;
    char dir[128], other[128], *picture; /* folder has one place for its answers */
    size_t n;
    (void)snprintf(dir, sizeof dir, "%s", folder("features"));
    (void)snprintf(other, sizeof other, "%s", folder("other"));
    finetune_frozen(&r, "frozen0", NULL, false);
    finetune_frozen(&r, "frozen1", dir, false);
    finetune_frozen(&r, "frozen2", dir, false);
    assert_same_adapter("frozen1", "frozen0");
    assert_same_adapter("frozen2", "frozen0");
    assert_int_equal(r.n_notes, 0);

    /* Other features of a picture, under the name that the run will look for. */
    const model *m = g_model->m;
    feature_cache_options o = {.n_floats = m->cfg.vit.n_patches * m->cfg.vit.width, .dir = other};
    feature_cache *c;
    exec e;
    assert_int_equal(exec_init(&e, 1), PALI_OK);
    assert_int_equal(feature_fingerprint(&o.fingerprint, e.k, &m->vit, m->cfg.resample), PALI_OK);
    exec_free(&e);
    assert_int_equal(feature_cache_new(&c, &o), PALI_OK);
    float *zeros = mem_calloc(o.n_floats, sizeof *zeros);
    assert_int_equal(file_read(&picture, &n, PALI_TEST_DATA "/models/images/gray.png", 1 << 20), PALI_OK);
    feature_cache_put(c, hash_bytes((hash_key){{0}}, picture, n), zeros);
    feature_cache_free(c);
    mem_free(zeros);
    mem_free(picture);
    finetune_frozen(&r, "frozen3", other, false);
    const double with_others = r.loss[2];
    finetune_frozen(&r, "frozen4", dir, false);
    assert_true(with_others != r.loss[2]);

    (void)snprintf(dir, sizeof dir, "%s", folder("gone"));
    finetune_frozen(&r, "frozen5", dir, true);
    assert_int_equal(r.n_notes, 1);
    assert_same_adapter("frozen5", "frozen0");
}

/* Whether the allocation that was to fail has not been asked for. */
static bool is_left(size_t k) {
    bool failed = false;
    for (size_t i = 0; i < k && !failed; i++) {
        void *p = mem_alloc(1, 1);
        failed = !p;
        mem_free(p);
    }
    mem_fail_after(0);
    return failed;
}

static void remove_output(const char *out) {
    char command[256];
    (void)snprintf(command, sizeof command, "rm -rf %s", folder(out));
    assert_int_equal(system(command), 0);
}

/* Allocations all over a short run fail, one each time: an error that says so, and nothing behind; or it can do without, and the
 * result is the same. (Leaks: the sanitizers.) */
static void runs_out_of_memory(void **state) {
    (void)state;
    size_t n_points = 0, n_survived = 0, k = 1;
    record r;
    pali_train_options o = options_of(&r);
    o.method = PALI_TRAIN_LORA;
    o.lora_text_only = 1;
    o.lora_targets = "v_proj";
    o.max_steps = 1;
    o.batch_size = 1;
    o.grad_accum = 1;
    o.samples = 1;
    o.val_data = DATA;
    finetune("whole", &o);
    for (bool left = false; !left; k += 1 + k / 40) {
        r = (record){0};
        mem_fail_after(k);
        const pali_status s = pali_finetune(g_model, DATA, folder("short"), &o);
        left = is_left(k);
        if (s == PALI_OK) assert_same_adapter("short", "whole");
        else if (s != PALI_ERR_MEMORY) fail_msg("allocation %zu fails: status %d: %s", k, (int)s, pali_last_error());
        if (s != PALI_OK && (left || !*pali_last_error())) fail_msg("allocation %zu: %s", k, pali_last_error());
        n_survived += s == PALI_OK && !left;
        n_points++;
        remove_output("short");
    }
    print_message("%zu points up to allocation %zu, %zu of them without effect\n", n_points, k, n_survived);
    assert_true(n_points >= 100);
}

static void refuses(void **state) {
    (void)state;
    record r;
    pali_train_options o = options_of(&r);
#define REFUSED(field, value, says)                                                                   \
    do {                                                                                              \
        o = options_of(&r);                                                                           \
        o.field = value;                                                                              \
        assert_int_equal(pali_finetune(g_model, DATA, folder("refused"), &o), PALI_ERR_ARGUMENT);     \
        if (!strstr(pali_last_error(), says)) fail_msg("%s: not said: %s", pali_last_error(), says);  \
    } while (0)
    REFUSED(lr, -1, "lr");
    REFUSED(lr, (double)NAN, "lr");
    REFUSED(epochs, (double)INFINITY, "epochs");
    REFUSED(batch_size, 0, "batch_size");
    REFUSED(grad_accum, 0, "grad_accum");
    REFUSED(label_smoothing, 1, "label_smoothing");
    REFUSED(beta2, 1, "beta2");
    REFUSED(samples, 10001, "samples");
    REFUSED(optimizer, "adamwx", "adamwx");
    REFUSED(schedule, "square", "square");
    REFUSED(train, "img,nothing", "nothing");
    REFUSED(freeze, "img,proj,embed,llm.attn,llm.mlp,llm.norm", "nothing is left");
    REFUSED(dtype, PALI_DTYPE_F16, "f16");
    REFUSED(method, (pali_train_method)7, "method");
    REFUSED(loss, (pali_train_loss)7, "loss");
    REFUSED(resume, "", "no checkpoint");
    o = options_of(&r);
    o.struct_size = 1;
    assert_int_equal(pali_finetune(g_model, DATA, folder("refused"), &o), PALI_ERR_ARGUMENT);
    assert_int_equal(pali_finetune(NULL, DATA, folder("refused"), NULL), PALI_ERR_ARGUMENT);
    assert_int_equal(pali_finetune(g_model, NULL, folder("refused"), NULL), PALI_ERR_ARGUMENT);
    const pali_train_file files[] = {{DATA, 1}, {DATA, 0}}, no_path[] = {{NULL, 0}}, negative[] = {{DATA, -1}};
    o = options_of(&r);
    o.files = files;
    o.n_files = 1;
    assert_int_equal(pali_finetune(g_model, DATA, folder("refused"), &o), PALI_ERR_ARGUMENT);
    o.n_files = 2;
    assert_int_equal(pali_finetune(g_model, NULL, folder("refused"), &o), PALI_ERR_ARGUMENT); /* one has a weight, the other none */
    o.n_files = 1000;
    assert_int_equal(pali_finetune(g_model, NULL, folder("refused"), &o), PALI_ERR_LIMIT);
    o.n_files = 1;
    o.files = no_path;
    assert_int_equal(pali_finetune(g_model, NULL, folder("refused"), &o), PALI_ERR_ARGUMENT);
    o.files = negative;
    assert_int_equal(pali_finetune(g_model, NULL, folder("refused"), &o), PALI_ERR_ARGUMENT);
    o.files = NULL;
    assert_int_equal(pali_finetune(g_model, NULL, folder("refused"), &o), PALI_ERR_ARGUMENT);
    assert_int_equal(pali_finetune(g_model, DATA, NULL, NULL), PALI_ERR_ARGUMENT);
}

static int group_begin(void **state) {
    (void)state;
    return pali_model_load(&g_model, GOLDEN_DIR "/pg1-f32", NULL) == PALI_OK && mkdtemp(g_root) ? 0 : -1;
}

static int group_end(void **state) {
    (void)state;
    char command[128];
    pali_model_free(g_model);
    (void)snprintf(command, sizeof command, "rm -rf %s", g_root);
    return system(command);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_transformers),
        cmocka_unit_test(stops_and_goes_on),
        cmocka_unit_test(shows_samples),
        cmocka_unit_test(keeps_features),
        cmocka_unit_test(runs_out_of_memory),
        cmocka_unit_test(refuses),
    };
    return cmocka_run_group_tests(tests, group_begin, group_end);
}
