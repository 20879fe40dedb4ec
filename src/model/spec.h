/* spec.h: the one table of tensors. Every weight of the model is named here once: its name in the file layouts, its
 * shape from the config, its group, and where it goes in the structs. Loading, saving, quantizing, counting, inspection and
 * adapters iterate it. Spec inference 3.2, 3.3, 3.4, 8.4. */
#ifndef PALI_MODEL_SPEC_H
#define PALI_MODEL_SPEC_H

#include "model/gemma.h"
#include "model/vit.h"

typedef enum spec_group { SPEC_IMG, SPEC_PROJ, SPEC_EMBED, SPEC_LLM_ATTN, SPEC_LLM_MLP, SPEC_LLM_NORM } spec_group;

#define SPEC_NAME_MAX 160u
#define SPEC_GGUF_NAME_MAX 64u /* what the format's own tools allow, with the NUL */
#define SPEC_NPZ_NAME_MAX 96u
#define SPEC_NPZ_MAX_DIMS 6u
#define SPEC_NPZ_PREFIX "params/" /* before every array of a released file */
#define SPEC_NPZ_VIT_LAYERS "img/Transformer/encoderblock" /* older files have no stacks here, but encoderblock_0, encoderblock_1 ... */

/* What the tensors of a checkpoint are called. */
typedef enum spec_layout { SPEC_HF, SPEC_GGUF, SPEC_NPZ } spec_layout;

/* Where a tensor lies in a big_vision file. An array holds a weight of all layers, and two or three that act together:
 *
 *   name [n_layers, n_slots, dims...]      of which the tensor is [layer, slot, ...]
 *
 * An n_layers or n_slots of 0 says that the array has no such axis. What is left has its axes in big_vision's order (inputs before
 * outputs, heads apart). Axis axes[i] of it is the i-th in Hugging Face's order; row-major in that order, it is the tensor. */
typedef struct spec_npz {
    char name[SPEC_NPZ_NAME_MAX]; /* without SPEC_NPZ_PREFIX; empty: there is none (a head of its own) */
    size_t layer, n_layers;
    size_t slot, n_slots;   /* key 0, value 1; gate 0, up 1; query 0, key 1, value 2 where all have as many heads */
    size_t n_dims, dims[4];
    size_t axes[4];
} spec_npz;

/* One tensor of one concrete model. */
typedef struct spec_tensor {
    char name[SPEC_NAME_MAX]; /* canonical: layout C of spec 3.3 without any outer prefix */
    char gguf_name[SPEC_GGUF_NAME_MAX];
    spec_npz npz;
    size_t n_dims, dims[4];
    spec_group group;
    bool optional;            /* absence is fine (a tied head) */
    bool sensitive;           /* small, and an error in it costs more than its bits: keys and values that all heads share, attention's output */
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
/* The name that files on the hub have for it: layout A of spec 3.3. */
void spec_hub_name(char out[SPEC_NAME_MAX], const spec_tensor *t);
/* In a GGUF file, the name of a norm's copy before 1 was added: "blk.0.attn_norm.exact". */
void spec_exact_name(char out[SPEC_GGUF_NAME_MAX], const spec_tensor *norm);
/* The name of the array that has this layer alone in files without stacks: "img/Transformer/encoderblock_3/LayerNorm_0/scale". false:
 * they have none. */
bool spec_npz_unstacked_name(char *out, size_t n, const spec_npz *z);
/* The array's whole shape, with or without its axis of layers; its number of dims. */
size_t spec_npz_shape(size_t dims[SPEC_NPZ_MAX_DIMS], const spec_npz *z, bool stacked);
size_t spec_n_elements(const spec_tensor *t);
/* Bytes that it takes in memory: as a matrix of the dtype that has been set, or as a vector in f32. */
size_t spec_held_bytes(const spec_tensor *t);
/* The tensor that goes into this matrix of the structs. */
const spec_tensor *spec_of(const spec *s, const mat *matrix);

/* The dtypes asked for; AUTO: of `vision` (tower and projector) and `embed` (table and head) as `all` says, of `all` as stored. */
typedef struct spec_dtypes {
    pali_dtype all, vision, embed;
} spec_dtypes;

/* The dtype that a tensor is to have (vectors are held in f32 all the same); AUTO: as stored. Quantizing leaves the patch embedding
 * alone (0.03 % of the weights, first in line), and keeps 8 bits for the tables, the tower and the projector where nothing else is
 * asked for them, and for what is sensitive (5 % of the weights; SPEED.md). The types of kernels/codes.h are for linear layers only, all of them, as bitsandbytes does: the tables stay as
 * stored. */
pali_dtype spec_dtype(const spec_tensor *t, spec_dtypes asked);
/* Older writers saved tables that are computed, not learned: nobody misses them (spec 3.2). */
bool spec_is_computed(const char *name);
/* File name of a tensor, any layout of spec 3.3, to its canonical name. false: does not fit in n. */
bool spec_canonical_name(char *out, size_t n, const char *file_name);

#endif
