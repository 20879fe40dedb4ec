#include "outputs.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "builtin.h"
#include "common/draw.h"
#include "common/outfile.h"

#define NAME_MAX_BYTES 512

static bool is_directory(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

static bool is_pattern(const char *path) {
    return strstr(path, "{line}") || strstr(path, "{name}");
}

/* A directory whose name is known before any line is read is looked at then, not after the first answer. */
static bool check_pattern(const char *path, fault *f) {
    const char *slash = strrchr(path, '/'), *line = strstr(path, "{line}"), *name = strstr(path, "{name}");
    bool unknown = slash && ((line && line < slash) || (name && name < slash));
    return unknown || outfile_check(path, f);
}

static int check_draw(cli *c) {
    const char *path = c->args.draw, *name = c->command->name;
    fault f;
    if (draw_format_of(path) != DRAW_NONE) {
        if (c->args.batch && !is_pattern(path))
            return cli_usage(c, "%s: --draw: \"%s\": a directory, or a name with {line} or {name} in it, expected with --batch", name,
                             path);
        return (c->args.batch ? check_pattern(path, &f) : outfile_check(path, &f)) ? CLI_OK : cli_fail_fault(c, &f);
    }
    if (!c->args.batch || is_pattern(path))
        return cli_usage(c, "%s: --draw: \"%s\": a name ending in .png, .jpg or .svg expected", name, path);
    return outfile_directory(path, &f) ? CLI_OK : cli_fail_fault(c, &f);
}

static int check_format(cli *c) {
    const args *a = &c->args;
    const char *name = c->command->name;
    fault f;
    if (!a->format) return a->output ? cli_usage(c, "%s: -o: says where --format writes: --format coco, yolo or csv expected", name) : CLI_OK;
    if (a->json) return cli_usage(c, "%s: --format: another form than --json: one of them expected", name);
    bool is_yolo = !strcmp(a->format, "yolo");
    if (is_yolo && (!a->output || !strcmp(a->output, "-"))) return cli_usage(c, "%s: --format yolo: -o DIR expected", name);
    if (!a->output || !strcmp(a->output, "-")) return CLI_OK;
    return (is_yolo ? outfile_directory(a->output, &f) : outfile_check(a->output, &f)) ? CLI_OK : cli_fail_fault(c, &f);
}

int outputs_check(cli *c) {
    fault f;
    int code = check_format(c);
    if (!code && c->args.draw) code = check_draw(c);
    if (!code && c->args.masks && !outfile_directory(c->args.masks, &f)) code = cli_fail_fault(c, &f);
    return code;
}

int outputs_open(outputs *o, cli *c, const pali_tokenizer *tokenizer) {
    *o = (outputs){.c = c, .tokenizer = tokenizer};
    pali_locate_options_init(&o->locate);
    o->locate.convention = !strcmp(c->args.box_scale, "1023") ? PALI_BOX_1023 : PALI_BOX_1024;
    o->locate.nms_iou = c->args.nms;
    o->locate.min_score = c->args.min_score;
    if (!c->args.vae) return CLI_OK;
    pali_status status = pali_mask_codec_load(&o->codec, c->args.vae);
    return status == PALI_OK ? CLI_OK : cli_fail_library(c, status, "mask codec");
}

void outputs_close(outputs *o) {
    pali_mask_codec_free(o->codec);
    o->codec = NULL;
}

/* The codec that lies beside the model, or inside the program with it, when the first mask comes: o->codec stays NULL if there is none. */
static pali_status codec_search(outputs *o) {
    static const char *const names[] = {"vae-oid.npz", "vae.safetensors"};
    size_t n_bytes;
    const void *bytes;
    const char *model = o->c->args.model, *slash = model ? strrchr(model, '/') : NULL;
    if (o->codec || o->searched) return PALI_OK;
    o->searched = true;
    if (cli_model_is_builtin(o->c) && !o->c->args.tokenizer && (bytes = builtin_codec(&n_bytes)))
        return pali_mask_codec_parse(&o->codec, bytes, n_bytes, BUILTIN_NAME); /* to another model its codes mean other masks */
    if (!model) return PALI_OK;
    bool in_it = is_directory(model);
    int n_directory = in_it ? (int)strlen(model) : slash ? (int)(slash - model) : 0;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[4096];
        int n = snprintf(path, sizeof path, "%.*s%s%s", n_directory, model, in_it || slash ? "/" : "", names[i]);
        if (n < (int)sizeof path && access(path, F_OK) == 0) return pali_mask_codec_load(&o->codec, path);
    }
    cli_note(o->c, "masks left out: no mask codec: vae-oid.npz expected beside the model, or --vae FILE");
    return PALI_OK;
}

/* A file's name without directories and ending, as a part of other names. */
static void stem_of(char stem[NAME_MAX_BYTES], const char *name) {
    const char *slash = strrchr(name, '/'), *base = slash ? slash + 1 : name, *dot = strrchr(base, '.');
    int n = dot && dot > base ? (int)(dot - base) : (int)strlen(base);
    (void)snprintf(stem, NAME_MAX_BYTES, "%.*s", n > 200 ? 200 : n, base);
}

/* --draw with what {line} and {name} stand for. */
static bool draw_path(char *path, size_t n_path, const char *given, size_t line, const char *name) {
    char stem[NAME_MAX_BYTES];
    stem_of(stem, name);
    if (!line) return snprintf(path, n_path, "%s", given) < (int)n_path;
    if (!is_pattern(given)) return snprintf(path, n_path, "%s/%04zu-%s.png", given, line, stem) < (int)n_path;
    size_t n = 0;
    for (const char *p = given; *p && n < n_path;) {
        bool is_line = !strncmp(p, "{line}", 6), is_name = !strncmp(p, "{name}", 6);
        int m = is_line ? snprintf(path + n, n_path - n, "%04zu", line)
                        : snprintf(path + n, n_path - n, "%.*s", is_name ? NAME_MAX_BYTES : 1, is_name ? stem : p);
        n += (size_t)m;
        p += is_line || is_name ? 6 : 1;
    }
    return n < n_path;
}

static bool mask_write(const outputs *o, const uint8_t *mask, const found *all, size_t index, size_t line, const char *name, fault *f) {
    char path[4096], stem[NAME_MAX_BYTES];
    stem_of(stem, name);
    int n = line ? snprintf(path, sizeof path, "%s/%04zu-%s-%03zu.png", o->c->args.masks, line, stem, index)
                 : snprintf(path, sizeof path, "%s/%03zu.png", o->c->args.masks, index);
    if (n >= (int)sizeof path) return fault_set(f, "--masks: name too long");
    encoded file;
    pixels p = {mask, all->width, all->height, (size_t)all->width, PIXEL_GRAY8};
    if (!encode_png(&file, &p, f)) return false;
    bool ok = outfile_write(path, &(outfile_piece){file.data, file.n_bytes}, 1, f);
    free(file.data);
    return ok;
}

static bool library_fault(fault *f, pali_status status) {
    return fault_set(f, "%s", *pali_last_error() ? pali_last_error() : pali_status_name(status));
}

/* The mask of the picture's size, NULL if there is none, and what is kept of it. */
static pali_status mask_make(outputs *o, found *all, size_t index, const pali_object *object, uint8_t **mask) {
    float decoded[PALI_MASK_SIDE * PALI_MASK_SIDE];
    pali_status status = object->has_seg ? codec_search(o) : PALI_OK;
    if (status != PALI_OK || !object->has_seg || !o->codec) return status;
    status = pali_mask_codec_decode(o->codec, object->seg, decoded);
    if (status == PALI_OK) status = pali_mask_paste(decoded, object->loc, all->width, all->height, PALI_MASK_DEMO, mask);
    if (status != PALI_OK || !*mask) return status;
    size_t n_pixels = (size_t)all->width * (size_t)all->height, n_inside = 0;
    for (size_t i = 0; i < n_pixels; i++) n_inside += (*mask)[i] >= FOUND_MASK_THRESHOLD;
    all->masks[index].share = (double)n_inside / (double)n_pixels;
    return pali_mask_to_rle(*mask, all->width, all->height, FOUND_MASK_THRESHOLD, &all->masks[index].rle);
}

static void say_draw_notes(outputs *o, const draw_notes *n) {
    if (o->draw_notes_said) return;
    if (n->no_font) cli_note(o->c, "drawing: no font is installed: labels left out (fonts-dejavu-core has one)");
    else if (n->n_labels_left_out) cli_note(o->c, "drawing: no room for %zu labels", n->n_labels_left_out);
    if (n->n_labels_unknown)
        cli_note(o->c,
                 "drawing: %zu labels have characters that no installed font has (fonts-noto-core, fonts-noto-cjk, "
                 "fonts-noto-color-emoji)",
                 n->n_labels_unknown);
    o->draw_notes_said = n->no_font || n->n_labels_unknown;
}

/* One object after the other: masks of a large picture are too large to hold many. */
static bool objects_take(outputs *o, draw *d, found *all, size_t line, const char *name, fault *f) {
    bool ok = true;
    for (size_t i = 0; ok && i < all->n; i++) {
        pali_object object = {.struct_size = sizeof object};
        uint8_t *mask = NULL;
        pali_status status = pali_objects_get(all->objects, i, &object);
        if (status == PALI_OK) status = mask_make(o, all, i, &object, &mask);
        if (status != PALI_OK) ok = library_fault(f, status);
        if (ok && mask && o->c->args.masks) ok = mask_write(o, mask, all, i, line, name, f);
        if (ok && d) {
            draw_object drawn = {
                .label = object.label, .n_label_bytes = object.n_label_bytes, .score = all->has_scores ? object.score : -1, .mask = mask};
            memcpy(drawn.box, object.box, sizeof drawn.box);
            ok = draw_add(d, &drawn, f);
        }
        pali_free(mask);
    }
    return ok;
}

bool outputs_find(outputs *o, const pali_image *picture, const pali_sequence *s, size_t line, const char *name, found *out, fault *f) {
    *out = (found){.width = pali_image_width(picture), .height = pali_image_height(picture), .has_scores = s->logprobs != NULL};
    pali_status status =
        pali_objects_find(&out->objects, o->tokenizer, s->tokens, s->logprobs, s->n_tokens, out->width, out->height, &o->locate);
    if (status != PALI_OK) return library_fault(f, status);
    out->n = pali_objects_count(out->objects);
    out->masks = calloc(out->n ? out->n : 1, sizeof *out->masks);
    draw *d = o->c->args.draw ? draw_new(pali_image_rgb(picture), out->width, out->height) : NULL;
    bool ok = out->masks && (d || !o->c->args.draw);
    if (!ok) (void)fault_set(f, "objects: out of memory");
    if (ok) ok = objects_take(o, d, out, line, name, f);
    if (ok && d) {
        char path[4096];
        draw_notes notes;
        ok = draw_path(path, sizeof path, o->c->args.draw, line, name) || fault_set(f, "--draw: name too long");
        if (ok) ok = draw_write(d, path, &notes, f);
        if (ok) say_draw_notes(o, &notes);
    }
    draw_free(d);
    if (!ok) found_free(out);
    return ok;
}
