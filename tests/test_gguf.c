/* test_gguf.c: GGUF files that are wrong, each in one way (tools/make_gguf_corpus.py; they are also the seeds of the fuzz targets):
 * each gives its own one-line error that names the file and the key or tensor. And files that others write. */
#include <dirent.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include <cmocka.h>

#include "base/mem.h"
#include "input/tokenizer.h"
#include "io/gguf.h"
#include "io/safetensors.h"
#include "model/model.h"
#include "tensor/exec.h"

#define CORPUS PALI_TEST_SOURCE "/tests/fuzz/corpus/"
#define FORMAT PALI_ERR_FORMAT
#define LIMIT PALI_ERR_LIMIT
#define UNSUPPORTED PALI_ERR_UNSUPPORTED

typedef struct bad_file {
    const char *name;
    pali_status status;
    const char *message; /* all of it, behind the file's name */
} bad_file;

static const bad_file k_containers[] = {
    {"empty", FORMAT, "not a GGUF file"},
    {"magic_only", FORMAT, "version: the file ends at byte 4"},
    {"other_magic", FORMAT, "not a GGUF file"},
    {"version_0", UNSUPPORTED, "version 0 of GGUF is not supported: expected 2 or 3"},
    {"version_1", UNSUPPORTED, "version 1 of GGUF is not supported: expected 2 or 3"},
    {"version_4", UNSUPPORTED, "version 4 of GGUF is not supported: expected 2 or 3"},
    {"big_endian", UNSUPPORTED, "big-endian GGUF files are not supported"},
    {"cut_in_counts", FORMAT, "values: the file ends at byte 20"},
    {"tensors_huge", LIMIT, "18446744073709551615 tensors, more than the limit of 65536"},
    {"values_huge", LIMIT, "18446744073709551615 values, more than the limit of 65536"},
    {"tensors_lie", FORMAT, "1000 tensors, but the file has 80 bytes left"},
    {"values_lie", FORMAT, "1000 values, but the file has 40 bytes left"},
    {"key_empty", FORMAT, "key: 0 bytes: expected 1 to 1024"},
    {"key_huge", LIMIT, "key: 18446744073709551615 bytes: expected 1 to 1024"},
    {"key_beyond", FORMAT, "key: 900 bytes, but the file has 32 left"},
    {"key_control", FORMAT, "key: expected printable ASCII"},
    {"kind_unknown", FORMAT, "key: unknown kind of value"},
    {"array_kind_unknown", FORMAT, "key: unknown kind of value"},
    {"array_nested", UNSUPPORTED, "key: arrays of arrays are not supported"},
    {"array_huge", FORMAT, "key: runs past the end of the file"},
    {"array_wraps", FORMAT, "key: runs past the end of the file"},
    {"array_longer_than_file", FORMAT, "key: runs past the end of the file"},
    {"strings_lie", FORMAT, "key: runs past the end of the file"},
    {"strings_huge", FORMAT, "key: runs past the end of the file"},
    {"string_huge", FORMAT, "key: a string runs past the end of the file"},
    {"string_wraps", FORMAT, "key: a string runs past the end of the file"},
    {"string_beyond", FORMAT, "key: a string runs past the end of the file"},
    {"value_cut", FORMAT, "key: runs past the end of the file"},
    {"values_cut", FORMAT, "key: 0 bytes: expected 1 to 1024"},
    {"key_twice", FORMAT, "b: the same key comes twice"},
    {"alignment_0", FORMAT, "general.alignment: expected a number from 8 to 1048576"},
    {"alignment_24", FORMAT, "general.alignment: 24 is not a power of two"},
    {"alignment_huge", FORMAT, "general.alignment: expected a number from 8 to 1048576"},
    {"alignment_string", FORMAT, "general.alignment: expected a whole number"},
    {"name_empty", FORMAT, "name of a tensor: 0 bytes: expected 1 to 127"},
    {"name_long", LIMIT, "name of a tensor: 128 bytes: expected 1 to 127"},
    {"name_control", FORMAT, "name of a tensor: expected printable ASCII"},
    {"name_beyond", FORMAT, "name of a tensor: 100 bytes, but the file has 31 left"},
    {"dims_none", FORMAT, "t: 0 dims: expected 1 to 4"},
    {"dims_5", FORMAT, "t: 5 dims: expected 1 to 4"},
    {"dims_huge", FORMAT, "t: 4294967295 dims: expected 1 to 4"},
    {"dim_0", FORMAT, "t: dims: a size is 0"},
    {"dims_wrap", FORMAT, "t: dims: size overflows"},
    {"dims_wrap_to_0", FORMAT, "t: dims: size overflows"},
    {"bytes_wrap", FORMAT, "t: dims: size overflows"},
    {"dims_cut", FORMAT, "t: dims: a size is 0"},
    {"type_unknown", UNSUPPORTED, "t: type 999 is unknown"},
    {"type_removed", UNSUPPORTED, "t: type 4 is unknown"},
    {"blocks_partial", FORMAT, "t: rows of 33 are not whole blocks of Q8_0, which have 32"},
    {"super_blocks_partial", FORMAT, "t: rows of 32 are not whole blocks of Q4_K, which have 256"},
    {"offset_unaligned", FORMAT, "t: offset 8 is not a multiple of the alignment 32"},
    {"offset_beyond", FORMAT, "t: 16 bytes at 64 of the data, but the file has 32 (truncated?)"},
    {"offset_huge", FORMAT, "t: 16 bytes at 18446744073709551584 of the data, but the file has 32 (truncated?)"},
    {"data_cut", FORMAT, "t: 16 bytes at 0 of the data, but the file has 15 (truncated?)"},
    {"data_missing", FORMAT, "t: 16 bytes at 0 of the data, but the file has 0 (truncated?)"},
    {"overlap", FORMAT, "a and b overlap"},
    {"same_place", FORMAT, "a and b overlap"},
    {"name_twice", FORMAT, "a: the same name comes twice"},
};

static const bad_file k_models[] = {
    {"arch_missing", FORMAT, "general.architecture: missing"},
    {"arch_kind", FORMAT, "general.architecture: expected a string"},
    {"arch_other", UNSUPPORTED, "general.architecture: 'llama' is neither gemma nor gemma2"},
    {"arch_vision_only", UNSUPPORTED, "general.architecture: clip: a vision tower alone, expected the file of its text model"},
    {"arch_control", UNSUPPORTED, "general.architecture: 'gem?ma?[2J' is neither gemma nor gemma2"},
    {"text_only", UNSUPPORTED, "a text model without vision tower (clip.vision.image_size and v.patch_embd.weight): expected a mmproj file beside it (*mmproj*.gguf), or its path"},
    {"width_missing", FORMAT, "gemma.embedding_length: missing"},
    {"width_kind", FORMAT, "gemma.embedding_length: expected a whole number"},
    {"width_array", FORMAT, "gemma.embedding_length: expected a whole number"},
    {"width_0", FORMAT, "gemma.embedding_length: expected a number from 1 to 65536"},
    {"width_negative", FORMAT, "gemma.embedding_length: expected a number from 1 to 65536"},
    {"width_huge", FORMAT, "gemma.embedding_length: expected a number from 1 to 65536"},
    {"layers_0", FORMAT, "gemma.block_count: expected a number from 1 to 256"},
    {"layers_huge", FORMAT, "gemma.block_count: expected a number from 1 to 256"},
    {"layers_more", FORMAT, "blk.1.attn_q.weight: tensor missing: expected one of shape [2, 2]"},
    {"heads_0", FORMAT, "gemma.attention.head_count: expected a number from 1 to 1024"},
    {"heads_and_kv", FORMAT, "gemma.attention.head_count: 3 is not a multiple of gemma.attention.head_count_kv, 2"},
    {"head_dim_odd", FORMAT, "gemma.attention.key_length: 3 is odd"},
    {"value_length_other", FORMAT, "gemma.attention.value_length: 4, expected 2"},
    {"eps_nan", FORMAT, "gemma.attention.layer_norm_rms_epsilon: expected a number from 0 to 1"},
    {"eps_negative", FORMAT, "gemma.attention.layer_norm_rms_epsilon: expected a number from 0 to 1"},
    {"eps_kind", FORMAT, "gemma.attention.layer_norm_rms_epsilon: expected a number"},
    {"rope_0", FORMAT, "gemma.rope.freq_base: expected a number from 1 to 1e+12"},
    {"scale_infinite", FORMAT, "gemma.attention.scale: expected a number from 0.0001 to 10000"},
    {"vocab_other", FORMAT, "token_embd.weight: shape [8, 2], expected [9, 2]"},
    {"vocab_huge", FORMAT, "gemma.vocab_size: expected a number from 1 to 16777216"},
    {"softcap_nan", FORMAT, "gemma2.attn_logit_softcapping: expected a number from 0 to 1e+06"},
    {"window_negative", FORMAT, "gemma2.attention.sliding_window: expected a number from 0 to 1073741824"},
    {"pattern_short", FORMAT, "gemma2.attention.sliding_window_pattern: 0 values, expected 1"},
    {"pattern_kind", FORMAT, "gemma2.attention.sliding_window_pattern: expected an array of true or false"},
    {"image_size_missing", FORMAT, "clip.vision.image_size: missing"},
    {"image_size_huge", FORMAT, "clip.vision.image_size: expected a number from 1 to 4096"},
    {"image_size_no_multiple", FORMAT, "clip.vision.image_size: 7 is not a multiple of clip.vision.patch_size, 2"},
    {"patch_0", FORMAT, "clip.vision.patch_size: expected a number from 1 to 4096"},
    {"vision_heads", FORMAT, "clip.vision.embedding_length: 2 is not a multiple of clip.vision.attention.head_count, 3"},
    {"vision_eps_nan", FORMAT, "clip.vision.attention.layer_norm_epsilon: expected a number from 0 to 1"},
    {"projection_other", FORMAT, "clip.vision.projection_dim: 3, expected 2"},
    {"mean_other", UNSUPPORTED, "clip.vision.image_mean: only 0.5 for each channel is supported"},
    {"std_short", UNSUPPORTED, "clip.vision.image_std: only 0.5 for each channel is supported"},
    {"mean_kind", FORMAT, "clip.vision.image_mean: expected an array of floats"},
    {"gelu_other", UNSUPPORTED, "clip.use_gelu: false is not supported"},
    {"encoder_none", UNSUPPORTED, "clip.has_vision_encoder: false is not supported"},
    {"encoder_kind", FORMAT, "clip.has_vision_encoder: expected true or false"},
    {"encoder_2", FORMAT, "clip.has_vision_encoder: expected true or false"},
    {"resample_9", FORMAT, "paligemma.resample: expected a number from 0 to 5"},
    {"image_token_negative", FORMAT, "paligemma.image_token_id: expected a number from 0 to 2147483647"},
    {"tensor_missing", FORMAT, "v.blk.0.ffn_up.weight: tensor missing: expected one of shape [2, 2]"},
    {"norm_missing", FORMAT, "output_norm.weight: tensor missing: expected one of shape [2]"},
    {"table_missing", FORMAT, "token_embd.weight: tensor missing"},
    {"shape_other", FORMAT, "blk.0.ffn_up.weight: shape [3, 2], expected [2, 2]"},
    {"rank_other", FORMAT, "v.post_ln.bias: shape [1, 2], expected [2]"},
    {"type_other", UNSUPPORTED, "blk.0.ffn_up.weight: dtype F64 is not supported yet: expected F32, BF16, F16 or one of Q2_K to Q8_0"},
    {"type_k_other", UNSUPPORTED, "blk.0.ffn_up.weight: dtype Q8_K is not supported yet: expected F32, BF16, F16 or one of Q2_K to Q8_0"},
    {"vector_read_only", UNSUPPORTED, "blk.0.attn_norm.weight: dtype Q6_K is not supported here: expected F32, BF16 or F16"},
    {"row_read_only", FORMAT, "blk.0.ffn_up.weight: shape [2, 64], expected [2, 32]"},
    {"scale_nan", FORMAT, "blk.0.ffn_up.weight: a weight is not a number or beyond 65504, and cannot be quantized"},
    {"scale_large", FORMAT, "blk.0.ffn_up.weight: a weight is not a number or beyond 65504, and cannot be quantized"},
    {"vector_blocks", UNSUPPORTED, "blk.0.attn_norm.weight: dtype Q8_0 is not supported here: expected F32, BF16 or F16"},
    {"table_blocks", UNSUPPORTED, "v.position_embd.weight: dtype Q8_0 is not supported here: expected F32, BF16 or F16"},
    {"row_of_two_blocks", FORMAT, "blk.0.ffn_up.weight: shape [2, 64], expected [2, 32]"},
    {"row_plain_padded", FORMAT, "blk.0.ffn_up.weight: shape [2, 32], expected [2, 2]"},
    {"exact_other", FORMAT, "blk.0.ffn_norm.exact: element 1 is not that of blk.0.ffn_norm.weight less 1"},
    {"exact_shape", FORMAT, "blk.0.ffn_norm.exact: expected 2 of F32"},
    {"exact_type", FORMAT, "blk.0.ffn_norm.exact: expected 2 of F32"},
    {"tokens_missing", FORMAT, "tokenizer.ggml.tokens: missing"},
    {"tokens_kind", FORMAT, "tokenizer.ggml.tokens: expected an array of strings"},
    {"tokens_none", LIMIT, "tokenizer.ggml.tokens: 0, expected 1 to 2097152"},
    {"tokens_fewer", FORMAT, "tokenizer.ggml.scores: 8 values, but there are 7 tokens"},
    {"token_long", FORMAT, "tokenizer.ggml.tokens: 7: too long"},
    {"token_added_long", FORMAT, "tokenizer.ggml.tokens: 7: too long"},
    {"unknown_long", FORMAT, "tokenizer.ggml.tokens: 3: the unknown token is too long"},
    {"scores_missing", FORMAT, "tokenizer.ggml.scores: missing"},
    {"scores_nan", FORMAT, "tokenizer.ggml.scores: 7: not a number"},
    {"types_missing", FORMAT, "tokenizer.ggml.token_type: missing"},
    {"types_short", FORMAT, "tokenizer.ggml.token_type: 1 values, but there are 8 tokens"},
    {"type_0", FORMAT, "tokenizer.ggml.token_type: 7: expected 1 to 6"},
    {"type_negative", FORMAT, "tokenizer.ggml.token_type: 7: expected 1 to 6"},
    {"unknown_beyond", FORMAT, "tokenizer.ggml.unknown_token_id: expected a number from 0 to 7"},
    {"tokenizer_missing", FORMAT, "tokenizer.ggml.model: missing"},
    {"tokenizer_other", UNSUPPORTED, "tokenizer.ggml.model: 'gpt2' is not supported, only llama"},
    {"space_prefix", UNSUPPORTED, "tokenizer.ggml.add_space_prefix: true is not supported"},
    {"charsmap", UNSUPPORTED, "tokenizer.ggml.precompiled_charsmap: not supported"},
    {"merges_kind", FORMAT, "tokenizer.ggml.merges: expected an array of strings"},
    {"merge_of_one", FORMAT, "tokenizer.ggml.merges: 0: expected two pieces"},
    {"merge_half_empty", FORMAT, "tokenizer.ggml.merges: 1: expected two pieces"},
    {"merge_end_empty", FORMAT, "tokenizer.ggml.merges: 0: expected two pieces"},
    {"fallback_kind", FORMAT, "paligemma.tokenizer.byte_fallback: expected true or false"},
};
#define COUNT(table) (sizeof(table) / sizeof(table)[0])

static pali_status container_open(const char *path) {
    gguf g;
    pali_status s = gguf_open(&g, path);
    if (s == PALI_OK) gguf_close(&g);
    return s;
}

/* The model, then its tokenizer, as loading does. */
static pali_status model_open(const char *path) {
    model_options o = {.n_threads = 1};
    model *m;
    tokenizer *t;
    pali_status s = model_load(&m, path, &o);
    if (s != PALI_OK) return s;
    model_free(m);
    s = tokenizer_load(&t, path);
    if (s == PALI_OK) tokenizer_free(t);
    return s;
}

static const bad_file *bad_find(const bad_file *table, size_t n, const char *name) {
    for (size_t i = 0; i < n; i++)
        if (strcmp(table[i].name, name) == 0) return &table[i];
    return NULL;
}

/* Every file of the folder is in the table or valid, and does what that says. */
static void assert_folder(const char *folder, pali_status (*open)(const char *path), const bad_file *table, size_t n) {
    DIR *dir = opendir(folder);
    size_t n_bad = 0;
    assert_non_null(dir);
    for (struct dirent *entry; (entry = readdir(dir));) {
        char path[512], want[768];
        if (entry->d_name[0] == '.') continue;
        (void)snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        const bad_file *bad = bad_find(table, n, entry->d_name);
        pali_status s = open(path);
        if (!bad) {
            if (strncmp(entry->d_name, "valid_", 6) != 0) fail_msg("%s is not in the table", path);
            if (s != PALI_OK) fail_msg("%s", status_message());
            continue;
        }
        n_bad++;
        (void)snprintf(want, sizeof want, "%s: %s", path, bad->message);
        if (s != bad->status || strcmp(status_message(), want) != 0) fail_msg("%s: status %d, '%s', expected '%s'", path, s, status_message(), want);
        assert_null(strpbrk(status_message(), "\n\r\x1b"));
    }
    closedir(dir);
    assert_int_equal(n_bad, n);
}

static void names_what_is_wrong(void **state) {
    (void)state;
    struct rusage before, after;
    assert_int_equal(getrusage(RUSAGE_SELF, &before), 0);
    assert_folder(CORPUS "gguf", container_open, k_containers, COUNT(k_containers));
    assert_folder(CORPUS "gguf_model", model_open, k_models, COUNT(k_models));
    assert_int_equal(getrusage(RUSAGE_SELF, &after), 0);
    /* The files have 5 KB each and claim up to 2^64 of things. Kilobytes; a sanitizer keeps freed memory, so not less. */
    assert_true(after.ru_maxrss - before.ru_maxrss < 64 << 10);
}

/* What the valid ones hold is what the script wrote. */
static void reads_values(void **state) {
    (void)state;
    gguf g;
    model *m;
    model_options o = {.n_threads = 1};
    assert_int_equal(gguf_open(&g, CORPUS "gguf/valid_kinds"), PALI_OK);
    for (int kind = GGUF_U8; kind <= GGUF_F64; kind++) {
        char key[8];
        size_t size = 7, n = 0;
        float x = 7;
        bool flag = false;
        const char *text = NULL;
        (void)snprintf(key, sizeof key, "k%d", kind);
        if (kind == GGUF_ARRAY) continue;
        bool is_float = kind == GGUF_F32 || kind == GGUF_F64, is_size = !is_float && kind != GGUF_BOOL && kind != GGUF_STRING;
        assert_int_equal(gguf_get_size(&g, key, &size, 0, 9), is_size ? PALI_OK : FORMAT);
        assert_int_equal(size, is_size ? 1 : 7);
        assert_int_equal(gguf_get_float(&g, key, &x, 0, 9), is_float ? PALI_OK : FORMAT);
        assert_true(x == (is_float ? 1 : 7));
        assert_int_equal(gguf_get_bool(&g, key, &flag), kind == GGUF_BOOL ? PALI_OK : FORMAT);
        assert_int_equal(gguf_get_string(&g, key, &text, &n), kind == GGUF_STRING ? PALI_OK : FORMAT);
        if (kind == GGUF_STRING) assert_true(n == 4 && memcmp(text, "text", 4) == 0);
    }
    gguf_close(&g);
    assert_int_equal(gguf_open(&g, CORPUS "gguf/valid_types"), PALI_OK);
    assert_int_equal(g.n_tensors, 16);
    for (size_t i = 0; i < g.n_tensors; i++) {
        assert_string_equal(g.tensors[i].name, gguf_type_name(g.tensors[i].type));
        assert_true(g.tensors[i].n_dims == 4 && g.tensors[i].dims[2] == 2 && g.tensors[i].dims[3] == gguf_type_block(g.tensors[i].type));
    }
    gguf_close(&g);
    assert_int_equal(model_load(&m, CORPUS "gguf_model/valid_little_said", &o), PALI_OK);
    assert_true(m->cfg.text.vocab_size == 8 && m->cfg.text.rope_theta == 10000 && m->cfg.text.norm_eps == 1e-6f && m->cfg.resample == 3);
    assert_true(fabsf(m->cfg.text.attn_scale - 0.70710678f) < 1e-7f); /* 1 / sqrt(2), an ulp is 6e-8 */
    assert_true(m->text.norm_final[1] == 0.25f && m->cfg.tied);
    model_free(m);
    assert_int_equal(model_load(&m, CORPUS "gguf_model/valid_head", &o), PALI_OK);
    assert_false(m->cfg.tied);
    model_free(m);
}

/* ---- A file of the gguf package (tools/make_gguf_goldens.py) ---- */

static const float *golden_values(const safetensors *st, const char *name, size_t n) {
    for (size_t i = 0; i < st->n_tensors; i++)
        if (strcmp(st->tensors[i].name, name) == 0) {
            assert_int_equal(st->tensors[i].n_bytes, n * sizeof(float));
            assert_int_equal((uintptr_t)st->tensors[i].data % sizeof(float), 0);
            return (const float *)(const void *)st->tensors[i].data;
        }
    fail_msg("no golden tensor %s", name);
    return NULL;
}

/* Every type's values are the package's. With a minimum in the block it rounds d q and d q + m, a fused multiply-add once: half an
 * ulp of either apart, and both are less than 4 here, whose ulp is 2.4e-7. */
static void reads_what_others_write(void **state) {
    (void)state;
    safetensors st;
    model *m;
    exec e;
    model_options o = {.n_threads = 1};
    bool seen[PALI_DTYPE_INT8 + 1] = {false};
    assert_int_equal(safetensors_open(&st, PALI_TEST_DATA "/gguf/peer.safetensors"), PALI_OK);
    if (model_load(&m, PALI_TEST_DATA "/gguf/peer.gguf", &o) != PALI_OK) fail_msg("%s", status_message());
    assert_int_equal(exec_init(&e, 1), PALI_OK);
    assert_int_equal(m->spec.n, st.n_tensors);
    assert_int_equal(m->n_extras, 0);
    for (size_t i = 0; i < m->spec.n; i++) {
        const spec_tensor *t = &m->spec.tensors[i];
        size_t n = 1;
        for (size_t d = 0; d < t->n_dims; d++) n *= t->dims[d];
        const float *want = golden_values(&st, t->gguf_name, n);
        float *row = mem_alloc(t->matrix ? t->matrix->cols : n, sizeof *row);
        for (size_t r = 0; t->matrix && r < t->matrix->rows; r++) {
            const mat *w = t->matrix;
            bool has_minimum = w->dtype == PALI_DTYPE_Q4_1 || w->dtype == PALI_DTYPE_Q4_K;
            seen[w->dtype] = true;
            e.k->to_f32[w->dtype](row, mat_row(w, r), w->cols);
            for (size_t c = 0; c < w->cols; c++)
                if (!(fabsf(row[c] - want[r * w->cols + c]) <= (has_minimum ? 2.4e-7f : 0)))
                    fail_msg("%s[%zu, %zu]: %.9g, not %.9g", t->gguf_name, r, c, (double)row[c], (double)want[r * w->cols + c]);
        }
        bool norm = t->group == SPEC_LLM_NORM;
        for (size_t j = 0; t->vector && j < n; j++) assert_true((*t->vector)[j] == (norm ? want[j] - 1 : want[j]));
        mem_free(row);
    }
    for (int dtype = PALI_DTYPE_F32; dtype <= PALI_DTYPE_Q4_K; dtype++) assert_true(seen[dtype]);
    assert_int_equal(m->cfg.text.generation, 2);
    assert_true(m->cfg.text.attn_scale == 0.25f && m->cfg.text.layer_slides[0]); /* no keys for these: 1 / sqrt(16), even layers */
    exec_free(&e);
    model_free(m);
    safetensors_close(&st);
}

static void reads_others_tokenizers(void **state) {
    (void)state;
    static const char k_text[] = "cat cat<loc0002> x\n";
    static const int32_t k_ids[] = {261, 260, 272, 263, 124, 267}; /* by scores; x and only x has no piece but its byte */
    tokenizer *t;
    int32_t *ids;
    char *text;
    size_t n;
    assert_int_equal(tokenizer_load(&t, PALI_TEST_DATA "/gguf/peer.gguf"), PALI_OK);
    assert_int_equal(tokenizer_encode(t, k_text, strlen(k_text), 0, &ids, &n), PALI_OK);
    assert_int_equal(n, COUNT(k_ids));
    assert_memory_equal(ids, k_ids, sizeof k_ids);
    assert_int_equal(tokenizer_decode(t, ids, n, &text, &n), PALI_OK);
    assert_string_equal(text, k_text);
    assert_true(tokenizer_is_special(t, tokenizer_find(t, "<image>")) && tokenizer_find(t, "<eos>") == 1);
    mem_free(text);
    mem_free(ids);
    tokenizer_free(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_what_is_wrong),
        cmocka_unit_test(reads_values),
        cmocka_unit_test(reads_what_others_write),
        cmocka_unit_test(reads_others_tokenizers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
