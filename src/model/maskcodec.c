/* maskcodec.c: see maskcodec.h.
 *
 * Activations are [side, side, channels], so that a convolution is a product: each output position gathers a window of input
 * positions into a row, and rows times weights [out, window, window, in] go through tensor/linear. A transposed convolution
 * (kernel 4, stride 2, padding 1) is four of them: outputs of one parity in y and x are a plain convolution of the input
 * with every second weight, so none of the work is on the zeros between inputs that the textbook form inserts.
 *
 *   y even, y = 2q:      in[q - 1] w[3] + in[q] w[1]          y odd, y = 2q + 1:  in[q] w[2] + in[q + 1] w[0] */
#include "model/maskcodec.h"

#include <string.h>

#include "base/mem.h"
#include "io/npz.h"
#include "io/safetensors.h"
#include "tensor/linear.h"

#define MAX_WIDTH 1024u      /* channels of any layer; 128 in the published file */
#define MAX_CODE_WIDTH 4096u /* E; 512 in the published file */
#define GRID 4u              /* cells along a side */

typedef enum conv_kind { CONV_POINT, CONV_AROUND, CONV_HALVE, CONV_DOUBLE } conv_kind;

static const struct {
    size_t kernel;   /* as in the file */
    size_t window;   /* input positions along a side that one output needs */
    size_t stride;   /* of the window over the input */
    size_t n_phases; /* products that make up the layer: parities of the output */
    ptrdiff_t first; /* where the window of output 0 begins; later by the parity of a phase */
} k_kinds[] = {[CONV_POINT] = {1, 1, 1, 1, 0}, [CONV_AROUND] = {3, 3, 1, 1, -1}, [CONV_HALVE] = {4, 4, 2, 1, -1}, [CONV_DOUBLE] = {4, 2, 1, 4, -1}};

/* A residual block keeps its input before its first convolution and adds it to the output of its last. */
typedef enum residual { NONE, KEEP, ADD } residual;

typedef struct layer {
    const char *name; /* of its weight and bias in the file */
    conv_kind kind;
    bool relu;
    residual residual;
} layer;

static const layer k_decoder[] = {
    {"decoder.0", CONV_POINT, true, NONE},
    {"decoder.2.net.0", CONV_AROUND, true, KEEP},
    {"decoder.2.net.2", CONV_AROUND, true, NONE},
    {"decoder.2.net.4", CONV_POINT, false, ADD}, /* no ReLU after the sum */
    {"decoder.3.net.0", CONV_AROUND, true, KEEP},
    {"decoder.3.net.2", CONV_AROUND, true, NONE},
    {"decoder.3.net.4", CONV_POINT, false, ADD},
    {"decoder.4", CONV_DOUBLE, true, NONE},
    {"decoder.6", CONV_DOUBLE, true, NONE},
    {"decoder.8", CONV_DOUBLE, true, NONE},
    {"decoder.10", CONV_DOUBLE, true, NONE},
    {"decoder.12", CONV_POINT, false, NONE},
};

static const layer k_encoder[] = {
    {"encoder.0", CONV_HALVE, true, NONE},
    {"encoder.2", CONV_HALVE, true, NONE},
    {"encoder.4", CONV_HALVE, true, NONE},
    {"encoder.6", CONV_HALVE, true, NONE},
    {"encoder.8.net.0", CONV_AROUND, true, KEEP},
    {"encoder.8.net.2", CONV_AROUND, true, NONE},
    {"encoder.8.net.4", CONV_POINT, false, ADD},
    {"encoder.9.net.0", CONV_AROUND, true, KEEP},
    {"encoder.9.net.2", CONV_AROUND, true, NONE},
    {"encoder.9.net.4", CONV_POINT, false, ADD},
    {"encoder.10", CONV_POINT, false, NONE},
};

enum { N_DECODER = sizeof k_decoder / sizeof k_decoder[0], N_ENCODER = sizeof k_encoder / sizeof k_encoder[0] };

typedef struct conv {
    size_t in, out;
    float *weight; /* [n_phases, out, window, window, in] */
    float *bias;   /* [out] */
} conv;

struct pali_mask_codec {
    size_t width, n_parameters;
    float *codebook; /* [CODES, width] */
    float *square;   /* [CODES] |row|^2 */
    conv decoder[N_DECODER], encoder[N_ENCODER];
    bool has_encoder;
    size_t n_act, n_rows; /* floats of the largest activation, and of the largest set of gathered windows */
};

#define CODEBOOK "_vq_vae._embedding"

/* ---- The file ---- */

typedef struct source {
    const char *file;
    bool is_npz;
    npz z;
    safetensors st;
} source;

/* A tensor of either format. */
typedef struct source_tensor {
    pali_dtype dtype; /* AUTO: none that weights can have */
    bool fortran_order;
    size_t n_dims, dims[4], n_bytes;
    const uint8_t *data;
} source_tensor;

static pali_status source_open(source *s, const uint8_t *bytes, size_t n_bytes, const char *file) {
    *s = (source){.file = file, .is_npz = n_bytes >= 2 && memcmp(bytes, "PK", 2) == 0};
    return s->is_npz ? npz_parse(&s->z, bytes, n_bytes, file) : safetensors_parse(&s->st, bytes, n_bytes, file);
}

static void source_close(source *s) {
    npz_close(&s->z);
    safetensors_close(&s->st);
}

static const st_tensor *safetensors_find(const safetensors *st, const char *name) {
    for (size_t i = 0; i < st->n_tensors; i++)
        if (strcmp(st->tensors[i].name, name) == 0) return &st->tensors[i];
    return NULL;
}

static bool source_has(const source *s, const char *name) {
    return s->is_npz ? npz_find(&s->z, name) != NULL : safetensors_find(&s->st, name) != NULL;
}

static pali_dtype dtype_of(const char *name) {
    static const struct {
        const char *name;
        pali_dtype dtype;
    } k_names[] = {{"f32", PALI_DTYPE_F32}, {"F32", PALI_DTYPE_F32}, {"bf16", PALI_DTYPE_BF16}, {"BF16", PALI_DTYPE_BF16}, {"f16", PALI_DTYPE_F16}, {"F16", PALI_DTYPE_F16}};
    for (size_t i = 0; i < sizeof k_names / sizeof k_names[0]; i++)
        if (strcmp(k_names[i].name, name) == 0) return k_names[i].dtype;
    return PALI_DTYPE_AUTO;
}

/* Finds a tensor of n_dims dims; its data comes with tensor_read, once its shape is known to be right. */
static pali_status tensor_find(source_tensor *t, const source *s, const char *name, size_t n_dims) {
    const char *dtype;
    const size_t *dims;
    if (s->is_npz) {
        const npz_array *a = npz_find(&s->z, name);
        if (!a) return status_fail(PALI_ERR_FORMAT, "%s: %s: tensor missing (not a mask codec?)", s->file, name);
        *t = (source_tensor){.fortran_order = a->array.fortran_order, .n_dims = a->array.n_dims, .n_bytes = a->array.n_bytes};
        dtype = npy_dtype_name(a->array.dtype);
        dims = a->array.dims;
    } else {
        const st_tensor *a = safetensors_find(&s->st, name);
        if (!a) return status_fail(PALI_ERR_FORMAT, "%s: %s: tensor missing (not a mask codec?)", s->file, name);
        *t = (source_tensor){.n_dims = a->n_dims, .n_bytes = a->n_bytes};
        dtype = safetensors_dtype_name(a->dtype);
        dims = a->dims;
    }
    t->dtype = dtype_of(dtype);
    if (t->dtype == PALI_DTYPE_AUTO) return status_fail(PALI_ERR_UNSUPPORTED, "%s: %s: dtype %s: expected f32, bf16 or f16", s->file, name, dtype);
    if (t->n_dims != n_dims) return status_fail(PALI_ERR_FORMAT, "%s: %s: %zu dims, expected %zu", s->file, name, t->n_dims, n_dims);
    memcpy(t->dims, dims, n_dims * sizeof *dims);
    return PALI_OK;
}

/* Its elements as f32 in a fresh block, in the order of the file. */
static pali_status tensor_read(float **out, source *s, const source_tensor *t, const char *name) {
    const uint8_t *data;
    if (s->is_npz) {
        npz_array *a = npz_find(&s->z, name);
        STATUS_TRY(npz_load(&s->z, a));
        STATUS_TRY(npz_check(&s->z, a));
        data = a->data;
    } else {
        data = safetensors_find(&s->st, name)->data;
    }
    size_t n = t->n_bytes / dtype_bytes(t->dtype, 1);
    *out = mem_alloc(n, sizeof **out);
    if (!*out) return status_no_memory(n * sizeof **out);
    kernels_get(CPU_REF)->to_f32[t->dtype](*out, data, n);
    return PALI_OK;
}

/* Elements from one index of each dim to the next. */
static void strides_of(size_t stride[4], const source_tensor *t) {
    size_t step = 1;
    for (size_t i = 0; i < t->n_dims; i++) {
        size_t d = t->fortran_order ? i : t->n_dims - 1 - i;
        stride[d] = step;
        step *= t->dims[d];
    }
}

static pali_status vector_load(float **out, source *s, const char *name, size_t n) {
    source_tensor t;
    STATUS_TRY(tensor_find(&t, s, name, 1));
    if (t.dims[0] != n) return status_fail(PALI_ERR_FORMAT, "%s: %s: shape [%zu], expected [%zu]", s->file, name, t.dims[0], n);
    return tensor_read(out, s, &t, name);
}

/* ---- Loading ---- */

static size_t max_size(size_t a, size_t b) {
    return a > b ? a : b;
}

/* The file's [out, in, kernel, kernel] (transposed: [in, out, ..]) as rows that match gathered windows. */
static void weight_arrange(float *to, const float *from, const source_tensor *t, const conv *c, conv_kind kind) {
    const size_t window = k_kinds[kind].window, n_row = window * window * c->in;
    size_t stride[4];
    strides_of(stride, t);
    const size_t stride_out = kind == CONV_DOUBLE ? stride[1] : stride[0], stride_in = kind == CONV_DOUBLE ? stride[0] : stride[1];
    for (size_t phase = 0; phase < k_kinds[kind].n_phases; phase++) {
        for (size_t y = 0; y < window; y++) {
            for (size_t x = 0; x < window; x++) {
                const size_t ky = kind == CONV_DOUBLE ? 3 - phase / 2 - 2 * y : y, kx = kind == CONV_DOUBLE ? 3 - phase % 2 - 2 * x : x;
                const float *tap = from + ky * stride[2] + kx * stride[3];
                for (size_t o = 0; o < c->out; o++)
                    for (size_t i = 0; i < c->in; i++)
                        to[(phase * c->out + o) * n_row + (y * window + x) * c->in + i] = tap[o * stride_out + i * stride_in];
            }
        }
    }
}

/* Reads a layer's weight and bias. in: channels it gets; out: channels it must give, 0: as many as the file says. */
static pali_status conv_load(conv *c, source *s, const layer *l, size_t in, size_t out) {
    char name[64];
    source_tensor t;
    float *from;
    const size_t kernel = k_kinds[l->kind].kernel;
    const char *suffix = ".weight";
    memcpy(name, l->name, strlen(l->name));
    memcpy(name + strlen(l->name), suffix, strlen(suffix) + 1);
    STATUS_TRY(tensor_find(&t, s, name, 4));
    c->in = t.dims[l->kind == CONV_DOUBLE ? 0 : 1];
    c->out = t.dims[l->kind == CONV_DOUBLE ? 1 : 0];
    if (c->in != in || (out && c->out != out) || t.dims[2] != kernel || t.dims[3] != kernel)
        return status_fail(PALI_ERR_FORMAT, "%s: %s: shape [%zu, %zu, %zu, %zu]: expected a kernel of %zu x %zu, %zu channels in%s", s->file, name, t.dims[0], t.dims[1],
                           t.dims[2], t.dims[3], kernel, kernel, in, !out ? "" : out == 1 ? ", 1 out" : ", as many out as its block gets");
    if (c->out == 0 || (c->out > MAX_WIDTH && !out)) return status_fail(PALI_ERR_LIMIT, "%s: %s: %zu channels out: expected 1 to %u", s->file, name, c->out, MAX_WIDTH);
    size_t n = c->out * c->in * kernel * kernel; /* bounded by the limits */
    c->weight = mem_alloc(n, sizeof *c->weight);
    if (!c->weight) return status_no_memory(n * sizeof *c->weight);
    STATUS_TRY(tensor_read(&from, s, &t, name));
    weight_arrange(c->weight, from, &t, c, l->kind);
    mem_free(from);
    memcpy(name + strlen(l->name), ".bias", 6);
    return vector_load(&c->bias, s, name, c->out);
}

/* A chain of layers from `in` channels on a side of `side` to `out` channels. */
static pali_status layers_load(maskcodec *m, conv *convs, source *s, const layer *layers, size_t n, size_t side, size_t in, size_t out) {
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        conv *c = &convs[i];
        const layer *l = &layers[i];
        const size_t window = k_kinds[l->kind].window;
        if (l->residual == KEEP) kept = in;
        STATUS_TRY(conv_load(c, s, l, in, i + 1 == n ? out : l->residual == ADD ? kept : 0));
        m->n_act = max_size(m->n_act, side * side * in);
        if (l->kind == CONV_HALVE) side /= 2;
        m->n_rows = max_size(m->n_rows, side * side * window * window * in);
        if (l->kind == CONV_DOUBLE) side *= 2;
        m->n_act = max_size(m->n_act, side * side * c->out);
        m->n_parameters += c->out * (c->in * k_kinds[l->kind].kernel * k_kinds[l->kind].kernel + 1);
        in = c->out;
    }
    return PALI_OK;
}

static pali_status codebook_load(maskcodec *m, source *s) {
    static const char name[] = CODEBOOK;
    source_tensor t;
    size_t stride[4];
    float *from;
    STATUS_TRY(tensor_find(&t, s, name, 2));
    m->width = t.dims[1];
    if (t.dims[0] != MASKCODEC_CODES) return status_fail(PALI_ERR_FORMAT, "%s: %s: shape [%zu, %zu], expected [%u, ...]", s->file, name, t.dims[0], t.dims[1], MASKCODEC_CODES);
    if (m->width == 0 || m->width > MAX_CODE_WIDTH) return status_fail(PALI_ERR_LIMIT, "%s: %s: width %zu: expected 1 to %u", s->file, name, m->width, MAX_CODE_WIDTH);
    m->n_parameters = MASKCODEC_CODES * m->width;
    m->codebook = mem_alloc(m->n_parameters, sizeof *m->codebook);
    m->square = mem_calloc(MASKCODEC_CODES, sizeof *m->square);
    if (!m->codebook || !m->square) return status_no_memory(m->n_parameters * sizeof *m->codebook);
    STATUS_TRY(tensor_read(&from, s, &t, name));
    strides_of(stride, &t);
    for (size_t i = 0; i < MASKCODEC_CODES; i++) {
        float *row = m->codebook + i * m->width;
        for (size_t j = 0; j < m->width; j++) row[j] = from[i * stride[0] + j * stride[1]];
        for (size_t j = 0; j < m->width; j++) m->square[i] += row[j] * row[j];
    }
    mem_free(from);
    return PALI_OK;
}

static pali_status codec_read(maskcodec *m, source *s) {
    STATUS_TRY(codebook_load(m, s));
    STATUS_TRY(layers_load(m, m->decoder, s, k_decoder, N_DECODER, GRID, m->width, 1));
    m->has_encoder = source_has(s, "encoder.0.weight");
    return m->has_encoder ? layers_load(m, m->encoder, s, k_encoder, N_ENCODER, MASKCODEC_SIDE, 1, m->width) : PALI_OK;
}

pali_status maskcodec_parse(maskcodec **out, const uint8_t *bytes, size_t n_bytes, const char *name) {
    source s;
    *out = NULL;
    STATUS_TRY(source_open(&s, bytes, n_bytes, name));
    maskcodec *m = mem_calloc(1, sizeof *m);
    pali_status status = m ? codec_read(m, &s) : status_no_memory(sizeof *m);
    source_close(&s);
    if (status != PALI_OK) {
        maskcodec_free(m);
        return status;
    }
    *out = m;
    return PALI_OK;
}

pali_status maskcodec_load(maskcodec **out, const char *path) {
    file_map map;
    *out = NULL;
    STATUS_TRY(file_map_open(&map, path));
    pali_status s = maskcodec_parse(out, map.data, map.n_bytes, path);
    file_map_close(&map);
    return s;
}

bool maskcodec_is_npz(const char *path) {
    npz z;
    if (!file_begins(path, "PK") || npz_open(&z, path) != PALI_OK) return false;
    bool found = npz_find(&z, CODEBOOK) != NULL;
    npz_close(&z);
    return found;
}

void maskcodec_free(maskcodec *m) {
    if (!m) return;
    for (size_t i = 0; i < N_DECODER; i++) {
        mem_free(m->decoder[i].weight);
        mem_free(m->decoder[i].bias);
    }
    for (size_t i = 0; i < N_ENCODER; i++) {
        mem_free(m->encoder[i].weight);
        mem_free(m->encoder[i].bias);
    }
    mem_free(m->codebook);
    mem_free(m->square);
    mem_free(m);
}

size_t maskcodec_width(const maskcodec *m) {
    return m->width;
}

size_t maskcodec_parameters(const maskcodec *m) {
    return m->n_parameters;
}

bool maskcodec_has_encoder(const maskcodec *m) {
    return m->has_encoder;
}

/* ---- Running ---- */

/* Memory of one run: the current activation, the next, what a residual block keeps, the gathered windows, and the outputs of
 * one parity. */
typedef struct run {
    exec e;
    float *x, *next, *kept, *rows, *phase;
    float *block;
} run;

static pali_status run_begin(run *r, const maskcodec *m) {
    *r = (run){0};
    STATUS_TRY(exec_init(&r->e, 1));
    const size_t n = 4 * m->n_act + m->n_rows; /* bounded by the limits */
    r->block = mem_alloc(n, sizeof *r->block);
    if (!r->block) {
        exec_free(&r->e);
        return status_no_memory(n * sizeof *r->block);
    }
    r->x = r->block;
    r->next = r->x + m->n_act;
    r->kept = r->next + m->n_act;
    r->phase = r->kept + m->n_act;
    r->rows = r->phase + m->n_act;
    return PALI_OK;
}

static void run_end(run *r) {
    mem_free(r->block);
    exec_free(&r->e);
}

static void swap(float **a, float **b) {
    float *t = *a;
    *a = *b;
    *b = t;
}

/* rows [n_out * n_out, window, window, in] from x [side, side, in], zeros outside; the window of output (0, 0) begins at
 * (first_y, first_x). */
static void windows_gather(float *rows, const float *x, size_t side, size_t in, size_t n_out, conv_kind kind, ptrdiff_t first_y, ptrdiff_t first_x) {
    const ptrdiff_t end = (ptrdiff_t)side;
    for (size_t oy = 0; oy < n_out; oy++) {
        for (size_t ox = 0; ox < n_out; ox++) {
            const ptrdiff_t y0 = (ptrdiff_t)(oy * k_kinds[kind].stride) + first_y, x0 = (ptrdiff_t)(ox * k_kinds[kind].stride) + first_x;
            for (ptrdiff_t y = y0; y < y0 + (ptrdiff_t)k_kinds[kind].window; y++) {
                for (ptrdiff_t at = x0; at < x0 + (ptrdiff_t)k_kinds[kind].window; at++, rows += in) {
                    if (y < 0 || y >= end || at < 0 || at >= end)
                        memset(rows, 0, in * sizeof *rows);
                    else
                        memcpy(rows, x + ((size_t)y * side + (size_t)at) * in, in * sizeof *rows);
                }
            }
        }
    }
}

/* r->next = conv(r->x), ReLU apart. */
static pali_status conv_run(run *r, const conv *c, const layer *l, size_t side, size_t n_out) {
    const size_t window = k_kinds[l->kind].window, n_row = window * window * c->in;
    mat w = mat_f32(c->out, n_row, c->weight);
    if (l->kind == CONV_POINT) return linear(&r->e, r->next, r->x, &w, c->bias, side * side, l->residual == ADD ? LINEAR_ADD : LINEAR_SET);
    if (l->kind != CONV_DOUBLE) {
        windows_gather(r->rows, r->x, side, c->in, n_out, l->kind, k_kinds[l->kind].first, k_kinds[l->kind].first);
        return linear(&r->e, r->next, r->rows, &w, c->bias, n_out * n_out, LINEAR_SET);
    }
    for (size_t phase = 0; phase < 4; phase++) {
        const size_t py = phase / 2, px = phase % 2;
        w.data = c->weight + phase * c->out * n_row;
        windows_gather(r->rows, r->x, side, c->in, side, l->kind, (ptrdiff_t)py + k_kinds[l->kind].first, (ptrdiff_t)px + k_kinds[l->kind].first);
        STATUS_TRY(linear(&r->e, r->phase, r->rows, &w, c->bias, side * side, LINEAR_SET));
        for (size_t i = 0; i < side * side; i++)
            memcpy(r->next + ((2 * (i / side) + py) * n_out + 2 * (i % side) + px) * c->out, r->phase + i * c->out, c->out * sizeof *r->next);
    }
    return PALI_OK;
}

/* From r->x to r->x. */
static pali_status layers_run(run *r, const conv *convs, const layer *layers, size_t n, size_t side) {
    for (size_t i = 0; i < n; i++) {
        const layer *l = &layers[i];
        const size_t n_out = l->kind == CONV_HALVE ? side / 2 : l->kind == CONV_DOUBLE ? 2 * side : side, n_x = n_out * n_out * convs[i].out;
        if (l->residual == KEEP) memcpy(r->kept, r->x, side * side * convs[i].in * sizeof *r->x);
        if (l->residual == ADD) swap(&r->next, &r->kept); /* the sum is made where the kept input lies */
        STATUS_TRY(conv_run(r, &convs[i], l, side, n_out));
        for (size_t k = 0; l->relu && k < n_x; k++) r->next[k] = r->next[k] > 0 ? r->next[k] : 0;
        swap(&r->x, &r->next);
        side = n_out;
    }
    return PALI_OK;
}

pali_status maskcodec_decode(const maskcodec *m, float *mask, const int32_t *codes) {
    run r;
    STATUS_TRY(run_begin(&r, m));
    for (size_t i = 0; i < MASKCODEC_N_CODES; i++) memcpy(r.x + i * m->width, m->codebook + (size_t)codes[i] * m->width, m->width * sizeof *r.x);
    pali_status s = layers_run(&r, m->decoder, k_decoder, N_DECODER, GRID);
    if (s == PALI_OK) memcpy(mask, r.x, MASKCODEC_SIDE * MASKCODEC_SIDE * sizeof *mask);
    run_end(&r);
    return s;
}

/* The nearest row for each cell by |z|^2 + |e|^2 - 2 z.e, as the reference computes it; the first of equals. */
static pali_status codes_nearest(run *r, const maskcodec *m, int32_t *codes) {
    const mat book = mat_f32(MASKCODEC_CODES, m->width, m->codebook);
    float dots[MASKCODEC_N_CODES * MASKCODEC_CODES];
    STATUS_TRY(linear(&r->e, dots, r->x, &book, NULL, MASKCODEC_N_CODES, LINEAR_SET));
    for (size_t i = 0; i < MASKCODEC_N_CODES; i++) {
        const float *z = r->x + i * m->width, *dot = dots + i * MASKCODEC_CODES;
        float square = 0, least = 0;
        for (size_t k = 0; k < m->width; k++) square += z[k] * z[k];
        codes[i] = 0;
        for (size_t j = 0; j < MASKCODEC_CODES; j++) {
            const float distance = square + m->square[j] - 2.0f * dot[j];
            if (j > 0 && !(distance < least)) continue;
            least = distance;
            codes[i] = (int32_t)j;
        }
    }
    return PALI_OK;
}

pali_status maskcodec_encode(const maskcodec *m, int32_t *codes, float *z, const float *mask) {
    run r;
    if (!m->has_encoder) return status_fail(PALI_ERR_UNSUPPORTED, "this mask codec has no encoder: its file has no encoder.0.weight");
    STATUS_TRY(run_begin(&r, m));
    memcpy(r.x, mask, MASKCODEC_SIDE * MASKCODEC_SIDE * sizeof *mask);
    pali_status s = layers_run(&r, m->encoder, k_encoder, N_ENCODER, MASKCODEC_SIDE);
    if (s == PALI_OK) s = codes_nearest(&r, m, codes);
    if (s == PALI_OK && z) memcpy(z, r.x, MASKCODEC_N_CODES * m->width * sizeof *z);
    run_end(&r);
    return s;
}
