/* fuzz_gguf_files.c: any bytes as two .gguf files: a byte says whether they are a text model and its vision file or two parts of one,
 * four how long the first is. What loads must have every weight inside one of them or in memory of its own. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "model/contents.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char g_dir[] = "/tmp/fuzz_gguf_files_XXXXXX";
static char g_paths[3][64]; /* two parts; a vision file */

static void clean(void) {
    for (size_t i = 0; i < 3; i++) (void)unlink(g_paths[i]);
    (void)rmdir(g_dir);
}

static void paths_make(void) {
    static const char *const k_names[] = {"m-00001-of-00002.gguf", "m-00002-of-00002.gguf", "mmproj.gguf"};
    if (!mkdtemp(g_dir)) abort();
    for (size_t i = 0; i < 3; i++) (void)snprintf(g_paths[i], sizeof g_paths[i], "%s/%s", g_dir, k_names[i]);
    if (atexit(clean) != 0) abort();
}

/* A new file: where one is made empty and written again, some file systems wait for the disk. */
static void file_put(const char *path, const uint8_t *bytes, size_t n) {
    (void)unlink(path);
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(bytes, 1, n, f) != n || fclose(f) != 0) abort();
}

static bool is_inside(const weights *w, const uint8_t *at, size_t n) {
    for (size_t i = 0; i < w->n_files; i++) {
        const file_map *map = &((const gguf *)w->files[i].handle)->map;
        if (at >= map->data && at <= map->data + map->n_bytes && n <= (size_t)(map->data + map->n_bytes - at)) return true;
    }
    return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const model_options options = {.n_threads = 1};
    model *m;
    contents *c;
    uint32_t n_first;
    if (size < 5) return 0;
    if (!g_paths[0][0]) paths_make();
    memcpy(&n_first, data + 1, sizeof n_first);
    if (n_first > size - 5) n_first = (uint32_t)(size - 5);
    const char *second = g_paths[data[0] % 2 ? 1 : 2];
    file_put(g_paths[0], data + 5, n_first);
    file_put(second, data + 5 + n_first, size - 5 - n_first);
    if (model_load(&m, g_paths[0], &options) == PALI_OK) {
        for (size_t i = 0; i < m->spec.n; i++) {
            const mat *w = m->spec.tensors[i].matrix;
            if (w && weights_is_mapped(m->weights, w->data) && !is_inside(m->weights, w->data, w->rows * mat_row_bytes(w))) abort();
        }
        model_free(m);
    }
    if (contents_load(&c, g_paths[0], &options) == PALI_OK) contents_free(c);
    (void)unlink(second);
    return 0;
}
