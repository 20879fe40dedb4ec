/* help.h: --help, man pages and shell completion, all printed from the option table. */
#ifndef PALI_CLI_HELP_H
#define PALI_CLI_HELP_H

#include <stdio.h>

#include "options.h"

void help_overview(FILE *out);
void help_command(FILE *out, const command *cmd);
/* A man page in roff; cmd NULL: the overview, paligemma(1), otherwise paligemma-CMD(1). */
void help_man(FILE *out, const command *cmd);
/* A bash completion function. */
void help_completion(FILE *out);

#endif
