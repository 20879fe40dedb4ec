/* tokenizer_save_json.c: tokenizer -> tokenizer.json (spec inference 4.3) and tokenizer_config.json, as Transformers has them.
 *
 * All pieces are in the vocabulary, special and added ones too: the reference gives an added token that is not there the next
 * free id, not the one that the file says. A tokenizer whose merges are ranked by scores (SentencePiece) becomes one with a list
 * of merges in that order. Two things cannot be said so, as in Transformers' own conversion: of equal scores SentencePiece takes
 * the leftmost pair, and pieces of type UNUSED, which it splits again, stay whole. Gemma's has neither. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "input/tokenizer_merges.h"
#include "input/tokenizer_save.h"
#include "io/json.h"

#define MARK "\xe2\x96\x81" /* U+2581 */

/* Text on its way to the file. The first failure stays. */
typedef struct writer {
    file_out *file;
    char buffer[32768];
    size_t n;
    pali_status status;
} writer;

static void flush(writer *w) {
    if (w->status == PALI_OK) w->status = file_out_write(w->file, w->buffer, w->n);
    w->n = 0;
}

static void put(writer *w, const char *text, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (w->n == sizeof w->buffer) flush(w);
        w->buffer[w->n++] = text[i];
    }
}

static void put_text(writer *w, const char *text) {
    put(w, text, strlen(text));
}

static void put_string(writer *w, const char *text, size_t n) {
    put_text(w, "\"");
    for (size_t i = 0; i < n; i++) {
        char escaped[8];
        if ((unsigned char)text[i] < 0x20)
            put(w, escaped, (size_t)snprintf(escaped, sizeof escaped, "\\u%04x", text[i]));
        else if (text[i] == '"' || text[i] == '\\')
            put(w, escaped, (size_t)snprintf(escaped, sizeof escaped, "\\%c", text[i]));
        else
            put(w, &text[i], 1);
    }
    put_text(w, "\"");
}

static void put_number(writer *w, uint32_t x) {
    char digits[16];
    put(w, digits, (size_t)snprintf(digits, sizeof digits, "%u", x));
}

/* The piece with the next id from *id on, or NULL; of ids that share a text, only the one that counts. */
static const piece *next_piece(const tokenizer *t, uint32_t *id) {
    for (; *id < t->n_ids; ++*id) {
        const piece *p = &t->pieces[*id];
        if (p->length && tokenizer_lookup(t, t->text + p->offset, p->length) == *id) return p;
    }
    return NULL;
}

/* Without this readers would see other text, or none. */
static pali_status pieces_check(const tokenizer *t) {
    const piece *p;
    for (uint32_t id = 0; (p = next_piece(t, &id)); id++)
        for (size_t i = 0, step; i < p->length; i += step)
            if ((step = tokenizer_utf8_length(t->text + p->offset + i, p->length - i)) == 0)
                return status_fail(PALI_ERR_FORMAT, "tokenizer: piece %u is not UTF-8, as tokenizer.json must be", id);
    return PALI_OK;
}

static void added_put(writer *w, const tokenizer *t) {
    const piece *p;
    const char *gap = "";
    put_text(w, "\"added_tokens\":[");
    for (uint32_t id = 0; (p = next_piece(t, &id)); id++) {
        bool special = p->kind == PIECE_SPECIAL;
        if (!special && p->kind != PIECE_ADDED) continue;
        put_text(w, gap);
        put_text(w, "\n{\"id\":");
        put_number(w, id);
        put_text(w, ",\"content\":");
        put_string(w, t->text + p->offset, p->length);
        put_text(w, special ? ",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":false,\"special\":true}"
                            : ",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":true,\"special\":false}");
        gap = ",";
    }
    put_text(w, "],\n");
}

static void vocab_put(writer *w, const tokenizer *t) {
    const piece *p;
    const char *gap = "";
    put_text(w, "\"vocab\":{");
    for (uint32_t id = 0; (p = next_piece(t, &id)); id++) {
        put_text(w, gap);
        put_text(w, "\n");
        put_string(w, t->text + p->offset, p->length);
        put_text(w, ":");
        put_number(w, id);
        gap = ",";
    }
    put_text(w, "},\n");
}

static pali_status merges_put(writer *w, const tokenizer *t) {
    merge_list list = {0};
    pali_status s = tokenizer_merges_find(&list, t);
    put_text(w, "\"merges\":[");
    for (size_t i = 0; i < list.n && s == PALI_OK; i++) {
        const piece *p = &t->pieces[list.items[i].id];
        const char *text = t->text + p->offset;
        size_t left = list.items[i].left;
        put_text(w, i ? ",\n[" : "\n[");
        put_string(w, text, left);
        put_text(w, ",");
        put_string(w, text + left, p->length - left);
        put_text(w, "]");
    }
    put_text(w, "]}}\n");
    mem_free(list.items);
    return s;
}

pali_status tokenizer_save_json(const tokenizer *t, file_out *file) {
    bool escapes = t->traits.escapes_spaces;
    STATUS_TRY(pieces_check(t));
    writer *w = mem_alloc(1, sizeof *w);
    if (!w) return status_no_memory(sizeof *w);
    w->file = file;
    w->n = 0;
    w->status = PALI_OK;
    put_text(w, "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\n");
    added_put(w, t);
    put_text(w, escapes ? "\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"" MARK "\"},\n" : "\"normalizer\":null,\n");
    put_text(w, "\"pre_tokenizer\":null,\"post_processor\":null,\n\"decoder\":{\"type\":\"Sequence\",\"decoders\":[");
    if (escapes) put_text(w, "{\"type\":\"Replace\",\"pattern\":{\"String\":\"" MARK "\"},\"content\":\" \"},");
    put_text(w, "{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"}]},\n\"model\":{\"type\":\"BPE\",\"dropout\":null,\"unk_token\":");
    if (t->unk_id != TOKENIZER_NO_ID)
        put_string(w, t->text + t->pieces[t->unk_id].offset, t->pieces[t->unk_id].length);
    else
        put_text(w, "null");
    put_text(w, ",\"continuing_subword_prefix\":null,\"end_of_word_suffix\":null,\"fuse_unk\":true,\"byte_fallback\":");
    put_text(w, t->traits.byte_fallback ? "true,\"ignore_merges\":false,\n" : "false,\"ignore_merges\":false,\n");
    vocab_put(w, t);
    pali_status s = merges_put(w, t);
    flush(w);
    if (s == PALI_OK) s = w->status;
    mem_free(w);
    return s;
}

/* The tokens that programs ask for by their role are named where they exist. */
pali_status tokenizer_save_config(char **out, const tokenizer *t) {
    static const char *const k_roles[][2] = {{"bos_token", "<bos>"}, {"eos_token", "<eos>"}, {"pad_token", "<pad>"}, {"unk_token", "<unk>"}};
    json_t *root = json_pack("{s:s, s:s, s:b, s:b, s:b}", "tokenizer_class", "GemmaTokenizer", "processor_class", "PaliGemmaProcessor", "add_bos_token", 0,
                             "add_eos_token", 0, "clean_up_tokenization_spaces", 0);
    bool ok = root != NULL;
    for (size_t i = 0; ok && i < sizeof k_roles / sizeof k_roles[0]; i++)
        if (tokenizer_find(t, k_roles[i][1]) >= 0) ok = json_object_set_new(root, k_roles[i][0], json_string(k_roles[i][1])) == 0;
    if (!ok) {
        json_decref(root);
        root = NULL;
    }
    return json_print(out, root);
}
