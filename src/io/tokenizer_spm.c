/* tokenizer_spm.c: tokenizer.model, a protobuf (spec inference 4.2). Only the few fields that matter are read; the wire
 * format is simple enough that a dependency would be larger than this file. */
#include <string.h>

#include "io/tokenizer_file.h"

typedef struct reader {
    const uint8_t *at, *end;
    const char *name;
} reader;

static pali_status bad(const reader *r, const char *what) {
    return status_fail(PALI_ERR_FORMAT, "%s: %s", r->name, what);
}

static pali_status varint(reader *r, uint64_t *out) {
    *out = 0;
    for (int shift = 0; shift < 64; shift += 7) {
        if (r->at == r->end) return bad(r, "truncated");
        *out |= (uint64_t)(*r->at & 0x7f) << shift;
        if (!(*r->at++ & 0x80)) return PALI_OK;
    }
    return bad(r, "malformed number");
}

/* The next field: its number and its content, as a number or as bytes. */
typedef struct field {
    uint64_t number, value;
    reader bytes; /* of length-delimited fields; else empty */
} field;

static pali_status next(reader *r, field *f) {
    uint64_t key;
    STATUS_TRY(varint(r, &key));
    *f = (field){.number = key >> 3, .bytes = {NULL, NULL, r->name}};
    switch (key & 7) {
    case 0: return varint(r, &f->value);
    case 1:
    case 5: {
        size_t n = (key & 7) == 1 ? 8 : 4;
        if ((size_t)(r->end - r->at) < n) return bad(r, "truncated");
        for (size_t i = n; i-- > 0;) f->value = f->value << 8 | r->at[i];
        r->at += n;
        return PALI_OK;
    }
    case 2:
        STATUS_TRY(varint(r, &f->value));
        if (f->value > (uint64_t)(r->end - r->at)) return bad(r, "a field runs past the end");
        f->bytes = (reader){r->at, r->at + f->value, r->name};
        r->at += f->value;
        return PALI_OK;
    default: return bad(r, "not a SentencePiece model");
    }
}

/* A byte piece never comes from text, which its own text tells. */
bool tokenizer_spm_kind(piece_kind *out, uint64_t type) {
    static const piece_kind k_kinds[] = {[SPM_NORMAL] = PIECE_NORMAL,      [SPM_UNKNOWN] = PIECE_SPECIAL, [SPM_CONTROL] = PIECE_SPECIAL,
                                         [SPM_USER_DEFINED] = PIECE_ADDED, [SPM_UNUSED] = PIECE_UNUSED,   [SPM_BYTE] = PIECE_NORMAL};
    if (type < SPM_NORMAL || type > SPM_BYTE) return false;
    *out = k_kinds[type];
    return true;
}

static pali_status piece(reader r, size_t id, tokenizer_traits *traits, const tokenizer_sink *sink) {
    piece_kind kind;
    reader text = {0};
    float score = 0;
    uint64_t type = SPM_NORMAL;
    while (r.at < r.end) {
        field f;
        STATUS_TRY(next(&r, &f));
        if (f.number == 1 && f.bytes.at) text = f.bytes;
        if (f.number == 2) {
            uint32_t bits = (uint32_t)f.value;
            memcpy(&score, &bits, sizeof score);
        }
        if (f.number == 3) type = f.value;
    }
    size_t n = (size_t)(text.end - text.at);
    if (n == 0 || n > TOKENIZER_MAX_PIECE || !tokenizer_spm_kind(&kind, type) || score != score) return bad(&r, "a piece is malformed");
    if (type == SPM_USER_DEFINED && n >= TOKENIZER_MAX_ADDED_PIECE) return bad(&r, "a user-defined piece is too long");
    if (type == SPM_UNKNOWN && n < sizeof traits->unk_piece) memcpy(traits->unk_piece, text.at, n);
    return sink->piece(sink->user, id, (const char *)text.at, n, score, kind);
}

pali_status tokenizer_spm_parse(tokenizer_traits *out, const tokenizer_sink *sink, const uint8_t *bytes, size_t n_bytes, const char *name) {
    reader r = {bytes, bytes + n_bytes, name};
    size_t n_pieces = 0;
    uint64_t model_type = 1, dummy_prefix = 1, extra_spaces = 1;
    size_t n_charsmap = 0;
    *out = (tokenizer_traits){.escapes_spaces = true};
    while (r.at < r.end) {
        field f;
        STATUS_TRY(next(&r, &f));
        if (f.number == 1 && f.bytes.at) {
            if (n_pieces == TOKENIZER_MAX_IDS) return bad(&r, "too many pieces");
            STATUS_TRY(piece(f.bytes, n_pieces++, out, sink));
        } else if ((f.number == 2 || f.number == 3) && f.bytes.at) {
            reader spec = f.bytes;
            while (spec.at < spec.end) {
                field g;
                STATUS_TRY(next(&spec, &g));
                if (f.number == 2 && g.number == 3) model_type = g.value;
                if (f.number == 2 && g.number == 35) out->byte_fallback = g.value != 0;
                if (f.number == 3 && g.number == 2) n_charsmap = (size_t)g.value;
                if (f.number == 3 && g.number == 3) dummy_prefix = g.value;
                if (f.number == 3 && g.number == 4) extra_spaces = g.value;
                if (f.number == 3 && g.number == 5) out->escapes_spaces = g.value != 0;
            }
        }
    }
    if (n_pieces == 0) return bad(&r, "not a SentencePiece model: no pieces");
    if (model_type != 2) return status_fail(PALI_ERR_UNSUPPORTED, "%s: trainer_spec.model_type: only BPE is supported", name);
    if (n_charsmap || dummy_prefix || extra_spaces)
        return status_fail(PALI_ERR_UNSUPPORTED, "%s: normalizer_spec: only the identity without a dummy prefix is supported", name);
    return PALI_OK;
}
