/* params.h: what is trained, as a list: every parameter's name, shape, values and gradient, and the rules that go by name
 * (spec training 3, 4.1, 4.7).
 *
 * The list is made of the table of tensors (model/spec.h) by groups, or of adapters by params_add. Three storages:
 *
 *              value           half            the model computes with     an update is rounded
 *   F32        f32             -               value                       once, to f32
 *   MASTER     f32             bf16            half                        to f32, and copied to bf16
 *   BF16       -               bf16            half                        to bf16: small ones are lost, or drawn by lot (optim.h)
 *
 * Vectors (norms, biases, the position table) are f32 everywhere in the model: of BF16 they have `value`, on bf16's grid.
 * Gradients are f32, or of matrices bf16 where memory decides; the tables' stay f32, because head and lookup meet in them at both ends
 * of backward. Surprise: big_vision's attention kernels keep heads as an axis, which its
 * Adafactor sees; hence row_heads and col_heads. */
#ifndef PALI_TRAIN_PARAMS_H
#define PALI_TRAIN_PARAMS_H

#include "model/spec.h"

#define PARAM_NAME_MAX 224u /* adapters add to the names of spec.h */
#define PARAM_ALIGN 256u    /* elements: a parameter begins on such a multiple of the flat index space */

typedef enum param_storage { PARAM_F32, PARAM_MASTER, PARAM_BF16 } param_storage;

typedef struct param {
    char name[PARAM_NAME_MAX];
    const spec_tensor *tensor; /* NULL: not the base model's */
    spec_group group;
    size_t n_dims, dims[4], n; /* n elements */
    bool decay;                /* Transformers decays it: neither bias nor norm */
    bool kernel;               /* big_vision does: its name there ends in /kernel, which only the image side has */
    bool embedding;            /* nn.Embedding: bitsandbytes keeps 32-bit states */
    size_t row_heads, col_heads; /* heads that rows or columns hold side by side; 1: none */
    float *value;              /* [n] or NULL */
    uint16_t *half;            /* [n] bf16 or NULL */
    bool on_grid;              /* value is kept to numbers that bf16 has */
    float *grad;               /* [n] or NULL */
    uint16_t *grad_half;       /* [n] bf16 or NULL */
} param;

typedef struct params {
    param *items;
    size_t n, cap;
    uint64_t n_values;  /* of all, what people call the number of trainable parameters */
    struct { void *data; size_t n_bytes; } block; /* values and gradients */
} params;

#define PARAMS_GROUP(group) (1u << (group))
#define PARAMS_ALL_GROUPS (PARAMS_GROUP(SPEC_LLM_NORM + 1) - 1)

/* "img", "proj", "embed", "llm.attn", "llm.mlp", "llm.norm" */
const char *params_group_name(spec_group group);
/* Lists "llm.attn,proj" of what to train (NULL: everything) and what to leave out of that (NULL: nothing), as a set of
 * PARAMS_GROUP. Something must remain. */
pali_status params_groups_parse(unsigned *out, const char *train, const char *freeze);

/* The tensors of these groups, in the table's order; of a tied head nothing. The spec is used as long as the list. */
pali_status params_of_spec(params *out, const spec *s, unsigned groups);
/* Appends one that is no tensor of the base model; it decays, under both rules, if it has more than one axis. */
pali_status params_add(params *p, const char *name, spec_group group, size_t n_dims, const size_t *dims);
void params_free(params *p);

/* Bytes that params_alloc takes. */
uint64_t params_need(const params *p, param_storage storage, bool half_grads);
/* Values and gradients of all, zero. */
pali_status params_alloc(params *p, param_storage storage, bool half_grads);
/* The same parameters, values included, with f32 gradients of their own, zero. Free with params_free, also after a failure. */
pali_status params_twin(params *out, const params *p);
uint64_t params_twin_bytes(const params *p);
/* Values as the tensors have them, before params_bind; those of params_add stay. */
pali_status params_load(params *p, exec *e);
/* Lets the tensors' places in the model lead to the values here. The model is the trainer's own copy of the structs. */
void params_bind(const params *p);
/* What one task goes over: elements begin..end of a parameter. Parameters first..first+n are so many pieces of at most `size`, in
 * order; all of them are one job for the threads, because models that are small have many parameters that are smaller. */
typedef struct params_piece {
    size_t item, begin, end;
} params_piece;
size_t params_n_pieces(const params *p, size_t first, size_t n, size_t size);
params_piece params_piece_at(const params *p, size_t first, size_t size, size_t index);

/* Gradients to zero. */
void params_clear_grads(params *p);

#endif
