#include "inspect_codec.h"

#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "report.h"

bool inspect_codec_is(const char *path) {
    static const char k_end[] = ".safetensors";
    struct stat info;
    size_t n = path ? strlen(path) : 0, n_end = sizeof k_end - 1;
    if (!path || stat(path, &info) != 0 || S_ISDIR(info.st_mode)) return false;
    return pali_mask_codec_is_npz(path) || (n > n_end && !strcmp(path + n - n_end, k_end));
}

int inspect_codec(cli *c) {
    pali_mask_codec *codec;
    pali_mask_codec_info m = {.struct_size = sizeof m};
    const char *path = c->args.model;
    pali_status status = pali_mask_codec_load(&codec, path);
    if (status == PALI_OK) status = pali_mask_codec_get_info(codec, &m);
    pali_mask_codec_free(codec);
    if (status != PALI_OK) return cli_fail_library(c, status, "mask codec");
    if (c->args.json) {
        return report_print(c, json_pack("{s:i, s:s, s:o, s:I, s:i, s:i, s:[i, i], s:b}", "schema", REPORT_SCHEMA, "kind", "mask_codec", "path",
                                         report_text(path, strlen(path)), "parameters", (json_int_t)m.n_parameters, "code_width", (int)m.code_width,
                                         "codes", PALI_MASK_CODES, "mask_size", PALI_MASK_SIDE, PALI_MASK_SIDE, "encoder", (int)m.has_encoder));
    }
    fprintf(c->out, "mask codec  %s\n", path);
    fprintf(c->out, "parameters  %" PRIu64 "\n", m.n_parameters);
    fprintf(c->out, "masks       %d x %d from %d codes of width %d, %s encoder\n", PALI_MASK_SIDE, PALI_MASK_SIDE, PALI_MASK_CODES, (int)m.code_width,
            m.has_encoder ? "with" : "without");
    return CLI_OK;
}
