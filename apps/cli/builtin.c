#include "builtin.h"

#ifdef BUILTIN_MODEL
extern const unsigned char builtin_model_begin[], builtin_model_end[];
#endif
#ifdef BUILTIN_CODEC
extern const unsigned char builtin_codec_begin[], builtin_codec_end[];
#endif

const void *builtin_model(size_t *n_bytes) {
#ifdef BUILTIN_MODEL
    *n_bytes = (size_t)(builtin_model_end - builtin_model_begin);
    return builtin_model_begin;
#else
    *n_bytes = 0;
    return NULL;
#endif
}

const void *builtin_codec(size_t *n_bytes) {
#ifdef BUILTIN_CODEC
    *n_bytes = (size_t)(builtin_codec_end - builtin_codec_begin);
    return builtin_codec_begin;
#else
    *n_bytes = 0;
    return NULL;
#endif
}
