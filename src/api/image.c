/* image.c: picture handles. */
#include "api/handles.h"

#include "base/mem.h"

/* Moves a picture into a handle of its own. */
static pali_status handle_new(pali_image **out, pali_status status, image *img) {
    if (status != PALI_OK) return status;
    image *handle = mem_alloc(1, sizeof *handle);
    if (!handle) {
        image_free(img);
        return status_no_memory(sizeof *handle);
    }
    *handle = *img;
    *out = handle;
    return PALI_OK;
}

pali_status pali_image_load(pali_image **out, const char *path) {
    image img;
    API_NEED(out);
    *out = NULL;
    API_NEED(path);
    return handle_new(out, image_load(&img, path), &img);
}

pali_status pali_image_from_memory(pali_image **out, const void *bytes, size_t n_bytes) {
    image img;
    API_NEED(out);
    *out = NULL;
    API_NEED(bytes);
    return handle_new(out, image_decode(&img, bytes, n_bytes, "picture"), &img);
}

pali_status pali_image_from_rgb(pali_image **out, const uint8_t *rgb, int32_t width, int32_t height, size_t stride_bytes) {
    API_NEED(out);
    *out = NULL;
    API_NEED(rgb);
    if (width <= 0 || height <= 0 || (uint64_t)width * (uint64_t)height > IMAGE_MAX_PIXELS)
        return status_fail(PALI_ERR_ARGUMENT, "picture of %d x %d pixels: sides must be positive, pixels at most %u", (int)width, (int)height, IMAGE_MAX_PIXELS);
    image img = {(size_t)width, (size_t)height, mem_alloc((size_t)width * (size_t)height, 3)};
    size_t row = img.width * 3, stride = stride_bytes ? stride_bytes : row;
    if (!img.rgb) return status_no_memory(row * img.height);
    if (stride < row) {
        image_free(&img);
        return status_fail(PALI_ERR_ARGUMENT, "stride_bytes: %zu is less than a row of %zu", stride, row);
    }
    for (size_t y = 0; y < img.height; y++) memcpy(img.rgb + y * row, rgb + y * stride, row);
    return handle_new(out, PALI_OK, &img);
}

void pali_image_free(pali_image *handle) {
    if (!handle) return;
    image_free(handle);
    mem_free(handle);
}

int32_t pali_image_width(const pali_image *handle) {
    return handle ? (int32_t)handle->width : 0;
}

int32_t pali_image_height(const pali_image *handle) {
    return handle ? (int32_t)handle->height : 0;
}

const uint8_t *pali_image_rgb(const pali_image *handle) {
    return handle ? handle->rgb : NULL;
}
