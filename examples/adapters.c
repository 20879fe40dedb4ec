/* adapters.c: one question, one model, several LoRA adapters: what does each make of it?
 *
 *     cc adapters.c $(pkg-config --cflags --libs paligemma) -o adapters
 *     ./adapters paligemma-3b-mix-224 cat.jpg "caption en" my-adapter other-adapter
 *
 * The adapters are loaded once. The session switches between them; the model and its weights stay as they are. */
#include <paligemma.h>
#include <stdio.h>

static pali_status answer(pali_session *session, const pali_image *image, const char *prompt, const char *who) {
    const pali_image *images[] = {image};
    pali_generate_options options;
    pali_result *result = NULL;
    pali_sequence sequence;
    pali_generate_options_init(&options);
    options.max_tokens = 64;
    pali_status status = pali_generate(session, images, 1, prompt, &options, &result);
    sequence.struct_size = sizeof sequence;
    if (status == PALI_OK) status = pali_result_get(result, 0, &sequence);
    if (status == PALI_OK) printf("%s: %s\n", who, sequence.text);
    pali_result_free(result);
    return status;
}

/* What the bare model says (path NULL), or what it says with an adapter. */
static pali_status ask(pali_model *model, pali_session *session, const pali_image *image, const char *prompt, const char *path) {
    pali_adapter *adapter = NULL;
    pali_status status = PALI_OK;
    if (path) {
        pali_adapter_use use;
        status = pali_adapter_load(&adapter, model, path);
        use.adapter = adapter;
        use.scale = 1;
        if (status == PALI_OK) status = pali_session_set_adapters(session, &use, 1);
    }
    if (status == PALI_OK) status = answer(session, image, prompt, path ? path : "bare model");
    pali_adapter_free(adapter); /* the session keeps it as long as it is in use */
    return status;
}

int main(int argc, char **argv) {
    if (argc < 4) return fprintf(stderr, "usage: adapters MODEL IMAGE PROMPT [ADAPTER...]\n"), 2;
    pali_model *model = NULL;
    pali_session *session = NULL;
    pali_image *image = NULL;
    pali_status status = pali_model_load(&model, argv[1], NULL);
    if (status == PALI_OK) status = pali_session_new(&session, model, NULL);
    if (status == PALI_OK) status = pali_image_load(&image, argv[2]);
    if (status == PALI_OK) status = ask(model, session, image, argv[3], NULL);
    for (int i = 4; i < argc && status == PALI_OK; i++) status = ask(model, session, image, argv[3], argv[i]);
    if (status != PALI_OK) fprintf(stderr, "%s\n", pali_last_error());
    pali_image_free(image);
    pali_session_free(session);
    pali_model_free(model);
    return status != PALI_OK;
}
