/* fuzz_npz_model.c: any bytes as a .npz file of a whole model. What loads has every weight inside the file or in memory of its own,
 * and the same rows whether they are put in order at once or as they are read. */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/mem.h"
#include "io/npz.h"
#include "model/model.h"

#define MAX_LOADED ((size_t)1 << 24) /* what is honest and large costs time and shows nothing */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_rows(const model *ordered, const model *kept) {
    const file_map *map = &((const npz *)ordered->weights->files[0].handle)->map;
    const kernels *k = kernels_get(CPU_REF);
    for (size_t i = 0; i < ordered->spec.n; i++) {
        const mat *w = ordered->spec.tensors[i].matrix, *x = kept->spec.tensors[i].matrix;
        if (!w) continue;
        const uint8_t *at = w->data;
        size_t n = w->rows * mat_row_bytes(w), n_floats = w->rows * w->cols;
        if (weights_is_mapped(ordered->weights, at) && (at < map->data || at > map->data + map->n_bytes || n > (size_t)(map->data + map->n_bytes - at))) abort();
        float *rows = mem_alloc(2 * n_floats, sizeof *rows);
        if (!rows) return;
        mat_rows_f32(k, rows, w, 0, w->rows);
        mat_rows_f32(k, rows + n_floats, x, 0, x->rows);
        if (memcmp(rows, rows + n_floats, n_floats * sizeof *rows) != 0) abort();
        mem_free(rows);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const model_options options = {.n_threads = 1}, to_keep = {.n_threads = 1, .no_prefault = true};
    weights_memory memory;
    char path[64];
    model *m, *kept;
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size) abort();
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (size >= 2 && memcmp(data, "PK", 2) == 0 && model_outline(&m, &memory, path, false, &options) == PALI_OK) {
        model_free(m);
        if (memory.vectors + memory.block + memory.mapped + memory.unpacked < MAX_LOADED && model_load(&m, path, &options) == PALI_OK) {
            if (model_load(&kept, path, &to_keep) != PALI_OK) abort();
            check_rows(m, kept);
            model_free(kept);
            model_free(m);
        }
    }
    close(fd);
    return 0;
}
