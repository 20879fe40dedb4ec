/* locate.c: the rules of spec inference 6.3, on ids.
 *
 *   object  = 4 locations in a row, then [white space, exactly 16 codes], then a label or none
 *   label   = text up to a token with ";" in it, a location, a code after some text, or the end token; trimmed
 *   stray   = what has a meaning (text, locations, codes) and is in no object: words before the first box or after a ";",
 *             1 to 3 locations, codes that are not 16
 *
 * Nothing is an error. Stray tokens are passed over and the search for 4 locations goes on behind them; stray codes between
 * a box and its label do not cost it the label (the demo's regular expression drops it). Boxes without an area are kept and
 * said to be invalid. The end token separates like ";": with ignore_eos answers go on after it. */
#include "infer/locate.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "infer/token_class.h"

typedef struct parser {
    const tokenizer *t;
    const int32_t *tokens;
    const float *logprobs;
    size_t n, at;
} parser;

static unsigned class_at(const parser *p, size_t i) {
    return i < p->n ? token_class(p->t, p->tokens[i]) : TOKEN_END;
}

/* How many tokens from i on, at most max, are of the class. */
static size_t run_length(const parser *p, size_t i, unsigned class, size_t max) {
    size_t n = 0;
    while (n < max && i + n < p->n && class_at(p, i + n) == class) n++;
    return n;
}

/* Text of tokens without white space at its ends, up to a ";". Where that leaves nothing there is no label. */
static pali_status label_read(object *o, const parser *p, size_t first, size_t n) {
    char *text, *at;
    size_t n_text, start = 0;
    STATUS_TRY(tokenizer_decode(p->t, p->tokens + first, n, &text, &n_text));
    at = memchr(text, ';', n_text);
    if (at) n_text = (size_t)(at - text);
    while (n_text > 0 && token_blank_char(text[n_text - 1])) n_text--;
    while (start < n_text && token_blank_char(text[start])) start++;
    memmove(text, text + start, n_text - start);
    text[n_text - start] = 0;
    o->label = text;
    o->n_label = n_text - start;
    return PALI_OK;
}

static double sum(const float *values, size_t first, size_t n) {
    double total = 0;
    for (size_t i = first; i < first + n; i++) total += (double)values[i];
    return total;
}

/* Reads an object whose four locations begin at p->at, which moves behind its label. */
static pali_status object_read(object *o, parser *p, size_t *n_stray) {
    size_t i = p->at + 4, label = 0, label_end = 0;
    *o = (object){.first = p->at};
    for (size_t k = 0; k < 4; k++) o->loc[k] = tokenizer_loc_index(p->t, p->tokens[p->at + k]);
    o->n = 4;
    size_t codes = i;
    while (codes < p->n && (class_at(p, codes) & ~(unsigned)TOKEN_CONTROL) == TOKEN_BLANK) codes++;
    if (run_length(p, codes, TOKEN_SEG, LOCATE_CODES) == LOCATE_CODES) {
        o->has_seg = true;
        for (size_t k = 0; k < LOCATE_CODES; k++) o->seg[k] = tokenizer_seg_code(p->t, p->tokens[codes + k]);
        i = codes + LOCATE_CODES;
        o->n = i - o->first;
    }
    for (; i < p->n; i++) {
        unsigned class = class_at(p, i);
        if (class & (TOKEN_LOC | TOKEN_END)) break;
        if (class & TOKEN_SEG) {
            if (label_end) break;
            ++*n_stray;
        }
        if (class & TOKEN_TEXT) {
            if (!label_end) label = i;
            label_end = i + 1;
        }
        if (class & TOKEN_SEMICOLON) {
            i++;
            break;
        }
    }
    if (label_end) {
        STATUS_TRY(label_read(o, p, label, label_end - label));
        o->n = label_end - o->first;
    }
    if (p->logprobs) o->score = exp(sum(p->logprobs, o->first, 4) / 4 + sum(p->logprobs, label, label_end - label));
    p->at = i;
    return PALI_OK;
}

static pali_status object_add(objects *to, parser *p) {
    if (to->n == to->cap) {
        size_t cap = to->cap ? 2 * to->cap : 8;
        object *grown = mem_grow(to->items, to->n, cap, sizeof *grown);
        if (!grown) return status_no_memory(cap * sizeof *grown);
        to->items = grown;
        to->cap = cap;
    }
    STATUS_TRY(object_read(&to->items[to->n], p, &to->n_stray));
    to->n++;
    return PALI_OK;
}

pali_status locate(objects **out, const tokenizer *t, const int32_t *tokens, const float *logprobs, size_t n) {
    parser p = {.t = t, .tokens = tokens, .logprobs = logprobs, .n = n};
    objects *o = mem_calloc(1, sizeof *o);
    pali_status status = o ? PALI_OK : status_no_memory(sizeof *o);
    *out = NULL;
    while (p.at < n && status == PALI_OK) {
        if (run_length(&p, p.at, TOKEN_LOC, 4) == 4) {
            status = object_add(o, &p);
        } else {
            o->n_stray += (class_at(&p, p.at) & (TOKEN_LOC | TOKEN_SEG | TOKEN_TEXT)) != 0;
            p.at++;
        }
    }
    if (status != PALI_OK) {
        objects_free(o);
        return status;
    }
    *out = o;
    return PALI_OK;
}

void objects_free(objects *o) {
    if (!o) return;
    for (size_t i = 0; i < o->n; i++) mem_free(o->items[i].label);
    mem_free(o->items);
    mem_free(o);
}

/* ---- Boxes ---- */

static double area(int32_t y0, int32_t x0, int32_t y1, int32_t x1) {
    return y1 > y0 && x1 > x0 ? (double)(y1 - y0) * (double)(x1 - x0) : 0;
}

/* Areas are whole numbers below 2^20, so the comparison is exact but for the threshold's own rounding. Boxes without an area
 * overlap nothing. */
static bool overlaps(const object *a, const object *b, double iou) {
    const int32_t *p = a->loc, *q = b->loc;
    double both = area(p[0] > q[0] ? p[0] : q[0], p[1] > q[1] ? p[1] : q[1], p[2] < q[2] ? p[2] : q[2], p[3] < q[3] ? p[3] : q[3]);
    double either = area(p[0], p[1], p[2], p[3]) + area(q[0], q[1], q[2], q[3]) - both;
    return both > 0 && both >= iou * either;
}

static bool same_label(const object *a, const object *b) {
    if (!a->label || !b->label) return a->label == b->label;
    return a->n_label == b->n_label && memcmp(a->label, b->label, a->n_label) == 0;
}

/* Marks what a better object of the same label covers. The order is that of falling scores, the answer's order among equals.
 * Instead of sorting, objects are judged in rounds: the best one not yet judged stays and drops its like. */
static void suppress(const objects *o, bool *judged, bool *dropped, double iou) {
    for (;;) {
        size_t best = o->n;
        for (size_t i = 0; i < o->n; i++)
            if (!judged[i] && (best == o->n || o->items[i].score > o->items[best].score)) best = i;
        if (best == o->n) return;
        judged[best] = true;
        for (size_t i = 0; i < o->n; i++) {
            if (judged[i] || !same_label(&o->items[i], &o->items[best]) || !overlaps(&o->items[i], &o->items[best], iou)) continue;
            judged[i] = dropped[i] = true;
        }
    }
}

pali_status objects_drop(objects *o, double min_score, double nms_iou) {
    if (o->n == 0 || (min_score <= 0 && nms_iou <= 0)) return PALI_OK;
    bool *judged = mem_calloc(2 * o->n, sizeof *judged);
    if (!judged) return status_no_memory(2 * o->n);
    bool *dropped = judged + o->n;
    for (size_t i = 0; i < o->n; i++) judged[i] = dropped[i] = min_score > 0 && !(o->items[i].score >= min_score);
    if (nms_iou > 0) suppress(o, judged, dropped, nms_iou);
    size_t kept = 0;
    for (size_t i = 0; i < o->n; i++) {
        if (dropped[i])
            mem_free(o->items[i].label);
        else
            o->items[kept++] = o->items[i];
    }
    o->n = kept;
    mem_free(judged);
    return PALI_OK;
}
