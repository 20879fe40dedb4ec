/* pattern.c: a regular expression becomes a list of states, of which all that are possible advance together over the subject
 * (Thompson's way). Targets are relative, so that repeating a part is copying its states. */
#include "io/pattern.h"

#include <stdint.h>
#include <string.h>

#include "base/mem.h"

#define MANY SIZE_MAX /* "or more" */

typedef enum op { OP_SET, OP_SPLIT, OP_JUMP, OP_BRANCH_END, OP_BEGIN, OP_END, OP_MATCH } op;

typedef struct state {
    op op;
    int x, y;        /* OP_SPLIT: both; OP_JUMP: x; relative to this state */
    uint64_t set[4]; /* OP_SET: the bytes that it accepts */
} state;

struct pattern {
    state *states;   /* [n], room for PATTERN_MAX_STATES */
    size_t n;
    uint16_t *lists; /* [3, n] for matching: states now and next, and a stack */
    uint32_t *seen;  /* the step that a state was last listed in */
};

typedef struct parser {
    pattern *p;
    const char *text, *at, *name;
    size_t depth;
} parser;

static pali_status wrong(const parser *q, pali_status code, const char *what) {
    return status_fail(code, "%s: pattern '%s': at %td: %s", q->name, q->text, q->at - q->text, what);
}

static pali_status emit(parser *q, const state *s) {
    if (q->p->n == PATTERN_MAX_STATES) return status_fail(PALI_ERR_LIMIT, "%s: pattern '%s': more than %u states", q->name, q->text, PATTERN_MAX_STATES);
    q->p->states[q->p->n++] = *s;
    return PALI_OK;
}

/* ---- Sets of bytes ---- */

static void set_add(uint64_t set[4], unsigned byte) {
    set[byte / 64] |= (uint64_t)1 << byte % 64;
}

static void set_invert(uint64_t set[4]) {
    for (size_t i = 0; i < 4; i++) set[i] = ~set[i];
}

static void set_range(uint64_t set[4], unsigned first, unsigned last) {
    for (unsigned b = first; b <= last; b++) set_add(set, b);
}

/* \d \w \s and the capitals, their opposites. */
static bool set_named(uint64_t set[4], char letter) {
    uint64_t own[4] = {0};
    switch (letter | 0x20) {
    case 'w': set_range(own, 'a', 'z'); set_range(own, 'A', 'Z'); set_add(own, '_'); /* fall through */
    case 'd': set_range(own, '0', '9'); break;
    case 's': set_range(own, '\t', '\r'); set_range(own, 0x1c, 0x20); break;
    default: return false;
    }
    if (!(letter & 0x20)) set_invert(own);
    for (size_t i = 0; i < 4; i++) set[i] |= own[i];
    return true;
}

/* The byte that an escape of one character stands for; false: it is something else. */
static bool escaped_byte(unsigned *out, char c) {
    static const char k_letters[] = "abfnrtv", k_bytes[] = "\a\b\f\n\r\t\v";
    const char *letter = c ? strchr(k_letters, c) : NULL;
    if (letter && c != 'b') {
        *out = (unsigned char)k_bytes[letter - k_letters];
        return true;
    }
    bool word = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    *out = (unsigned char)c;
    return c && !word && !((unsigned char)c & 0x80);
}

/* One member of a class: a byte into *byte, or a named set into `set` and *byte is 256. */
static pali_status class_member(parser *q, uint64_t set[4], unsigned *byte) {
    if (!*q->at) return wrong(q, PALI_ERR_FORMAT, "expected ]");
    *byte = (unsigned char)*q->at++;
    if (*byte != '\\') return PALI_OK;
    if (set_named(set, *q->at))
        *byte = 256;
    else if (!escaped_byte(byte, *q->at))
        return wrong(q, PALI_ERR_UNSUPPORTED, "escape that is not supported");
    q->at++;
    return PALI_OK;
}

/* After "[". */
static pali_status class_read(parser *q, uint64_t set[4]) {
    bool inverted = *q->at == '^', first = true;
    q->at += inverted;
    for (; *q->at != ']' || first; first = false) {
        unsigned from, to;
        STATUS_TRY(class_member(q, set, &from));
        if (from == 256) continue;
        to = from;
        if (q->at[0] == '-' && q->at[1] && q->at[1] != ']') {
            q->at++;
            STATUS_TRY(class_member(q, set, &to));
            if (to == 256 || to < from) return wrong(q, PALI_ERR_FORMAT, "bad range in a class");
        }
        set_range(set, from, to);
    }
    q->at++;
    if (inverted) set_invert(set);
    return PALI_OK;
}

/* ---- The grammar ---- */

static pali_status branches(parser *q);

static pali_status group(parser *q) {
    if (++q->depth > PATTERN_MAX_DEPTH) return wrong(q, PALI_ERR_LIMIT, "groups too deep");
    if (q->at[0] == '?') {
        if (q->at[1] != ':') return wrong(q, PALI_ERR_UNSUPPORTED, "(? ) that is not supported");
        q->at += 2;
    }
    STATUS_TRY(branches(q));
    if (*q->at != ')') return wrong(q, PALI_ERR_FORMAT, "expected )");
    q->at++;
    q->depth--;
    return PALI_OK;
}

static pali_status escape(parser *q, state *s) {
    char c = *q->at;
    unsigned byte;
    if (set_named(s->set, c)) {
        q->at++;
        return emit(q, s);
    }
    if (c == 'A' || c == 'Z') {
        s->op = c == 'A' ? OP_BEGIN : OP_END;
    } else if (escaped_byte(&byte, c)) {
        set_add(s->set, byte);
    } else {
        return wrong(q, PALI_ERR_UNSUPPORTED, "escape that is not supported");
    }
    q->at++;
    return emit(q, s);
}

static pali_status atom(parser *q) {
    state s = {.op = OP_SET};
    char c = *q->at++;
    switch (c) {
    case '(': return group(q);
    case '[': STATUS_TRY(class_read(q, s.set)); break;
    case '\\': return escape(q, &s);
    case '.':
        set_add(s.set, '\n');
        set_invert(s.set);
        break;
    case '^': s.op = OP_BEGIN; break;
    case '$': s.op = OP_END; break;
    case '*':
    case '+':
    case '?': return wrong(q, PALI_ERR_FORMAT, "nothing to repeat");
    default: set_add(s.set, (unsigned char)c);
    }
    return emit(q, &s);
}

static bool number_read(const char **at, size_t *out) {
    const char *begin = *at;
    for (*out = 0; **at >= '0' && **at <= '9'; ++*at)
        if (*out <= PATTERN_MAX_STATES) *out = *out * 10 + (size_t)(**at - '0'); /* more is too many anyway */
    return *at != begin;
}

/* A quantifier, if there is one; *q is untouched if not. "{" that begins none is a character. */
static bool quantifier(parser *q, size_t *min, size_t *max) {
    const char *at = q->at;
    *min = *at == '+';
    *max = *at == '?' ? 1 : MANY;
    if (*at == '*' || *at == '+' || *at == '?') {
        q->at++;
        return true;
    }
    if (*at++ != '{') return false;
    bool has_min = number_read(&at, min), comma = *at == ',';
    at += comma;
    if (!comma) *max = *min;
    else if (!number_read(&at, max)) *max = MANY;
    if (*at != '}' || !(has_min || comma)) return false;
    q->at = at + 1;
    return true;
}

/* The states from `begin` on, min to max times. */
static pali_status repeat(parser *q, size_t begin, size_t min, size_t max) {
    pattern *p = q->p;
    size_t length = p->n - begin;
    state *part = mem_alloc(length, sizeof *part);
    if (!part) return status_no_memory(length * sizeof *part);
    memcpy(part, p->states + begin, length * sizeof *part);
    p->n = begin;
    size_t n_more = max == MANY ? 1 : max - min;
    pali_status s = PALI_OK;
    for (size_t i = 0; i < min + n_more && s == PALI_OK; i++) {
        if (i >= min) { /* may be left out, with all that follow */
            size_t left = (min + n_more - i) * (length + 1) + (max == MANY);
            s = left > PATTERN_MAX_STATES ? wrong(q, PALI_ERR_LIMIT, "too many repetitions") : emit(q, &(state){.op = OP_SPLIT, .x = 1, .y = (int)left});
        }
        for (size_t j = 0; j < length && s == PALI_OK; j++) s = emit(q, &part[j]);
    }
    if (s == PALI_OK && max == MANY) s = emit(q, &(state){.op = OP_JUMP, .x = -(int)length - 1});
    mem_free(part);
    return s;
}

static pali_status branch(parser *q) {
    while (*q->at && *q->at != '|' && *q->at != ')') {
        size_t begin = q->p->n, min, max;
        STATUS_TRY(atom(q));
        if (!quantifier(q, &min, &max)) continue;
        if (max != MANY && max < min) return wrong(q, PALI_ERR_FORMAT, "{m,n} with n below m");
        STATUS_TRY(repeat(q, begin, min, max));
        q->at += *q->at == '?';
        if (*q->at == '+') return wrong(q, PALI_ERR_UNSUPPORTED, "possessive quantifier");
        if (quantifier(q, &min, &max)) return wrong(q, PALI_ERR_FORMAT, "multiple repeat");
    }
    return PALI_OK;
}

/* a|b|c: split to a or the rest; at the end of a, on behind the last. */
static pali_status branches(parser *q) {
    pattern *p = q->p;
    size_t first = p->n;
    for (size_t begin = first;; begin = p->n) {
        STATUS_TRY(branch(q));
        if (*q->at != '|') break;
        q->at++;
        STATUS_TRY(emit(q, &(state){.op = OP_BRANCH_END})); /* makes room for the split as well */
        STATUS_TRY(emit(q, &(state){.op = OP_BRANCH_END}));
        memmove(p->states + begin + 1, p->states + begin, (p->n - 1 - begin) * sizeof *p->states);
        p->states[begin] = (state){.op = OP_SPLIT, .x = 1, .y = (int)(p->n - begin)};
    }
    for (size_t i = first; i < p->n; i++)
        if (p->states[i].op == OP_BRANCH_END) p->states[i] = (state){.op = OP_JUMP, .x = (int)(p->n - i)};
    return PALI_OK;
}

static pali_status compile(pattern *p, const char *text, const char *name) {
    parser q = {.p = p, .text = text, .at = text, .name = name};
    STATUS_TRY(branches(&q));
    if (*q.at) return wrong(&q, PALI_ERR_FORMAT, "unbalanced )");
    return emit(&q, &(state){.op = OP_MATCH});
}

pali_status pattern_new(pattern **out, const char *text, const char *name) {
    *out = NULL;
    if (strlen(text) > PATTERN_MAX_BYTES) return status_fail(PALI_ERR_LIMIT, "%s: pattern of more than %u bytes", name, PATTERN_MAX_BYTES);
    pattern *p = mem_calloc(1, sizeof *p);
    if (!p) return status_no_memory(sizeof *p);
    p->states = mem_alloc(PATTERN_MAX_STATES, sizeof *p->states);
    pali_status s = p->states ? compile(p, text, name) : status_no_memory(PATTERN_MAX_STATES * sizeof *p->states);
    if (s == PALI_OK) { /* what a short one does not need is given back: there may be hundreds */
        state *fitted = mem_alloc(p->n, sizeof *fitted);
        p->lists = mem_alloc(3 * p->n, sizeof *p->lists);
        p->seen = mem_alloc(p->n, sizeof *p->seen);
        if (fitted) memcpy(fitted, p->states, p->n * sizeof *fitted);
        mem_free(p->states);
        p->states = fitted;
        if (!fitted || !p->lists || !p->seen) s = status_no_memory(p->n * sizeof *fitted);
    }
    if (s != PALI_OK) {
        pattern_free(p);
        return s;
    }
    *out = p;
    return PALI_OK;
}

void pattern_free(pattern *p) {
    if (!p) return;
    mem_free(p->states);
    mem_free(p->lists);
    mem_free(p->seen);
    mem_free(p);
}

size_t pattern_n_states(const pattern *p) {
    return p->n;
}

/* ---- Matching ---- */

/* Appends to list[n] the states that accept a byte and can be reached from `from` without one; true: the match is reached. */
static bool reach(pattern *p, uint16_t *list, size_t *n, size_t from, uint32_t step, bool at_begin, bool at_end, size_t *work) {
    size_t depth = 0;
    uint16_t *stack = p->lists + 2 * p->n;
    if (p->seen[from] == step) return false;
    p->seen[from] = step;
    stack[depth++] = (uint16_t)from;
    while (depth) {
        size_t i = stack[--depth];
        const state *s = &p->states[i];
        int to[2] = {0, 0};
        if (*work) --*work;
        switch (s->op) {
        case OP_SET: list[(*n)++] = (uint16_t)i; break;
        case OP_SPLIT: to[0] = s->y; to[1] = s->x; break;
        case OP_BEGIN: to[0] = at_begin; break;
        case OP_END: to[0] = at_end; break;
        case OP_MATCH: return true;
        default: to[0] = s->x;
        }
        for (size_t j = 0; j < 2; j++) {
            size_t next = (size_t)((ptrdiff_t)i + to[j]);
            if (!to[j] || p->seen[next] == step) continue; /* listed once a step, so that the stack has room for all */
            p->seen[next] = step;
            stack[depth++] = (uint16_t)next;
        }
    }
    return false;
}

bool pattern_matches(pattern *p, const char *subject, size_t *work) {
    uint16_t *now = p->lists, *next = now + p->n;
    size_t n_now = 0;
    memset(p->seen, 0xff, p->n * sizeof *p->seen);
    if (reach(p, now, &n_now, 0, 0, true, !*subject, work)) return *work > 0;
    for (uint32_t step = 1; *subject && n_now && *work; step++) {
        unsigned byte = (unsigned char)*subject++;
        size_t n_next = 0;
        for (size_t i = 0; i < n_now; i++) {
            const state *s = &p->states[now[i]];
            if (!(s->set[byte / 64] >> byte % 64 & 1)) continue;
            if (reach(p, next, &n_next, (size_t)now[i] + 1, step, false, !*subject, work)) return *work > 0;
        }
        uint16_t *list = now;
        now = next;
        next = list;
        n_now = n_next;
    }
    return false;
}
