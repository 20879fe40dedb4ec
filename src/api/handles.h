/* handles.h: what the opaque handles of paligemma.h are. (pali_image, pali_tokenizer and pali_result are the image, tokenizer
 * and result of the layers below.) */
#ifndef PALI_API_HANDLES_H
#define PALI_API_HANDLES_H

#include <stdatomic.h>
#include <string.h>

#include "infer/batch.h"
#include "model/calibration.h"
#include "model/view.h"
#include "input/tokenizer.h"

struct pali_model {
    atomic_size_t references; /* the owner's and one for each session and adapter */
    model *m;
    tokenizer *t; /* NULL: none */
    char *tokenizer_path; /* the file it was asked from; NULL: the model's own */
};

struct pali_adapter {
    atomic_size_t references; /* the owner's and one for each session that uses it */
    pali_model *model;        /* what it was opened for, kept alive */
    adapter *a;
};

struct pali_session {
    pali_model *model;
    session s;
    model *view;              /* what s runs when adapters are in use; NULL: the model itself */
    pali_adapter **adapters;  /* [n_adapters] in use */
    size_t n_adapters;
    pali_batch *batches;      /* that are open */
    pali_calibration *calibration; /* that its runs add to; NULL: none */
};

struct pali_calibration {
    pali_model *model;     /* kept alive */
    pali_session *session; /* NULL: ended, or the session is gone */
    calibration c;
};

struct pali_batch {
    pali_session *session;
    pali_batch *next; /* of the session's list */
    batch b;
};

#define ADAPTERS_MAX 16u /* in use at once */

void model_release(pali_model *model);
/* Checks a list of adapters for this model and makes the view; *out is NULL if there are none. */
pali_status adapters_view(model **out, const pali_model *model, const pali_adapter_use *uses, size_t n);
/* The session's runs add to its calibration no more. */
void session_calibration_drop(pali_session *s);
/* The session lets go of its adapters and their view. */
void session_adapters_drop(pali_session *s);
/* What is common to models and what their files hold: the tokenizer in the file of the weights or beside them, or that of the options; */
pali_status model_tokenizer_load(tokenizer **out, const model *m, const pali_model_options *o);
/* its ids, found by content, in place of the config's; and what there is to say of sizes. t NULL: there is none. */
void model_adopt_ids(model *m, const tokenizer *t);
pali_model_info model_info(const model *m, const tokenizer *t);
/* Options of any age, completed and checked, and what the layers below get of them. */
pali_status model_options_read(pali_model_options *o, model_options *inner, const pali_model_options *given);
pali_status generate_options_read(pali_generate_options *o, const pali_generate_options *given);
/* Checks the pictures and fills the request but for its ids. */
pali_status request_read(request *q, const pali_image *const *images, size_t n_images);
/* Composes the ids of a prompt into the request; *ids is freed with mem_free. */
pali_status prompt_read(request *q, int32_t **ids, const pali_session *s, const char *prompt);

#define OPTIONS_MAX_SIZE 4096u

/* Reads an option struct of any age: `full` starts as the defaults, and as many bytes as the caller's struct has are taken
 * from it. A struct_size that is no size of such a struct is an error. */
static inline pali_status options_read(void *full, size_t full_size, const void *given, const char *name) {
    size_t size;
    if (!given) return PALI_OK;
    memcpy(&size, given, sizeof size);
    if (size < sizeof size || size > OPTIONS_MAX_SIZE) return status_fail(PALI_ERR_ARGUMENT, "%s: struct_size: %zu (was the init function called?)", name, size);
    memcpy(full, given, size < full_size ? size : full_size);
    return PALI_OK;
}

/* The same the other way: fills as much of the caller's struct as it has. */
static inline pali_status info_write(void *given, const void *full, size_t full_size, const char *name) {
    size_t size;
    if (!given) return status_fail(PALI_ERR_ARGUMENT, "%s: NULL", name);
    memcpy(&size, given, sizeof size);
    if (size < sizeof size || size > OPTIONS_MAX_SIZE) return status_fail(PALI_ERR_ARGUMENT, "%s: struct_size: %zu", name, size);
    memcpy((char *)given + sizeof size, (const char *)full + sizeof size, (size < full_size ? size : full_size) - sizeof size);
    return PALI_OK;
}

/* Refuses NULL; the name is the one in paligemma.h. */
#define API_NEED_AS(pointer, name)                                                               \
    do {                                                                                         \
        if (!(pointer)) return status_fail(PALI_ERR_ARGUMENT, "%s: %s is NULL", __func__, name); \
    } while (0)
#define API_NEED(pointer) API_NEED_AS(pointer, #pointer)

#endif
