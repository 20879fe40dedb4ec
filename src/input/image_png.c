/* image_png.c: PNG through libpng's low-level interface: every colour type and depth, interlaced or not.
 *
 * libpng only unpacks; samples are mapped here, because Pillow maps them in its own way (spec inference 5.3): 16-bit grey
 * is clipped to 255 where every other 16-bit picture keeps the high byte, and a tRNS colour key is compared by its low byte
 * with the sample after that mapping. A wrong checksum anywhere is an error. libpng reports errors by a jump: everything
 * that must survive it lives in png_reader. */
#include <stdbool.h>
#include <string.h>

#include <png.h>

#include "base/mem.h"
#include "input/exif.h"
#include "input/image_codec.h"

#define MAX_CHUNK_BYTES ((png_alloc_size_t)4 << 20) /* of an ancillary chunk, after decompression */
#define MAX_CACHED_CHUNKS 64u                      /* texts kept; the product bounds what a small file can inflate to */
#define PNG_SIGNATURE_BYTES 8u
#define CHUNK_FRAME_BYTES 12u /* length, kind, checksum */

typedef struct png_reader {
    png_structp codec;
    png_infop info;
    pali_status status;
    const image_source *src;
    size_t at; /* bytes read so far */
    image *out;
    int *orientation;
    uint8_t *raw; /* rows as libpng gives them: one, or all of an interlaced picture */
    uint8_t *profile;

    int color_type, depth, n_passes;
    bool has_key;
    uint8_t key[3];
    image_palette palette;
} png_reader;

static void fail(png_reader *r, pali_status status) {
    r->status = status;
    png_longjmp(r->codec, 1);
}

static pali_status ends_early(const image_source *src) {
    return status_fail(PALI_ERR_FORMAT, "%s: PNG: the file ends before the picture does", src->name);
}

static void on_codec_error(png_structp codec, png_const_charp text) {
    png_reader *r = png_get_error_ptr(codec);
    fail(r, r->status != PALI_OK ? r->status : status_fail(PALI_ERR_FORMAT, "%s: PNG: %s", r->src->name, text));
}

static void on_codec_warning(png_structp codec, png_const_charp text) {
    (void)codec;
    (void)text;
}

static void on_read(png_structp codec, png_bytep to, size_t n) {
    png_reader *r = png_get_io_ptr(codec);
    if (n > r->src->n_bytes - r->at) fail(r, ends_early(r->src));
    memcpy(to, r->src->bytes + r->at, n);
    r->at += n;
}

/* libpng may do without what it cannot get, the orientation for one; a picture must not depend on that. */
static png_voidp on_alloc(png_structp codec, png_alloc_size_t n) {
    png_reader *r = png_get_mem_ptr(codec);
    void *block = mem_alloc(n, 1);
    if (!block) r->status = status_no_memory(n);
    return block;
}

static void on_free(png_structp codec, png_voidp block) {
    (void)codec;
    mem_free(block);
}

/* Chunks must lie inside the file: libpng allocates what an ancillary chunk's header claims before it reads, and its limit
 * on that is only a warning. */
static pali_status check_chunks(const image_source *src) {
    const uint8_t *bytes = src->bytes;
    if (src->n_bytes < PNG_SIGNATURE_BYTES) return ends_early(src);
    for (size_t at = PNG_SIGNATURE_BYTES;;) {
        if (src->n_bytes - at < CHUNK_FRAME_BYTES) return ends_early(src);
        const size_t n = (size_t)bytes[at] << 24 | (size_t)bytes[at + 1] << 16 | (size_t)bytes[at + 2] << 8 | bytes[at + 3];
        if (n > src->n_bytes - at - CHUNK_FRAME_BYTES) return ends_early(src);
        if (memcmp(bytes + at + 4, "IEND", 4) == 0) return PALI_OK;
        at += CHUNK_FRAME_BYTES + n;
    }
}

/* Palette with its alpha, or the colour key in the 8-bit samples that it is compared with. */
static void read_transparency(png_reader *r) {
    png_colorp colors = NULL;
    png_bytep alphas = NULL;
    png_color_16p key = NULL;
    int n_colors = 0, n_alphas = 0;
    image_palette_init(&r->palette);
    if (png_get_PLTE(r->codec, r->info, &colors, &n_colors)) {
        for (int i = 0; i < n_colors && i < 256; i++) {
            r->palette.rgba[i][0] = colors[i].red;
            r->palette.rgba[i][1] = colors[i].green;
            r->palette.rgba[i][2] = colors[i].blue;
        }
    }
    if (!png_get_tRNS(r->codec, r->info, &alphas, &n_alphas, &key)) return;
    if (r->color_type == PNG_COLOR_TYPE_PALETTE) {
        for (int i = 0; alphas && i < n_alphas && i < 256; i++) r->palette.rgba[i][3] = alphas[i];
        image_palette_over_white(&r->palette);
    } else if (key && r->color_type == PNG_COLOR_TYPE_GRAY) {
        r->has_key = true;
        r->key[0] = r->depth == 1 ? (key->gray ? 255 : 0) : (uint8_t)(key->gray & 0xff);
        r->key[1] = r->key[2] = r->key[0];
    } else if (key && r->color_type == PNG_COLOR_TYPE_RGB) {
        r->has_key = true;
        r->key[0] = (uint8_t)(key->red & 0xff);
        r->key[1] = (uint8_t)(key->green & 0xff);
        r->key[2] = (uint8_t)(key->blue & 0xff);
    }
}

/* "Raw profile type exif", as ImageMagick writes EXIF: three lines of heading, then hexadecimal digits. */
static int profile_orientation(png_reader *r, const char *text, size_t n) {
    static const char digits[] = "0123456789ABCDEF0123456789abcdef"; /* both cases, 16 apart */
    size_t at = 0, n_digits = 0;
    for (int line = 0; line < 3; line++) {
        const char *end = memchr(text + at, '\n', n - at);
        if (!end) return 0;
        at = (size_t)(end - text) + 1;
    }
    mem_free(r->profile);
    r->profile = mem_calloc(n / 2 + 1, 1);
    if (!r->profile) fail(r, status_no_memory(n / 2 + 1));
    for (; at < n; at++) {
        const char c = text[at];
        const char *digit = c ? strchr(digits, c) : NULL;
        if (!digit) continue;
        const int value = (int)((digit - digits) % 16);
        r->profile[n_digits / 2] = (uint8_t)(r->profile[n_digits / 2] << 4 | value);
        n_digits++;
    }
    return exif_orientation(r->profile, n_digits / 2);
}

/* After the last chunk, since any of them may carry it. */
static void read_orientation(png_reader *r) {
    png_bytep exif = NULL;
    png_uint_32 n_exif = 0;
    png_textp texts = NULL;
    int n_texts = 0, from_exif = 0, from_profile = 0, from_xmp = 0;
    const bool has_exif = png_get_eXIf_1(r->codec, r->info, &n_exif, &exif) != 0;
    if (has_exif) from_exif = exif_orientation(exif, n_exif);
    (void)png_get_text(r->codec, r->info, &texts, &n_texts);
    for (int i = 0; i < n_texts; i++) {
        const bool is_international = texts[i].compression >= PNG_ITXT_COMPRESSION_NONE;
        const size_t n = is_international ? texts[i].itxt_length : texts[i].text_length;
        if (!texts[i].text) continue;
        if (strcmp(texts[i].key, "XML:com.adobe.xmp") == 0) {
            from_xmp = exif_xmp_orientation((const uint8_t *)texts[i].text, n);
        } else if (strcmp(texts[i].key, "Raw profile type exif") == 0) {
            from_profile = profile_orientation(r, texts[i].text, n);
        }
    }
    if (!has_exif) from_exif = from_profile;
    if (from_exif || from_xmp) *r->orientation = from_exif ? from_exif : from_xmp;
}

/* rgb [width, 3] from one row of samples: bytes (depth 1 to 8, unscaled) or big-endian pairs (depth 16). */
static void convert_row(const png_reader *r, uint8_t *rgb, const uint8_t *raw) {
    const size_t n = r->out->width, step = r->depth == 16 ? 2 : 1; /* the high byte comes first */
    if (r->color_type == PNG_COLOR_TYPE_PALETTE) {
        image_palette_apply(rgb, &r->palette, raw, n);
        return;
    }
    const bool is_rgb = r->color_type & PNG_COLOR_MASK_COLOR, has_alpha = r->color_type & PNG_COLOR_MASK_ALPHA;
    const size_t n_channels = (is_rgb ? 3u : 1u) + (has_alpha ? 1u : 0u);
    const unsigned scale = r->depth < 8 ? 255u / ((1u << r->depth) - 1u) : 1u;
    for (size_t i = 0; i < n; i++, raw += n_channels * step) {
        uint8_t v[3];
        for (size_t c = 0; c < 3; c++) v[c] = (uint8_t)(raw[is_rgb ? c * step : 0] * scale);
        if (r->depth == 16 && r->color_type == PNG_COLOR_TYPE_GRAY) memset(v, raw[0] ? 255 : raw[1], 3);
        if (!has_alpha && !r->has_key) {
            memcpy(rgb + 3 * i, v, 3);
            continue;
        }
        unsigned alpha = has_alpha ? raw[(n_channels - 1) * step] : 255u;
        if (r->has_key && memcmp(v, r->key, 3) == 0) alpha = 0;
        for (size_t c = 0; c < 3; c++) rgb[3 * i + c] = image_over_white(v[c], alpha);
    }
}

static void read_rows(png_reader *r) {
    const size_t n_row_bytes = png_get_rowbytes(r->codec, r->info), height = r->out->height;
    const size_t n_kept = r->n_passes > 1 ? height : 1;
    r->raw = mem_alloc(n_kept, n_row_bytes);
    if (!r->raw) fail(r, status_no_memory(n_kept * n_row_bytes));
    for (int pass = 0; pass < r->n_passes; pass++) {
        for (size_t y = 0; y < height; y++) {
            uint8_t *raw = r->raw + (r->n_passes > 1 ? y * n_row_bytes : 0);
            png_read_row(r->codec, raw, NULL);
            if (pass == r->n_passes - 1) convert_row(r, r->out->rgb + 3 * r->out->width * y, raw);
        }
    }
}

static void read_picture(png_reader *r) {
    png_structp codec = r->codec;
    png_set_read_fn(codec, r, on_read);
    png_set_user_limits(codec, PNG_UINT_31_MAX, PNG_UINT_31_MAX); /* image_alloc has the say */
    png_set_chunk_malloc_max(codec, MAX_CHUNK_BYTES);
    png_set_chunk_cache_max(codec, MAX_CACHED_CHUNKS);
    png_set_crc_action(codec, PNG_CRC_ERROR_QUIT, PNG_CRC_ERROR_QUIT);
    png_read_info(codec, r->info);
    r->color_type = png_get_color_type(codec, r->info);
    r->depth = png_get_bit_depth(codec, r->info);
    pali_status s = image_alloc(r->out, png_get_image_width(codec, r->info), png_get_image_height(codec, r->info), r->src);
    if (s != PALI_OK) fail(r, s);
    read_transparency(r);
    if (r->depth < 8) png_set_packing(codec);
    r->n_passes = png_set_interlace_handling(codec);
    png_read_update_info(codec, r->info);
    read_rows(r);
    png_read_end(codec, r->info);
    read_orientation(r);
}

/* The jump's target is a function of its own, so that *r, changed in between, is nobody's local there. */
static void read_guarded(png_reader *r) {
    if (setjmp(png_jmpbuf(r->codec)) != 0) return;
    r->info = png_create_info_struct(r->codec);
    if (!r->info) fail(r, r->status);
    read_picture(r);
}

pali_status image_png_decode(image *out, int *orientation, const image_source *src) {
    png_reader r;
    STATUS_TRY(check_chunks(src));
    memset(&r, 0, sizeof r);
    r.src = src;
    r.out = out;
    r.orientation = orientation;
    r.codec = png_create_read_struct_2(PNG_LIBPNG_VER_STRING, &r, on_codec_error, on_codec_warning, &r, on_alloc, on_free);
    if (!r.codec) {
        return r.status != PALI_OK ? r.status : status_fail(PALI_ERR_INTERNAL, "%s: PNG: cannot set up libpng", src->name);
    }
    read_guarded(&r);
    png_destroy_read_struct(&r.codec, &r.info, NULL);
    mem_free(r.raw);
    mem_free(r.profile);
    return r.status;
}
