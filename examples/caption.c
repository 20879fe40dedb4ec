/* caption.c: the smallest useful program: a picture and a prompt in, text out as it is generated.
 *
 *     cc caption.c $(pkg-config --cflags --libs paligemma) -o caption
 *     ./caption paligemma-3b-mix-224 cat.jpg "caption en" */
#include <paligemma.h>
#include <stdio.h>

static int print_token(void *user, int32_t token, float logprob, const char *text, size_t n_bytes) {
    (void)user, (void)token, (void)logprob;
    return fwrite(text, 1, n_bytes, stdout) != n_bytes; /* non-zero stops */
}

int main(int argc, char **argv) {
    if (argc != 4) return fprintf(stderr, "usage: caption MODEL IMAGE PROMPT\n"), 2;
    pali_model *model = NULL;
    pali_session *session = NULL;
    pali_image *image = NULL;
    pali_result *result = NULL;
    pali_generate_options options;
    pali_generate_options_init(&options);
    options.max_tokens = 64;
    options.on_token = print_token;
    pali_status status = pali_model_load(&model, argv[1], NULL);
    if (status == PALI_OK) status = pali_session_new(&session, model, NULL);
    if (status == PALI_OK) status = pali_image_load(&image, argv[2]);
    if (status == PALI_OK) {
        const pali_image *images[] = {image};
        status = pali_generate(session, images, 1, argv[3], &options, &result);
    }
    if (status != PALI_OK) fprintf(stderr, "%s\n", pali_last_error());
    putchar('\n');
    pali_result_free(result);
    pali_image_free(image);
    pali_session_free(session);
    pali_model_free(model);
    return status != PALI_OK;
}
