/* inspect_codec.h: what `inspect` says of a mask codec. */
#ifndef PALI_CLI_INSPECT_CODEC_H
#define PALI_CLI_INSPECT_CODEC_H

#include "cli.h"

/* By its name: a model is a directory or a .gguf file, a codec an .npz or .safetensors file. */
bool inspect_codec_is(const char *path);
int inspect_codec(cli *c);

#endif
