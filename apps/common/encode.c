/* encode.c. libpng and libjpeg report errors by longjmp, so what must survive one lives in a struct of the caller, not in
 * a local variable of the function that calls setjmp. */
#include "common/encode.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>
#include <png.h>

/* A little below zlib's default: drawings are looked at once, and a 12-megapixel one takes seconds at level 6. */
#define PNG_LEVEL 4

static size_t n_channels(pixel_layout layout) {
    return layout == PIXEL_GRAY8 ? 1 : 3;
}

/* Row y as gray or RGB bytes: in place, or converted into row_buffer. */
static const uint8_t *row_of(const pixels *p, int32_t y, uint8_t *row_buffer) {
    const uint8_t *row = p->data + (size_t)y * p->stride_bytes;
    if (p->layout != PIXEL_XRGB32) return row;
    for (size_t x = 0; x < (size_t)p->width; x++) {
        uint32_t word;
        memcpy(&word, row + 4 * x, sizeof word);
        row_buffer[3 * x] = (uint8_t)(word >> 16);
        row_buffer[3 * x + 1] = (uint8_t)(word >> 8);
        row_buffer[3 * x + 2] = (uint8_t)word;
    }
    return row_buffer;
}

typedef struct png_job {
    encoded out;
    size_t capacity;
    uint8_t *row;
    char message[120];
} png_job;

static void png_append(png_structp png, png_bytep bytes, size_t n) {
    png_job *job = png_get_io_ptr(png);
    if (n > job->capacity - job->out.n_bytes) {
        size_t capacity = job->capacity ? job->capacity * 2 : 1 << 16;
        while (capacity - job->out.n_bytes < n) capacity *= 2; /* n is a chunk of zlib's buffer: far from overflow */
        uint8_t *grown = realloc(job->out.data, capacity);
        if (!grown) png_error(png, "out of memory");
        job->out.data = grown;
        job->capacity = capacity;
    }
    memcpy(job->out.data + job->out.n_bytes, bytes, n);
    job->out.n_bytes += n;
}

static void png_no_flush(png_structp png) {
    (void)png;
}

static void png_on_error(png_structp png, png_const_charp message) {
    png_job *job = png_get_error_ptr(png);
    (void)snprintf(job->message, sizeof job->message, "%s", message);
    png_longjmp(png, 1);
}

static void png_on_warning(png_structp png, png_const_charp message) {
    (void)png;
    (void)message;
}

static bool png_run(png_structp png, png_infop info, png_job *job, const pixels *p) {
    if (setjmp(png_jmpbuf(png))) return false;
    png_set_write_fn(png, job, png_append, png_no_flush);
    png_set_compression_level(png, PNG_LEVEL);
    png_set_user_limits(png, 0x7fffffff, 0x7fffffff);
    png_set_IHDR(png, info, (png_uint_32)p->width, (png_uint_32)p->height, 8,
                 p->layout == PIXEL_GRAY8 ? PNG_COLOR_TYPE_GRAY : PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT,
                 PNG_FILTER_TYPE_DEFAULT);
    png_write_info(png, info);
    for (int32_t y = 0; y < p->height; y++) png_write_row(png, row_of(p, y, job->row));
    png_write_end(png, info);
    return true;
}

bool encode_png(encoded *out, const pixels *p, fault *f) {
    png_job job = {.row = malloc((size_t)p->width * n_channels(p->layout))};
    *out = (encoded){0};
    png_structp png = job.row ? png_create_write_struct(PNG_LIBPNG_VER_STRING, &job, png_on_error, png_on_warning) : NULL;
    png_infop info = png ? png_create_info_struct(png) : NULL;
    bool ok = info && png_run(png, info, &job, p);
    if (!ok) (void)fault_set(f, "PNG: %s", job.message[0] ? job.message : "out of memory");
    png_destroy_write_struct(&png, &info);
    free(job.row);
    if (ok) *out = job.out;
    else free(job.out.data);
    return ok;
}

typedef struct jpeg_job {
    struct jpeg_error_mgr errors; /* first, so that libjpeg's pointer to it is one to the job */
    struct jpeg_compress_struct jpeg;
    jmp_buf jump;
    unsigned char *data; /* libjpeg's; free() */
    unsigned long n_bytes;
    uint8_t *row;
    char message[JMSG_LENGTH_MAX];
} jpeg_job;

static void jpeg_on_error(j_common_ptr jpeg) {
    jpeg_job *job = (jpeg_job *)jpeg->err;
    job->errors.format_message(jpeg, job->message);
    longjmp(job->jump, 1);
}

static void jpeg_on_message(j_common_ptr jpeg) {
    (void)jpeg;
}

static bool jpeg_run(jpeg_job *job, const pixels *p, int quality) {
    struct jpeg_compress_struct *jpeg = &job->jpeg;
    if (setjmp(job->jump)) return false;
    jpeg_create_compress(jpeg);
    jpeg_mem_dest(jpeg, &job->data, &job->n_bytes);
    jpeg->image_width = (JDIMENSION)p->width;
    jpeg->image_height = (JDIMENSION)p->height;
    jpeg->input_components = (int)n_channels(p->layout);
    jpeg->in_color_space = p->layout == PIXEL_GRAY8 ? JCS_GRAYSCALE : JCS_RGB;
    jpeg_set_defaults(jpeg);
    jpeg_set_quality(jpeg, quality, TRUE);
    for (int i = 0; i < jpeg->num_components; i++) jpeg->comp_info[i].h_samp_factor = jpeg->comp_info[i].v_samp_factor = 1;
    jpeg_start_compress(jpeg, TRUE);
    for (int32_t y = 0; y < p->height; y++) {
        JSAMPROW row = job->row;
        const uint8_t *bytes = row_of(p, y, job->row);
        if (bytes != job->row) memcpy(job->row, bytes, (size_t)p->width * n_channels(p->layout)); /* its rows are not const */
        (void)jpeg_write_scanlines(jpeg, &row, 1);
    }
    jpeg_finish_compress(jpeg);
    return true;
}

bool encode_jpeg(encoded *out, const pixels *p, int quality, fault *f) {
    jpeg_job *job = calloc(1, sizeof *job);
    *out = (encoded){0};
    if (!job) return fault_set(f, "JPEG: out of memory");
    job->row = malloc((size_t)p->width * n_channels(p->layout));
    job->jpeg.err = jpeg_std_error(&job->errors);
    job->errors.error_exit = jpeg_on_error;
    job->errors.output_message = jpeg_on_message;
    bool ok = job->row && jpeg_run(job, p, quality);
    if (!ok) (void)fault_set(f, "JPEG: %s", job->message[0] ? job->message : "out of memory");
    jpeg_destroy_compress(&job->jpeg);
    if (ok) *out = (encoded){job->data, (size_t)job->n_bytes};
    else free(job->data);
    free(job->row);
    free(job);
    return ok;
}
