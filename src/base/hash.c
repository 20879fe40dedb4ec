#include "base/hash.h"

#include <string.h>

/* Eight bytes a step. The length goes in too, so that bytes of zero at the end count. */
hash_key hash_bytes(hash_key start, const void *data, size_t n) {
    const uint8_t *bytes = data;
    uint64_t a = start.hash[0] ^ 0x9e3779b97f4a7c15u ^ n, b = start.hash[1] ^ 0xc2b2ae3d27d4eb4fu ^ n, word;
    for (size_t i = 0; i < n; i += 8) {
        word = 0;
        memcpy(&word, bytes + i, n - i < 8 ? n - i : 8);
        a = (a ^ word) * 0xff51afd7ed558ccdu;
        a ^= a >> 32;
        b = (b + word) * 0x9fb21c651e98df25u;
        b ^= b >> 29;
    }
    return (hash_key){{a, b}};
}
