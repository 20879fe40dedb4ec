/* spec.h: the one table of tensors. Every weight of the model is named here once: its name in the file layouts, its
 * shape from the config, its group, and where it goes in the structs. Loading, counting and inspection (later saving,
 * quantizing, LoRA targets, optimizers) iterate it. Spec inference 3.2, 3.3. */
#ifndef PALI_MODEL_SPEC_H
#define PALI_MODEL_SPEC_H

#include "model/gemma.h"
#include "model/vit.h"

typedef enum spec_group { SPEC_IMG, SPEC_PROJ, SPEC_EMBED, SPEC_LLM_ATTN, SPEC_LLM_MLP, SPEC_LLM_NORM } spec_group;

#define SPEC_NAME_MAX 160u

/* One tensor of one concrete model. */
typedef struct spec_tensor {
    char name[SPEC_NAME_MAX]; /* canonical: layout C of spec 3.3 without any outer prefix */
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
/* The dtype that a matrix is to be held in when `asked` for; AUTO: as stored. Quantizing leaves the patch embedding alone
 * (0.03 % of the weights, first in line), and keeps 8 bits for the tables, the tower and the projector. */
pali_dtype spec_dtype(const spec_tensor *t, pali_dtype asked);
/* File name of a tensor, any layout of spec 3.3, to its canonical name. false: does not fit in n. */
bool spec_canonical_name(char *out, size_t n, const char *file_name);

#endif
