/* embed.h: what the model makes of a picture or a prompt, before any word is chosen. */
#ifndef PALI_INFER_EMBED_H
#define PALI_INFER_EMBED_H

#include "infer/session.h"

typedef struct embedding {
    float *data; /* mem_free */
    size_t n_dims, dims[3];
} embedding;

pali_status embed_image(session *s, embedding *out, const image *img, pali_embedding what);
/* [n_ids, D]: every position of the prefix after the final norm. */
pali_status embed_request(session *s, embedding *out, const request *q);

#endif
