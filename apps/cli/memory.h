/* memory.h: what a run will need, told by --plan and inspect, and refused if it is not there. */
#ifndef PALI_CLI_MEMORY_H
#define PALI_CLI_MEMORY_H

#include "cli.h"

/* "5.61 GiB" or, below one, "734.2 MiB" */
const char *memory_text(char text[32], uint64_t n_bytes);
/* The plan of what the options ask for, the model as `dtype`. */
pali_status memory_plan(cli *c, pali_memory_plan *plan, const pali_model_options *model);
/* Before a model is opened: an exit code if it cannot fit, unless --force. */
int memory_check(cli *c, const pali_model_options *model);
/* --plan */
int memory_print(cli *c);

#endif
