/* image_gif.c: the first frame of a GIF, through giflib, on the logical screen.
 *
 * As in Pillow, what the frame leaves free takes the transparent colour, or colour 0 (the background colour counts for
 * nothing), a frame that sticks out enlarges the screen, and a file without a colour table is grey. */
#include <stdbool.h>
#include <string.h>

#include <gif_lib.h>

#include "base/mem.h"
#include "input/image_codec.h"

#define GRAPHICS_TRANSPARENT 1u /* flag of the graphics control extension */

typedef struct gif_reader {
    GifFileType *codec;
    const image_source *src;
    size_t at; /* bytes read so far */
    int transparent; /* colour index or -1 */
    uint8_t *screen; /* [height, width] of colour indices */
} gif_reader;

static int on_read(GifFileType *codec, GifByteType *to, int n) {
    gif_reader *r = codec->UserData;
    size_t room = r->src->n_bytes - r->at, n_given = n < 0 ? 0 : (size_t)n < room ? (size_t)n : room;
    memcpy(to, r->src->bytes + r->at, n_given);
    r->at += n_given;
    return (int)n_given;
}

static pali_status fail(const gif_reader *r, int error) {
    const char *text = GifErrorString(error);
    pali_status code = error == D_GIF_ERR_NOT_ENOUGH_MEM ? PALI_ERR_MEMORY : PALI_ERR_FORMAT;
    return status_fail(code, "%s: GIF: %s", r->src->name, text ? text : "damaged");
}

static pali_status read_extension(gif_reader *r) {
    int code;
    GifByteType *block; /* its length, then its bytes */
    if (DGifGetExtension(r->codec, &code, &block) != GIF_OK) return fail(r, r->codec->Error);
    if (block && code == GRAPHICS_EXT_FUNC_CODE && block[0] >= 4 && (block[1] & GRAPHICS_TRANSPARENT)) r->transparent = block[4];
    while (block) {
        if (DGifGetExtensionNext(r->codec, &block) != GIF_OK) return fail(r, r->codec->Error);
    }
    return PALI_OK;
}

/* Stops behind the header of the first frame. */
static pali_status find_frame(gif_reader *r) {
    for (;;) {
        GifRecordType type;
        if (DGifGetRecordType(r->codec, &type) != GIF_OK) return fail(r, r->codec->Error);
        if (type == IMAGE_DESC_RECORD_TYPE) break;
        if (type != EXTENSION_RECORD_TYPE) return status_fail(PALI_ERR_FORMAT, "%s: GIF: no picture in it", r->src->name);
        STATUS_TRY(read_extension(r));
    }
    return DGifGetImageDesc(r->codec) == GIF_OK ? PALI_OK : fail(r, r->codec->Error);
}

static pali_status read_rows(gif_reader *r, size_t screen_width) {
    static const size_t first[4] = {0, 4, 2, 1}, step[4] = {8, 8, 4, 2};
    const GifImageDesc *frame = &r->codec->Image;
    const size_t height = (size_t)frame->Height, n_passes = frame->Interlace ? 4 : 1;
    for (size_t pass = 0; pass < n_passes; pass++) {
        for (size_t y = frame->Interlace ? first[pass] : 0; y < height; y += frame->Interlace ? step[pass] : 1) {
            uint8_t *row = r->screen + ((size_t)frame->Top + y) * screen_width + (size_t)frame->Left;
            if (DGifGetLine(r->codec, row, frame->Width) != GIF_OK) return fail(r, r->codec->Error);
        }
    }
    return PALI_OK;
}

static void read_palette(const gif_reader *r, image_palette *palette) {
    const ColorMapObject *colors = r->codec->Image.ColorMap ? r->codec->Image.ColorMap : r->codec->SColorMap;
    image_palette_init(palette);
    for (int i = 0; i < 256; i++) {
        uint8_t *rgba = palette->rgba[i];
        if (!colors) {
            memset(rgba, i, 3);
        } else if (i < colors->ColorCount) {
            rgba[0] = colors->Colors[i].Red;
            rgba[1] = colors->Colors[i].Green;
            rgba[2] = colors->Colors[i].Blue;
        }
    }
    if (r->transparent >= 0) palette->rgba[r->transparent][3] = 0;
    image_palette_over_white(palette);
}

static pali_status read_picture(gif_reader *r, image *out) {
    STATUS_TRY(find_frame(r));
    const GifImageDesc *frame = &r->codec->Image;
    if (frame->Left < 0 || frame->Top < 0 || frame->Width <= 0 || frame->Height <= 0) {
        return status_fail(PALI_ERR_FORMAT, "%s: GIF: a first frame of %d x %d pixels: both must be at least 1", r->src->name,
                           frame->Width, frame->Height);
    }
    const size_t right = (size_t)frame->Left + (size_t)frame->Width, bottom = (size_t)frame->Top + (size_t)frame->Height;
    const size_t width = (size_t)r->codec->SWidth, height = (size_t)r->codec->SHeight;
    STATUS_TRY(image_alloc(out, right > width ? right : width, bottom > height ? bottom : height, r->src));

    const size_t n_pixels = out->width * out->height;
    r->screen = mem_alloc(n_pixels, 1);
    if (!r->screen) return status_no_memory(n_pixels);
    memset(r->screen, r->transparent >= 0 ? r->transparent : 0, n_pixels);
    STATUS_TRY(read_rows(r, out->width));
    image_palette palette;
    read_palette(r, &palette);
    image_palette_apply(out->rgb, &palette, r->screen, n_pixels);
    return PALI_OK;
}

pali_status image_gif_decode(image *out, int *orientation, const image_source *src) {
    gif_reader r = {.src = src, .transparent = -1};
    int error = D_GIF_ERR_NOT_GIF_FILE;
    (void)orientation; /* GIF has none */
    r.codec = DGifOpen(&r, on_read, &error);
    if (!r.codec) return fail(&r, error);
    pali_status s = read_picture(&r, out);
    (void)DGifCloseFile(r.codec, &error);
    mem_free(r.screen);
    return s;
}
