/* weights_gguf.c: .gguf files as a source of weights: one with everything, as ours are, or what the community has: a text model
 * and a "mmproj" file with its vision tower, each perhaps split into parts NAME-00001-of-00003.gguf (spec inference 8.4).
 *
 * Entries get the spec's names. Some writers call the projector mm.input_projection; and older vision files call the mlp's first
 * matrix ffn_down, the second ffn_up, which their shapes tell. */
#include <ctype.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "io/gguf.h"
#include "model/weights.h"

#define MAX_PARTS 1000u
#define PART_ENDING "-00001-of-00002.gguf"

static void gguf_free(void *handle) {
    gguf_close(handle);
    mem_free(handle);
}

/* ---- Names ---- */

/* The mlp of the file's vision tower goes down before it goes up. */
static bool mlp_is_swapped(const gguf *g) {
    const gguf_tensor *down = gguf_find_tensor(g, "v.blk.0.ffn_down.weight"), *q = gguf_find_tensor(g, "v.blk.0.attn_q.weight");
    return down && q && down->n_dims == 2 && q->n_dims == 2 && down->dims[1] == q->dims[1] && down->dims[0] != q->dims[0];
}

static bool begins(const char *name, const char *with) {
    return strncmp(name, with, strlen(with)) == 0;
}

/* What the spec calls a tensor of a file. */
static const char *spec_name_of(char out[GGUF_MAX_NAME + 1], const char *name, bool swapped) {
    const char *down = strstr(name, ".ffn_down."), *up = strstr(name, ".ffn_up.");
    const char *swap = swapped && begins(name, "v.blk.") ? (down ? down : up) : NULL;
    if (begins(name, "mm.input_projection."))
        (void)snprintf(out, GGUF_MAX_NAME + 1, "mm.0.%s", name + strlen("mm.input_projection."));
    else if (swap)
        (void)snprintf(out, GGUF_MAX_NAME + 1, "%.*s%s%s", (int)(swap - name), name, down ? ".ffn_up." : ".ffn_down.", strchr(swap + 1, '.') + 1);
    else
        return name;
    return out;
}

/* ---- Files ---- */

/* A file's bytes in memory; zeros: they are in the file. */
typedef struct borrowed {
    const uint8_t *bytes;
    size_t n_bytes;
} borrowed;

static pali_status file_add(weights *w, const char *path, borrowed memory, const gguf **out) {
    char *copy = mem_copy_string(path), name[GGUF_MAX_NAME + 1];
    gguf *g = mem_calloc(1, sizeof *g);
    pali_status s = !copy || !g ? status_no_memory(strlen(path) + sizeof *g) : memory.bytes ? gguf_parse(g, memory.bytes, memory.n_bytes, path) : gguf_open(g, path);
    if (s != PALI_OK) {
        mem_free(copy);
        mem_free(g);
        return s;
    }
    STATUS_TRY(weights_add_file(w, copy, g, gguf_free));
    bool swapped = mlp_is_swapped(g);
    for (size_t i = 0; i < g->n_tensors; i++) {
        const gguf_tensor *t = &g->tensors[i];
        weights_entry entry = {.file = copy, .file_name = t->name, .dtype = gguf_type_dtype(t->type), .decode = gguf_type_decoder(t->type),
                               .dtype_name = gguf_type_name(t->type), .block = gguf_type_block(t->type), .n_dims = t->n_dims, .data = t->data,
                               .n_bytes = t->n_bytes, .borrowed = memory.bytes != NULL};
        memcpy(entry.dims, t->dims, sizeof t->dims);
        STATUS_TRY(weights_add(w, spec_name_of(name, t->name, swapped), &entry));
    }
    *out = g;
    return PALI_OK;
}

static pali_status number_check(const gguf *g, const char *key, size_t want) {
    size_t x = SIZE_MAX;
    STATUS_TRY(gguf_get_size(g, key, &x, 0, SIZE_MAX));
    if (x == SIZE_MAX) return status_fail(PALI_ERR_FORMAT, "%s: %s: missing", g->path, key);
    return x == want ? PALI_OK : status_fail(PALI_ERR_FORMAT, "%s: %s: %zu, expected %zu", g->path, key, x, want);
}

/* Whether a name ends like that of one of n parts. */
static bool is_part_of(const char *path, size_t n) {
    size_t length = strlen(path), n_ending = strlen(PART_ENDING);
    char ending[sizeof PART_ENDING + 16];
    if (length < n_ending) return false;
    const char *at = path + length - n_ending;
    for (size_t i = 1; i < 6; i++)
        if (!isdigit((unsigned char)at[i])) return false;
    (void)snprintf(ending, sizeof ending, "-of-%05zu.gguf", n);
    return at[0] == '-' && strcmp(at + 6, ending) == 0;
}

/* All n parts of the file that `path` is one of; *out is the first, which has the values. */
static pali_status parts_add(weights *w, const char *path, size_t n, const gguf **out) {
    if (!is_part_of(path, n))
        return status_fail(PALI_ERR_FORMAT, "%s: split.count: %zu, but the name does not end like that of a part: -00001-of-%05zu.gguf", path, n, n);
    char *name = mem_copy_string(path), digits[8];
    size_t n_entries = w->n_entries, n_stated = SIZE_MAX, at = strlen(path) - strlen(PART_ENDING) + 1;
    pali_status s = name ? PALI_OK : status_no_memory(strlen(path));
    for (size_t i = 0; i < n && s == PALI_OK; i++) {
        const gguf *part = NULL;
        (void)snprintf(digits, sizeof digits, "%05u", (unsigned)(i + 1));
        memcpy(name + at, digits, 5);
        s = file_add(w, name, (borrowed){0}, &part);
        if (s == PALI_OK) s = number_check(part, "split.count", n);
        if (s == PALI_OK) s = number_check(part, "split.no", i);
        if (s == PALI_OK && i == 0) {
            *out = part;
            s = gguf_get_size(part, "split.tensors.count", &n_stated, 0, GGUF_MAX_TENSORS);
        }
        if (s == PALI_OK && w->n_entries - n_entries > GGUF_MAX_TENSORS)
            s = status_fail(PALI_ERR_LIMIT, "%s: its parts have more tensors than the limit of %u", path, GGUF_MAX_TENSORS);
    }
    mem_free(name);
    if (s == PALI_OK && n_stated != SIZE_MAX && w->n_entries - n_entries != n_stated)
        return status_fail(PALI_ERR_FORMAT, "%s: split.tensors.count: %zu, but its %zu parts have %zu", (*out)->path, n_stated, n, w->n_entries - n_entries);
    return s;
}

/* A file, or all parts of it. */
static pali_status whole_add(weights *w, const char *path, const gguf **out) {
    gguf g;
    size_t n = 1;
    STATUS_TRY(gguf_open(&g, path)); /* a look at one value; the file is not read, and soon opened again */
    pali_status s = gguf_get_size(&g, "split.count", &n, 0, MAX_PARTS);
    gguf_close(&g);
    STATUS_TRY(s);
    return n > 1 ? parts_add(w, path, n, out) : file_add(w, path, (borrowed){0}, out);
}

static pali_status memory_add(weights *w, const char *name, borrowed memory, const gguf **out) {
    size_t n = 1;
    STATUS_TRY(file_add(w, name, memory, out));
    STATUS_TRY(gguf_get_size(*out, "split.count", &n, 0, MAX_PARTS));
    return n > 1 ? status_fail(PALI_ERR_UNSUPPORTED, "%s: split.count: %zu: a file in memory must be whole", name, n) : PALI_OK;
}

/* ---- The vision tower's file ---- */

static bool has_vision(const weights *w, const gguf *g) {
    bool found = gguf_find(g, "clip.vision.image_size");
    for (size_t i = 0; i < w->n_entries && !found; i++) found = strcmp(w->entries[i].name, "v.patch_embd.weight") == 0;
    return found;
}

static bool is_mmproj(const char *name) {
    size_t n = strlen(name);
    return n > 5 && strcmp(name + n - 5, ".gguf") == 0 && strstr(name, "mmproj");
}

/* The only one beside `path`; NULL: there is none. Of a split one, any part will do, but it counts as several. */
static pali_status mmproj_find(char **out, const char *path) {
    char *dir_name = file_dir(path);
    *out = NULL;
    if (!dir_name) return status_no_memory(strlen(path));
    DIR *dir = opendir(dir_name);
    pali_status s = PALI_OK;
    for (struct dirent *entry; dir && s == PALI_OK && (entry = readdir(dir));) {
        if (!is_mmproj(entry->d_name)) continue;
        if (*out) {
            s = status_fail(PALI_ERR_ARGUMENT, "%s: several mmproj files beside it (%s, %.200s): expected the path of the one to use", path,
                            strrchr(*out, '/') + 1, entry->d_name);
        } else {
            *out = file_join(dir_name, entry->d_name);
            if (!*out) s = status_no_memory(strlen(entry->d_name));
        }
    }
    if (dir) (void)closedir(dir);
    mem_free(dir_name);
    if (s != PALI_OK) {
        mem_free(*out);
        *out = NULL;
    }
    return s;
}

static pali_status all_add(weights *w, const char *path, borrowed memory, const char *mmproj, weights_values *values) {
    char *found = NULL;
    STATUS_TRY(memory.bytes ? memory_add(w, path, memory, &values->text) : whole_add(w, path, &values->text));
    if (!mmproj && has_vision(w, values->text)) {
        values->vision = values->text;
        return weights_seal(w);
    }
    if (!mmproj && !memory.bytes) STATUS_TRY(mmproj_find(&found, path));
    pali_status s = mmproj || found ? whole_add(w, mmproj ? mmproj : found, &values->vision) : PALI_OK;
    mem_free(found);
    return s == PALI_OK ? weights_seal(w) : s;
}

static pali_status source_open(weights **out, const char *path, borrowed memory, const char *mmproj, weights_values *values) {
    weights *w = mem_calloc(1, sizeof *w);
    *out = NULL;
    *values = (weights_values){0};
    if (!w) return status_no_memory(sizeof *w);
    w->layout = SPEC_GGUF;
    pali_status s = all_add(w, path, memory, mmproj, values);
    if (s != PALI_OK) {
        weights_free(w);
        return s;
    }
    *out = w;
    return PALI_OK;
}

pali_status weights_open_gguf(weights **out, const char *path, const char *mmproj, weights_values *values) {
    return source_open(out, path, (borrowed){0}, mmproj, values);
}

pali_status weights_parse_gguf(weights **out, const uint8_t *bytes, size_t n_bytes, const char *name, const char *mmproj, weights_values *values) {
    return source_open(out, name, (borrowed){bytes, n_bytes}, mmproj, values);
}
