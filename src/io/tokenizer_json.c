/* tokenizer_json.c: tokenizer.json in a single pass. The real file is 17 to 34 MB with 580,000 merges; a document tree of
 * it would cost a second, so this scanner hands each string on as it meets it. */
#include <stdlib.h>
#include <string.h>

#include "io/tokenizer_file.h"

#define MAX_DEPTH 64
#define WHITESPACE_MARK "\xe2\x96\x81" /* U+2581 */

typedef struct scanner {
    const char *begin, *at, *end, *name;
    char text[2][TOKENIZER_MAX_PIECE]; /* decoded strings that have escapes */
    tokenizer_traits *traits;
    const tokenizer_sink *sink;
    bool has_vocab;
} scanner;

typedef struct span {
    const char *text;
    size_t n;
} span;

static pali_status bad(const scanner *s, const char *what) {
    return status_fail(PALI_ERR_FORMAT, "%s: byte %zu: %s", s->name, (size_t)(s->at - s->begin), what);
}

static void space(scanner *s) {
    while (s->at < s->end && (*s->at == ' ' || *s->at == '\n' || *s->at == '\t' || *s->at == '\r')) s->at++;
}

/* The next character after white space, or 0 at the end. */
static char peek(scanner *s) {
    space(s);
    return s->at < s->end ? *s->at : 0;
}

static pali_status expect(scanner *s, char c) {
    if (peek(s) != c) {
        char what[] = "expected ' '";
        what[10] = c;
        return bad(s, what);
    }
    s->at++;
    return PALI_OK;
}

static int hex4(const char *p) {
    int value = 0;
    for (int i = 0; i < 4; i++) {
        char c = p[i];
        int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
        if (digit < 0) return -1;
        value = value * 16 + digit;
    }
    return value;
}

static size_t utf8_put(char *out, unsigned c) {
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (char)(0xc0 | c >> 6);
        out[1] = (char)(0x80 | (c & 63));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (char)(0xe0 | c >> 12);
        out[1] = (char)(0x80 | (c >> 6 & 63));
        out[2] = (char)(0x80 | (c & 63));
        return 3;
    }
    out[0] = (char)(0xf0 | c >> 18);
    out[1] = (char)(0x80 | (c >> 12 & 63));
    out[2] = (char)(0x80 | (c >> 6 & 63));
    out[3] = (char)(0x80 | (c & 63));
    return 4;
}

/* One escape after the backslash into out; returns its length, 0 if malformed. */
static size_t escape(scanner *s, char *out) {
    static const char k_from[] = "\"\\/bfnrt", k_to[] = "\"\\/\b\f\n\r\t";
    char c = s->at < s->end ? *s->at++ : 0;
    const char *simple = c ? strchr(k_from, c) : NULL;
    if (simple) {
        *out = k_to[simple - k_from];
        return 1;
    }
    if (c != 'u' || s->end - s->at < 4) return 0;
    int code = hex4(s->at);
    s->at += 4;
    if (code < 0 || (code >= 0xdc00 && code < 0xe000)) return 0;
    if (code >= 0xd800 && code < 0xdc00) { /* a surrogate pair */
        if (s->end - s->at < 6 || s->at[0] != '\\' || s->at[1] != 'u') return 0;
        int low = hex4(s->at + 2);
        if (low < 0xdc00 || low >= 0xe000) return 0;
        s->at += 6;
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
    }
    return utf8_put(out, (unsigned)code);
}

/* A string; *out points into the file where nothing is escaped, else into s->text[slot]. */
static pali_status string(scanner *s, span *out, int slot) {
    STATUS_TRY(expect(s, '"'));
    const char *begin = s->at;
    while (s->at < s->end && *s->at != '"' && *s->at != '\\' && (unsigned char)*s->at >= 0x20) s->at++;
    size_t n = (size_t)(s->at - begin);
    *out = (span){begin, n};
    if (s->at < s->end && *s->at == '"') {
        s->at++;
        return n > TOKENIZER_MAX_PIECE ? bad(s, "string is too long") : PALI_OK;
    }
    char *text = s->text[slot];
    if (n + 8 > TOKENIZER_MAX_PIECE) return bad(s, "string is too long");
    memcpy(text, begin, n);
    while (s->at < s->end && *s->at != '"') {
        if (n + 8 > TOKENIZER_MAX_PIECE) return bad(s, "string is too long");
        if ((unsigned char)*s->at < 0x20) return bad(s, "control character in a string");
        if (*s->at != '\\') {
            text[n++] = *s->at++;
            continue;
        }
        s->at++;
        size_t m = escape(s, text + n);
        if (!m) return bad(s, "malformed escape");
        n += m;
    }
    *out = (span){text, n};
    return expect(s, '"');
}

static bool is(span s, const char *text) {
    return s.n == strlen(text) && memcmp(s.text, text, s.n) == 0;
}

/* A scalar that is no string: true, false, null or a number, as a span. */
static span scalar(scanner *s) {
    space(s);
    const char *begin = s->at;
    while (s->at < s->end && *s->at && strchr("+-.0123456789abcdefghijklmnopqrstuvwxyzE", *s->at)) s->at++;
    return (span){begin, (size_t)(s->at - begin)};
}

static pali_status skip(scanner *s, int depth) {
    span ignored;
    char c = peek(s);
    if (depth > MAX_DEPTH) return bad(s, "nested too deeply");
    if (c == '"') { /* any length: it is not kept */
        for (s->at++; s->at < s->end && *s->at != '"'; s->at++)
            if (*s->at == '\\' && s->at + 1 < s->end) s->at++;
        return expect(s, '"');
    }
    if (c == '{' || c == '[') {
        char close = c == '{' ? '}' : ']';
        s->at++;
        if (peek(s) == close) {
            s->at++;
            return PALI_OK;
        }
        for (;;) {
            if (c == '{') {
                STATUS_TRY(string(s, &ignored, 0));
                STATUS_TRY(expect(s, ':'));
            }
            STATUS_TRY(skip(s, depth + 1));
            if (peek(s) != ',') return expect(s, close);
            s->at++;
        }
    }
    return scalar(s).n ? PALI_OK : bad(s, "expected a value");
}

/* Calls field(s, key) for each member of an object; it must consume the value. */
typedef pali_status (*field_fn)(scanner *s, span key, void *user);
static pali_status object(scanner *s, field_fn field, void *user) {
    STATUS_TRY(expect(s, '{'));
    if (peek(s) == '}') {
        s->at++;
        return PALI_OK;
    }
    for (;;) {
        span key;
        STATUS_TRY(string(s, &key, 0));
        STATUS_TRY(expect(s, ':'));
        STATUS_TRY(field(s, key, user));
        if (peek(s) != ',') return expect(s, '}');
        s->at++;
    }
}

/* Calls item(s) for each element of an array. */
static pali_status array(scanner *s, pali_status (*item)(scanner *s)) {
    STATUS_TRY(expect(s, '['));
    if (peek(s) == ']') {
        s->at++;
        return PALI_OK;
    }
    for (;;) {
        STATUS_TRY(item(s));
        if (peek(s) != ',') return expect(s, ']');
        s->at++;
    }
}

static pali_status whole_number(scanner *s, size_t *out) {
    span digits = scalar(s);
    *out = 0;
    if (digits.n == 0 || digits.n > 9) return bad(s, "expected a token id");
    for (size_t i = 0; i < digits.n; i++) {
        if (digits.text[i] < '0' || digits.text[i] > '9') return bad(s, "expected a token id");
        *out = *out * 10 + (size_t)(digits.text[i] - '0');
    }
    return *out < TOKENIZER_MAX_IDS ? PALI_OK : bad(s, "token id is too large");
}

static pali_status boolean(scanner *s, bool *out) {
    span word = scalar(s);
    *out = is(word, "true");
    return *out || is(word, "false") || is(word, "null") ? PALI_OK : bad(s, "expected true or false");
}

/* ---- The parts of tokenizer.json ---- */

typedef struct added {
    size_t id;
    char text[TOKENIZER_MAX_ADDED_PIECE];
    size_t n;
    bool has_id, special, strips;
} added;

static pali_status added_field(scanner *s, span key, void *user) {
    added *a = user;
    span text;
    bool flag;
    if (is(key, "id")) {
        a->has_id = true;
        return whole_number(s, &a->id);
    }
    if (is(key, "content")) {
        STATUS_TRY(string(s, &text, 1));
        if (text.n == 0 || text.n >= sizeof a->text) return bad(s, "added_tokens: content is empty or too long");
        memcpy(a->text, text.text, text.n);
        a->n = text.n;
        return PALI_OK;
    }
    if (is(key, "special")) return boolean(s, &a->special);
    if (is(key, "single_word") || is(key, "lstrip") || is(key, "rstrip")) {
        STATUS_TRY(boolean(s, &flag));
        a->strips |= flag;
        return PALI_OK;
    }
    return skip(s, 0);
}

static pali_status added_item(scanner *s) {
    added a = {0};
    STATUS_TRY(object(s, added_field, &a));
    if (!a.has_id || a.n == 0) return bad(s, "added_tokens: id or content missing");
    /* Special tokens are not matched in text, so how they would strip it does not matter. */
    if (a.strips && !a.special) return status_fail(PALI_ERR_UNSUPPORTED, "%s: added_tokens: single_word, lstrip and rstrip are not supported", s->name);
    return s->sink->piece(s->sink->user, a.id, a.text, a.n, 0, a.special ? PIECE_SPECIAL : PIECE_ADDED);
}

/* Normalizers that mean: a space becomes U+2581. Only that one is understood. */
typedef struct replace {
    bool is_replace, pattern, content, other;
} replace;

static pali_status pattern_field(scanner *s, span key, void *user) {
    span text;
    replace *r = user;
    if (!is(key, "String")) return skip(s, 0);
    STATUS_TRY(string(s, &text, 1));
    r->pattern = is(text, " ");
    return PALI_OK;
}

static pali_status normalizer_field(scanner *s, span key, void *user);
static pali_status normalizer_read(scanner *s) {
    replace r = {0};
    if (peek(s) != '{') return skip(s, 0); /* null: text is taken as it is */
    STATUS_TRY(object(s, normalizer_field, &r));
    if (r.is_replace && r.pattern && r.content) s->traits->escapes_spaces = true;
    else if (r.is_replace || r.other) return status_fail(PALI_ERR_UNSUPPORTED, "%s: normalizer: only Replace of a space by U+2581 is supported", s->name);
    return PALI_OK;
}

static pali_status normalizer_field(scanner *s, span key, void *user) {
    replace *r = user;
    span text;
    if (is(key, "type")) {
        STATUS_TRY(string(s, &text, 1));
        r->is_replace = is(text, "Replace");
        r->other = !r->is_replace && !is(text, "Sequence");
        return PALI_OK;
    }
    if (is(key, "pattern") && peek(s) == '{') return object(s, pattern_field, r);
    if (is(key, "content")) {
        STATUS_TRY(string(s, &text, 1));
        r->content = is(text, WHITESPACE_MARK);
        return PALI_OK;
    }
    if (is(key, "normalizers")) return array(s, normalizer_read);
    return skip(s, 0);
}

static pali_status vocab_field(scanner *s, span key, void *user) {
    size_t id;
    (void)user;
    /* The key may lie in text[0]; a number does not touch it. */
    STATUS_TRY(whole_number(s, &id));
    return s->sink->piece(s->sink->user, id, key.text, key.n, 0, PIECE_NORMAL);
}

static pali_status merge_item(scanner *s) {
    span left, right;
    if (peek(s) == '[') {
        s->at++;
        STATUS_TRY(string(s, &left, 0));
        STATUS_TRY(expect(s, ','));
        STATUS_TRY(string(s, &right, 1));
        STATUS_TRY(expect(s, ']'));
    } else {
        STATUS_TRY(string(s, &left, 0));
        const char *gap = memchr(left.text, ' ', left.n);
        if (!gap) return bad(s, "merges: expected two pieces");
        right = (span){gap + 1, (size_t)(left.text + left.n - gap) - 1};
        left.n = (size_t)(gap - left.text);
    }
    if (left.n == 0 || right.n == 0 || memchr(right.text, ' ', right.n)) return bad(s, "merges: expected two pieces");
    return s->sink->merge(s->sink->user, left.text, left.n, right.text, right.n);
}

static pali_status model_field(scanner *s, span key, void *user) {
    span text;
    (void)user;
    if (is(key, "type")) {
        STATUS_TRY(string(s, &text, 1));
        return is(text, "BPE") ? PALI_OK : status_fail(PALI_ERR_UNSUPPORTED, "%s: model.type: only BPE is supported", s->name);
    }
    if (is(key, "unk_token")) {
        if (peek(s) != '"') return skip(s, 0);
        STATUS_TRY(string(s, &text, 1));
        if (text.n >= sizeof s->traits->unk_piece) return bad(s, "unk_token is too long");
        memcpy(s->traits->unk_piece, text.text, text.n);
        return PALI_OK;
    }
    if (is(key, "byte_fallback")) return boolean(s, &s->traits->byte_fallback);
    if (is(key, "vocab")) {
        s->has_vocab = true;
        return object(s, vocab_field, NULL);
    }
    if (is(key, "merges")) return array(s, merge_item);
    if (is(key, "continuing_subword_prefix") || is(key, "end_of_word_suffix") || is(key, "dropout")) {
        if (peek(s) == '"' ? (string(s, &text, 1) == PALI_OK && text.n == 0) : is(scalar(s), "null")) return PALI_OK;
        return status_fail(PALI_ERR_UNSUPPORTED, "%s: model: affixes and dropout are not supported", s->name);
    }
    return skip(s, 0);
}

/* The vocabulary comes after added_tokens in the file, but added_tokens must have the last word on an id's kind: its place is
 * remembered and read at the end. */
static pali_status root_field(scanner *s, span key, void *user) {
    const char **added_at = user;
    if (is(key, "added_tokens")) {
        space(s);
        *added_at = s->at;
        return skip(s, 0);
    }
    if (is(key, "normalizer")) return normalizer_read(s);
    if (is(key, "model")) return object(s, model_field, NULL);
    return skip(s, 0);
}

static pali_status scan(scanner *s) {
    const char *added_at = NULL;
    STATUS_TRY(object(s, root_field, &added_at));
    if (peek(s) != 0 || s->at != s->end) return bad(s, "text after the end");
    if (!s->has_vocab) return status_fail(PALI_ERR_FORMAT, "%s: model.vocab: missing", s->name);
    if (added_at) {
        s->at = added_at;
        if (peek(s) == '[') STATUS_TRY(array(s, added_item));
    }
    return PALI_OK;
}

pali_status tokenizer_json_parse(tokenizer_traits *out, const tokenizer_sink *sink, const uint8_t *bytes, size_t n_bytes, const char *name) {
    scanner *s = calloc(1, sizeof *s);
    *out = (tokenizer_traits){.has_merges = true};
    if (!s) return status_no_memory(sizeof *s);
    s->begin = s->at = (const char *)bytes;
    s->end = s->begin + n_bytes;
    s->name = name;
    s->traits = out;
    s->sink = sink;
    pali_status status = scan(s);
    free(s);
    return status;
}
