/* tokenizer_save_gguf.c: tokenizer -> values of a GGUF file.
 *
 * Where merges rank the pairs there are no scores; other readers, who know scores only, get the negative rank of each piece's
 * first merge, which orders pieces as the SentencePiece model did that such lists are made from. */
#include <string.h>

#include "base/mem.h"
#include "input/tokenizer_merges.h"
#include "input/tokenizer_save.h"

static pali_status merges_put(const tokenizer *t, const merge_list *list, gguf_writer *w) {
    char *line = mem_alloc(TOKENIZER_MAX_PIECE + 1, 1);
    if (!line) return status_no_memory(TOKENIZER_MAX_PIECE + 1);
    gguf_put_array(w, "tokenizer.ggml.merges", GGUF_STRING, list->n);
    for (size_t i = 0; i < list->n; i++) {
        const merge *m = &list->items[i];
        const piece *p = &t->pieces[m->id];
        const char *text = t->text + p->offset;
        memcpy(line, text, m->left);
        line[m->left] = ' ';
        memcpy(line + m->left + 1, text + m->left, p->length - m->left);
        gguf_item_string(w, line, p->length + 1);
    }
    mem_free(line);
    return PALI_OK;
}

static pali_status scores_put(const tokenizer *t, const merge_list *list, gguf_writer *w) {
    float *scores = mem_alloc(t->n_ids, sizeof *scores);
    if (!scores) return status_no_memory(t->n_ids * sizeof *scores);
    for (size_t id = 0; id < t->n_ids; id++) scores[id] = t->traits.has_merges ? -(float)list->n - 1 : t->pieces[id].score;
    for (size_t i = list->n; i-- > 0;) scores[list->items[i].id] = -(float)i;
    gguf_put_array(w, "tokenizer.ggml.scores", GGUF_F32, t->n_ids);
    for (size_t id = 0; id < t->n_ids; id++) gguf_item_f32(w, scores[id]);
    mem_free(scores);
    return PALI_OK;
}

static int32_t spm_type(const tokenizer *t, uint32_t id) {
    const piece *p = &t->pieces[id];
    if (!p->length) return SPM_UNUSED;
    if (p->kind == PIECE_SPECIAL) return id == t->unk_id ? SPM_UNKNOWN : SPM_CONTROL;
    if (p->kind == PIECE_ADDED) return SPM_USER_DEFINED;
    if (p->kind == PIECE_UNUSED) return SPM_UNUSED;
    return p->byte >= 0 ? SPM_BYTE : SPM_NORMAL;
}

pali_status tokenizer_save_gguf(const tokenizer *t, gguf_writer *w) {
    merge_list list = {0};
    gguf_put_string(w, "tokenizer.ggml.model", "llama");
    gguf_put_string(w, "tokenizer.ggml.pre", "default");
    gguf_put_bool(w, "tokenizer.ggml.add_bos_token", true);
    gguf_put_bool(w, "tokenizer.ggml.add_eos_token", false);
    gguf_put_bool(w, "tokenizer.ggml.add_space_prefix", false);
    gguf_put_bool(w, TOKENIZER_GGUF_ESCAPES_SPACES, t->traits.escapes_spaces);
    gguf_put_bool(w, TOKENIZER_GGUF_BYTE_FALLBACK, t->traits.byte_fallback);
    if (t->unk_id != TOKENIZER_NO_ID) gguf_put_u32(w, "tokenizer.ggml.unknown_token_id", t->unk_id);
    gguf_put_array(w, "tokenizer.ggml.tokens", GGUF_STRING, t->n_ids);
    for (size_t id = 0; id < t->n_ids; id++) gguf_item_string(w, t->text + t->pieces[id].offset, t->pieces[id].length);
    gguf_put_array(w, "tokenizer.ggml.token_type", GGUF_I32, t->n_ids);
    for (uint32_t id = 0; id < t->n_ids; id++) gguf_item_i32(w, spm_type(t, id));
    pali_status s = t->traits.has_merges ? tokenizer_merges_find(&list, t) : PALI_OK;
    if (s == PALI_OK) s = scores_put(t, &list, w);
    if (s == PALI_OK && t->traits.has_merges) s = merges_put(t, &list, w);
    mem_free(list.items);
    return s;
}
