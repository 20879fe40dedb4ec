/* inspect_codec.h: what `inspect` says of a mask codec. */
#ifndef PALI_CLI_INSPECT_CODEC_H
#define PALI_CLI_INSPECT_CODEC_H

#include "cli.h"

/* A model is a directory, a .gguf or an .npz file, a codec another .npz or a .safetensors file. */
bool inspect_codec_is(const char *path);
int inspect_codec(cli *c);

#endif
