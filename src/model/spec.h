/* spec.h: the one table of tensors. Every weight of the model is named here once: its name in the file layouts, its
 * shape from the config, its group, and where it goes in the structs. Loading, saving, quantizing, counting and inspection
 * (later LoRA targets, optimizers) iterate it. Spec inference 3.2, 3.3, 8.4. */
#ifndef PALI_MODEL_SPEC_H
#define PALI_MODEL_SPEC_H

#include "model/gemma.h"
#include "model/vit.h"

typedef enum spec_group { SPEC_IMG, SPEC_PROJ, SPEC_EMBED, SPEC_LLM_ATTN, SPEC_LLM_MLP, SPEC_LLM_NORM } spec_group;

#define SPEC_NAME_MAX 160u
#define SPEC_GGUF_NAME_MAX 64u /* what the format's own tools allow, with the NUL */

/* What the tensors of a checkpoint are called. */
typedef enum spec_layout { SPEC_HF, SPEC_GGUF } spec_layout;

/* One tensor of one concrete model. */
typedef struct spec_tensor {
    char name[SPEC_NAME_MAX]; /* canonical: layout C of spec 3.3 without any outer prefix */
    char gguf_name[SPEC_GGUF_NAME_MAX];
    size_t n_dims, dims[4];
    spec_group group;
    bool optional;            /* absence is fine (a tied head) */
    mat *matrix;              /* where a matrix goes, or NULL */
    const float **vector;     /* where a vector or table kept in f32 goes, or NULL */
} spec_tensor;

typedef struct spec {
    spec_tensor *tensors;
    size_t n;
} spec;

/* Lists every tensor of a model of the given structs (their cfg and layers already set). */
pali_status spec_build(spec *out, vit *v, gemma *g);
void spec_free(spec *s);
const char *spec_name(const spec_tensor *t, spec_layout layout);
/* In a GGUF file, the name of a norm's copy before 1 was added: "blk.0.attn_norm.exact". */
void spec_exact_name(char out[SPEC_GGUF_NAME_MAX], const spec_tensor *norm);
/* The tensor that goes into this matrix of the structs. */
const spec_tensor *spec_of(const spec *s, const mat *matrix);

/* The dtypes asked for; AUTO: of `vision` (tower and projector) and `embed` (table and head) as `all` says, of `all` as stored. */
typedef struct spec_dtypes {
    pali_dtype all, vision, embed;
} spec_dtypes;

/* The dtype that a matrix is to be held in; AUTO: as stored. Quantizing leaves the patch embedding alone (0.03 % of the weights,
 * first in line), and keeps 8 bits for the tables, the tower and the projector where nothing else is asked for them. */
pali_dtype spec_dtype(const spec_tensor *t, spec_dtypes asked);
/* File name of a tensor, any layout of spec 3.3, to its canonical name. false: does not fit in n. */
bool spec_canonical_name(char *out, size_t n, const char *file_name);

#endif
