/* similar.c: how alike two pictures are to the vision tower: the cosine of their mean patch embeddings, from -1 to 1.
 * Compiles as C and as C++.
 *
 *     cc similar.c $(pkg-config --cflags --libs paligemma) -lm -o similar
 *     ./similar paligemma-3b-mix-224 cat.jpg dog.jpg */
#include <math.h>
#include <paligemma.h>
#include <stdio.h>

/* Loads the picture and embeds it into *out, [*n] numbers to be freed with pali_free. */
static pali_status embed_file(pali_session *session, const char *path, float **out, uint64_t *n) {
    pali_image *image = NULL;
    uint64_t dims[3];
    int32_t n_dims;
    pali_status status = pali_image_load(&image, path);
    if (status == PALI_OK) status = pali_embed(session, image, PALI_EMBED_MEAN, out, dims, &n_dims);
    if (status == PALI_OK) *n = dims[1];
    pali_image_free(image);
    return status;
}

int main(int argc, char **argv) {
    if (argc != 4) return fprintf(stderr, "usage: similar MODEL IMAGE IMAGE\n"), 2;
    pali_model *model = NULL;
    pali_session *session = NULL;
    float *a = NULL, *b = NULL;
    uint64_t n = 0;
    pali_status status = pali_model_load(&model, argv[1], NULL);
    if (status == PALI_OK) status = pali_session_new(&session, model, NULL);
    if (status == PALI_OK) status = embed_file(session, argv[2], &a, &n);
    if (status == PALI_OK) status = embed_file(session, argv[3], &b, &n);
    if (status == PALI_OK) {
        double ab = 0, aa = 0, bb = 0;
        for (uint64_t i = 0; i < n; i++) {
            ab += (double)a[i] * (double)b[i];
            aa += (double)a[i] * (double)a[i];
            bb += (double)b[i] * (double)b[i];
        }
        printf("%.4f\n", ab / sqrt(aa * bb));
    } else {
        fprintf(stderr, "%s\n", pali_last_error());
    }
    pali_free(a);
    pali_free(b);
    pali_session_free(session);
    pali_model_free(model);
    return status != PALI_OK;
}
