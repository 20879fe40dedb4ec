/* paligemma_train.h: fine-tuning, beside paligemma.h, whose rules hold here too.
 *
 * May change in any release: define PALI_EXPERIMENTAL to see it. */
#ifndef PALIGEMMA_TRAIN_H
#define PALIGEMMA_TRAIN_H

#include "paligemma.h"

#ifdef PALI_EXPERIMENTAL

#ifdef __cplusplus
extern "C" {
#endif

typedef enum pali_train_method {
    PALI_TRAIN_FULL = 0, /* weights of the model, those of chosen groups; the result is a model */
    PALI_TRAIN_LORA = 1  /* new low-rank adapters; the result is an adapter, and the model may be quantized (NF4: QLoRA) */
} pali_train_method;

typedef enum pali_train_loss {
    PALI_TRAIN_LOSS_HF = 0,        /* mean over the answers' tokens of an update, as Transformers; smoothing over all classes */
    PALI_TRAIN_LOSS_BIG_VISION = 1 /* mean over tokens of each row, then over rows; smoothing over the other classes */
} pali_train_loss;

typedef enum pali_train_event_kind {
    PALI_TRAIN_START = 0,   /* n_steps, n_rows, n_parameters, memory_bytes, memory_available */
    PALI_TRAIN_WORK = 1,    /* some of an update is done: often enough to stop, or to show that it is alive */
    PALI_TRAIN_LOGGED = 2,  /* loss, lr, grad_norm, n_tokens, ms since the last such event */
    PALI_TRAIN_EVAL = 3,    /* loss and accuracy over the validation data, n_tokens of its answers, ms */
    PALI_TRAIN_SAVED = 4,   /* text: the folder of a checkpoint */
    PALI_TRAIN_BAD_ROW = 5, /* text: file, line and what is wrong; the row is left out */
    PALI_TRAIN_SAMPLE = 6,  /* prefix, want, got: a row, and what the model answers to it now */
    PALI_TRAIN_NOTE = 7     /* text: something that is not as wished, though the run goes on */
} pali_train_event_kind;

typedef struct pali_train_event {
    pali_train_event_kind kind;
    uint64_t step, n_steps;    /* updates done, and of the whole run */
    double epoch;              /* epochs done, with the fraction */
    uint64_t n_rows, n_parameters; /* of the data; trained */
    uint64_t memory_bytes;     /* that training will take beside the model's weights, */
    uint64_t memory_available; /* of this; UINT64_MAX: unknown. What is left then may be filled with features of pictures */
    double loss, lr, grad_norm, accuracy, ms; /* grad_norm: before clipping; accuracy: share of tokens that are the likeliest */
    uint64_t n_tokens;
    const char *text;
    const char *prefix, *want, *got;
} pali_train_event;

/* Non-zero: save a checkpoint after the last complete update, and stop. */
typedef int (*pali_train_fn)(void *user, const pali_train_event *event);

/* A file of rows, and how often rows come from it. */
typedef struct pali_train_file {
    const char *path;
    double weight; /* 0 */
} pali_train_file;

/* Numbers are as pali_train_options_init sets them. */
typedef struct pali_train_options {
    size_t struct_size;
    const char *val_data;      /* rows to validate with; NULL: none */
    const char *resume;        /* NULL: a new run. "": goes on from the last checkpoint of the output; or from one that is named */
    const char *tensorboard;   /* folder for event files; NULL: none */
    pali_train_method method;
    const char *train, *freeze; /* full: lists of the groups img, proj, embed, llm.attn, llm.mlp, llm.norm; NULL: all, none */
    pali_dtype dtype;          /* full: what trained weights are computed with and saved as, F32, or BF16 (updates go to a copy in
                                * f32); AUTO: BF16 where the model's are of 16 bits */
    int32_t pure_bf16;         /* full: no such copy, and gradients in bf16 too, which takes the least memory: small updates are lost, */
    int32_t stochastic;        /* 1: or, so that they count on average, rounded up or down by lot */
    const char *lora_targets;  /* list of modules; NULL: q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj */
    int32_t lora_rank;         /* 0: that of lora_init, or 8 */
    int32_t lora_rslora;       /* scale alpha / sqrt(rank) instead of alpha / rank */
    int32_t lora_text_only;    /* no adapters in the vision tower and the projector */
    double lora_alpha;         /* 0: that of lora_init, or 8 */
    double lora_dropout;       /* 0; share of what goes into the adapters that is left out in each step, in [0, 1) */
    const char *lora_init;     /* directory of an adapter to go on with; NULL: a new one. What is said of rank, alpha, targets, rslora
                                * and text_only beside it must be what it has */
    const char *optimizer;     /* "adamw" (NULL), "adamw8bit", "paged_adamw8bit", "muon", "sgd", "adafactor", or a name of Transformers */
    const char *schedule;      /* "linear" (NULL), "cosine", "constant", "cosine_big_vision" */
    double lr;                 /* 5e-5 */
    double weight_decay;       /* 0 */
    double beta1, beta2, eps, momentum; /* -1: the optimizer's own */
    double warmup_steps;       /* 0; below 1 a share of all steps */
    double epochs;             /* 3; may have a fraction */
    uint64_t max_steps;        /* 0; otherwise instead of epochs */
    uint64_t batch_size;       /* 8 rows at a time */
    uint64_t grad_accum;       /* 1: times batch_size for an update */
    double max_grad_norm;      /* 1; 0: gradients are not clipped */
    double label_smoothing;    /* 0 */
    pali_train_loss loss;
    int32_t no_shuffle;
    const pali_train_file *files; /* [n_files] instead of `data`, which is then NULL. Without weights each row comes once an epoch; with */
    uint64_t n_files;          /* weights each place of an epoch draws a file by them, and takes the next of its rows in the order of a
                                * shuffle of its own: an epoch has as many rows as all files together */
    double dropout;            /* 0; share of what attention and MLP of each block of the text model add that is left out in each step, as
                                * in big_vision, in [0, 1) */
    uint64_t text_len;         /* 0; otherwise prompt and answer together are cut after text_len + 1 tokens, as in big_vision */
    const char *resize;        /* pictures to the model's size: "model" (NULL) as it is run, "big_vision" (bilinear without antialiasing) or
                                * "big_vision_aa" (with), as its recipes trained */
    const char *augment;       /* list of what happens to pictures, anew in every epoch: "ic" (a part of 50 to 100 % of the area, 3:4 to 4:3,
                                * stretched), "rc" (a square of 7/8 of the shorter side), "flip" (half of them mirrored, boxes of the
                                * text too). Rows whose texts have locations are not cropped; with masks, "left" or "right" not
                                * flipped. NULL: none */
    uint64_t seed;             /* 42: of the rows' order, the adapters' first values, rounding by lot, and what happens to pictures */
    uint64_t logging_steps;    /* 1 */
    uint64_t eval_steps;       /* 0: at the end only */
    uint64_t save_steps;       /* 500; 0: at the end only */
    uint64_t save_total_limit; /* 0: all checkpoints are kept; otherwise the last so many */
    const char *feature_cache; /* folder where what a frozen vision tower makes of each picture is kept for later runs; NULL: memory only */
    uint64_t samples;          /* 0: rows of val_data, or else of the data, that are answered whenever it validates, to be read in the log */
    int32_t n_threads;         /* 0: physical cores; results do not depend on it */
    int32_t force;             /* 1: begin even if it does not seem to fit into memory */
    uint64_t memory_bytes;     /* the whole run is to stay within this, the model's weights included: what is kept instead of computed
                                * again, which changes no results, is chosen by it. 0: three quarters of what there is to spare */
    pali_train_fn on_event;    /* may be NULL */
    void *user;
} pali_train_options;

PALI_API void pali_train_options_init(pali_train_options *options);

/* Fine-tunes the model, which is not changed, on rows {"image": "a.jpg" or [...], "prefix": "...", "suffix": "..." or [...]} of a JSONL
 * file, pictures relative to it; of a list of suffixes each epoch takes another. Into the directory `output` go log.jsonl, checkpoint-N/ after every save_steps updates and the last,
 * and beside them the result: an adapter that PEFT loads, or a directory that Transformers loads. Checkpoints appear whole or not
 * at all, and going on from one gives to the bit what not having stopped would have given.
 * A loss that is not a number ends the run with an error; the checkpoints from before stay. options may be NULL. */
PALI_API pali_status pali_finetune(const pali_model *model, const char *data, const char *output, const pali_train_options *options);

#ifdef __cplusplus
}
#endif

#endif /* PALI_EXPERIMENTAL */
#endif
