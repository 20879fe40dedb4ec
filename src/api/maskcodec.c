/* maskcodec.c: the mask codec's handle, and masks of whole pictures. */
#include "api/handles.h"

#include "input/image.h"
#include "io/rle.h"
#include "model/maskbox.h"
#include "model/maskcodec.h"

static pali_status size_check(int32_t width, int32_t height) {
    if (width <= 0 || height <= 0 || width > (int32_t)IMAGE_MAX_SIDE || height > (int32_t)IMAGE_MAX_SIDE || (uint64_t)width * (uint64_t)height > IMAGE_MAX_PIXELS)
        return status_fail(PALI_ERR_ARGUMENT, "mask of %d x %d pixels: sides must be 1 to %u, pixels at most %u", (int)width, (int)height, IMAGE_MAX_SIDE, IMAGE_MAX_PIXELS);
    return PALI_OK;
}

static pali_status indices_check(const int32_t *indices, size_t n, int32_t end, const char *what) {
    for (size_t i = 0; i < n; i++)
        if (indices[i] < 0 || indices[i] >= end) return status_fail(PALI_ERR_ARGUMENT, "%s[%zu]: %d: expected 0 to %d", what, i, (int)indices[i], (int)end - 1);
    return PALI_OK;
}

pali_status pali_mask_codec_load(pali_mask_codec **out, const char *path) {
    API_NEED(out);
    *out = NULL;
    API_NEED(path);
    return maskcodec_load(out, path);
}

pali_status pali_mask_codec_parse(pali_mask_codec **out, const void *bytes, size_t n_bytes, const char *name) {
    API_NEED(out);
    *out = NULL;
    API_NEED(bytes);
    API_NEED(name);
    return maskcodec_parse(out, bytes, n_bytes, name);
}

int32_t pali_mask_codec_is_npz(const char *path) {
    return path && maskcodec_is_npz(path);
}

void pali_mask_codec_free(pali_mask_codec *codec) {
    maskcodec_free(codec);
}

pali_status pali_mask_codec_get_info(const pali_mask_codec *codec, pali_mask_codec_info *info) {
    API_NEED(codec);
    const pali_mask_codec_info full = {.code_width = (int32_t)maskcodec_width(codec), .has_encoder = maskcodec_has_encoder(codec),
                                       .n_parameters = maskcodec_parameters(codec)};
    return info_write(info, &full, sizeof full, "pali_mask_codec_info");
}

pali_status pali_mask_codec_decode(const pali_mask_codec *codec, const int32_t codes[PALI_MASK_CODES], float mask[PALI_MASK_SIDE * PALI_MASK_SIDE]) {
    API_NEED(codec);
    API_NEED(codes);
    API_NEED(mask);
    STATUS_TRY(indices_check(codes, MASKCODEC_N_CODES, MASKCODEC_CODES, "codes"));
    return maskcodec_decode(codec, mask, codes);
}

pali_status pali_mask_codec_encode(const pali_mask_codec *codec, const uint8_t *mask, int32_t width, int32_t height, size_t stride_bytes,
                                   const double box_frac[4], int32_t codes[PALI_MASK_CODES]) {
    float cropped[MASKCODEC_SIDE * MASKCODEC_SIDE];
    API_NEED(codec);
    API_NEED(mask);
    API_NEED(box_frac);
    API_NEED(codes);
    STATUS_TRY(size_check(width, height));
    if (stride_bytes && stride_bytes < (size_t)width) return status_fail(PALI_ERR_ARGUMENT, "stride_bytes: %zu is less than a row of %d", stride_bytes, (int)width);
    for (size_t i = 0; i < 4; i++)
        if (!(box_frac[i] >= 0 && box_frac[i] <= 1)) return status_fail(PALI_ERR_ARGUMENT, "box_frac[%zu]: %g: expected 0 to 1", i, box_frac[i]);
    STATUS_TRY(maskbox_crop(cropped, mask, (size_t)width, (size_t)height, stride_bytes ? stride_bytes : (size_t)width, box_frac));
    return maskcodec_encode(codec, codes, NULL, cropped);
}

pali_status pali_mask_paste(const float mask[PALI_MASK_SIDE * PALI_MASK_SIDE], const int32_t loc[4], int32_t width, int32_t height, pali_mask_rule rule, uint8_t **out) {
    API_NEED(out);
    *out = NULL;
    API_NEED(mask);
    API_NEED(loc);
    STATUS_TRY(size_check(width, height));
    STATUS_TRY(indices_check(loc, 4, 1024, "loc"));
    if (rule != PALI_MASK_DEMO && rule != PALI_MASK_EVALUATOR) return status_fail(PALI_ERR_ARGUMENT, "rule: %d is unknown", (int)rule);
    return maskbox_paste(out, mask, loc, (size_t)width, (size_t)height, rule);
}

pali_status pali_mask_to_rle(const uint8_t *mask, int32_t width, int32_t height, uint8_t threshold, char **out_counts) {
    API_NEED(out_counts);
    *out_counts = NULL;
    API_NEED(mask);
    STATUS_TRY(size_check(width, height));
    if (threshold == 0) return status_fail(PALI_ERR_ARGUMENT, "threshold: 0: expected 1 to 255");
    return rle_encode(out_counts, mask, (size_t)width, (size_t)height, threshold);
}

pali_status pali_mask_from_rle(const char *counts, int32_t width, int32_t height, uint8_t **out) {
    API_NEED(out);
    *out = NULL;
    API_NEED(counts);
    STATUS_TRY(size_check(width, height));
    return rle_decode(out, counts, (size_t)width, (size_t)height);
}
