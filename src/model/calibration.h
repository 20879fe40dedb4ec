/* calibration.h: what goes into the text model's linear layers while it works: for each, sums of x x^T in spans of columns. Rounding
 * to 4 bits can then mind it (tensor/compensate.h).
 *
 * Layers that read the same share a sum: queries, keys and values one, gate and up another. Rows are gathered first, because a
 * decode step has one and a sum of one row at a time would be bound by memory. Widths are within config.h's limits, so sizes cannot
 * overflow. */
#ifndef PALI_MODEL_CALIBRATION_H
#define PALI_MODEL_CALIBRATION_H

#include "model/gemma.h"

#define CALIBRATION_ROWS 64u /* gathered */
/* Rows of a prompt and an answer that weigh as much as all rows of a picture: text is what is answered with, but a picture has many
 * times its rows (measured, SPEED.md). */
#define CALIBRATION_TEXT_ROWS 16u

typedef struct calibration_input {
    size_t cols, n;  /* rows gathered */
    float *sums;     /* spans of [n, n], compensate.h; then the factors */
    float *rows;     /* spans of [CALIBRATION_ROWS, n], so that each is a matrix by itself */
} calibration_input;

typedef struct calibration {
    calibration_input *inputs; /* [n] n_layers * GEMMA_INPUTS */
    size_t n;
    float text_scale;          /* of rows of text */
    uint64_t n_rows;           /* seen */
    bool solved;
} calibration;

/* n_patches: rows of a picture. */
pali_status calibration_init(calibration *c, const gemma_config *cfg, size_t n_patches);
void calibration_free(calibration *c);
/* Bytes that it takes. */
size_t calibration_bytes(const gemma_config *cfg);
/* An exec_input_fn; user is the calibration. */
pali_status calibration_see(void *user, exec *e, size_t layer, size_t which, const float *x, size_t rows, size_t n_pictures);
/* After the last row: sums become factors. An error if nothing was seen. */
pali_status calibration_solve(calibration *c, exec *e, pali_progress_fn progress, void *user);
/* Those for the matrix `w` of `g`, of the calibration's shapes; NULL: `w` is none of its blocks'. */
const float *calibration_factors(const calibration *c, const gemma *g, const mat *w);

#endif
