/* codec_jpeg.c: JPEG by libjpeg(-turbo), with the settings Pillow leaves at their defaults (accurate integer DCT, fancy
 * upsampling). CMYK: Adobe files store it inverted; then Pillow's formula (spec 5.3). */
#include <setjmp.h>
#include <stdio.h>
#include <string.h>

#include <jpeglib.h>
#include <jerror.h>

#include "base/mem.h"
#include "input/codec.h"

typedef struct errors {
    struct jpeg_error_mgr base;
    jmp_buf escape;
    const char *name;
    pali_status status;
    uint8_t *row; /* here, because a longjmp may skip the end of decode */
} errors;

static void on_error(j_common_ptr info) {
    errors *e = (errors *)info->err;
    char text[JMSG_LENGTH_MAX];
    info->err->format_message(info, text);
    e->status = status_fail(PALI_ERR_FORMAT, "%s: JPEG: %s", e->name, text);
    longjmp(e->escape, 1);
}

/* libjpeg fills in a missing end with grey and only warns; for us a truncated picture is an error. */
static void on_message(j_common_ptr info, int level) {
    errors *e = (errors *)info->err;
    if (level >= 0 || info->err->msg_code != JWRN_JPEG_EOF) return;
    e->status = status_fail(PALI_ERR_FORMAT, "%s: JPEG: truncated", e->name);
    longjmp(e->escape, 1);
}

static uint8_t muldiv255(unsigned a, unsigned b) {
    unsigned t = a * b + 128;
    return (uint8_t)(((t >> 8) + t) >> 8);
}

/* C, M, Y, K to RGB, in place from the front. */
static void cmyk_row(uint8_t *rgb, const uint8_t *cmyk, size_t n, bool inverted) {
    for (size_t i = 0; i < n; i++) {
        unsigned flip = inverted ? 255 : 0, left = 255 - (cmyk[i * 4 + 3] ^ flip);
        for (size_t c = 0; c < 3; c++) rgb[i * 3 + c] = (uint8_t)(left - muldiv255(cmyk[i * 4 + c] ^ flip, left));
    }
}

static pali_status decode(raster *out, struct jpeg_decompress_struct *info, errors *e, const bytes *file) {
    jpeg_mem_src(info, file->data, file->n);
    jpeg_save_markers(info, JPEG_APP0 + 1, 0xffff);
    (void)jpeg_read_header(info, TRUE);
    bool cmyk = info->num_components == 4;
    info->out_color_space = cmyk ? JCS_CMYK : JCS_RGB;
    STATUS_TRY(raster_new(out, info->image_width, info->image_height, 3, file->name));
    for (jpeg_saved_marker_ptr m = info->marker_list; m; m = m->next)
        if (m->data_length >= 6 && memcmp(m->data, "Exif\0\0", 6) == 0) out->orientation = exif_orientation(m->data, m->data_length);
    (void)jpeg_start_decompress(info);
    if (cmyk && !(e->row = mem_alloc(out->width, 4))) return status_no_memory(out->width * 4);
    while (info->output_scanline < info->output_height) {
        uint8_t *to = out->data + info->output_scanline * out->width * 3;
        JSAMPROW line = cmyk ? e->row : to;
        (void)jpeg_read_scanlines(info, &line, 1);
        if (cmyk) cmyk_row(to, e->row, out->width, info->saw_Adobe_marker);
    }
    (void)jpeg_finish_decompress(info);
    return PALI_OK;
}

pali_status jpeg_decode(raster *out, const bytes *file) {
    struct jpeg_decompress_struct info;
    errors e = {.name = file->name};
    info.err = jpeg_std_error(&e.base);
    e.base.error_exit = on_error;
    e.base.emit_message = on_message;
    if (setjmp(e.escape) == 0) {
        jpeg_create_decompress(&info);
        info.mem->max_memory_to_use = 1L << 31; /* progressive files keep all coefficients */
        e.status = decode(out, &info, &e, file);
    }
    jpeg_destroy_decompress(&info);
    mem_free(e.row);
    return e.status;
}
