/* paligemma.h: the public interface of libpaligemma.
 *
 * PaliGemma reads pictures and a prompt and writes text: captions, answers, boxes, masks. This header is all an
 * application needs; it is valid C11 and C++.
 *
 * Rules that hold everywhere
 *  - Handles are opaque. Creation writes *out (NULL on failure) and returns a pali_status.
 *  - pali_last_error() is a one-line message of this thread's last failure; it names the file, tensor or field.
 *  - Option structs begin with struct_size and are filled by their *_init function; zero means the default. Fields are
 *    only ever appended, so a program compiled against an older header keeps working.
 *  - A model is immutable and may be shared by any number of threads, and so is an adapter; a session is used by one thread
 *    at a time. pali_session_cancel() is the one call that may come from another thread. A session keeps its model and the
 *    adapters that it uses alive, an adapter its model.
 *  - The caller frees what a _new, _load, _find, _from_* function, pali_generate, pali_score or a batch gave it. _free(NULL) is
 *    fine.
 *  - Callbacks get the `user` pointer of their option struct; a non-zero return stops the work (PALI_ERR_CANCELLED).
 *  - The library never prints, exits, installs signal handlers, touches the network or keeps mutable globals.
 *  - Strings are UTF-8. Row-major arrays; shapes are written [rows, columns].
 */
#ifndef PALIGEMMA_H
#define PALIGEMMA_H

#include <stddef.h>
#include <stdint.h>

#define PALI_VERSION_MAJOR 0
#define PALI_VERSION_MINOR 1
#define PALI_VERSION_PATCH 0

#if defined(__GNUC__)
#define PALI_API __attribute__((visibility("default")))
#else
#define PALI_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Status ------------------------------------------------------------------------------------------------- */

typedef enum pali_status {
    PALI_OK = 0,
    PALI_ERR_ARGUMENT = 1,    /* a parameter is NULL, out of range or contradicts another */
    PALI_ERR_MEMORY = 2,      /* an allocation failed */
    PALI_ERR_IO = 3,          /* a file could not be opened, read or written */
    PALI_ERR_FORMAT = 4,      /* a file's content is not what its format demands */
    PALI_ERR_UNSUPPORTED = 5, /* well-formed, but this build or version does not do it */
    PALI_ERR_LIMIT = 6,       /* beyond a documented limit (pixels, file size, context length) */
    PALI_ERR_CANCELLED = 7,   /* a callback or pali_session_cancel() stopped it */
    PALI_ERR_INTERNAL = 8     /* a defect of the library */
} pali_status;

/* Library version as "major.minor.patch". */
PALI_API const char *pali_version(void);
/* Short name of a status, for instance "format". Never NULL. */
PALI_API const char *pali_status_name(pali_status status);
/* One line about this thread's last failure; "" if there was none. Valid until the next failing call. */
PALI_API const char *pali_last_error(void);

/* Progress of long work: `what` names the phase, done of total bytes or steps. Non-zero return stops. */
typedef int (*pali_progress_fn)(void *user, const char *what, uint64_t done, uint64_t total);

/* ---- Model -------------------------------------------------------------------------------------------------- */

typedef struct pali_model pali_model;
typedef struct pali_contents pali_contents;
typedef struct pali_session pali_session;
typedef struct pali_image pali_image;
typedef struct pali_result pali_result;
typedef struct pali_batch pali_batch;
typedef struct pali_tokenizer pali_tokenizer;
typedef struct pali_objects pali_objects;
typedef struct pali_mask_codec pali_mask_codec;
typedef struct pali_adapter pali_adapter;
typedef struct pali_calibration pali_calibration;

/* Element types of weights. */
typedef enum pali_dtype {
    PALI_DTYPE_AUTO = 0, /* as stored */
    PALI_DTYPE_F32 = 1,
    PALI_DTYPE_BF16 = 2,
    PALI_DTYPE_F16 = 3,
    /* Blocks of 4- and 8-bit integers as GGUF defines them (32 weights, or 256 for the two-level Q4_K). Asked for while
     * loading, Q8_0 makes every matrix Q8_0; Q4_K makes the text layers Q4_K (Q4_1 where a row is no multiple of 256) and
     * the rest Q8_0. */
    PALI_DTYPE_Q8_0 = 4,
    PALI_DTYPE_Q4_0 = 5, /* w = d (q - 8) */
    PALI_DTYPE_Q4_1 = 6, /* w = d q + m */
    PALI_DTYPE_Q4_K = 7, /* w = d s q - m t with 6-bit s, t for each 32 of 256 */
    /* bitsandbytes' types, of linear layers only: asked for while loading, they leave the embedding table, the head and the patch
     * embedding as stored, and make of the rest what the library's quantizers make. */
    PALI_DTYPE_NF4 = 8, /* w = table[code] scale, 64 weights to a scale, rounded to the type they were quantized from */
    PALI_DTYPE_FP4 = 9, /* the same with another table */
    PALI_DTYPE_INT8 = 10 /* w = code scale / 127, a scale a row; activations stay as they are */
} pali_dtype;

/* "f32", "bf16", "f16", "q8_0", "q4_0", "q4_1", "q4_k", "nf4", "fp4", "int8"; "auto" for anything else. Never NULL. */
PALI_API const char *pali_dtype_name(pali_dtype dtype);

typedef struct pali_model_options {
    size_t struct_size;
    const char *tokenizer_path; /* tokenizer.json, tokenizer.model or a .gguf file; NULL: beside or in the weights. Read first */
    pali_dtype dtype;           /* convert matrices while loading; AUTO: keep as stored (zero copy) */
    int32_t n_threads;          /* for loading; 0: physical cores */
    int32_t no_sliding_window;  /* 1: PaliGemma 2 without the 4096-token window (what training used); 0: as Transformers */
    int32_t no_final_softcap;   /* 1: PaliGemma 2 without the final logit cap (as big_vision); 0: as Transformers */
    pali_progress_fn progress;  /* may be NULL */
    void *user;
    pali_dtype vision_dtype;    /* of the tower and the projector; AUTO: as dtype says, but Q8_0 where that is quantized */
    pali_dtype embed_dtype;     /* of the embedding table and the head, none of bitsandbytes' types; AUTO: likewise */
    int32_t no_prefault;        /* 1: do not bring the weights into memory ahead of their use: to look at a model or save it. A model from
                                 * an .npz file, whose weights have to be put in order to be used, can then do nothing else */
    const char *mmproj_path;    /* the vision tower of a .gguf file that has a text model alone; NULL: the only *mmproj*.gguf beside it */
    const void *gguf;           /* [n_gguf_bytes] a whole .gguf file in memory, used where it lies, so it must stay as it is until the model
                                 * (and all that keeps it alive) is freed; `path` is then its name in messages, no file of that name is
                                 * looked for. NULL: `path` is opened */
    size_t n_gguf_bytes;
} pali_model_options;

PALI_API void pali_model_options_init(pali_model_options *options);

/* Opens a Hugging Face directory (config.json, one or more safetensors, tokenizer), also as bitsandbytes quantized it; or a .gguf
 * file: one that has all of it, as pali_model_save writes, or a Gemma text model with a "mmproj" file for its vision tower (and
 * either may be in parts, opened by any part's name); or a .npz file of big_vision with a tokenizer beside it (tokenizer.json,
 * tokenizer.model or paligemma_tokenizer.model; a config.json only for sizes that were never released, unless it is in the file).
 * Weights are mapped, not read: they come in from disk as they are used or as `progress` reports. Copied are those of .npz files,
 * which have another order there, all but the embedding table, and matrices of types that are not in pali_dtype (Q5_0, Q5_1, Q2_K,
 * Q3_K, Q5_K, Q6_K), which become Q8_0 unless `dtype` says otherwise. options may be NULL. */
PALI_API pali_status pali_model_load(pali_model **out, const char *path, const pali_model_options *options);

/* A model of a named real shape with random weights, for timing: "3b-224", "3b-448", "3b-896", "pg2-3b-224",
 * "pg2-10b-224", "pg2-28b-224" (and 448, 896). It has no tokenizer, so it takes token prompts only. */
PALI_API pali_status pali_model_random(pali_model **out, const char *shape, uint64_t seed, const pali_model_options *options);

PALI_API void pali_model_free(pali_model *model);

/* An adapter (see below) and by how much its effect is multiplied: 1 is as it was trained. */
typedef struct pali_adapter_use {
    const pali_adapter *adapter;
    float scale;
} pali_adapter_use;

/* What is left of adapters that are merged into rounded weights, by Frobenius norms over all matrices with an update. */
typedef struct pali_merge_error {
    size_t struct_size;
    size_t n_merged;  /* such matrices */
    double weights;   /* |stored - merged| / |merged|, with merged = W + s B A in f32 */
    double updates;   /* |stored - merged| / |s B A|: the share of the update that rounding costs; 0: none */
    double worst;     /* the largest such share of a single matrix, */
    char worst_name[160]; /* and its canonical name; "": there is none */
} pali_merge_error;

typedef struct pali_save_options {
    size_t struct_size;
    pali_dtype dtype;        /* what matrices become, as in pali_model_options, bitsandbytes' types in directories only; AUTO: as they are
                              * held, or where a format has not got that, a type of floats */
    pali_dtype vision_dtype;
    pali_dtype embed_dtype;
    int32_t n_threads;       /* for converting; 0: physical cores */
    pali_progress_fn progress; /* may be NULL */
    void *user;
    uint64_t shard_bytes;    /* of a .safetensors file of a directory, at most; 0: 5 GB, as Transformers */
    const pali_adapter_use *adapters; /* [n_adapters] merged into what is written: W + s B A, computed in f32, then rounded to
                                       * the type of the file. bf16 and smaller types lose some of a small update */
    size_t n_adapters;
    pali_merge_error *merge_error; /* filled on success, its struct_size set before; NULL: not wanted, which saves some time */
    const pali_calibration *calibration; /* of this model, ended: matrices that become 4-bit blocks are rounded with it (see below); NULL:
                                          * each weight by itself */
} pali_save_options;

PALI_API void pali_save_options_init(pali_save_options *options);

/* Writes the model, its tokenizer and its configuration. The name tells the format: one file that ends in ".gguf", one of
 * big_vision's arrays that ends in ".npz" (weights only), otherwise a directory that Transformers loads. Saving converts a few
 * megabytes at a time: a model opened with no_prefault and saved with a dtype needs little memory. Without a dtype every tensor
 * is written as it is stored, to the bit; but only .gguf files have quantized weights, elsewhere they become bf16. A weight that
 * f16 cannot hold is an error.
 * The file or directory appears under its name when it is whole; a failure leaves nothing behind. A file that is there is
 * replaced, unless it is the model's own; a directory must be new or empty. What was switched off while loading (the sliding
 * window, the final cap) is off in the result. options may be NULL. */
PALI_API pali_status pali_model_save(const pali_model *model, const char *path, const pali_save_options *options);

typedef struct pali_model_info {
    size_t struct_size;
    int32_t generation;      /* 1 or 2 */
    int32_t image_size;      /* R, pixels */
    int32_t n_image_tokens;  /* N per picture */
    int32_t vision_layers, vision_width, vision_heads, vision_mlp_width;
    int32_t text_layers, text_width, text_heads, text_kv_heads, text_head_dim, text_mlp_width;
    int32_t vocab_size;      /* rows of the embedding table */
    int32_t sliding_window;  /* 0: none */
    int32_t has_tokenizer;
    uint64_t n_parameters;   /* tied head counted once */
    uint64_t weight_bytes;   /* as held in memory */
    uint64_t kv_bytes_per_token;
    const char *name;        /* for instance "PaliGemma 2 3B 448"; owned by the model */
    int32_t image_token, bos_token, eos_token; /* ids, for pali_generate_tokens */
} pali_model_info;

PALI_API pali_status pali_model_get_info(const pali_model *model, pali_model_info *info);

typedef enum pali_tensor_state {
    PALI_TENSOR_FOUND = 0,
    PALI_TENSOR_MISSING = 1, /* no file has it */
    PALI_TENSOR_UNFIT = 2,   /* of another shape, or of a type that is not read */
    PALI_TENSOR_EXTRA = 3    /* in a file, but no part of the model asks for it */
} pali_tensor_state;

typedef struct pali_tensor_info {
    size_t struct_size;
    const char *name; /* canonical Hugging Face name; owned by the model */
    const char *file; /* the file it was found in; owned by the model */
    pali_dtype dtype; /* that a matrix is held in; of vectors, which are held in f32, the stored one */
    int32_t n_dims;
    uint64_t dims[4];
    const char *stored; /* its type in the file, as the format calls it ("BF16", "Q6_K"); "": none. Static */
    pali_tensor_state state; /* of pali_contents; those of a model are FOUND */
    uint64_t n_bytes;        /* in the file, 0 if in none; of random ones in pali_contents, in memory */
    const char *problem;     /* what is wrong with one that is MISSING or UNFIT, else ""; owned as name */
} pali_tensor_info;

PALI_API size_t pali_model_tensor_count(const pali_model *model);
PALI_API pali_status pali_model_get_tensor(const pali_model *model, size_t index, pali_tensor_info *info);

/* A model (or a LoRA adapter) as far as its files say of themselves, also where it cannot be opened because something is missing or does not fit: to
 * look at, and to find out why. Reads no weights. Fails only where there is nothing to show: no tensor in any file that could be
 * read. Takes the options of pali_model_load; they may be NULL. */
PALI_API pali_status pali_contents_load(pali_contents **out, const char *path, const pali_model_options *options);
/* The same of a model that pali_model_random would make, without making it. */
PALI_API pali_status pali_contents_random(pali_contents **out, const char *shape, const pali_model_options *options);
PALI_API void pali_contents_free(pali_contents *contents);
/* What pali_model_load would fail with, as far as this shows, or "". Owned by the contents. */
PALI_API const char *pali_contents_problem(const pali_contents *contents);
/* Fails where the files do not say what the model is. */
PALI_API pali_status pali_contents_get_info(const pali_contents *contents, pali_model_info *info);
/* The model's tensors in the order of its layers, then those that are extra: all where the files do not say what the model is.
 * `dims` has four sizes at most of those. */
PALI_API size_t pali_contents_tensor_count(const pali_contents *contents);
PALI_API pali_status pali_contents_get_tensor(const pali_contents *contents, size_t index, pali_tensor_info *info);

/* The model's own tokenizer, or NULL. Owned by the model; do not free. */
PALI_API const pali_tokenizer *pali_model_tokenizer(const pali_model *model);

/* ---- Memory ------------------------------------------------------------------------------------------------- */

/* What a session is to do. Zero means the default. */
typedef struct pali_memory_request {
    size_t struct_size;
    const pali_model_options *model; /* how the model is to be opened; NULL: defaults */
    int32_t n_threads;               /* of the session; 0: physical cores */
    int32_t n_images;                /* pictures of a request; default 1 */
    int32_t prompt_tokens;           /* of its text, bos and newline included; default 32 */
    int32_t max_tokens;              /* default 256 */
    int32_t num_beams;               /* default 1 */
    int32_t max_sequences;           /* of a batch; default 1 */
    uint64_t picture_bytes;          /* of all decoded pictures held at once; default 12 megapixels for each */
    const char *const *adapters;     /* [n_adapters] directories of the adapters that it uses */
    size_t n_adapters;
} pali_memory_request;

PALI_API void pali_memory_request_init(pali_memory_request *request);

/* Bytes at the moment of greatest need, added up from the sizes that the computation itself asks for. */
typedef struct pali_memory_plan {
    size_t struct_size;
    uint64_t weights_mapped;  /* pages of the model's files, used where they are; the system may drop and read them again */
    uint64_t weights;         /* weights with memory of their own: converted and random ones */
    uint64_t tokenizer;
    uint64_t pictures;        /* decoded */
    uint64_t features;        /* the model's inputs and what a session remembers of pictures */
    uint64_t activations;     /* of vision, prompt and decoding, whichever needs most, and scratch of the threads */
    uint64_t kv_cache;
    uint64_t logits;          /* and what choosing tokens needs */
    uint64_t program;
    uint64_t total;
    uint64_t available;       /* what this process may use now; pages of files that can be dropped count as available */
    uint64_t installed;       /* what there is at most: of the machine, or of the limit that this process is under */
    int32_t fits;             /* 1: all but weights_mapped is available, and `total` installed */
    uint64_t loading;         /* for the largest compressed array while it is opened, beyond what it needs when it runs */
} pali_memory_plan;

/* Plans a model for pali_model_load; reads what its files say of themselves, not the weights. */
PALI_API pali_status pali_memory_plan_load(pali_memory_plan *plan, const char *path, const pali_memory_request *request);
/* The same for pali_model_random. */
PALI_API pali_status pali_memory_plan_random(pali_memory_plan *plan, const char *shape, const pali_memory_request *request);

/* ---- Tokenizer ---------------------------------------------------------------------------------------------- */

/* Opens tokenizer.json, tokenizer.model or a .gguf file (decided by content). */
PALI_API pali_status pali_tokenizer_load(pali_tokenizer **out, const char *path);
PALI_API void pali_tokenizer_free(pali_tokenizer *tokenizer);

/* Flags of pali_tokenizer_encode. */
#define PALI_ENCODE_SPECIAL 1u /* text such as "<bos>" becomes its special token; without it, it stays text */

/* Ids of `text` (n_bytes long, may hold NUL); no bos is added. *out_ids is freed with pali_free. loc and seg tokens
 * are always recognised. */
PALI_API pali_status pali_tokenizer_encode(const pali_tokenizer *tokenizer, const char *text, size_t n_bytes, uint32_t flags,
                                           int32_t **out_ids, size_t *out_n);
/* Text of ids without special tokens (loc and seg stay). *out_text is NUL-terminated and freed with pali_free. */
PALI_API pali_status pali_tokenizer_decode(const pali_tokenizer *tokenizer, const int32_t *ids, size_t n, char **out_text,
                                           size_t *out_n_bytes);
/* The piece of one id as stored ("▁cat"), or NULL if there is none. Owned by the tokenizer. */
PALI_API const char *pali_tokenizer_piece(const pali_tokenizer *tokenizer, int32_t id);

/* Frees memory that a function of this header documents as "freed with pali_free". */
PALI_API void pali_free(void *pointer);

/* ---- Images ------------------------------------------------------------------------------------------------- */

/* Decodes JPEG, PNG, WebP, GIF (first frame), BMP, PPM/PGM. EXIF orientation is applied, transparency composited over
 * white. Limits: 178,956,970 pixels, 1 GiB of file. */
PALI_API pali_status pali_image_load(pali_image **out, const char *path);
PALI_API pali_status pali_image_from_memory(pali_image **out, const void *bytes, size_t n_bytes);
/* Copies 8-bit RGB rows; stride_bytes 0 means 3 * width. */
PALI_API pali_status pali_image_from_rgb(pali_image **out, const uint8_t *rgb, int32_t width, int32_t height, size_t stride_bytes);
PALI_API void pali_image_free(pali_image *image);
PALI_API int32_t pali_image_width(const pali_image *image);
PALI_API int32_t pali_image_height(const pali_image *image);
/* [height, width, 3] 8-bit RGB, after orientation; owned by the image. */
PALI_API const uint8_t *pali_image_rgb(const pali_image *image);

/* ---- Session ------------------------------------------------------------------------------------------------ */

typedef struct pali_session_options {
    size_t struct_size;
    int32_t n_threads; /* 0: physical cores. Results do not depend on it */
} pali_session_options;

PALI_API void pali_session_options_init(pali_session_options *options);
PALI_API pali_status pali_session_new(pali_session **out, pali_model *model, const pali_session_options *options);
PALI_API void pali_session_free(pali_session *session);
/* Stops the running call of this session soon, or the next one if none is running: a signal may come just before the work
 * begins. Callable from any thread or signal handler. */
PALI_API void pali_session_cancel(pali_session *session);

/* ---- Adapters -------------------------------------------------------------------------------------------------
 *
 * LoRA adapters as PEFT saves them. They are not merged: the model stays as it is, in whatever type it is held, and each
 * session decides which of them it uses. */

/* Opens a directory with adapter_config.json and adapter_model.safetensors and checks it against the model: a name or shape
 * without a counterpart is an error, and so are kinds other than LoRA (DoRA and others), pickles, and adapters that expect
 * changed weights of the base. */
PALI_API pali_status pali_adapter_load(pali_adapter **out, pali_model *model, const char *path);
PALI_API void pali_adapter_free(pali_adapter *adapter);

typedef struct pali_adapter_info {
    size_t struct_size;
    int32_t rank_min, rank_max;  /* of its updates; 0: it has none */
    double alpha;                /* the scale is alpha / rank, with rslora alpha / sqrt(rank); modules may have other alphas */
    int32_t rslora;
    int32_t touches_vision;      /* 1: it changes the vision tower or the projector */
    int32_t touches_text;
    size_t n_updated;            /* matrices with a low-rank update */
    size_t n_replaced;           /* tensors that it brings whole: modules_to_save, biases */
    uint64_t n_parameters;
    uint64_t memory_bytes;       /* that it takes, besides pages of its file */
    const char *targets;         /* names of the updated modules, "q_proj,v_proj"; owned by the adapter, as base_model */
    const char *base_model;      /* what its config says that it was made for; NULL: nothing */
} pali_adapter_info;

PALI_API pali_status pali_adapter_get_info(const pali_adapter *adapter, pali_adapter_info *info);

/* Whether contents (see above) are those of an adapter's directory, and what it says of itself: all but memory_bytes, and not checked
 * against a model. Fails where they are not. Strings are owned by the contents. */
PALI_API int pali_contents_is_adapter(const pali_contents *contents);
PALI_API pali_status pali_contents_get_adapter(const pali_contents *contents, pali_adapter_info *info);

/* From the next call on the session uses these adapters instead of those that it used before; their effects add up, at most 16.
 * n = 0: the bare model. Takes about a millisecond, but pictures are seen anew if the old or new ones change the vision
 * tower or the projector. Fails, changing nothing, if an adapter was loaded for another model, if two of them bring weights of
 * their own for one tensor, or while a pali_batch of this session has pending requests. */
PALI_API pali_status pali_session_set_adapters(pali_session *session, const pali_adapter_use *uses, size_t n);

/* ---- Calibration ----------------------------------------------------------------------------------------------
 *
 * Rounding weights to 4 bits costs less when it is known what they will be multiplied with. A calibration learns that from what a
 * session does: begin, run pictures and prompts like those that the model is for (some hundred are plenty), end, then save with
 * pali_save_options.calibration and a dtype of 4-bit blocks. The method is GPTQ's (Frantar et al. 2022, arXiv 2210.17323), in spans
 * of 2048 columns. The file is like any other. Memory: 3.1 GB for the 3B model. */

/* From now on whatever the session runs counts. One at a time for a session, which keeps its adapters meanwhile. Refused where there
 * is not enough memory for it. */
PALI_API pali_status pali_calibration_begin(pali_calibration **out, pali_session *session);
/* Ends that, and computes what saving needs (minutes for large models). progress may be NULL. After a failure the calibration can
 * only be freed. */
PALI_API pali_status pali_calibration_end(pali_calibration *calibration, pali_progress_fn progress, void *user);
PALI_API void pali_calibration_free(pali_calibration *calibration);

/* Called for each generated token of a greedy or sampled answer, eos included: its id, its log-probability, and the
 * text that became complete with it (may be empty; never splits a character). */
typedef int (*pali_token_fn)(void *user, int32_t token, float logprob, const char *text, size_t n_bytes);

typedef enum pali_early_stopping { PALI_EARLY_STOPPING_FALSE = 0, PALI_EARLY_STOPPING_TRUE = 1, PALI_EARLY_STOPPING_NEVER = 2 } pali_early_stopping;

/* Answers that can only be lists of objects, or empty. */
typedef enum pali_constraint {
    PALI_CONSTRAIN_NONE = 0,
    PALI_CONSTRAIN_DETECT = 1, /* four locations and a label each */
    PALI_CONSTRAIN_SEGMENT = 2 /* four locations, 16 codes, a label or none */
} pali_constraint;

typedef struct pali_generate_options {
    size_t struct_size;
    int32_t max_tokens;        /* generated tokens, eos included; default 256 */
    float temperature;         /* 0: greedy (default); otherwise scores / temperature, then sampling */
    int32_t top_k;             /* 0: off. Sampling only, as top_p and min_p */
    float top_p;               /* in (0, 1]; default 1 (off) */
    float min_p;               /* in [0, 1]; default 0 (off) */
    uint64_t seed;             /* same seed, model and options: same answer */
    float repetition_penalty;  /* default 1 (off); counts ids of the prompt too, as Transformers does */
    int32_t num_beams;         /* default 1 */
    int32_t num_return;        /* sequences returned from beam search, <= num_beams; default 1 */
    float length_penalty;      /* default 1; here 0 is a value: scores are not divided by a power of the length */
    pali_early_stopping early_stopping;
    int32_t ignore_eos;        /* 1: never stop at eos (for timing) */
    pali_token_fn on_token;    /* greedy and sampling only; may be NULL */
    pali_progress_fn progress; /* may be NULL */
    void *user;
    /* Only tokens that lead to a well-formed answer are chosen: objects with y1 > y0 and x1 > x0 and labels of one line,
     * separated by ";", the last one whole even where max_tokens ends the answer (it must leave room for one: at least 5,
     * segment 20). An answer that was such a list without this option is the same with it. Log-probabilities stay those
     * over all tokens. Not with ignore_eos; needs a tokenizer. */
    pali_constraint constrain;
    int32_t no_logprobs; /* 1: log-probabilities are not wanted and reported as 0 (greedy and sampling). With `constrain`, where
                          * only locations or codes can follow, just their rows of the head are then computed */
} pali_generate_options;

PALI_API void pali_generate_options_init(pali_generate_options *options);

/* Answers `prompt` about the pictures, in order. The newline and the image and bos tokens are added here. */
PALI_API pali_status pali_generate(pali_session *session, const pali_image *const *images, size_t n_images, const char *prompt,
                                   const pali_generate_options *options, pali_result **out);

/* As pali_generate with the full model input given as ids: n_images * N image ids first, then bos, prompt, newline. */
PALI_API pali_status pali_generate_tokens(pali_session *session, const pali_image *const *images, size_t n_images,
                                          const int32_t *ids, size_t n_ids, const pali_generate_options *options,
                                          pali_result **out);

/* The ids that pali_generate feeds for `prompt` and n_images pictures. *out_ids is freed with pali_free. */
PALI_API pali_status pali_prompt_tokens(const pali_model *model, size_t n_images, const char *prompt, int32_t **out_ids,
                                        size_t *out_n);

/* Log-probability of each answer followed by eos. Sequence i of the result is answer i; its score is the sum. */
PALI_API pali_status pali_score(pali_session *session, const pali_image *const *images, size_t n_images, const char *prompt,
                                const char *const *answers, size_t n_answers, pali_result **out);

typedef enum pali_finish { PALI_FINISH_STOP = 0, PALI_FINISH_LENGTH = 1 } pali_finish;

typedef struct pali_sequence {
    size_t struct_size;
    const char *text;       /* without special tokens; owned by the result, as the arrays */
    size_t n_text_bytes;
    const int32_t *tokens;  /* [n_tokens] generated or scored ids, eos included */
    const float *logprobs;  /* [n_tokens] plain log-softmax over all rows of the head */
    size_t n_tokens;
    double score;           /* beam score, or the sum of logprobs */
    pali_finish finish;
    double probability;     /* exp of the sum of logprobs: of just this answer */
} pali_sequence;

PALI_API size_t pali_result_count(const pali_result *result);
PALI_API pali_status pali_result_get(const pali_result *result, size_t index, pali_sequence *sequence);

typedef struct pali_stats {
    size_t struct_size;
    size_t image_tokens, prompt_tokens, generated_tokens; /* prompt: bos and newline included, images not */
    double preprocess_ms, vision_ms, prefill_ms, decode_ms; /* in a batch: vision is 0 for a picture seen before; decode is
                                                             * the steps it took part in, which it shared with others */
} pali_stats;

PALI_API pali_status pali_result_get_stats(const pali_result *result, pali_stats *stats);
PALI_API void pali_result_free(pali_result *result);

/* ---- Batches ------------------------------------------------------------------------------------------------ */

/* Requests answered together. Decoding reads every weight once for all of them, which is most of its time; each answer has
 * the bits (tokens, text, log-probabilities) that pali_generate would give it. A picture that several requests wait with is
 * seen once. A request fails by itself, the others go on.
 *
 * At most `max_sequences` are decoded at once; when one ends, the next that waits takes its place, its pictures and prompt
 * in between the others' tokens. Memory on top of a single call: for each of them the keys and values of its tokens
 * (pali_model_info.kv_bytes_per_token) and a row of logits. Requests with num_beams above 1 are answered one after the
 * other, each by itself, while the rest stand still. */
typedef struct pali_batch_options {
    size_t struct_size;
    int32_t max_sequences; /* decoded at once, 1 to 64; default 8 */
} pali_batch_options;

PALI_API void pali_batch_options_init(pali_batch_options *options);

typedef struct pali_request {
    size_t struct_size;               /* of an array of requests: the same in all */
    const pali_image *const *images;  /* [n_images] */
    size_t n_images;
    const char *prompt;               /* NULL: ids are given */
    const int32_t *ids;               /* [n_ids] as for pali_generate_tokens, if prompt is NULL */
    size_t n_ids;
    const pali_generate_options *options; /* NULL: defaults. A callback that stops ends this request only */
    void *user;                       /* passed to the callbacks instead of the options' own, unless NULL: tells requests apart */
} pali_request;

PALI_API void pali_request_init(pali_request *request);

/* Answers all; results[i] is that of requests[i], to be freed also where pali_result_status() says that it failed. If the
 * session was cancelled, returns PALI_ERR_CANCELLED with what was done until then. Any other error leaves all results NULL. */
PALI_API pali_status pali_generate_batch(pali_session *session, const pali_request *requests, size_t n, const pali_batch_options *options,
                                         pali_result **results);

/* The same for requests that come and go, such as a server's: add some, step while any are pending, take what is done. The
 * session must outlive the batch; between steps it may be used for other calls. */
PALI_API pali_status pali_batch_new(pali_batch **out, pali_session *session, const pali_batch_options *options);
/* Drops what is pending. */
PALI_API void pali_batch_free(pali_batch *batch);
/* Checks and queues a request; *index counts them from 0. Everything is copied but the pictures, which must stay until
 * the request's first token or its end. */
PALI_API pali_status pali_batch_add(pali_batch *batch, const pali_request *request, size_t *index);
/* Requests that are not done. */
PALI_API size_t pali_batch_pending(const pali_batch *batch);
/* Works for a while: one request's pictures and prompt, or one token for each that is being decoded. Fails only if the session
 * was cancelled: then every pending request is done, with that status. */
PALI_API pali_status pali_batch_step(pali_batch *batch);
/* A request that is done, in the order in which they end; *result is NULL if there is none. */
PALI_API pali_status pali_batch_take(pali_batch *batch, size_t *index, pali_result **result);

/* How a request of a batch ended; a result of any other call is PALI_OK. One that failed has no sequences. */
PALI_API pali_status pali_result_status(const pali_result *result);
/* One line about its failure, "" without one. Owned by the result. */
PALI_API const char *pali_result_error(const pali_result *result);

/* ---- Objects ------------------------------------------------------------------------------------------------ */

/* How location indices become pixels. */
typedef enum pali_box_convention {
    PALI_BOX_1024 = 0, /* index / 1024 * side, whole pixels by rounding halves to even: the published demos */
    PALI_BOX_1023 = 1  /* index / 1023 * side, whole pixels by cutting off: big_vision's evaluator */
} pali_box_convention;

typedef struct pali_object {
    size_t struct_size;
    const char *label;      /* UTF-8, trimmed, NUL-terminated; NULL: none. Owned by the pali_objects */
    size_t n_label_bytes;
    int32_t loc[4];         /* y0, x0, y1, x1 in 0..1023 */
    double box[4];          /* x0, y0, x1, y1 in pixels of the picture by the convention, not rounded */
    int32_t box_px[4];      /* the same in whole pixels */
    double score;           /* geometric mean of the four location tokens' probabilities times the product of those of the
                             * label's tokens; 0 if no log-probabilities were given */
    int32_t has_seg;        /* 1: seg holds the 16 codes of a mask */
    int32_t seg[16];        /* 0..127 */
    int32_t valid;          /* 1: y1 > y0 and x1 > x0, with PALI_BOX_1023 in whole pixels too */
    size_t first_token, n_tokens; /* the tokens it came from: first location to end of the label */
} pali_object;

typedef struct pali_locate_options {
    size_t struct_size;
    pali_box_convention convention;
    double nms_iou;   /* in [0, 1]: of two objects of one label with at least this intersection over union the one with the
                       * lower score is left out, the later one if they are equal; 0: off */
    double min_score; /* in [0, 1]: objects with a lower score are left out; 0: off */
} pali_locate_options;

PALI_API void pali_locate_options_init(pali_locate_options *options);

/* The objects that an answer to "detect ..." or "segment ..." names, in its order. `tokens` and `logprobs` are those of a
 * pali_sequence (at most 32768); logprobs may be NULL, then nms_iou and min_score must be 0. width and height are the
 * picture's, in pixels. options may be NULL.
 *
 * No answer is an error: an object is four location tokens in a row, its mask the 16 segmentation tokens that follow, its
 * label the text up to a token with ";", the next location token or the end token. What is neither is passed over and
 * counted as stray. Boxes without an area are kept with valid = 0. An answer without boxes, such as a caption, has no
 * objects. */
PALI_API pali_status pali_objects_find(pali_objects **out, const pali_tokenizer *tokenizer, const int32_t *tokens, const float *logprobs,
                                       size_t n_tokens, int32_t width, int32_t height, const pali_locate_options *options);
PALI_API size_t pali_objects_count(const pali_objects *objects);
/* Tokens with text, location or segmentation tokens among them, that are in no object: 0 for a well-formed answer. */
PALI_API size_t pali_objects_stray_count(const pali_objects *objects);
PALI_API pali_status pali_objects_get(const pali_objects *objects, size_t index, pali_object *object);
PALI_API void pali_objects_free(pali_objects *objects);

/* What pali_embed returns for a picture. */
typedef enum pali_embedding {
    PALI_EMBED_PIXELS = 0,    /* [3, R, R] normalised model input */
    PALI_EMBED_VISION = 1,    /* [N, vision width] after the post layer norm */
    PALI_EMBED_PROJECTOR = 2, /* [N, text width] */
    PALI_EMBED_MEAN = 3       /* [1, vision width] mean over image tokens of PALI_EMBED_VISION */
} pali_embedding;

/* *out is [dims[0], dims[1], ...] float32, freed with pali_free; dims has room for 3, *n_dims is written. */
PALI_API pali_status pali_embed(pali_session *session, const pali_image *image, pali_embedding what, float **out, uint64_t dims[3],
                                int32_t *n_dims);

/* Hidden states of the text model over images + prompt after the final norm: [n, text width]; as pali_embed. */
PALI_API pali_status pali_embed_prompt(pali_session *session, const pali_image *const *images, size_t n_images, const char *prompt,
                                       float **out, uint64_t dims[3], int32_t *n_dims);

/* ---- Masks --------------------------------------------------------------------------------------------------
 *
 * A segmentation answer has 16 codes for each object: a mask of 64 x 64, coded by a small network that has a file of its own,
 * which is stretched over the object's box. Masks of pictures are [height, width] 8-bit, 0 outside, 255 inside; pictures are
 * bounded as in pali_image_load. */

#define PALI_MASK_SIDE 64
#define PALI_MASK_CODES 16 /* of a mask; each 0 to 127, the number in <seg...> */

/* Opens `vae-oid.npz` as published, or a .safetensors file with the same keys (decided by content); widths are read from the
 * file. A codec is immutable and may be used by any number of threads at once. */
PALI_API pali_status pali_mask_codec_load(pali_mask_codec **out, const char *path);
/* The same of a file's bytes, which are not needed afterwards; `name` is for messages. */
PALI_API pali_status pali_mask_codec_parse(pali_mask_codec **out, const void *bytes, size_t n_bytes, const char *name);
/* 1: the file is an .npz of a mask codec, by the names of its arrays; a model may be an .npz too. */
PALI_API int32_t pali_mask_codec_is_npz(const char *path);
PALI_API void pali_mask_codec_free(pali_mask_codec *codec);

typedef struct pali_mask_codec_info {
    size_t struct_size;
    int32_t code_width;    /* elements of a row of the codebook; 512 as published */
    int32_t has_encoder;   /* 0: the file holds the decoder only, pali_mask_codec_encode fails */
    uint64_t n_parameters;
} pali_mask_codec_info;

PALI_API pali_status pali_mask_codec_get_info(const pali_mask_codec *codec, pali_mask_codec_info *info);

/* mask [64, 64], nominally -1 (outside) to 1 (inside) but not clipped, from 16 codes, row by row of a 4 x 4 grid. A few
 * milliseconds on the calling thread. */
PALI_API pali_status pali_mask_codec_decode(const pali_mask_codec *codec, const int32_t codes[PALI_MASK_CODES],
                                            float mask[PALI_MASK_SIDE * PALI_MASK_SIDE]);

/* The 16 codes of what a picture's mask [height, width] (rows of stride_bytes, 0: width) holds inside a box: for training data.
 * box_frac: y0, x0, y1, x1 as fractions of the sides, 0 to 1, rounded to pixels; a box without a pixel is PALI_ERR_ARGUMENT. */
PALI_API pali_status pali_mask_codec_encode(const pali_mask_codec *codec, const uint8_t *mask, int32_t width, int32_t height,
                                            size_t stride_bytes, const double box_frac[4], int32_t codes[PALI_MASK_CODES]);

/* How a mask is put into its picture: as the published demos do, or as the published evaluation of segmentation does. */
typedef enum pali_mask_rule {
    PALI_MASK_DEMO = 0,     /* box at index / 1024, rounded; soft edges: 0 to 255 */
    PALI_MASK_EVALUATOR = 1 /* box at index / 1023, truncated; 0 or 255 */
} pali_mask_rule;

/* The mask of the whole picture [height, width] from a decoded mask and the four location indices y0, x0, y1, x1 (0 to 1023);
 * *out is freed with pali_free. A box without a pixel has no mask: PALI_OK and *out NULL. */
PALI_API pali_status pali_mask_paste(const float mask[PALI_MASK_SIDE * PALI_MASK_SIDE], const int32_t loc[4], int32_t width, int32_t height,
                                     pali_mask_rule rule, uint8_t **out);

/* COCO's compressed run-length string of mask [height, width] >= threshold (1 to 255); freed with pali_free. */
PALI_API pali_status pali_mask_to_rle(const uint8_t *mask, int32_t width, int32_t height, uint8_t threshold, char **out_counts);
/* The mask [height, width] of such a string, 0 and 255; freed with pali_free. */
PALI_API pali_status pali_mask_from_rle(const char *counts, int32_t width, int32_t height, uint8_t **out);

#ifdef __cplusplus
}
#endif
#endif
