/* image_jpeg.c: JPEG through libjpeg, with its default (slow integer) DCT and fancy upsampling as in Pillow: baseline,
 * progressive, grey, YCbCr, RGB, CMYK and YCCK.
 *
 * Four-component files are inverted on load (Adobe's convention, which Pillow assumes for all of them). Damage inside the
 * data that libjpeg conceals is accepted, as Pillow does; a file that ends early is an error. libjpeg reports errors by a
 * jump: everything that must survive it lives in jpeg_reader. */
#include <setjmp.h>
#include <stdio.h>
#include <string.h>

#include <jpeglib.h>
#include <jerror.h>

#include "base/mem.h"
#include "input/exif.h"
#include "input/image_codec.h"

#define MAX_SCANS 200 /* real progressive files have about ten; a tiny file could ask for thousands of passes */

typedef struct jpeg_reader {
    struct jpeg_decompress_struct codec;
    struct jpeg_error_mgr errors;
    struct jpeg_source_mgr source;
    struct jpeg_progress_mgr progress;
    jmp_buf on_error;
    pali_status status;
    const image_source *src;
    image *out;
    int *orientation;
    uint8_t *exif; /* the joined APP1 blocks */
    uint8_t *row;  /* [width, 1 or 4] where the codec does not give RGB */
} jpeg_reader;

static void fail(jpeg_reader *r, pali_status status) {
    r->status = status;
    longjmp(r->on_error, 1);
}

static void on_codec_error(j_common_ptr codec) {
    jpeg_reader *r = codec->client_data;
    char text[JMSG_LENGTH_MAX];
    codec->err->format_message(codec, text);
    pali_status code = codec->err->msg_code == JERR_OUT_OF_MEMORY ? PALI_ERR_MEMORY : PALI_ERR_FORMAT;
    fail(r, status_fail(code, "%s: JPEG: %s", r->src->name, text));
}

static void on_codec_warning(j_common_ptr codec, int level) {
    (void)codec;
    (void)level;
}

static void on_codec_output(j_common_ptr codec) {
    (void)codec;
}

static void on_progress(j_common_ptr codec) {
    jpeg_reader *r = codec->client_data;
    if (r->codec.input_scan_number > MAX_SCANS) {
        fail(r, status_fail(PALI_ERR_LIMIT, "%s: JPEG: more than %d scans", r->src->name, MAX_SCANS));
    }
}

static void source_begin(j_decompress_ptr codec) {
    (void)codec;
}

/* The whole file was given at the start, so asking for more means that it ends early. */
static boolean source_fill(j_decompress_ptr codec) {
    jpeg_reader *r = codec->client_data;
    fail(r, status_fail(PALI_ERR_FORMAT, "%s: JPEG: the file ends before the picture does", r->src->name));
    return FALSE;
}

static void source_skip(j_decompress_ptr codec, long n) {
    if (n <= 0) return;
    if ((size_t)n > codec->src->bytes_in_buffer) (void)source_fill(codec);
    codec->src->next_input_byte += n;
    codec->src->bytes_in_buffer -= (size_t)n;
}

static void source_end(j_decompress_ptr codec) {
    (void)codec;
}

/* EXIF may be spread over several APP1 segments; only the first one's "Exif\0\0" is part of the block. */
static void read_orientation(jpeg_reader *r) {
    static const char xmp_key[] = "http://ns.adobe.com/xap/1.0/";
    size_t total = 0, used = 0;
    int from_exif = 0, from_xmp = 0;
    for (jpeg_saved_marker_ptr m = r->codec.marker_list; m; m = m->next) {
        if (m->data_length >= 6 && memcmp(m->data, "Exif\0\0", 6) == 0) total += m->data_length - 6;
        if (m->data_length >= sizeof xmp_key && memcmp(m->data, xmp_key, sizeof xmp_key) == 0) {
            from_xmp = exif_xmp_orientation(m->data + sizeof xmp_key, m->data_length - sizeof xmp_key);
        }
    }
    if (total > 0) {
        r->exif = mem_alloc(total, 1);
        if (!r->exif) fail(r, status_no_memory(total));
        for (jpeg_saved_marker_ptr m = r->codec.marker_list; m; m = m->next) {
            if (m->data_length < 6 || memcmp(m->data, "Exif\0\0", 6) != 0) continue;
            memcpy(r->exif + used, m->data + 6, m->data_length - 6);
            used += m->data_length - 6;
        }
        from_exif = exif_orientation(r->exif, total);
    }
    if (from_exif || from_xmp) *r->orientation = from_exif ? from_exif : from_xmp;
}

/* As stored, an inverted component is 255 - ink, and so is 255 - K: rgb = n - (255 - c)*n/255 with n = k, rounded. */
static void inverted_cmyk_to_rgb(uint8_t *rgb, const uint8_t *cmyk, size_t n) {
    for (size_t i = 0; i < n; i++) {
        const unsigned light = cmyk[4 * i + 3];
        for (size_t c = 0; c < 3; c++) {
            unsigned t = (255u - cmyk[4 * i + c]) * light + 128u;
            rgb[3 * i + c] = (uint8_t)(light - (((t >> 8) + t) >> 8));
        }
    }
}

static void read_rows(jpeg_reader *r) {
    const size_t width = r->out->width;
    const int n_components = r->codec.output_components;
    while (r->codec.output_scanline < r->codec.output_height) {
        uint8_t *rgb = r->out->rgb + 3 * width * r->codec.output_scanline;
        JSAMPROW row = n_components == 3 ? rgb : r->row;
        if (jpeg_read_scanlines(&r->codec, &row, 1) != 1) (void)source_fill(&r->codec);
        if (n_components == 4) {
            inverted_cmyk_to_rgb(rgb, row, width);
        } else if (n_components == 1) {
            for (size_t i = 0; i < width; i++) memset(rgb + 3 * i, row[i], 3);
        }
    }
}

static void read_picture(jpeg_reader *r) {
    struct jpeg_decompress_struct *codec = &r->codec;
    jpeg_create_decompress(codec);
    r->source = (struct jpeg_source_mgr){.next_input_byte = r->src->bytes,
                                         .bytes_in_buffer = r->src->n_bytes,
                                         .init_source = source_begin,
                                         .fill_input_buffer = source_fill,
                                         .skip_input_data = source_skip,
                                         .resync_to_restart = jpeg_resync_to_restart,
                                         .term_source = source_end};
    codec->src = &r->source;
    r->progress.progress_monitor = on_progress;
    codec->progress = &r->progress;
    jpeg_save_markers(codec, JPEG_APP0 + 1, 0xffff);
    (void)jpeg_read_header(codec, TRUE);
    read_orientation(r);

    switch (codec->num_components) {
        case 1: codec->out_color_space = JCS_GRAYSCALE; break;
        case 3: codec->out_color_space = JCS_RGB; break;
        case 4: codec->out_color_space = JCS_CMYK; break;
        default:
            fail(r, status_fail(PALI_ERR_UNSUPPORTED, "%s: JPEG: %d components: expected 1, 3 or 4", r->src->name,
                                codec->num_components));
    }
    pali_status s = image_alloc(r->out, codec->image_width, codec->image_height, r->src);
    if (s != PALI_OK) fail(r, s);
    if (codec->num_components != 3) {
        r->row = mem_alloc(r->out->width, (size_t)codec->num_components);
        if (!r->row) fail(r, status_no_memory(r->out->width * (size_t)codec->num_components));
    }
    (void)jpeg_start_decompress(codec);
    read_rows(r);
    (void)jpeg_finish_decompress(codec);
}

/* The jump's target is a function of its own, so that *r, changed in between, is nobody's local there. */
static void read_guarded(jpeg_reader *r) {
    if (setjmp(r->on_error) == 0) read_picture(r);
}

pali_status image_jpeg_decode(image *out, int *orientation, const image_source *src) {
    jpeg_reader r;
    memset(&r, 0, sizeof r);
    r.src = src;
    r.out = out;
    r.orientation = orientation;
    r.codec.client_data = &r;
    r.codec.err = jpeg_std_error(&r.errors);
    r.errors.error_exit = on_codec_error;
    r.errors.emit_message = on_codec_warning;
    r.errors.output_message = on_codec_output;
    read_guarded(&r);
    jpeg_destroy_decompress(&r.codec);
    mem_free(r.exif);
    mem_free(r.row);
    return r.status;
}
