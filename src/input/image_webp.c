/* image_webp.c: WebP through libwebp: lossy, lossless, with alpha, and the first frame of an animation on its canvas (what
 * the frame leaves free is transparent, or black where the file says that it has no alpha, as in Pillow). */
#include <stdbool.h>
#include <string.h>

#include <webp/decode.h>
#include <webp/demux.h>

#include "base/mem.h"
#include "input/exif.h"
#include "input/image_codec.h"

static int read_orientation(const WebPDemuxer *demux) {
    WebPChunkIterator chunk;
    int from_exif = 0, from_xmp = 0;
    if (WebPDemuxGetChunk(demux, "EXIF", 1, &chunk)) {
        from_exif = exif_orientation(chunk.chunk.bytes, chunk.chunk.size);
        WebPDemuxReleaseChunkIterator(&chunk);
    }
    if (WebPDemuxGetChunk(demux, "XMP ", 1, &chunk)) {
        from_xmp = exif_xmp_orientation(chunk.chunk.bytes, chunk.chunk.size);
        WebPDemuxReleaseChunkIterator(&chunk);
    }
    return from_exif ? from_exif : from_xmp ? from_xmp : 1;
}

static pali_status read_frame(image *out, const WebPIterator *frame, bool has_alpha, const image_source *src) {
    const size_t x = (size_t)frame->x_offset, y = (size_t)frame->y_offset;
    const size_t w = (size_t)frame->width, h = (size_t)frame->height;
    if (x > out->width || w > out->width - x || y > out->height || h > out->height - y) {
        return status_fail(PALI_ERR_FORMAT, "%s: WebP: the first frame lies outside the canvas", src->name);
    }
    uint8_t *first = out->rgb + 3 * (y * out->width + x);
    const size_t stride = 3 * out->width, n_to_end = 3 * out->width * out->height - (size_t)(first - out->rgb);
    const uint8_t *bytes = frame->fragment.bytes;
    bool done;
    if (!has_alpha) {
        done = WebPDecodeRGBInto(bytes, frame->fragment.size, first, n_to_end, (int)stride) != NULL;
    } else {
        uint8_t *rgba = mem_alloc(w * h, 4);
        if (!rgba) return status_no_memory(w * h * 4);
        done = WebPDecodeRGBAInto(bytes, frame->fragment.size, rgba, w * h * 4, (int)(w * 4)) != NULL;
        for (size_t row = 0; done && row < h; row++) image_rgba_over_white(first + row * stride, rgba + row * w * 4, w);
        mem_free(rgba);
    }
    if (!done) return status_fail(PALI_ERR_FORMAT, "%s: WebP: the picture's data are damaged", src->name);
    return PALI_OK;
}

static pali_status read_picture(image *out, const WebPDemuxer *demux, const image_source *src) {
    const bool has_alpha = WebPDemuxGetI(demux, WEBP_FF_FORMAT_FLAGS) & ALPHA_FLAG;
    WebPIterator frame;
    STATUS_TRY(image_alloc(out, WebPDemuxGetI(demux, WEBP_FF_CANVAS_WIDTH), WebPDemuxGetI(demux, WEBP_FF_CANVAS_HEIGHT), src));
    memset(out->rgb, has_alpha ? 255 : 0, 3 * out->width * out->height);
    if (!WebPDemuxGetFrame(demux, 1, &frame)) return status_fail(PALI_ERR_FORMAT, "%s: WebP: no picture in it", src->name);
    pali_status s = read_frame(out, &frame, has_alpha, src);
    WebPDemuxReleaseIterator(&frame);
    return s;
}

pali_status image_webp_decode(image *out, int *orientation, const image_source *src) {
    const WebPData data = {src->bytes, src->n_bytes};
    WebPDemuxer *demux = WebPDemux(&data);
    if (!demux) return status_fail(PALI_ERR_FORMAT, "%s: WebP: damaged, or it ends before the picture does", src->name);
    *orientation = read_orientation(demux);
    pali_status s = read_picture(out, demux, src);
    WebPDemuxDelete(demux);
    return s;
}
