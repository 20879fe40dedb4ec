/* objects.c: the objects that an answer names: label, score, box in pixels and, with a mask codec, how many pixels the mask
 * covers and its COCO run-length string. Compiles as C and as C++.
 *
 *     cc objects.c $(pkg-config --cflags --libs paligemma) -o objects
 *     ./objects paligemma-3b-mix-224 cat.jpg "segment cat ; dog" vae-oid.npz */
#include <paligemma.h>
#include <stdio.h>

static pali_status print_mask(const pali_mask_codec *codec, const pali_object *o, int32_t width, int32_t height) {
    float mask[PALI_MASK_SIDE * PALI_MASK_SIDE];
    uint8_t *whole = NULL;
    char *rle = NULL;
    size_t n_inside = 0;
    pali_status status = pali_mask_codec_decode(codec, o->seg, mask);
    if (status == PALI_OK) status = pali_mask_paste(mask, o->loc, width, height, PALI_MASK_DEMO, &whole);
    if (status == PALI_OK && whole) { /* a box without a pixel has no mask */
        for (size_t i = 0; i < (size_t)width * (size_t)height; i++) n_inside += whole[i] >= 128;
        status = pali_mask_to_rle(whole, width, height, 128, &rle);
        if (status == PALI_OK) printf("    %zu pixels: %s\n", n_inside, rle);
    }
    pali_free(rle);
    pali_free(whole);
    return status;
}

static pali_status print_objects(const pali_objects *objects, const pali_mask_codec *codec, int32_t width, int32_t height) {
    pali_status status = PALI_OK;
    for (size_t i = 0; i < pali_objects_count(objects) && status == PALI_OK; i++) {
        pali_object o;
        o.struct_size = sizeof o;
        status = pali_objects_get(objects, i, &o);
        if (status != PALI_OK || !o.valid) continue;
        printf("%s: score %.3g, box %.1f %.1f %.1f %.1f\n", o.label ? o.label : "object", o.score, o.box[0], o.box[1], o.box[2], o.box[3]);
        if (codec && o.has_seg) status = print_mask(codec, &o, width, height);
    }
    return status;
}

int main(int argc, char **argv) {
    if (argc != 4 && argc != 5) return fprintf(stderr, "usage: objects MODEL IMAGE PROMPT [CODEC]\n"), 2;
    pali_model *model = NULL;
    pali_session *session = NULL;
    pali_image *image = NULL;
    pali_mask_codec *codec = NULL;
    pali_result *result = NULL;
    pali_objects *objects = NULL;
    pali_sequence answer;
    pali_generate_options options;
    answer.struct_size = sizeof answer;
    pali_generate_options_init(&options);
    options.constrain = argc == 5 ? PALI_CONSTRAIN_SEGMENT : PALI_CONSTRAIN_DETECT; /* nothing but objects */
    pali_status status = pali_model_load(&model, argv[1], NULL);
    if (status == PALI_OK) status = pali_session_new(&session, model, NULL);
    if (status == PALI_OK) status = pali_image_load(&image, argv[2]);
    if (status == PALI_OK && argc == 5) status = pali_mask_codec_load(&codec, argv[4]);
    if (status == PALI_OK) {
        const pali_image *images[] = {image};
        status = pali_generate(session, images, 1, argv[3], &options, &result);
    }
    if (status == PALI_OK) status = pali_result_get(result, 0, &answer);
    if (status == PALI_OK) {
        int32_t width = pali_image_width(image), height = pali_image_height(image);
        status = pali_objects_find(&objects, pali_model_tokenizer(model), answer.tokens, answer.logprobs, answer.n_tokens, width, height, NULL);
        if (status == PALI_OK) status = print_objects(objects, codec, width, height);
    }
    if (status != PALI_OK) fprintf(stderr, "%s\n", pali_last_error());
    pali_objects_free(objects);
    pali_result_free(result);
    pali_mask_codec_free(codec);
    pali_image_free(image);
    pali_session_free(session);
    pali_model_free(model);
    return status != PALI_OK;
}
