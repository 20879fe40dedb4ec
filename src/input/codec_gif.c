/* codec_gif.c: the first frame of a GIF by giflib, on the canvas as Pillow fills it: with the transparent colour if the frame
 * has one, else with the background colour. */
#include <string.h>

#include <gif_lib.h>

#include "base/mem.h"
#include "input/codec.h"

typedef struct source {
    const bytes *file;
    size_t at;
} source;

static int on_read(GifFileType *gif, GifByteType *to, int n) {
    source *s = gif->UserData;
    size_t left = s->file->n - s->at, take = (size_t)n < left ? (size_t)n : left;
    memcpy(to, s->file->data + s->at, take);
    s->at += take;
    return (int)take;
}

static pali_status damaged(const bytes *file) {
    return status_fail(PALI_ERR_FORMAT, "%s: GIF: damaged or truncated", file->name);
}

/* Reads records up to the first picture; a graphics control block on the way names the transparent colour. */
static pali_status first_frame(GifFileType *gif, int *transparent, const bytes *file) {
    *transparent = NO_TRANSPARENT_COLOR;
    for (;;) {
        GifRecordType record;
        GifByteType *block;
        int code;
        if (DGifGetRecordType(gif, &record) != GIF_OK) return damaged(file);
        if (record == IMAGE_DESC_RECORD_TYPE) return DGifGetImageDesc(gif) == GIF_OK ? PALI_OK : damaged(file);
        if (record == TERMINATE_RECORD_TYPE) return status_fail(PALI_ERR_FORMAT, "%s: GIF: no picture in it", file->name);
        if (DGifGetExtension(gif, &code, &block) != GIF_OK) return damaged(file);
        while (block) {
            GraphicsControlBlock control;
            if (code == GRAPHICS_EXT_FUNC_CODE && DGifExtensionToGCB(block[0], block + 1, &control) == GIF_OK) *transparent = control.TransparentColor;
            if (DGifGetExtensionNext(gif, &block) != GIF_OK) return damaged(file);
        }
    }
}

static void pixel(uint8_t *to, const ColorMapObject *map, int index, int transparent) {
    memset(to, 0, 3);
    if (map && index < map->ColorCount) {
        to[0] = map->Colors[index].Red;
        to[1] = map->Colors[index].Green;
        to[2] = map->Colors[index].Blue;
    }
    to[3] = index == transparent ? 0 : 255;
}

static pali_status frame_read(raster *out, GifFileType *gif, uint8_t *line, int transparent, const bytes *file) {
    static const size_t k_start[] = {0, 4, 2, 1}, k_step[] = {8, 8, 4, 2};
    const GifImageDesc *desc = &gif->Image;
    const ColorMapObject *map = desc->ColorMap ? desc->ColorMap : gif->SColorMap;
    size_t left = (size_t)desc->Left, top = (size_t)desc->Top, width = (size_t)desc->Width, height = (size_t)desc->Height;
    for (size_t pass = 0; pass < (desc->Interlace ? 4u : 1u); pass++) {
        for (size_t y = desc->Interlace ? k_start[pass] : 0; y < height; y += desc->Interlace ? k_step[pass] : 1) {
            if (DGifGetLine(gif, line, (int)width) != GIF_OK) return damaged(file);
            for (size_t x = 0; x < width; x++) pixel(out->data + ((top + y) * out->width + left + x) * 4, map, line[x], transparent);
        }
    }
    return PALI_OK;
}

static pali_status decode(raster *out, GifFileType *gif, const bytes *file) {
    int transparent;
    STATUS_TRY(first_frame(gif, &transparent, file));
    const GifImageDesc *d = &gif->Image;
    if (d->Left < 0 || d->Top < 0 || d->Width <= 0 || d->Height <= 0) return damaged(file);
    /* A frame that sticks out of the screen enlarges it. */
    size_t width = (size_t)gif->SWidth, height = (size_t)gif->SHeight;
    if ((size_t)d->Left + (size_t)d->Width > width) width = (size_t)d->Left + (size_t)d->Width;
    if ((size_t)d->Top + (size_t)d->Height > height) height = (size_t)d->Top + (size_t)d->Height;
    STATUS_TRY(raster_new(out, width, height, 4, file->name));
    const ColorMapObject *map = d->ColorMap ? d->ColorMap : gif->SColorMap;
    int fill = transparent != NO_TRANSPARENT_COLOR ? transparent : gif->SBackGroundColor;
    for (size_t i = 0; i < width * height; i++) pixel(out->data + i * 4, map, fill, transparent);
    uint8_t *line = mem_alloc((size_t)d->Width, 1);
    if (!line) return status_no_memory((size_t)d->Width);
    pali_status s = frame_read(out, gif, line, transparent, file);
    mem_free(line);
    return s;
}

pali_status gif_decode(raster *out, const bytes *file) {
    source s = {file, 0};
    int error;
    GifFileType *gif = DGifOpen(&s, on_read, &error);
    if (!gif) return damaged(file);
    pali_status status = decode(out, gif, file);
    (void)DGifCloseFile(gif, &error);
    return status;
}
