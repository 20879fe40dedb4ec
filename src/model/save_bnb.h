/* save_bnb.h: matrices of a Hugging Face directory as bitsandbytes stores them (weights_bnb.c reads that): what tensors each
 * becomes, their data, and what config.json says of it. */
#ifndef PALI_MODEL_SAVE_BNB_H
#define PALI_MODEL_SAVE_BNB_H

#include "io/json.h"
#include "io/safetensors.h"
#include "model/saver.h"

#define SAVE_BNB_PARTS 4u   /* tensors that a matrix becomes, at most */
#define SAVE_BNB_STATE 160u /* bytes of a quant_state, with the NUL */

typedef struct bnb_part {
    const char *ending; /* takes the place of "weight" at the end of the matrix's name */
    st_dtype stored;
    size_t n_dims, dims[2], n_bytes;
    bool is_scales, is_codes; /* else it is `small` */
    uint8_t small[SAVE_BNB_STATE];
} bnb_part;

/* The type of kernels/codes.h that a tensor will have in a directory, as asked or as it is held; AUTO: none, it will be floats. */
pali_dtype save_bnb_dtype(const saver *v, const spec_tensor *t);
/* How many tensors, and which. */
size_t save_bnb_parts(bnb_part out[SAVE_BNB_PARTS], const spec_tensor *t, pali_dtype dtype);
/* The data of one. A matrix that is quantized on the way is so once for its codes and once for its scales, since they are apart. */
pali_status save_bnb_put(saver *v, const spec_tensor *t, pali_dtype dtype, const bnb_part *part, saver_put put, void *user);
/* quantization_config; *out NULL: nothing is quantized. Two types in one model cannot be described. */
pali_status save_bnb_config(json_t **out, const saver *v);

#endif
