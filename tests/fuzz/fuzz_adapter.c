/* fuzz_adapter.c: any bytes as adapter_model.safetensors, for a model of the 3B shape: what is accepted fits its modules, and makes a
 * view of it. */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "model/view.h"

#define CONFIG "{\"peft_type\": \"LORA\", \"r\": 1, \"lora_alpha\": 2, \"rank_pattern\": {\"layers.1.self_attn.v_proj\": 2}, \"modules_to_save\": [\"multi_modal_projector\"], \"bias\": \"all\"}"

static char g_dir[] = "/tmp/pali-fuzz-XXXXXX";
static char g_config[64], g_file[64];
static model *g_base; /* without weights */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void write_file(const char *path, const void *data, size_t size) {
    (void)unlink(path);
    const int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size || close(fd) != 0) abort();
}

static void clean_up(void) {
    unlink(g_config);
    unlink(g_file);
    rmdir(g_dir);
    model_free(g_base);
}

static void begin(void) {
    weights_memory memory;
    const model_options o = {0};
    if (!mkdtemp(g_dir) || model_outline(&g_base, &memory, "3b-224", true, &o) != PALI_OK) abort();
    (void)snprintf(g_config, sizeof g_config, "%s/adapter_config.json", g_dir);
    (void)snprintf(g_file, sizeof g_file, "%s/adapter_model.safetensors", g_dir);
    write_file(g_config, CONFIG, strlen(CONFIG));
    (void)atexit(clean_up);
}

static void check(const adapter *a) {
    model *view;
    const adapter_use use = {a, 1};
    size_t n_updated = 0;
    if (view_adapt(&view, g_base, &use, 1) != PALI_OK) abort();
    for (size_t i = 0; i < a->n_parts; i++) {
        const adapter_part *p = &a->parts[i];
        const mat *w = view->spec.tensors[i].matrix;
        if (!p->rank) continue;
        if (!w || p->a.rows != p->rank || p->a.cols != w->cols || p->b.rows != w->rows || p->b.cols != p->rank) abort();
        n_updated++;
    }
    if (n_updated != a->n_updated || n_updated + a->n_replaced == 0) abort();
    model_free(view);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    adapter *a;
    if (!g_base) begin();
    write_file(g_file, data, size);
    if (adapter_open(&a, g_dir, g_base, false) == PALI_OK) check(a);
    else if (a || !*status_message()) abort();
    adapter_free(a);
    return 0;
}
