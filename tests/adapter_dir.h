/* adapter_dir.h: adapters that a test makes up: a temporary directory with a config and tensors. Functions fail the running cmocka
 * test. */
#ifndef PALI_TESTS_ADAPTER_DIR_H
#define PALI_TESTS_ADAPTER_DIR_H

#include <stddef.h>

typedef struct adapter_tensor {
    const char *name, *dtype;
    size_t dims[4], n_dims;
    float fill;       /* of every element of an F32 tensor without data; others are zero */
    const float *data;
} adapter_tensor;

typedef struct adapter_dir {
    char path[64];
} adapter_dir;

/* config NULL: no adapter_config.json; tensors NULL: no adapter_model.safetensors. */
adapter_dir adapter_dir_new(const char *config, const adapter_tensor *tensors, size_t n);
void adapter_dir_free(adapter_dir *d);

#endif
