/* test_api.c: the promises of paligemma.h that hold for any model: arguments, struct sizes, ownership, callbacks,
 * cancelling, and that different ways to the same answer agree. What the answers must be is test_model's matter. */
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "paligemma.h"

#define MODEL PALI_TEST_DATA "/models/pg1-f32"
#define PROMPT "caption en"
enum { TOKENS = 12 };

typedef struct fixture {
    pali_model *model;
    pali_session *session;
    pali_image *a, *b;
    pali_model_info info;
} fixture;

static int setup(void **state) {
    static fixture f;
    f = (fixture){.info = {.struct_size = sizeof f.info}};
    *state = &f;
    if (pali_model_load(&f.model, MODEL, NULL) != PALI_OK || pali_session_new(&f.session, f.model, NULL) != PALI_OK ||
        pali_image_load(&f.a, PALI_TEST_DATA "/models/images/landscape.jpg") != PALI_OK ||
        pali_image_load(&f.b, PALI_TEST_DATA "/models/images/tall.png") != PALI_OK || pali_model_get_info(f.model, &f.info) != PALI_OK) {
        print_error("%s\n", pali_last_error());
        return -1;
    }
    return 0;
}

static int teardown(void **state) {
    fixture *f = *state;
    pali_image_free(f->a);
    pali_image_free(f->b);
    pali_session_free(f->session);
    pali_model_free(f->model);
    return 0;
}

static const pali_image *const *one(const fixture *f) {
    return (const pali_image *const *)&f->a;
}

static pali_generate_options short_answer(void) {
    pali_generate_options o;
    pali_generate_options_init(&o);
    o.max_tokens = TOKENS;
    o.ignore_eos = 1;
    return o;
}

static pali_result *generated(const fixture *f, const pali_image *const *images, size_t n, const pali_generate_options *o) {
    pali_result *r;
    if (pali_generate(f->session, images, n, PROMPT, o, &r) != PALI_OK) fail_msg("%s", pali_last_error());
    return r;
}

static pali_sequence sequence_of(const pali_result *r, size_t i) {
    pali_sequence s = {.struct_size = sizeof s};
    assert_int_equal(pali_result_get(r, i, &s), PALI_OK);
    return s;
}

static void assert_same(const pali_result *x, const pali_result *y) {
    assert_int_equal(pali_result_count(x), pali_result_count(y));
    for (size_t i = 0; i < pali_result_count(x); i++) {
        pali_sequence a = sequence_of(x, i), b = sequence_of(y, i);
        assert_int_equal(a.n_tokens, b.n_tokens);
        assert_memory_equal(a.tokens, b.tokens, a.n_tokens * sizeof *a.tokens);
        assert_memory_equal(a.logprobs, b.logprobs, a.n_tokens * sizeof *a.logprobs);
        assert_string_equal(a.text, b.text);
        assert_true(a.score == b.score);
    }
}

/* Every wrong argument is refused with a message, and *out is NULL after it. */
static void test_arguments(void **state) {
    fixture *f = *state;
    const pali_image *const nothing[] = {NULL};
    pali_result *r = (pali_result *)f;
    pali_session *s = (pali_session *)f;
    pali_model *m = (pali_model *)f;
    pali_image *img = (pali_image *)f;
    float *floats = (float *)f;
    uint64_t dims[3];
    int32_t n_dims;
    size_t n;

#define REFUSED(code, out, call)                              \
    do {                                                      \
        assert_int_equal(call, code);                         \
        assert_null(out);                                     \
        assert_true(strlen(pali_last_error()) > 0);           \
        assert_null(strchr(pali_last_error(), '\n'));         \
    } while (0)

    REFUSED(PALI_ERR_ARGUMENT, r, pali_generate(NULL, one(f), 1, PROMPT, NULL, &r));
    REFUSED(PALI_ERR_ARGUMENT, r, pali_generate(f->session, one(f), 1, NULL, NULL, &r));
    REFUSED(PALI_ERR_ARGUMENT, r, pali_generate(f->session, NULL, 1, PROMPT, NULL, &r));
    REFUSED(PALI_ERR_ARGUMENT, r, pali_generate(f->session, nothing, 1, PROMPT, NULL, &r));
    assert_int_equal(pali_generate(f->session, one(f), 1, PROMPT, NULL, NULL), PALI_ERR_ARGUMENT);
    REFUSED(PALI_ERR_ARGUMENT, r, pali_generate_tokens(f->session, one(f), 1, NULL, 5, NULL, &r));
    REFUSED(PALI_ERR_ARGUMENT, r, pali_generate_tokens(f->session, NULL, 0, (int32_t[]){2}, 0, NULL, &r));
    REFUSED(PALI_ERR_ARGUMENT, r, pali_score(f->session, one(f), 1, PROMPT, NULL, 1, &r));
    REFUSED(PALI_ERR_ARGUMENT, r, pali_score(f->session, one(f), 1, PROMPT, (const char *const[]){NULL}, 1, &r));
    REFUSED(PALI_ERR_ARGUMENT, r, pali_score(f->session, one(f), 1, PROMPT, (const char *const[]){"a"}, 0, &r));
    REFUSED(PALI_ERR_ARGUMENT, s, pali_session_new(&s, NULL, NULL));
    assert_string_equal(pali_last_error(), "pali_session_new: model is NULL"); /* the name of the header */
    REFUSED(PALI_ERR_ARGUMENT, m, pali_model_load(&m, NULL, NULL));
    REFUSED(PALI_ERR_IO, m, pali_model_load(&m, "/nowhere", NULL));
    REFUSED(PALI_ERR_ARGUMENT, m, pali_model_random(&m, "3b-225", 0, NULL));
    REFUSED(PALI_ERR_IO, img, pali_image_load(&img, "/nowhere"));
    REFUSED(PALI_ERR_UNSUPPORTED, img, pali_image_from_memory(&img, "not a picture", 13));
    REFUSED(PALI_ERR_ARGUMENT, img, pali_image_from_rgb(&img, (const uint8_t *)"abc", 1, 0, 0));
    REFUSED(PALI_ERR_ARGUMENT, img, pali_image_from_rgb(&img, (const uint8_t *)"abcdef", 2, 1, 5));
    REFUSED(PALI_ERR_ARGUMENT, floats, pali_embed(f->session, f->a, (pali_embedding)9, &floats, dims, &n_dims));
    REFUSED(PALI_ERR_ARGUMENT, floats, pali_embed(f->session, NULL, PALI_EMBED_MEAN, &floats, dims, &n_dims));
    pali_tokenizer *t = (pali_tokenizer *)f;
    REFUSED(PALI_ERR_ARGUMENT, t, pali_tokenizer_load(&t, NULL));
    t = (pali_tokenizer *)f;
    REFUSED(PALI_ERR_IO, t, pali_tokenizer_load(&t, "/nowhere"));
    int32_t *ids = (int32_t *)f;
    REFUSED(PALI_ERR_FORMAT, ids, pali_tokenizer_encode(pali_model_tokenizer(f->model), "\xff", 1, 0, &ids, &n));

    pali_generate_options bad[] = {short_answer(), short_answer(), short_answer(), short_answer(), short_answer(), short_answer(),
                                   short_answer(), short_answer(), short_answer(), short_answer(), short_answer(), short_answer()};
    bad[0].max_tokens = -1;
    bad[1].temperature = -1;
    bad[2].temperature = NAN;
    bad[3].top_k = -1;
    bad[4].top_p = 1.5f;
    bad[5].min_p = -0.1f;
    bad[6].repetition_penalty = -1;
    bad[7].num_beams = 1000000;
    bad[8].num_return = 2;
    bad[9].length_penalty = NAN;
    bad[10].early_stopping = (pali_early_stopping)7;
    bad[11].struct_size = 3;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) REFUSED(PALI_ERR_ARGUMENT, r, pali_generate(f->session, one(f), 1, PROMPT, &bad[i], &r));

    pali_model_free(NULL);
    pali_session_free(NULL);
    pali_session_cancel(NULL);
    pali_image_free(NULL);
    pali_result_free(NULL);
    pali_tokenizer_free(NULL);
    pali_free(NULL);
    assert_int_equal(pali_result_count(NULL), 0);
    assert_int_equal(pali_model_tensor_count(NULL), 0);
    assert_null(pali_model_tokenizer(NULL));
    assert_int_equal(pali_image_width(NULL), 0);
}

/* The number of pictures must match the image ids, and ids must be in the table. */
static void test_ids(void **state) {
    fixture *f = *state;
    const pali_image *both[] = {f->a, f->b};
    pali_result *r, *same;
    int32_t *ids;
    size_t n;
    pali_generate_options o = short_answer();
    assert_int_equal(pali_prompt_tokens(f->model, 1, PROMPT, &ids, &n), PALI_OK);
    assert_true(n > (size_t)f->info.n_image_tokens + 2);
    for (int32_t i = 0; i < f->info.n_image_tokens; i++) assert_int_equal(ids[i], f->info.image_token);
    assert_int_equal(ids[f->info.n_image_tokens], f->info.bos_token);

    assert_int_equal(pali_generate_tokens(f->session, one(f), 1, ids, n, &o, &r), PALI_OK);
    same = generated(f, one(f), 1, &o);
    assert_same(r, same);
    pali_stats stats = {.struct_size = sizeof stats};
    assert_int_equal(pali_result_get_stats(r, &stats), PALI_OK);
    assert_int_equal(stats.image_tokens, f->info.n_image_tokens);
    assert_int_equal(stats.prompt_tokens, n - stats.image_tokens);
    assert_int_equal(stats.generated_tokens, TOKENS);
    assert_true(stats.prefill_ms > 0 && stats.decode_ms > 0);
    pali_result_free(r);
    pali_result_free(same);

    REFUSED(PALI_ERR_ARGUMENT, r, pali_generate_tokens(f->session, both, 2, ids, n, &o, &r));
    REFUSED(PALI_ERR_ARGUMENT, r, pali_generate_tokens(f->session, NULL, 0, ids, n, &o, &r));
    ids[n - 1] = f->info.image_token;
    REFUSED(PALI_ERR_ARGUMENT, r, pali_generate_tokens(f->session, one(f), 1, ids, n, &o, &r));
    ids[n - 1] = f->info.vocab_size;
    REFUSED(PALI_ERR_ARGUMENT, r, pali_generate_tokens(f->session, one(f), 1, ids, n, &o, &r));
    ids[n - 1] = -1;
    REFUSED(PALI_ERR_ARGUMENT, r, pali_generate_tokens(f->session, one(f), 1, ids, n, &o, &r));
    pali_free(ids);
}

/* Absurd lengths are refused before any work is done. */
static void test_limits(void **state) {
    fixture *f = *state;
    pali_result *r;
    pali_generate_options o = short_answer();
    size_t n = (size_t)4 << 20;
    char *text = malloc(n + 1);
    assert_non_null(text);
    for (size_t i = 0; i < n; i++) text[i] = (char)('a' + i * 7 % 26);
    text[n] = 0;
    REFUSED(PALI_ERR_LIMIT, r, pali_generate(f->session, one(f), 1, text, &o, &r));
    REFUSED(PALI_ERR_LIMIT, r, pali_score(f->session, one(f), 1, PROMPT, (const char *const[]){text}, 1, &r));
    free(text);
    o.max_tokens = INT32_MAX;
    REFUSED(PALI_ERR_LIMIT, r, pali_generate(f->session, one(f), 1, PROMPT, &o, &r));
}

/* Zero means the default, and a struct of another age is understood as far as it goes. */
static void test_struct_sizes(void **state) {
    fixture *f = *state;
    struct {
        pali_generate_options known;
        char future[64];
    } newer;
    pali_generate_options o = short_answer(), zero = {.struct_size = sizeof zero, .max_tokens = TOKENS, .ignore_eos = 1, .length_penalty = 1};
    pali_result *plain = generated(f, one(f), 1, &o), *r;
    r = generated(f, one(f), 1, &zero);
    assert_same(plain, r);
    pali_result_free(r);

    memset(&newer, 0x5a, sizeof newer);
    newer.known = o;
    newer.known.struct_size = sizeof newer;
    r = generated(f, one(f), 1, &newer.known);
    assert_same(plain, r);
    pali_result_free(r);

    pali_generate_options older = o; /* ends after max_tokens: the rest must not be read */
    memset((char *)&older + offsetof(pali_generate_options, temperature), 0xff, sizeof older - offsetof(pali_generate_options, temperature));
    older.struct_size = offsetof(pali_generate_options, temperature);
    older.max_tokens = 3;
    r = generated(f, one(f), 1, &older);
    assert_in_range(sequence_of(r, 0).n_tokens, 1, 3);
    assert_memory_equal(sequence_of(r, 0).tokens, sequence_of(plain, 0).tokens, sequence_of(r, 0).n_tokens * sizeof(int32_t));
    pali_result_free(r);

    pali_sequence part;
    memset(&part, 0x77, sizeof part);
    part.struct_size = offsetof(pali_sequence, tokens);
    const int32_t *untouched = part.tokens;
    assert_int_equal(pali_result_get(plain, 0, &part), PALI_OK);
    assert_non_null(part.text);
    assert_int_equal(part.struct_size, offsetof(pali_sequence, tokens));
    assert_ptr_equal(part.tokens, untouched);
    pali_sequence whole = {.struct_size = sizeof whole};
    assert_int_equal(pali_result_get(plain, 1, &whole), PALI_ERR_ARGUMENT);
    pali_result_free(plain);
}

typedef struct heard {
    char text[4096];
    size_t n_bytes, n_tokens, stop_after;
    int32_t tokens[64];
    float logprobs[64];
    size_t n_progress;
} heard;

static int on_token(void *user, int32_t token, float logprob, const char *text, size_t n_bytes) {
    heard *h = user;
    assert_true(h->n_tokens < 64 && h->n_bytes + n_bytes < sizeof h->text);
    memcpy(h->text + h->n_bytes, text, n_bytes);
    h->n_bytes += n_bytes;
    h->tokens[h->n_tokens] = token;
    h->logprobs[h->n_tokens++] = logprob;
    return h->n_tokens == h->stop_after;
}

static int on_progress(void *user, const char *what, uint64_t done, uint64_t total) {
    heard *h = user;
    assert_true(strlen(what) > 0 && done <= total);
    h->n_progress++;
    return 0;
}

/* What the callback hears is the result, piece by piece. */
static void test_streaming(void **state) {
    fixture *f = *state;
    for (int sampled = 0; sampled < 2; sampled++) {
        heard h = {0};
        pali_generate_options o = short_answer();
        o.max_tokens = 48;
        o.temperature = sampled ? 3.0f : 0.0f; /* hot enough to mix bytes, letters and locations */
        o.seed = 5;
        o.on_token = on_token;
        o.progress = on_progress;
        o.user = &h;
        pali_result *r = generated(f, one(f), 1, &o);
        pali_sequence s = sequence_of(r, 0);
        assert_int_equal(s.n_tokens, 48);
        assert_int_equal(h.n_tokens, 48);
        assert_memory_equal(h.tokens, s.tokens, sizeof *s.tokens * 48);
        assert_memory_equal(h.logprobs, s.logprobs, sizeof *s.logprobs * 48);
        assert_int_equal(h.n_bytes, s.n_text_bytes);
        assert_memory_equal(h.text, s.text, s.n_text_bytes);
        assert_int_equal(strlen(s.text), s.n_text_bytes);
        assert_true(h.n_progress > 0);
        assert_int_equal(s.finish, PALI_FINISH_LENGTH);
        double sum = 0;
        for (size_t i = 0; i < 48; i++) sum += (double)s.logprobs[i];
        assert_true(fabs(s.score - sum) < 1e-9);
        pali_result_free(r);

        h = (heard){.stop_after = 4};
        REFUSED(PALI_ERR_CANCELLED, r, pali_generate(f->session, one(f), 1, PROMPT, &o, &r));
        assert_int_equal(h.n_tokens, 4);
        pali_generate_options again = short_answer();
        pali_result_free(generated(f, one(f), 1, &again)); /* the session still works */
    }
}

static int stop_at_once(void *user, const char *what, uint64_t done, uint64_t total) {
    (void)user;
    (void)what;
    (void)done;
    (void)total;
    return 1;
}

static void *cancel_later(void *session) {
    pali_session_cancel(session);
    return NULL;
}

static int cancel_from_thread(void *user, int32_t token, float logprob, const char *text, size_t n_bytes) {
    (void)token;
    (void)logprob;
    (void)text;
    (void)n_bytes;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, cancel_later, user), 0);
    return pthread_join(thread, NULL);
}

static void test_cancel(void **state) {
    fixture *f = *state;
    pali_result *r;
    pali_generate_options o = short_answer();
    o.progress = stop_at_once;
    REFUSED(PALI_ERR_CANCELLED, r, pali_generate(f->session, one(f), 1, PROMPT, &o, &r));
    o = short_answer();
    o.on_token = cancel_from_thread;
    o.user = f->session;
    REFUSED(PALI_ERR_CANCELLED, r, pali_generate(f->session, one(f), 1, PROMPT, &o, &r));
    o = short_answer();
    pali_result_free(generated(f, one(f), 1, &o));

    /* Before a call, it concerns that one: a signal may come just before the work begins. */
    const char *const answers[] = {"cat"};
    pali_session_cancel(f->session);
    REFUSED(PALI_ERR_CANCELLED, r, pali_score(f->session, one(f), 1, PROMPT, answers, 1, &r));
    assert_int_equal(pali_score(f->session, one(f), 1, PROMPT, answers, 1, &r), PALI_OK);
    pali_result_free(r);
}

/* The answer's own log-probabilities, from scoring it: decoding row by row and scoring all rows at once agree. */
static void test_score(void **state) {
    fixture *f = *state;
    const char *const answers[] = {"cat", "", "a dog is the cat", "cat", "<loc0100><loc0200>"};
    enum { N = 5 };
    pali_result *all, *r;
    assert_int_equal(pali_score(f->session, one(f), 1, PROMPT, answers, N, &all), PALI_OK);
    assert_int_equal(pali_result_count(all), N);
    for (size_t i = 0; i < N; i++) {
        pali_sequence s = sequence_of(all, i), alone;
        double sum = 0;
        int32_t *ids;
        size_t n;
        assert_int_equal(pali_tokenizer_encode(pali_model_tokenizer(f->model), answers[i], strlen(answers[i]), 0, &ids, &n), PALI_OK);
        assert_int_equal(s.n_tokens, n + 1);
        assert_memory_equal(s.tokens, ids, n * sizeof *ids);
        assert_int_equal(s.tokens[n], f->info.eos_token);
        assert_string_equal(s.text, answers[i]);
        for (size_t j = 0; j <= n; j++) sum += (double)s.logprobs[j];
        assert_true(fabs(sum - s.score) < 1e-9);
        pali_free(ids);
        assert_int_equal(pali_score(f->session, one(f), 1, PROMPT, &answers[i], 1, &r), PALI_OK);
        alone = sequence_of(r, 0);
        for (size_t j = 0; j <= n; j++) assert_true(fabsf(alone.logprobs[j] - s.logprobs[j]) <= 1e-4f * (1 + fabsf(s.logprobs[j]))); /* other tiling */
        pali_result_free(r);
    }
    pali_sequence first = sequence_of(all, 0), again = sequence_of(all, 3);
    for (size_t j = 0; j < first.n_tokens; j++) assert_true(fabsf(first.logprobs[j] - again.logprobs[j]) <= 1e-4f * (1 + fabsf(first.logprobs[j])));
    pali_result_free(all);
}

/* More answers and longer ones than go through the model at once. */
static void test_many_answers(void **state) {
    fixture *f = *state;
    enum { N = 150, LONG = 700 };
    const char *answers[N];
    char text[LONG + 1];
    pali_result *r, *single;
    for (size_t i = 0; i < LONG; i++) text[i] = (char)('A' + i % 26);
    text[LONG] = 0;
    for (size_t i = 0; i < N; i++) answers[i] = i % 3 == 0 ? "cat" : i % 3 == 1 ? "the dog" : "";
    answers[70] = text;
    assert_int_equal(pali_score(f->session, one(f), 1, PROMPT, answers, N, &r), PALI_OK);
    for (size_t i = 0; i < N; i += 35) { /* 0, 35, 70, ... */
        assert_int_equal(pali_score(f->session, one(f), 1, PROMPT, &answers[i], 1, &single), PALI_OK);
        pali_sequence s = sequence_of(r, i), t = sequence_of(single, 0);
        assert_int_equal(s.n_tokens, t.n_tokens);
        assert_memory_equal(s.tokens, t.tokens, s.n_tokens * sizeof *s.tokens);
        if (i == 70) assert_true(s.n_tokens > 256);
        assert_true(fabs(s.score - t.score) <= 1e-4 * (1 + fabs(t.score)));
        pali_result_free(single);
    }
    pali_result_free(r);
}

/* Same seed, same answer; other seeds, other answers; a beam of one or a cold temperature is greedy decoding. */
static void test_ways(void **state) {
    fixture *f = *state;
    pali_generate_options o = short_answer();
    pali_result *greedy = generated(f, one(f), 1, &o), *x, *y;
    o.temperature = 4;
    o.seed = 1;
    x = generated(f, one(f), 1, &o);
    y = generated(f, one(f), 1, &o);
    assert_same(x, y);
    pali_result_free(y);
    o.seed = 2;
    y = generated(f, one(f), 1, &o);
    assert_true(memcmp(sequence_of(x, 0).tokens, sequence_of(y, 0).tokens, TOKENS * sizeof(int32_t)) != 0);
    pali_result_free(x);
    pali_result_free(y);
    o.top_k = 1;
    x = generated(f, one(f), 1, &o);
    assert_memory_equal(sequence_of(x, 0).tokens, sequence_of(greedy, 0).tokens, TOKENS * sizeof(int32_t));
    pali_result_free(x);

    o = short_answer();
    o.num_beams = 3;
    o.num_return = 3;
    x = generated(f, one(f), 1, &o);
    assert_int_equal(pali_result_count(x), 3);
    assert_true(sequence_of(x, 0).score >= sequence_of(x, 2).score);
    for (size_t i = 0; i < 3; i++) { /* without eos all are TOKENS long, and the score is the mean */
        pali_sequence s = sequence_of(x, i);
        double sum = 0;
        assert_int_equal(s.n_tokens, TOKENS);
        for (size_t j = 0; j < TOKENS; j++) sum += (double)s.logprobs[j];
        assert_true(fabs(s.score - sum / TOKENS) < 1e-4);
    }
    pali_result_free(x);
    pali_result_free(greedy);
}

/* Pictures: order matters, a remembered one gives the same answer, and so does a copy of its pixels. */
static void test_pictures(void **state) {
    fixture *f = *state;
    pali_generate_options o = short_answer();
    const pali_image *ab[] = {f->a, f->b}, *ba[] = {f->b, f->a};
    pali_result *first = generated(f, ab, 2, &o), *other = generated(f, ba, 2, &o), *again = generated(f, ab, 2, &o);
    assert_same(first, again);
    assert_true(memcmp(sequence_of(first, 0).logprobs, sequence_of(other, 0).logprobs, TOKENS * sizeof(float)) != 0);
    pali_result_free(other);
    pali_result_free(again);

    pali_session *fresh;
    assert_int_equal(pali_session_new(&fresh, f->model, NULL), PALI_OK);
    assert_int_equal(pali_generate(fresh, ab, 2, PROMPT, &o, &again), PALI_OK);
    assert_same(first, again);
    pali_result_free(again);
    pali_session_free(fresh);
    pali_result_free(first);

    /* Rows may be apart; many different pictures push each other out of the memory of the session. */
    size_t w = (size_t)pali_image_width(f->a), h = (size_t)pali_image_height(f->a), stride = 3 * w + 5;
    uint8_t *rgb = malloc(stride * h);
    assert_non_null(rgb);
    for (size_t y = 0; y < h; y++) memcpy(rgb + y * stride, pali_image_rgb(f->a) + y * 3 * w, 3 * w);
    first = generated(f, one(f), 1, &o);
    for (int round = 0; round < 12; round++) {
        pali_image *copy;
        assert_int_equal(pali_image_from_rgb(&copy, rgb, (int32_t)w, (int32_t)h, stride), PALI_OK);
        again = generated(f, (const pali_image *const *)&copy, 1, &o);
        if (round % 6 == 0) assert_same(first, again);
        else assert_true(memcmp(sequence_of(first, 0).logprobs, sequence_of(again, 0).logprobs, TOKENS * sizeof(float)) != 0);
        pali_result_free(again);
        pali_image_free(copy);
        memset(rgb + stride * (h / 2), round % 6 == 5 ? 0 : 40 * (round % 6) + 20, 3 * w);
        if (round % 6 == 5) memcpy(rgb + stride * (h / 2), pali_image_rgb(f->a) + h / 2 * 3 * w, 3 * w);
    }
    pali_result_free(first);
    free(rgb);
}

static void test_threads(void **state) {
    fixture *f = *state;
    pali_session_options so;
    pali_generate_options o = short_answer();
    pali_result *r[2];
    for (int i = 0; i < 2; i++) {
        pali_session *s;
        pali_session_options_init(&so);
        so.n_threads = i == 0 ? 1 : 3;
        assert_int_equal(pali_session_new(&s, f->model, &so), PALI_OK);
        assert_int_equal(pali_generate(s, one(f), 1, PROMPT, &o, &r[i]), PALI_OK);
        pali_session_free(s);
    }
    assert_same(r[0], r[1]);
    pali_result_free(r[0]);
    pali_result_free(r[1]);
}

/* A session keeps its model alive; results outlive both. */
static void test_lifetimes(void **state) {
    fixture *f = *state;
    pali_model *m;
    pali_session *s, *t;
    pali_result *r, *same;
    pali_generate_options o = short_answer();
    assert_int_equal(pali_model_load(&m, MODEL, NULL), PALI_OK);
    assert_int_equal(pali_session_new(&s, m, NULL), PALI_OK);
    assert_int_equal(pali_session_new(&t, m, NULL), PALI_OK);
    pali_model_free(m);
    pali_session_free(t);
    assert_int_equal(pali_generate(s, one(f), 1, PROMPT, &o, &r), PALI_OK);
    pali_session_free(s);
    same = generated(f, one(f), 1, &o);
    assert_same(r, same);
    pali_result_free(r);
    pali_result_free(same);
}

static void test_embeddings(void **state) {
    fixture *f = *state;
    const uint64_t r = (uint64_t)f->info.image_size, n = (uint64_t)f->info.n_image_tokens, w = (uint64_t)f->info.vision_width;
    const uint64_t expected[4][3] = {{3, r, r}, {n, w, 0}, {n, (uint64_t)f->info.text_width, 0}, {1, w, 0}};
    float *x[4], *hidden;
    uint64_t dims[3];
    int32_t n_dims, *ids;
    size_t n_ids;
    for (int what = 0; what < 4; what++) {
        assert_int_equal(pali_embed(f->session, f->a, (pali_embedding)what, &x[what], dims, &n_dims), PALI_OK);
        assert_int_equal(n_dims, what == 0 ? 3 : 2);
        for (int32_t i = 0; i < n_dims; i++) assert_int_equal(dims[i], expected[what][i]);
    }
    for (uint64_t i = 0; i < 3 * r * r; i++) assert_true(x[0][i] >= -1 && x[0][i] <= 1);
    for (uint64_t j = 0; j < w; j++) {
        double sum = 0;
        for (uint64_t i = 0; i < n; i++) sum += (double)x[1][i * w + j];
        assert_true(fabs(sum / (double)n - (double)x[3][j]) < 1e-6 * (1 + fabs(sum)));
    }
    for (int what = 0; what < 4; what++) pali_free(x[what]);
    assert_int_equal(pali_prompt_tokens(f->model, 1, PROMPT, &ids, &n_ids), PALI_OK);
    assert_int_equal(pali_embed_prompt(f->session, one(f), 1, PROMPT, &hidden, dims, &n_dims), PALI_OK);
    assert_int_equal(dims[0], n_ids);
    assert_int_equal(dims[1], f->info.text_width);
    pali_free(hidden);
    pali_free(ids);
}

/* Every allocation of a call fails once: an error, no crash, and the session answers as before. (Leaks: the sanitizers.) */
static void test_no_memory(void **state) {
    fixture *f = *state;
    const char *const answers[] = {"cat", "the dog"};
    pali_generate_options ways[3] = {short_answer(), short_answer(), short_answer()};
    ways[1].temperature = 1;
    ways[1].top_p = 0.9f;
    ways[1].repetition_penalty = 1.2f;
    ways[2].num_beams = 2;
    ways[2].num_return = 2;
    for (int way = 0; way < 5; way++) {
        size_t k = 1;
        for (pali_status s = PALI_ERR_MEMORY; s != PALI_OK; k++) {
            pali_session *fresh = NULL;
            pali_result *r = NULL;
            float *x = NULL;
            uint64_t dims[3];
            int32_t n_dims;
            mem_fail_after(k);
            s = pali_session_new(&fresh, f->model, &(pali_session_options){.struct_size = sizeof(pali_session_options), .n_threads = 1});
            if (s == PALI_OK && way < 3) s = pali_generate(fresh, one(f), 1, PROMPT, &ways[way], &r);
            if (s == PALI_OK && way == 3) s = pali_score(fresh, one(f), 1, PROMPT, answers, 2, &r);
            if (s == PALI_OK && way == 4) s = pali_embed_prompt(fresh, one(f), 1, PROMPT, &x, dims, &n_dims);
            mem_fail_after(0);
            if (s != PALI_OK) {
                assert_int_equal(s, PALI_ERR_MEMORY);
                assert_null(r);
                assert_null(x);
                if (fresh && way < 3) { /* the same session, now with memory */
                    assert_int_equal(pali_generate(fresh, one(f), 1, PROMPT, &ways[way], &r), PALI_OK);
                    pali_result *same = generated(f, one(f), 1, &ways[way]);
                    assert_same(r, same);
                    pali_result_free(same);
                }
            }
            pali_free(x);
            pali_result_free(r);
            pali_session_free(fresh);
            assert_true(k < 5000);
        }
        assert_true(k > 10);
    }
}

static void test_load_no_memory(void **state) {
    (void)state;
    const pali_model_options o = {.struct_size = sizeof o, .n_threads = 1};
    pali_model *m = NULL;
    size_t k = 1;
    for (pali_status s = PALI_ERR_MEMORY; s != PALI_OK; k++) {
        mem_fail_after(k);
        s = pali_model_load(&m, MODEL, &o);
        mem_fail_after(0);
        if (s != PALI_OK) {
            assert_int_equal(s, PALI_ERR_MEMORY);
            assert_null(m);
        }
        assert_true(k < 5000);
    }
    assert_true(k > 10);
    pali_model_free(m);
}

typedef struct worker {
    const fixture *f;
    pali_result *result;
    pali_status status;
    char error[256];
} worker;

static void *worker_run(void *context) {
    worker *w = context;
    pali_session *s = NULL;
    pali_generate_options o = short_answer();
    w->status = pali_session_new(&s, w->f->model, NULL);
    if (w->status == PALI_OK) w->status = pali_generate(s, one(w->f), 1, PROMPT, &o, &w->result);
    if (w->status == PALI_OK) (void)pali_model_load(&(pali_model *){NULL}, "/nowhere", NULL);
    strncpy(w->error, pali_last_error(), sizeof w->error - 1);
    pali_session_free(s);
    return NULL;
}

/* One model under several threads, each with a session and a last error of its own. */
static void test_shared_model(void **state) {
    fixture *f = *state;
    enum { N = 4 };
    worker w[N];
    pthread_t threads[N];
    pali_generate_options o = short_answer();
    pali_result *expected = generated(f, one(f), 1, &o);
    char before[256] = "";
    strncpy(before, pali_last_error(), sizeof before - 1);
    for (size_t i = 0; i < N; i++) {
        w[i] = (worker){.f = f};
        assert_int_equal(pthread_create(&threads[i], NULL, worker_run, &w[i]), 0);
    }
    for (size_t i = 0; i < N; i++) assert_int_equal(pthread_join(threads[i], NULL), 0);
    for (size_t i = 0; i < N; i++) {
        assert_int_equal(w[i].status, PALI_OK);
        assert_non_null(strstr(w[i].error, "/nowhere"));
        assert_same(w[i].result, expected);
        pali_result_free(w[i].result);
    }
    assert_string_equal(pali_last_error(), before);
    pali_result_free(expected);
}

static void test_names(void **state) {
    (void)state;
    assert_string_equal(pali_version(), "0.1.0");
    assert_string_equal(pali_status_name(PALI_OK), "ok");
    assert_string_equal(pali_status_name(PALI_ERR_CANCELLED), "cancelled");
    assert_string_equal(pali_status_name((pali_status)99), "unknown");
    assert_string_equal(pali_status_name((pali_status)-1), "unknown");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_arguments), cmocka_unit_test(test_ids),        cmocka_unit_test(test_limits),       cmocka_unit_test(test_struct_sizes),
        cmocka_unit_test(test_streaming), cmocka_unit_test(test_cancel),     cmocka_unit_test(test_score),        cmocka_unit_test(test_many_answers),
        cmocka_unit_test(test_ways),      cmocka_unit_test(test_pictures),   cmocka_unit_test(test_threads),      cmocka_unit_test(test_lifetimes),
        cmocka_unit_test(test_embeddings), cmocka_unit_test(test_no_memory), cmocka_unit_test(test_load_no_memory), cmocka_unit_test(test_shared_model),
        cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
