/* optim.h: optimizers over the list of trainable parameters (spec training 4.1 - 4.3, 4.7).
 *
 *   name                   decays        update of p from g; m and v are running means of g and g^2
 *   adamw                  before        p -= lr m^ / (sqrt(v^) + eps)                    PyTorch's AdamW, as Transformers runs it
 *   adamw_hf               after         p -= lr sqrt(c2)/c1 m / (sqrt(v) + eps)          Transformers' own, until 4.x
 *   adamw8bit              after         m and v in 8 bits, a scale for each 256          bitsandbytes (dynamic8.h)
 *   paged_adamw8bit        after         the same; large states in a file                 what "paged" can mean on a CPU
 *   adam_big_vision        absolute      p -= factor (lr m^ / (sqrt(v^) + eps) + wd p)    wd is not multiplied by lr
 *   sgd                    in g          m = momentum m + g, p -= lr m; plain without momentum
 *   muon                   before        of matrices: momentum, made orthogonal (optim_muon.c); the others as adamw
 *   adafactor              before        u = g / sqrt(factored v), u / max(1, rms(u)), p -= lr u
 *   adafactor_big_vision   absolute      the same without that division; m = 0.9 m + 0.1 u, p -= factor (lr m + wd p)
 *
 * Elements do not depend on one another but through sums that have one order, and what is drawn by lot depends on step and
 * place alone: the bits are the same for any number of threads. Arithmetic is f32 with one rounding an operation; PyTorch
 * fuses some, so its last bits differ. Where the decay is smaller than half a unit of the last place of 1 (lr wd < 3e-8)
 * f32 loses it here as there.
 *
 * Surprise: bitsandbytes' path for CPUs is another optimizer than its path for GPUs, which is ours and what people train with. It
 * looks codes up in a table with steps of 3e-5, so that of v nothing is smaller than 1.6e-5 of a block's largest, lets codes of
 * m change sign, and decays before the update (a difference of lr^2 wd). */
#ifndef PALI_TRAIN_OPTIM_H
#define PALI_TRAIN_OPTIM_H

#include "base/scratchfile.h"
#include "train/params.h"

typedef enum optim_kind {
    OPTIM_ADAMW,
    OPTIM_ADAMW_HF,
    OPTIM_ADAMW_8BIT,
    OPTIM_ADAM_BV,
    OPTIM_SGD,
    OPTIM_MUON,
    OPTIM_ADAFACTOR,
    OPTIM_ADAFACTOR_BV
} optim_kind;

typedef struct optim_options {
    optim_kind kind;
    double beta1, beta2, eps;
    double weight_decay;   /* of what is decayed: param.decay, or param.kernel for big_vision's */
    double momentum;       /* SGD, Muon and big_vision's Adafactor; 0: none */
    pali_dtype states;     /* F32 or BF16: m and v of Adam, m of the others */
    bool stochastic;       /* what is stored as bf16 rounds up or down by lot, so that small updates count on average */
    uint64_t seed;         /* of that lot */
    bool paged;            /* states of large parameters lie in a file in `paged_dir` */
    const char *paged_dir; /* NULL: in memory after all */
} optim_options;

/* The element types of states; every one of a parameter is one array: "m.<name>", "v.", 8 bits "m8.", "v8." with scales "am.",
 * "av.", factored "vr.", "vc." */
typedef enum optim_dtype { OPTIM_F32, OPTIM_BF16, OPTIM_U8 } optim_dtype;

typedef struct optim_array {
    const char *prefix, *param; /* its name is both */
    optim_dtype dtype;
    size_t n_dims, dims[4], n_bytes;
    void *data;                 /* the state itself: read it to save, write it to resume */
} optim_array;

typedef struct optim optim;

/* The learning rate of one update, and what gradients are multiplied by (clip.h). */
typedef struct optim_rate {
    double lr, factor; /* base rate, schedule (schedule.h) */
    float grad_scale;  /* 1: as they are */
} optim_rate;

/* Defaults of an optimizer by its name above, or the reference's: adamw_torch, adamw_bnb_8bit, paged_adamw_8bit ... */
pali_status optim_options_named(optim_options *out, const char *name);
/* Bytes of memory and of file that states and scratch will take. */
void optim_need(const optim_options *o, const params *p, uint64_t *memory, uint64_t *file);
/* Bytes of scratch that each worker of an update will ask for. */
size_t optim_worker_bytes(const optim_options *o, const params *p, const kernels *k);
/* States of zero for the list, which must stay as it is. */
pali_status optim_new(optim **out, const optim_options *o, params *p);
void optim_free(optim *o);

/* Updates done. Setting it goes with filling the arrays. */
uint64_t optim_step(const optim *o);
void optim_set_step(optim *o, uint64_t step);
/* Begins the next update; then each parameter is updated once, in any order, as soon as its gradient is complete. */
void optim_begin(optim *o, optim_rate rate);
pali_status optim_update(optim *o, exec *e, size_t first, size_t n);

size_t optim_n_arrays(const optim *o);
void optim_array_get(const optim *o, size_t i, optim_array *out);

#endif
