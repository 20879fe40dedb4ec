/* config.h: the hyper-parameters of a PaliGemma, read from config.json with the documented defaults (spec inference
 * 1.1, 1.4). The loader corrects them from the tensors actually found where the two disagree. */
#ifndef PALI_MODEL_CONFIG_H
#define PALI_MODEL_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

#define CONFIG_MAX_LAYERS 256u
#define CONFIG_MAX_IMAGE 4096u /* pixels a side */
#define CONFIG_MAX_WIDTH 65536u
#define CONFIG_MAX_MLP_WIDTH (4 * CONFIG_MAX_WIDTH)
#define CONFIG_MAX_HEADS 1024u
#define CONFIG_MAX_HEAD_DIM 4096u
#define CONFIG_MAX_VOCAB (1u << 24)

typedef struct vit_config {
    size_t image_size; /* R, pixels */
    size_t patch_size; /* pixels */
    size_t n_patches;  /* P = (R / patch)^2: rows of the position table, image tokens */
    size_t width;      /* W */
    size_t n_layers;
    size_t n_heads;    /* head dim = W / n_heads */
    size_t mlp_width;
    float norm_eps;
} vit_config;

typedef struct gemma_config {
    int generation;      /* 1: Gemma, 2: Gemma 2 (four norms a layer, soft caps, sliding window) */
    size_t width;        /* D */
    size_t n_layers;     /* L */
    size_t n_heads;      /* N */
    size_t n_kv_heads;   /* K; N is a multiple of K */
    size_t head_dim;     /* H: never D / N */
    size_t mlp_width;    /* F */
    size_t vocab_size;   /* V: rows of the embedding table */
    float norm_eps;
    float rope_theta;
    float attn_scale;    /* query_pre_attn_scalar ^ -0.5 */
    float attn_softcap;  /* 0: none */
    float final_softcap; /* 0: none */
    size_t sliding_window;                 /* 0: none */
    bool layer_slides[CONFIG_MAX_LAYERS];  /* which layers use the window */
} gemma_config;

typedef struct config {
    vit_config vit;
    gemma_config text;
    int32_t image_token, bos_token, eos_token, pad_token;
    bool tied;    /* the head is the embedding table; false once the files turn out to hold another one */
    int resample; /* filter of the picture's resize, PIL's code: 3 bicubic unless preprocessor_config.json differs */
} config;

/* For readers of a format. What is true where a file says nothing: ids, tied head, resampling; */
void config_defaults(config *c);
/* and of the text model what both generations share and what Gemma 2 adds (generation is set). */
void config_text_defaults(gemma_config *t);
/* Reads `path` (config.json). Errors name the file and the field. */
pali_status config_load(config *out, const char *path);
pali_status config_parse(config *out, const char *json, size_t n_bytes, const char *name);
/* Reads what matters of the image processor's config into *c: processor_config.json (nested) or preprocessor_config.json
 * in `dir`; a missing file changes nothing. Anything but the standard normalisation, or another picture size than the
 * model's, is refused: we would silently see other pixels than the reference. */
pali_status config_load_preprocessor(config *c, const char *dir);
pali_status config_parse_preprocessor(config *c, const char *json, size_t n_bytes, const char *name);
/* Whether the text model has the sizes of a released one; then its logit scale, which they do not tell, is set. */
bool config_text_released(gemma_config *t);
/* The real shapes: "3b-224" ... "pg2-28b-896". */
pali_status config_named(config *out, const char *shape);
/* Parameters; a tied head is counted once (spec 1.2). */
uint64_t config_n_parameters(const config *c);
/* "PaliGemma 2 3B 448" for known shapes, "PaliGemma 1 (custom) 224" otherwise. */
void config_name(const config *c, char *out, size_t n);

#endif
