/* events.h: TensorBoard event files (spec training 7): records of hand-made protobuf, each with its length and checksums, that
 * TensorBoard follows while they grow.
 *
 *   u64 length | u32 masked crc of it | Event | u32 masked crc of the Event        little-endian
 *
 * A record is written with one call, so a run that is killed leaves at most the last one incomplete; TensorBoard skips it. */
#ifndef PALI_TRAIN_EVENTS_H
#define PALI_TRAIN_EVENTS_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

#define EVENTS_MAX_TAG 256u       /* bytes of a tag */
#define EVENTS_MAX_TEXT (1u << 20)

typedef struct events {
    char *path; /* NULL: not open */
    int fd;
} events;

/* CRC-32C, and as the format stores it. */
uint32_t events_crc32c(const void *data, size_t n);
uint32_t events_masked_crc(const void *data, size_t n);

/* A block of mem_free with one whole record, *n bytes; NULL: no memory, or a tag or text beyond the limits. `time` is seconds
 * since 1970. */
uint8_t *events_encode_version(size_t *n, double time);
uint8_t *events_encode_scalar(size_t *n, double time, int64_t step, const char *tag, float value);
uint8_t *events_encode_text(size_t *n, double time, int64_t step, const char *tag, const char *text);

/* Makes `dir` (and what leads there) and in it a new file events.out.tfevents.TIME.HOST.PID.0, with its first record. */
pali_status events_open(events *out, const char *dir);
/* Records of now. Without an open file they do nothing. */
pali_status events_scalar(events *e, int64_t step, const char *tag, float value);
pali_status events_text(events *e, int64_t step, const char *tag, const char *text);
void events_close(events *e);

#endif
