/* fuzz_dataset.c: any bytes as one line of training data. What is accepted has its texts, and pictures with a name. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "train/dataset.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    dataset_row row;
    if (dataset_row_parse(&row, (const char *)data, size, "dir", "rows.jsonl:1") == PALI_OK) {
        if (strlen(row.prefix) != row.n_prefix || strlen(row.suffix) != row.n_suffix) abort();
        if (row.n_images == 0 || row.n_images > DATASET_MAX_IMAGES) abort();
        for (size_t i = 0; i < row.n_images; i++)
            if (row.images[i][0] != '/' && (strncmp(row.images[i], "dir/", 4) != 0 || !row.images[i][4])) abort();
        const size_t longest = row.n_suffix;
        for (uint64_t epoch = 0; epoch < 3; epoch++) {
            dataset_row_draw(&row, 1, epoch << (20 * epoch), 2);
            if (strlen(row.suffix) != row.n_suffix || row.n_suffix > longest) abort();
        }
    } else if (!*status_message()) {
        abort();
    }
    dataset_row_free(&row);
    return 0;
}
