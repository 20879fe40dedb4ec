/* gemma.h: the Gemma 1 and 2 decoder (spec inference 2.4 - 2.10), written once for prefill, decode, beams and scoring.
 *
 * A call pushes a batch of segments through the layers. Each segment is a run of new rows of one sequence:
 *
 *   prefill             one segment, prefix = true:   every row sees every row of the segment (bidirectional)
 *   decode              one segment of one row
 *   beams, batches      B segments of one row, one cache each: one pass over the weights serves them all, and each gets
 *                       the bits it would get alone
 *   scoring             C segments of n_c rows, causal, all on the same base cache
 */
#ifndef PALI_MODEL_GEMMA_H
#define PALI_MODEL_GEMMA_H

#include "model/config.h"
#include "model/kv.h"
#include "tensor/exec.h"
#include "tensor/mat.h"

typedef struct gemma_layer {
    const float *norm_attn_in;   /* [D] input_layernorm */
    const float *norm_attn_out;  /* Gemma 2 post_attention_layernorm; NULL in Gemma 1 */
    const float *norm_mlp_in;    /* Gemma 1 post_attention_layernorm, Gemma 2 pre_feedforward_layernorm */
    const float *norm_mlp_out;   /* Gemma 2 post_feedforward_layernorm; NULL in Gemma 1 */
    mat q, k, v, o;              /* [N*H, D], [K*H, D], [K*H, D], [D, N*H] */
    mat gate, up, down;          /* [F, D], [F, D], [D, F] */
} gemma_layer;

typedef struct gemma {
    gemma_config cfg;
    mat embed;                   /* [V, D], also the head unless head.data is set */
    mat head;                    /* [V, D]; dtype AUTO when tied */
    gemma_layer *layers;
    const float *norm_final;     /* [D]; norms are stored without the +1, as in the files */
} gemma;

/* What a block's linear layers read: queries, keys and values; gate and up; down. (What attention's output reads nobody asks: it is
 * never rounded to 4 bits.) */
typedef enum gemma_input { GEMMA_IN_ATTENTION, GEMMA_IN_MLP, GEMMA_IN_DOWN, GEMMA_INPUTS } gemma_input;

typedef struct gemma_segment {
    kv_cache *kv;   /* rows are appended to it */
    size_t n_rows;
    bool prefix;    /* bidirectional block; only as the first rows of a sequence */
    size_t n_pictures; /* its first rows are of pictures; matters to exec.input alone */
} gemma_segment;

/* out [n, D] = embedding rows of ids times sqrt(D) in f32, the dtype the model runs in (spec 2.4). An id outside
 * [0, V) is an error. */
pali_status gemma_embed(exec *e, const gemma *g, float *out, const int32_t *ids, size_t n);

/* dembed [V, D] += what flows back through gemma_embed from dx [n, D]. */
pali_status gemma_embed_backward(exec *e, const gemma *g, float *dembed, const int32_t *ids, const float *dx, size_t n);

/* x [sum of n_rows, D]: in the input rows, out the last layer's residual stream. Caches grow by n_rows. On failure the
 * caches keep their old length. */
pali_status gemma_forward(exec *e, const gemma *g, float *x, const gemma_segment *segments, size_t n_segments);

/* hidden [n, D] = final norm of x [n, D]; may be in place. */
pali_status gemma_final_norm(exec *e, const gemma *g, float *hidden, const float *x, size_t n);
/* logits [n, V] of hidden [n, D], final soft cap applied where configured. alone: the rows belong to different sequences,
 * and each gets the bits it would get alone. */
pali_status gemma_logits(exec *e, const gemma *g, float *logits, const float *hidden, size_t n, bool alone);
/* Of one row's logits [V] only those of ids first to first + n - 1, with the same bits; the others stay as they are. */
pali_status gemma_logits_some(exec *e, const gemma *g, float *logits, const float *hidden, size_t first, size_t n);

/* Adds what gemma_forward and gemma_logits need for n_segments of n_rows each, the last of which sees n_keys; more than one
 * row is a prefix. Data of the weights is not looked at. */
void gemma_need(exec_need *need, exec *e, const gemma *g, size_t n_segments, size_t n_rows, size_t n_keys);

#endif
