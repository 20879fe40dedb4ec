/* maskcodec.h: the VQ-VAE that turns 16 codes into a mask of 64 x 64 and back (spec inference 6.4, 6.5, 6.7).
 *
 *   codes [4, 4] --codebook--> [4, 4, E] --decoder--> mask [64, 64], nominally -1 (outside) to 1 (inside), not clipped
 *   mask [64, 64] --encoder--> [4, 4, E] --nearest row of the codebook--> codes [4, 4]
 *
 * The architecture is fixed, the widths come from the file: `vae-oid.npz` as published, or a .safetensors with the same
 * keys. A codec is immutable and shared; a call has its memory and one thread to itself. */
#ifndef PALI_MODEL_MASKCODEC_H
#define PALI_MODEL_MASKCODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

#define MASKCODEC_SIDE 64u
#define MASKCODEC_N_CODES 16u /* of a mask: 4 x 4 cells */
#define MASKCODEC_CODES 128u  /* rows of the codebook */

typedef struct pali_mask_codec maskcodec; /* what a public handle points to; no wrapper around it */

pali_status maskcodec_load(maskcodec **out, const char *path);
/* The same from memory, which is not needed afterwards; `name` is for messages. */
pali_status maskcodec_parse(maskcodec **out, const uint8_t *bytes, size_t n_bytes, const char *name);
void maskcodec_free(maskcodec *c);
/* The file is an .npz with a codec's codebook: not a model's. */
bool maskcodec_is_npz(const char *path);

size_t maskcodec_width(const maskcodec *c);      /* E */
size_t maskcodec_parameters(const maskcodec *c);
bool maskcodec_has_encoder(const maskcodec *c);  /* a file may leave it out */

/* mask [64, 64] from codes [16], each below MASKCODEC_CODES. */
pali_status maskcodec_decode(const maskcodec *c, float *mask, const int32_t *codes);
/* codes [16] from mask [64, 64]; z [16, E]: what was rounded to the codebook, NULL: not wanted. */
pali_status maskcodec_encode(const maskcodec *c, int32_t *codes, float *z, const float *mask);

#endif
