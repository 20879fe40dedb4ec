/* adapter.h: a LoRA adapter as PEFT saves it, a directory with adapter_config.json and adapter_model.safetensors (spec inference 9,
 * training 5.2), checked against the model that it is for. Immutable once opened.
 *
 * Its A and B are copied as f32; matrices that it brings whole (modules_to_save) stay where they are in its file. */
#ifndef PALI_MODEL_ADAPTER_H
#define PALI_MODEL_ADAPTER_H

#include "io/safetensors.h"
#include "model/adapter_config.h"
#include "model/model.h"

/* What it does to one tensor of the model. */
typedef struct adapter_part {
    size_t rank;         /* 0: no update */
    float scale;
    mat a, b;            /* [rank, in], [out, rank] */
    bool has_bias, replaces;
    bool separate;       /* replaces a copy: a head that is tied to the table keeps the base's */
    const float *bias;   /* [out], added to y with the scale */
    mat value;           /* instead of the matrix */
    const float *vector; /* instead of the vector */
} adapter_part;

typedef struct adapter {
    char *path;
    adapter_config cfg;
    safetensors file;
    adapter_part *parts; /* [n_parts] one for each tensor of the spec, the head included */
    size_t n_parts;
    void *block;         /* all A, B, biases and vectors in f32 */
    size_t block_bytes, mapped_bytes; /* mapped: matrices that stay in the file */
    size_t n_updated, n_replaced, rank_min, rank_max;
    uint64_t n_parameters; /* that training it trained */
    char *targets;       /* "q_proj,v_proj": what the updated modules are called, each once */
    bool touches_vision, touches_text; /* vision: tower or projector, so that features of pictures change */
} adapter;

/* `base` is only looked at while opening. outline: without the data, for plans; base may be an outline too. */
pali_status adapter_open(adapter **out, const char *dir, const model *base, bool outline);
void adapter_free(adapter *a);

#endif
