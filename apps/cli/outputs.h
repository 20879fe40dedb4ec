/* outputs.h: what is made of the objects of an answer beside text: masks, mask files and drawings (--vae, --masks, --draw). */
#ifndef PALI_CLI_OUTPUTS_H
#define PALI_CLI_OUTPUTS_H

#include "input.h"
#include "objects.h"

typedef struct outputs {
    cli *c;
    const pali_tokenizer *tokenizer;
    pali_locate_options locate;
    pali_mask_codec *codec; /* NULL: not needed yet, or there is none */
    bool searched;          /* for a codec beside the model */
    bool draw_notes_said;
} outputs;

/* Looks at --draw, --masks, --format and -o before any work is done; an exit code. */
int outputs_check(cli *c);
/* --vae is opened here, so that a wrong one is known before the model works. An exit code. */
int outputs_open(outputs *o, cli *c, const pali_tokenizer *tokenizer);
void outputs_close(outputs *o);

/* The objects of an answer in pixels of the picture, with their masks; writes the mask files and the drawing. s->logprobs may be
 * NULL. line and name, of the picture's file, make their names with --batch; line 0: no batch. False: the fault says why. */
bool outputs_find(outputs *o, const pali_image *picture, const pali_sequence *s, size_t line, const char *name, found *out, fault *f);

#endif
