#include "npy.h"

#include <string.h>

#include "common/outfile.h"

/* Magic, version and length take 10 bytes; the whole header is padded to 64 so that the data is aligned. */
#define HEADER_BYTES 128
#define PREAMBLE_BYTES 10

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
#define FLOAT32_DESCR ">f4"
#else
#define FLOAT32_DESCR "<f4"
#endif

static void make_header(char header[HEADER_BYTES], const uint64_t *dims, size_t n_dims) {
    char shape[80] = "";
    size_t used = 0;
    for (size_t i = 0; i < n_dims && used < sizeof shape; i++) {
        int n = snprintf(shape + used, sizeof shape - used, "%s%llu", i ? ", " : "", (unsigned long long)dims[i]);
        used += n > 0 ? (size_t)n : 0;
    }
    memset(header, ' ', HEADER_BYTES);
    memcpy(header, "\x93NUMPY\x01\x00", 8);
    header[8] = HEADER_BYTES - PREAMBLE_BYTES;
    header[9] = 0;
    char dict[HEADER_BYTES - PREAMBLE_BYTES];
    int n = snprintf(dict, sizeof dict, "{'descr': '%s', 'fortran_order': False, 'shape': (%s%s), }", FLOAT32_DESCR, shape, n_dims == 1 ? "," : "");
    if (n > 0 && (size_t)n < sizeof dict) memcpy(header + PREAMBLE_BYTES, dict, (size_t)n);
    header[HEADER_BYTES - 1] = '\n';
}

int npy_write(cli *c, const char *path, const float *values, const uint64_t *dims, size_t n_dims) {
    char header[HEADER_BYTES];
    size_t n_bytes = sizeof *values;
    for (size_t i = 0; i < n_dims; i++) n_bytes *= (size_t)dims[i]; /* the array exists, so its size does not overflow */
    make_header(header, dims, n_dims);
    if (!strcmp(path, "-")) {
        int code = cli_write(c, header, sizeof header);
        return code ? code : cli_write(c, values, n_bytes);
    }
    outfile_piece pieces[] = {{header, sizeof header}, {values, n_bytes}};
    fault f;
    return outfile_write(path, pieces, 2, &f) ? CLI_OK : cli_fail_fault(c, &f);
}
