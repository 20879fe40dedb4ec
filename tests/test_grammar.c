/* test_grammar.c: constrained answers: what the grammar takes and what it does not, that nothing it lets through is malformed
 * however tokens are chosen, that it changes no answer that was well-formed, and that log-probabilities stay those over all
 * tokens. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "answer.h"
#include "api/handles.h"
#include "base/mem.h"
#include "golden.h"
#include "infer/generate.h"

#define VOCAB_TINY 1488
#define VOCAB_GEMMA 257216
/* As in test_generate.c: another order of sums. */
#define LOGPROB_TOLERANCE 1e-4

typedef struct vocabulary {
    tokenizer *t; /* NULL: not here */
    grammar g;
} vocabulary;

static vocabulary g_tiny, g_gemma;

static void vocabulary_init(vocabulary *v, size_t n) {
    if (v->t && grammar_init(&v->g, v->t, n) != PALI_OK) fail_msg("%s", pali_last_error());
}

static int group_setup(void **state) {
    (void)state;
    g_gemma.t = golden_gemma_tokenizer();
    if (tokenizer_load(&g_tiny.t, GOLDEN_DIR "/pg1-f32/tokenizer.json") != PALI_OK) return -1;
    vocabulary_init(&g_tiny, VOCAB_TINY);
    vocabulary_init(&g_gemma, VOCAB_GEMMA);
    return 0;
}

static int group_teardown(void **state) {
    (void)state;
    grammar_free(&g_tiny.g);
    grammar_free(&g_gemma.g);
    tokenizer_free(g_tiny.t);
    tokenizer_free(g_gemma.t);
    return 0;
}

/* ---- The automaton ---- */

#define D PALI_CONSTRAIN_DETECT
#define S PALI_CONSTRAIN_SEGMENT

/* whole: a complete answer, with or without its end token; part: the beginning of one; else the grammar stops at a token. */
typedef enum verdict { NOT, PART, WHOLE } verdict;

static const struct {
    const char *answer;
    verdict detect, segment;
} k_answers[] = {
    {"", WHOLE, WHOLE},
    {"<eos>", WHOLE, WHOLE},
    {"<eos><eos>", NOT, NOT},
    {"{1 2 3 4} cat", WHOLE, NOT},
    {"{1 2 3 4} cat<eos>", WHOLE, NOT},
    {"{1 2 3 4} the  red cat 2<eos>", WHOLE, NOT},
    {"{1 2 3 4}cat", WHOLE, NOT},
    {"{1 2 3 4} %C3%A9", WHOLE, NOT},
    {"{1 2 3 4} cat ; {5 6 7 8} dog", WHOLE, NOT},
    {"{1 2 3 4} cat;{5 6 7 8} dog<eos>", WHOLE, NOT},
    {"{0 0 1023 1023} cat", WHOLE, NOT},
    {"{1022 1022 1023 1023} cat", WHOLE, NOT},
    {"{1 2 3 4}[16] cat", NOT, WHOLE},
    {"{1 2 3 4}[16]<eos>", NOT, WHOLE},
    {"{1 2 3 4}[16] ; {5 6 7 8}[16] dog<eos>", NOT, WHOLE},
    {"{1 2 3 4}[16] cat ; {5 6 7 8}[16]", NOT, WHOLE},
    {"{1}", PART, PART},
    {"{1 2 3}", PART, PART},
    {"{1 2 3 4}", PART, PART},
    {"{1 2 3 4} ", PART, NOT},
    {"{1 2 3 4}[15]", NOT, PART},
    {"{1 2 3 4} cat ;", PART, NOT},
    {"{1 2 3 4} cat ; ", PART, NOT},
    {"{1 2 3 4} cat ; {5 6}", PART, NOT},
    {"cat", NOT, NOT},
    {" {1 2 3 4} cat", NOT, NOT},
    {"[16]", NOT, NOT},
    {";", NOT, NOT},
    {"<pad>", NOT, NOT},
    {"{1}<eos>", NOT, NOT},
    {"{1 2 3} cat", NOT, NOT},
    {"{1 2 3 4 5}", NOT, NOT},
    {"{1 2 3 4}<eos>", NOT, NOT},
    {"{1 2 3 4} <eos>", NOT, NOT},
    {"{1 2 3 4} ; {5 6 7 8} cat", NOT, NOT},
    {"{1 2 3 4}\ncat", NOT, NOT},
    {"{1 2 3 4} cat\n", NOT, NOT},
    {"{1 2 3 4} cat\tdog", NOT, NOT},
    {"{1 2 3 4} cat%1B", NOT, NOT},
    {"{1 2 3 4} cat ; ;", NOT, NOT},
    {"{1 2 3 4} cat ; dog", NOT, NOT},
    {"{1 2 3 4} cat ; <eos>", NOT, NOT},
    {"{1 2 3 4} cat{5 6 7 8} dog", NOT, NOT},
    {"{1 2 3 4} cat[16]", NOT, NOT},
    {"{1 2 3 4}[17]", NOT, NOT},
    {"{1 2 3 4}[15] cat", NOT, NOT},
    {"{1 2 3 4} [16]", NOT, NOT},
    {"{3 2 3 4} cat", NOT, NOT},      /* no height */
    {"{3 2 1 4}[16] cat", NOT, NOT},
    {"{1 4 3 4} cat", NOT, NOT},      /* no width */
    {"{1 4 3 2}[16]", NOT, NOT},
    {"{1023}", NOT, NOT},              /* no room for the other corner */
    {"{5 1023}", NOT, NOT},
    {"{1 2 3 4} cat<image>", NOT, NOT},
    {"{1 2 3 4} cat#1487", NOT, NOT}, /* a row of the tiny table without a piece */
    {"{1 2 3 4} cat#-1", NOT, NOT},
    {"{1 2 3 4} cat#999999999", NOT, NOT},
};

static verdict judge(const vocabulary *v, pali_constraint c, const answer *a) {
    grammar_state s = {0};
    for (size_t i = 0; i < a->n; i++)
        if (!grammar_take(&v->g, c, &s, a->ids[i])) return NOT;
    return grammar_complete(c, &s) ? WHOLE : PART;
}

static void test_answers(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof k_answers / sizeof *k_answers; i++) {
        const vocabulary *const both[] = {&g_tiny, &g_gemma};
        for (size_t j = 0; j < 2 && both[j]->t; j++) {
            if (j && strstr(k_answers[i].answer, "#1487")) continue; /* a word there */
            const char *text = k_answers[i].answer;
            answer a = answer_of(both[j]->t, text);
            if (judge(both[j], D, &a) != k_answers[i].detect) fail_msg("detect, vocabulary %zu: '%s'", j, text);
            if (judge(both[j], S, &a) != k_answers[i].segment) fail_msg("segment, vocabulary %zu: '%s'", j, text);
        }
    }
}

/* Pieces that are several things at once are no label and no separator. */
static void test_pieces(void **state) {
    static const char *const k_never[] = {");", ";;", "();", ";\r", "\n", "\n\n", "\t", "<pad>", "<bos>", "<image>"};
    static const char *const k_label[] = {("\xe2\x96\x81" "cat"), "a", "\xe6\x97\xa5", "7", ",", "-", "<", "<0xFF>", "<0x20>", "\xe2\x96\x81"};
    (void)state;
    if (!g_gemma.t) skip();
    answer begun = answer_of(g_gemma.t, "{1 2 3 4} cat");
    for (size_t i = 0; i < sizeof k_never / sizeof *k_never + sizeof k_label / sizeof *k_label; i++) {
        size_t n_never = sizeof k_never / sizeof *k_never;
        const char *piece = i < n_never ? k_never[i] : k_label[i - n_never];
        answer a = begun;
        a.ids[a.n++] = tokenizer_find(g_gemma.t, piece);
        assert_true(a.ids[a.n - 1] >= 0);
        if (judge(&g_gemma, D, &a) != (i < n_never ? NOT : WHOLE)) fail_msg("'%s'", piece);
    }
}

/* ---- Whatever is chosen ---- */

/* A whole answer must come out as objects and nothing else. */
static void assert_well_formed(const tokenizer *t, pali_constraint c, const int32_t *tokens, size_t n, const char *what) {
    pali_objects *o;
    assert_int_equal(pali_objects_find(&o, t, tokens, NULL, n, 640, 480, NULL), PALI_OK);
    if (pali_objects_stray_count(o)) fail_msg("%s: stray tokens", what);
    for (size_t i = 0; i < pali_objects_count(o); i++) {
        pali_object x = {.struct_size = sizeof x};
        assert_int_equal(pali_objects_get(o, i, &x), PALI_OK);
        if (!x.valid || x.has_seg != (c == S) || (c == D && !x.label)) fail_msg("%s: object %zu is malformed", what, i);
    }
    if (n > 1 && pali_objects_count(o) == 0) fail_msg("%s: %zu tokens, no object", what, n);
    pali_objects_free(o);
}

/* Tokens drawn at random, all that may follow alike, or the kinds of them alike so that every way is gone; every limit. */
static void test_walks(void **state) {
    enum { LIMIT = 80, WALKS = 24 };
    rng r;
    (void)state;
    rng_seed(&r, 7);
    size_t n_objects = 0, n_ended = 0;
    for (pali_constraint c = D; c <= S; c++) {
        for (size_t limit = grammar_object_tokens(c); limit < LIMIT; limit++) {
            for (size_t walk = 0; walk < WALKS; walk++) {
                int32_t tokens[LIMIT], found[VOCAB_TINY];
                grammar_state s = {0};
                size_t n = 0;
                bool ended = false;
                while (n < limit && !ended) {
                    sampler_filter f = grammar_filter(&g_tiny.g, c, &s, limit - n);
                    uint16_t one = f.bits; /* a single kind of those there are */
                    while (walk % 2 && one & (one - 1u)) one &= (uint16_t)rng_next(&r) ? (uint16_t)rng_next(&r) : one;
                    if (one) f.bits = one;
                    size_t n_found = 0;
                    for (size_t id = 0; id < VOCAB_TINY; id++)
                        if (sampler_passes(&f, id)) found[n_found++] = (int32_t)id;
                    assert_true(n_found > 0);
                    tokens[n] = found[rng_next(&r) % n_found];
                    assert_true(grammar_take(&g_tiny.g, c, &s, tokens[n]));
                    ended = tokens[n++] == tokenizer_find(g_tiny.t, "<eos>");
                }
                assert_true(grammar_complete(c, &s)); /* never half-way through an object */
                assert_well_formed(g_tiny.t, c, tokens, n, "walk");
                n_objects += n > 1;
                n_ended += ended;
            }
        }
    }
    assert_true(n_objects > 300 && n_ended > 300);
}

/* ---- Choosing ---- */

static sampler sampler_of(float temperature, size_t top_k, float top_p, float penalty) {
    sampler s;
    sampler_options o = {.temperature = temperature, .top_k = top_k, .top_p = top_p, .repetition_penalty = penalty, .seed = 3, .never = -1};
    assert_int_equal(sampler_init(&s, &o, VOCAB_TINY), PALI_OK);
    return s;
}

/* Where the likeliest token is one that may follow, it is chosen with the same log-probability; ties as ever. */
static void test_same_choice(void **state) {
    static const char *const k_whole[] = {"<eos>", "{1 2 3 4} cat<eos>", "{1 2 3 4} the cat ; {5 6 7 8} dog<eos>", "{9 9 90 90}[16] cat ; {1 2 3 4}[16]<eos>"};
    (void)state;
    rng r;
    rng_seed(&r, 5);
    for (size_t i = 0; i < sizeof k_whole / sizeof *k_whole; i++) {
        pali_constraint c = strchr(k_whole[i], '[') ? S : D;
        answer a = answer_of(g_tiny.t, k_whole[i]);
        for (int penalty = 0; penalty < 2; penalty++) {
            sampler plain = sampler_of(0, 0, 1, penalty ? 1.1f : 1), only = sampler_of(0, 0, 1, penalty ? 1.1f : 1);
            grammar_state s = {0};
            for (size_t t = 0; t < a.n; t++) {
                float logits[VOCAB_TINY], one, other;
                for (size_t id = 0; id < VOCAB_TINY; id++) logits[id] = rng_normal(&r);
                logits[a.ids[t]] = 9; /* a penalty leaves it far ahead */
                if (!penalty && a.ids[t] + 1 < VOCAB_TINY) logits[a.ids[t] + 1] = 9;
                only.only = grammar_filter(&g_tiny.g, c, &s, a.n - t);
                assert_int_equal(sampler_pick(&plain, logits, &one), a.ids[t]);
                assert_int_equal(sampler_pick(&only, logits, &other), a.ids[t]);
                assert_true(one == other);
                assert_true(grammar_take(&g_tiny.g, c, &s, a.ids[t]));
            }
            sampler_free(&plain);
            sampler_free(&only);
        }
    }
}

/* Nothing else is ever chosen: by any way of choosing, of logits that favour the others, of infinities and NaN. */
static void test_only_these(void **state) {
    static const struct {
        float temperature;
        size_t top_k;
        float top_p, penalty;
    } k_ways[] = {{0, 0, 1, 1}, {0, 0, 1, 1.3f}, {1, 0, 1, 1}, {1, 40, 1, 1}, {1, 0, 0.9f, 1}, {100, 5, 0.5f, 1.2f}, {1e-3f, 0, 1, 1}};
    static const float k_others[] = {0, 30, -30, INFINITY, -INFINITY, NAN};
    (void)state;
    rng r;
    rng_seed(&r, 6);
    for (size_t way = 0; way < sizeof k_ways / sizeof *k_ways; way++) {
        for (size_t kind = 0; kind < 36; kind++) {
            sampler s = sampler_of(k_ways[way].temperature, k_ways[way].top_k, k_ways[way].top_p, k_ways[way].penalty);
            grammar_state at = {0};
            for (size_t n = 0; n < 24 && at.place <= 4; n++) {
                float logits[VOCAB_TINY], logprob;
                s.only = grammar_filter(&g_tiny.g, D, &at, 24 - n);
                for (size_t id = 0; id < VOCAB_TINY; id++) logits[id] = rng_normal(&r) + k_others[sampler_passes(&s.only, id) ? kind % 6 : kind / 6];
                int32_t token = sampler_pick(&s, logits, &logprob);
                if (!grammar_take(&g_tiny.g, D, &at, token)) fail_msg("way %zu, kind %zu: token %d", way, kind, (int)token);
                if (token == tokenizer_find(g_tiny.t, "<eos>")) break;
            }
            sampler_free(&s);
        }
    }
}

/* ---- Models ---- */

typedef struct fixture {
    pali_model *model;
    pali_session *session;
    pali_image *image;
} fixture;

static void fixture_open(fixture *f, const char *name) {
    char path[640];
    const pali_session_options one = {.struct_size = sizeof one, .n_threads = 1}; /* tiny models are slower with more */
    (void)snprintf(path, sizeof path, "%s/%s", GOLDEN_DIR, name);
    if (pali_model_load(&f->model, path, NULL) != PALI_OK || pali_session_new(&f->session, f->model, &one) != PALI_OK ||
        pali_image_load(&f->image, GOLDEN_DIR "/images/landscape.jpg") != PALI_OK)
        fail_msg("%s", pali_last_error());
}

static void fixture_close(fixture *f) {
    pali_image_free(f->image);
    pali_session_free(f->session);
    pali_model_free(f->model);
}

static pali_result *run(fixture *f, const char *prompt, const pali_generate_options *o) {
    pali_result *r;
    if (pali_generate(f->session, (const pali_image *const *)&f->image, 1, prompt, o, &r) != PALI_OK) fail_msg("%s", pali_last_error());
    return r;
}

static pali_sequence sequence_of(const pali_result *r, size_t i) {
    pali_sequence s = {.struct_size = sizeof s};
    assert_int_equal(pali_result_get(r, i, &s), PALI_OK);
    return s;
}

/* A thousand answers of random models, hot and cold, long and short, and some by beams. */
static void test_thousand(void **state) {
    size_t n_answers = 0, n_objects = 0;
    (void)state;
    for (const char *const *name = k_golden_models; *name; name++) {
        fixture f = {0};
        fixture_open(&f, *name);
        for (uint64_t seed = 0; seed < 150; seed++) {
            pali_generate_options o;
            pali_generate_options_init(&o);
            o.constrain = seed % 2 ? D : S;
            o.max_tokens = 20 + (int32_t)(seed % 31);
            o.temperature = (float[]){0, 0.5f, 1, 2, 50}[seed % 5];
            o.top_k = seed % 3 ? 0 : 30;
            o.seed = seed;
            if (seed % 12 == 0) {
                o.temperature = 0;
                o.num_beams = o.num_return = 3;
            }
            char prompt[64];
            (void)snprintf(prompt, sizeof prompt, "%s cat %d", o.constrain == D ? "detect" : "segment", (int)(seed / 5));
            pali_result *r = run(&f, prompt, &o);
            for (size_t i = 0; i < pali_result_count(r); i++, n_answers++) {
                pali_sequence s = sequence_of(r, i);
                assert_well_formed(pali_model_tokenizer(f.model), o.constrain, s.tokens, s.n_tokens, *name);
                n_objects += s.n_tokens > 1;
            }
            pali_result_free(r);
        }
        fixture_close(&f);
    }
    assert_true(n_answers >= 1000);
    assert_true(n_objects >= n_answers / 2);
}

/* Greedy answers, free and constrained, are the same up to where the free one leaves the grammar. Where they part, the
 * constrained one's log-probabilities are still those of its tokens among all. */
static void test_same_answer(void **state) {
    size_t n_begun = 0;
    (void)state;
    for (const char *const *name = k_golden_models; *name; name++) {
        fixture f = {0};
        fixture_open(&f, *name);
        for (int i = 0; i < 24; i++) {
            pali_generate_options o;
            char prompt[32];
            int32_t *ids;
            size_t n_ids, same = 0;
            pali_generate_options_init(&o);
            o.max_tokens = 24;
            (void)snprintf(prompt, sizeof prompt, "detect %c", 'a' + i);
            pali_result *free_result = run(&f, prompt, &o), *scored;
            o.constrain = i % 2 ? D : S;
            pali_result *bound = run(&f, prompt, &o);
            pali_sequence one = sequence_of(free_result, 0), other = sequence_of(bound, 0);
            grammar_state s = {0};
            while (same < one.n_tokens) {
                sampler_filter only = grammar_filter(&g_tiny.g, o.constrain, &s, (size_t)o.max_tokens - same);
                if (!sampler_passes(&only, (size_t)one.tokens[same])) break;
                assert_true(grammar_take(&g_tiny.g, o.constrain, &s, one.tokens[same++]));
            }
            assert_true(other.n_tokens >= same);
            assert_memory_equal(one.tokens, other.tokens, same * sizeof *one.tokens);
            assert_memory_equal(one.logprobs, other.logprobs, same * sizeof *one.logprobs);
            n_begun += same > 0;

            assert_int_equal(pali_prompt_tokens(f.model, 1, prompt, &ids, &n_ids), PALI_OK);
            const image *img = f.image;
            request q = {.images = &img, .n_images = 1, .ids = ids, .n_ids = n_ids};
            assert_int_equal(score(&f.session->s, &q, &(score_answer){other.tokens, other.n_tokens}, 1, &scored), PALI_OK);
            for (size_t t = 0; t < other.n_tokens; t++) assert_true(fabsf(scored->sequences[0].logprobs[t] - other.logprobs[t]) <= (float)LOGPROB_TOLERANCE);
            pali_free(ids);
            pali_result_free(scored);
            pali_result_free(bound);
            pali_result_free(free_result);
        }
        fixture_close(&f);
    }
    assert_true(n_begun >= 10);
}

/* A model whose greedy answer is known: no layer adds anything, so a row of logits depends on its token alone, and the head's row
 * of each token of the chain is the direction of the token before it. The tokens must differ. */
static void chain_set(fixture *f, const int32_t *chain, size_t n, float *embed, float *head, const float *zeros) {
    gemma *g = &f->model->m->text;
    size_t d = g->cfg.width, v = g->cfg.vocab_size;
    rng r;
    rng_seed(&r, 11);
    for (size_t i = 0; i < v * d; i++) {
        embed[i] = rng_normal(&r);
        head[i] = 0.3f * rng_normal(&r);
    }
    for (size_t i = 1; i < n; i++)
        for (size_t k = 0; k < d; k++) head[(size_t)chain[i] * d + k] = 2 * embed[(size_t)chain[i - 1] * d + k];
    g->embed = mat_f32(v, d, embed);
    g->head = mat_f32(v, d, head);
    for (size_t i = 0; i < g->cfg.n_layers; i++) {
        g->layers[i].o = mat_f32(g->layers[i].o.rows, g->layers[i].o.cols, zeros);
        g->layers[i].down = mat_f32(g->layers[i].down.rows, g->layers[i].down.cols, zeros);
    }
}

/* Well-formed answers of free greedy decoding stay what they are, to the last bit; others become well-formed. */
static void test_chains(void **state) {
    static const struct {
        const char *answer;
        bool whole;
    } k_chains[] = {
        {"<eos>", true},
        {"{1 2 3 4} cat<eos>", true},
        {"{9 2 30 1023} cat dog<eos>", true},
        {"{1 2 3 4} cat ; {5 6 7 8} dog<eos>", true},
        {"{1 2 3 4} cat;{5 6 7 8} %C3%A9<eos>", true},
        {"{1 2 3 4} cat ; {5 6 7 8} dog;{100 200 300 400}b<eos>", true},
        {"{1 2 3 4}[16] cat<eos>", true},
        {"{1 2 3 4}[16]<eos>", true},
        {"{1 2 3 4}[16] ; {5 6 7 8} cat<eos>", false},
        {"{1 2 3 4} cat{5 6 7 8} dog<eos>", false},
        {"{4 3 2 1} cat<eos>", false},
        {"{1 2 3 4}<eos>", false},
        {"the cat<eos>", false},
    };
    enum { FLOATS = VOCAB_TINY * 64 };
    (void)state;
    fixture f = {0};
    fixture_open(&f, "pg1-f32");
    float *embed = calloc(FLOATS, sizeof *embed), *head = calloc(FLOATS, sizeof *head), *zeros = calloc(FLOATS, sizeof *zeros);
    assert_true(embed && head && zeros);
    for (size_t i = 0; i < sizeof k_chains / sizeof *k_chains; i++) {
        pali_generate_options o;
        answer a = answer_of(g_tiny.t, k_chains[i].answer), chain = answer_of(g_tiny.t, "\n");
        for (size_t t = 0; t < a.n; t++) chain.ids[chain.n++] = a.ids[t];
        chain_set(&f, chain.ids, chain.n, embed, head, zeros);
        pali_generate_options_init(&o);
        o.max_tokens = 40;
        pali_result *unbound = run(&f, "detect", &o);
        pali_sequence one = sequence_of(unbound, 0);
        assert_int_equal(one.n_tokens, a.n); /* it does say what it was made to say */
        assert_memory_equal(one.tokens, a.ids, a.n * sizeof *a.ids);
        o.constrain = strchr(k_chains[i].answer, '[') ? S : D;
        pali_result *bound = run(&f, "detect", &o);
        pali_sequence other = sequence_of(bound, 0);
        bool same = other.n_tokens == one.n_tokens && !memcmp(one.tokens, other.tokens, one.n_tokens * sizeof *one.tokens) &&
                    !memcmp(one.logprobs, other.logprobs, one.n_tokens * sizeof *one.logprobs);
        if (same != k_chains[i].whole) fail_msg("'%s' becomes '%s'", k_chains[i].answer, other.text);
        assert_well_formed(g_tiny.t, o.constrain, other.tokens, other.n_tokens, k_chains[i].answer);
        pali_result_free(unbound);
        pali_result_free(bound);
    }
    fixture_close(&f);
    free(embed);
    free(head);
    free(zeros);
}

/* Constrained and free requests side by side: each has the answer it gets alone. */
static void test_batch(void **state) {
    enum { N = 6 };
    (void)state;
    fixture f = {0};
    fixture_open(&f, "pg2-f32");
    pali_generate_options o[N];
    pali_request requests[N];
    pali_result *together[N];
    const pali_batch_options four = {.struct_size = sizeof four, .max_sequences = 4};
    for (size_t i = 0; i < N; i++) {
        pali_generate_options_init(&o[i]);
        o[i].max_tokens = 30;
        o[i].constrain = (pali_constraint[]){D, S, PALI_CONSTRAIN_NONE}[i % 3];
        o[i].temperature = i < 3 ? 0 : 1;
        pali_request_init(&requests[i]);
        requests[i].images = (const pali_image *const *)&f.image;
        requests[i].n_images = 1;
        requests[i].prompt = "detect cat";
        requests[i].options = &o[i];
    }
    assert_int_equal(pali_generate_batch(f.session, requests, N, &four, together), PALI_OK);
    for (size_t i = 0; i < N; i++) {
        pali_result *alone = run(&f, "detect cat", &o[i]);
        pali_sequence one = sequence_of(alone, 0), other = sequence_of(together[i], 0);
        assert_int_equal(one.n_tokens, other.n_tokens);
        assert_memory_equal(one.tokens, other.tokens, one.n_tokens * sizeof *one.tokens);
        assert_memory_equal(one.logprobs, other.logprobs, one.n_tokens * sizeof *one.logprobs);
        pali_result_free(alone);
        pali_result_free(together[i]);
    }
    fixture_close(&f);
}

/* Without log-probabilities fewer rows of the head are computed, which changes no token, alone or beside others. */
static void test_no_logprobs(void **state) {
    (void)state;
    for (const char *const *name = k_golden_models; *name; name++) {
        fixture f = {0};
        fixture_open(&f, *name);
        for (int i = 0; i < 8; i++) {
            pali_generate_options o;
            pali_generate_options_init(&o);
            o.max_tokens = 45;
            o.constrain = i % 2 ? D : S;
            o.temperature = i < 4 ? 0 : 1;
            o.repetition_penalty = i % 4 < 2 ? 1 : 1.2f;
            o.seed = (uint64_t)i;
            pali_result *with = run(&f, "detect", &o), *without, *beside[2];
            o.no_logprobs = 1;
            without = run(&f, "detect", &o);
            pali_generate_options other = o;
            other.constrain = PALI_CONSTRAIN_NONE;
            pali_request requests[2];
            for (int j = 0; j < 2; j++) {
                pali_request_init(&requests[j]);
                requests[j].images = (const pali_image *const *)&f.image;
                requests[j].n_images = 1;
                requests[j].prompt = "detect";
                requests[j].options = j ? &other : &o;
            }
            assert_int_equal(pali_generate_batch(f.session, requests, 2, NULL, beside), PALI_OK);
            pali_sequence a = sequence_of(with, 0);
            const pali_result *const both[] = {without, beside[0]};
            for (size_t j = 0; j < 2; j++) {
                pali_sequence b = sequence_of(both[j], 0);
                assert_int_equal(a.n_tokens, b.n_tokens);
                assert_memory_equal(a.tokens, b.tokens, a.n_tokens * sizeof *a.tokens);
                for (size_t t = 0; t < b.n_tokens; t++) assert_true(b.logprobs[t] == 0);
            }
            pali_result_free(with);
            pali_result_free(without);
            pali_result_free(beside[0]);
            pali_result_free(beside[1]);
        }
        fixture_close(&f);
    }
}

static void test_refused(void **state) {
    fixture f = {0};
    pali_result *r;
    (void)state;
    fixture_open(&f, "pg1-f32");
    pali_generate_options o, bad[4];
    pali_generate_options_init(&o);
    for (size_t i = 0; i < 4; i++) bad[i] = o;
    bad[0].constrain = (pali_constraint)3;
    bad[1].constrain = D;
    bad[1].max_tokens = 4; /* no room for an object */
    bad[2].constrain = S;
    bad[2].max_tokens = 19;
    bad[3].constrain = D;
    bad[3].ignore_eos = 1;
    for (size_t i = 0; i < 4; i++) {
        pali_status status = pali_generate(f.session, (const pali_image *const *)&f.image, 1, "x", &bad[i], &r);
        assert_int_equal(status, i < 3 ? PALI_ERR_ARGUMENT : PALI_ERR_UNSUPPORTED);
        assert_null(r);
    }
    bad[1].max_tokens = 5;
    bad[2].max_tokens = 20;
    for (size_t i = 1; i < 3; i++) pali_result_free(run(&f, "x", &bad[i]));
    fixture_close(&f);

    grammar g;
    tokenizer *t;
    static const char k_bare[] = "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\";\":1,\"<eos>\":2,\"<loc0000>\":3},\"merges\":[]}}";
    assert_int_equal(tokenizer_parse(&t, (const uint8_t *)k_bare, strlen(k_bare), "bare"), PALI_OK);
    assert_int_equal(grammar_init(&g, t, 4), PALI_ERR_UNSUPPORTED);
    tokenizer_free(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answers),     cmocka_unit_test(test_pieces),   cmocka_unit_test(test_walks),       cmocka_unit_test(test_same_choice),
        cmocka_unit_test(test_only_these),  cmocka_unit_test(test_thousand), cmocka_unit_test(test_same_answer), cmocka_unit_test(test_chains), cmocka_unit_test(test_batch), cmocka_unit_test(test_no_logprobs),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
