/* codec_webp.c: WebP by libwebp; of an animation the first frame. */
#include <string.h>

#include <webp/decode.h>
#include <webp/demux.h>

#include "base/mem.h"
#include "input/codec.h"

static pali_status still(raster *out, const bytes *file, bool alpha, size_t width, size_t height) {
    STATUS_TRY(raster_new(out, width, height, alpha ? 4 : 3, file->name));
    size_t stride = width * out->channels, size = stride * height;
    uint8_t *done = alpha ? WebPDecodeRGBAInto(file->data, file->n, out->data, size, (int)stride)
                          : WebPDecodeRGBInto(file->data, file->n, out->data, size, (int)stride);
    return done ? PALI_OK : status_fail(PALI_ERR_FORMAT, "%s: WebP: damaged or truncated", file->name);
}

static pali_status animated(raster *out, const bytes *file, size_t width, size_t height) {
    WebPData data = {file->data, file->n};
    WebPAnimDecoderOptions options;
    uint8_t *canvas;
    int when;
    STATUS_TRY(raster_new(out, width, height, 4, file->name));
    if (!WebPAnimDecoderOptionsInit(&options)) return status_fail(PALI_ERR_INTERNAL, "%s: WebP: library mismatch", file->name);
    WebPAnimDecoder *decoder = WebPAnimDecoderNew(&data, &options);
    if (!decoder) return status_fail(PALI_ERR_FORMAT, "%s: WebP: damaged animation", file->name);
    bool ok = WebPAnimDecoderGetNext(decoder, &canvas, &when);
    if (ok) memcpy(out->data, canvas, width * height * 4);
    WebPAnimDecoderDelete(decoder);
    return ok ? PALI_OK : status_fail(PALI_ERR_FORMAT, "%s: WebP: damaged or truncated animation", file->name);
}

pali_status webp_decode(raster *out, const bytes *file) {
    WebPBitstreamFeatures f;
    if (WebPGetFeatures(file->data, file->n, &f) != VP8_STATUS_OK || f.width <= 0 || f.height <= 0)
        return status_fail(PALI_ERR_FORMAT, "%s: WebP: damaged or truncated header", file->name);
    size_t width = (size_t)f.width, height = (size_t)f.height;
    STATUS_TRY(f.has_animation ? animated(out, file, width, height) : still(out, file, f.has_alpha, width, height));
    WebPData data = {file->data, file->n};
    WebPDemuxer *demuxer = WebPDemux(&data);
    WebPChunkIterator chunk;
    if (demuxer && WebPDemuxGetChunk(demuxer, "EXIF", 1, &chunk)) {
        out->orientation = exif_orientation(chunk.chunk.bytes, chunk.chunk.size);
        WebPDemuxReleaseChunkIterator(&chunk);
    }
    WebPDemuxDelete(demuxer);
    return PALI_OK;
}
