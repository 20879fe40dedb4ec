/* builtin.h: what comes inside the program, so that it does its whole job on a machine that has no checkpoint: the model that commands
 * use without -m, and its mask codec. Both are whole files (models/tiny) that the assembler copies into the program's read-only data
 * (builtin_data.S); the model's weights are used where they lie there, so only the pages that a run touches come in from disk. */
#ifndef PALI_CLI_BUILTIN_H
#define PALI_CLI_BUILTIN_H

#include <stddef.h>

#define BUILTIN_NAME "built-in model" /* stands for its path */

/* A .gguf file and a .npz file; NULL: this program was built without. */
const void *builtin_model(size_t *n_bytes);
const void *builtin_codec(size_t *n_bytes);

#endif
