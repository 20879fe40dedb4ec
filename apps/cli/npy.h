/* npy.h: a float32 array as a NumPy .npy file (format version 1.0), complete or not there at all. */
#ifndef PALI_CLI_NPY_H
#define PALI_CLI_NPY_H

#include "cli.h"

/* values [dims[0], ..., dims[n_dims - 1]]. A regular file is replaced by rename; "-" is the output of the command. Prints
 * the error; returns an exit code. */
int npy_write(cli *c, const char *path, const float *values, const uint64_t *dims, size_t n_dims);

#endif
