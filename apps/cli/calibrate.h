/* calibrate.h: --calibrate: rows of a file are answered, so that rounding to 4 bits knows what weights are multiplied with. */
#ifndef PALI_CLI_CALIBRATE_H
#define PALI_CLI_CALIBRATE_H

#include "cli.h"

/* Opens the model as it is stored, to run, with the adapters of --lora in use, and answers the rows, of which there were
 * n_rows; an exit code. The caller frees both. */
int calibrate(cli *c, pali_model **model, pali_calibration **calibration, size_t *n_rows);

#endif
