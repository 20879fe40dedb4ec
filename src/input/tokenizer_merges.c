#include "input/tokenizer_merges.h"

#include <stdlib.h>

#include "base/mem.h"

static pali_status merges_add(merge_list *list, merge m) {
    if (list->n == list->cap) {
        size_t cap = list->cap ? 2 * list->cap : 4096;
        merge *grown = mem_grow(list->items, list->n, cap, sizeof *grown);
        if (!grown) return status_no_memory(cap * sizeof *grown);
        list->items = grown;
        list->cap = cap;
    }
    list->items[list->n++] = m;
    return PALI_OK;
}

static int by_cost(const void *a, const void *b) {
    const merge *x = a, *y = b;
    if (x->cost < y->cost || y->cost < x->cost) return x->cost < y->cost ? -1 : 1;
    if (x->id != y->id) return x->id < y->id ? -1 : 1;
    return x->left < y->left ? -1 : x->left > y->left;
}

static bool is_ordinary(const tokenizer *t, uint32_t id) {
    return t->pieces[id].kind != PIECE_SPECIAL && t->pieces[id].byte < 0;
}

/* Whether two texts merge, and how soon. */
static bool merge_cost(double *cost, const tokenizer *t, uint32_t id, const char *text, size_t n_left, size_t n_right) {
    uint32_t left = tokenizer_lookup(t, text, n_left), right = tokenizer_lookup(t, text + n_left, n_right);
    if (left == TOKENIZER_NO_ID || right == TOKENIZER_NO_ID) return false;
    if (!t->traits.has_merges) {
        *cost = -(double)t->pieces[id].score;
        return is_ordinary(t, id) && is_ordinary(t, left) && is_ordinary(t, right);
    }
    uint32_t rank = tokenizer_merge_rank(t, tokenizer_hash_pair(tokenizer_hash(text, n_left), tokenizer_hash(text + n_left, n_right)));
    *cost = rank;
    return rank != UINT32_MAX;
}

pali_status tokenizer_merges_find(merge_list *list, const tokenizer *t) {
    for (uint32_t id = 0; id < t->n_ids; id++) {
        const piece *p = &t->pieces[id];
        const char *text = t->text + p->offset;
        if (!p->length || tokenizer_lookup(t, text, p->length) != id) continue; /* another id has the same text, and it counts */
        for (uint32_t left = 1; left < p->length; left++) {
            merge m = {.id = id, .left = left};
            if (merge_cost(&m.cost, t, id, text, left, p->length - left)) STATUS_TRY(merges_add(list, m));
        }
    }
    if (list->n) qsort(list->items, list->n, sizeof *list->items, by_cost);
    return PALI_OK;
}
