/* answered.c: see answered.h. */
#include "train/answered.h"

#include <string.h>

#include "base/mem.h"

static pali_status texts_copy(answered *out, const dataset_row *row) {
    out->line = row->line;
    out->prefix = mem_copy_string(row->prefix);
    out->want = mem_copy_string(row->suffix);
    return out->prefix && out->want ? PALI_OK : status_no_memory(row->n_prefix + row->n_suffix);
}

static pali_status item_answer(char **out, const loader_item *item, const model *m, answer_fn answer, void *user) {
    const sample *s = &item->text;
    const image **pictures = mem_alloc(item->n_pictures, sizeof *pictures);
    if (!pictures) return status_no_memory(item->n_pictures * sizeof *pictures);
    for (size_t i = 0; i < item->n_pictures; i++) pictures[i] = &item->pictures[i].rgb;
    pali_status status = answer(user, out, m, pictures, item->n_pictures, s->ids, s->n_prefix, sample_n_targets(s) + ANSWERED_MORE_TOKENS);
    mem_free(pictures);
    return status;
}

/* A row that cannot be loaded is reported when its turn comes in the order. */
static pali_status row_answer(answered *out, const loader_options *rows, const dataset_row *row, size_t index, const model *m, answer_fn answer, void *user) {
    loader_options plain = *rows;
    loader_item item;
    plain.cache = NULL;
    plain.augment = (augment_options){0};
    loader_item_load(&item, &plain, 0, index);
    pali_status s = item.status == PALI_ERR_MEMORY ? status_fail(item.status, "%s", item.message ? item.message : "out of memory") : PALI_OK;
    if (item.status == PALI_OK) {
        s = texts_copy(out, row);
        if (s == PALI_OK) s = item_answer(&out->got, &item, m, answer, user);
        if (s == PALI_ERR_LIMIT) {
            out->line = 0;
            s = PALI_OK;
        }
    }
    loader_item_free(&item);
    return s;
}

pali_status answered_make(answered *out, const loader_options *rows, size_t index, const model *m, answer_fn answer, void *user) {
    dataset_row row;
    *out = (answered){0};
    pali_status s = dataset_row_read(&row, rows->data, index);
    dataset_row_draw(&row, rows->seed, 0, index);
    if (s == PALI_OK) s = row_answer(out, rows, &row, index, m, answer, user);
    dataset_row_free(&row);
    return s;
}

void answered_free(answered *a) {
    mem_free(a->prefix);
    mem_free(a->want);
    mem_free(a->got);
    *a = (answered){0};
}
