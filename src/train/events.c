/* events.c: protobuf by hand, sizes first, and the file. */
#include "train/events.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/dir.h"
#include "base/mem.h"

uint32_t events_crc32c(const void *data, size_t n) {
    const uint8_t *bytes = data;
    uint32_t crc = 0xffffffffu;
    for (size_t i = 0; i < n; i++) {
        crc ^= bytes[i];
        for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1u ? 0x82f63b78u : 0);
    }
    return crc ^ 0xffffffffu;
}

uint32_t events_masked_crc(const void *data, size_t n) {
    uint32_t crc = events_crc32c(data, n);
    return (crc >> 15 | crc << 17) + 0xa282ead8u;
}

/* A message being written; it is checked beforehand that all fits. */
typedef struct message {
    uint8_t *data;
    size_t n;
} message;

static void put_varint(message *m, uint64_t x) {
    for (; x > 0x7f; x >>= 7) m->data[m->n++] = (uint8_t)(x | 0x80);
    m->data[m->n++] = (uint8_t)x;
}

static void put_le(message *m, uint64_t x, size_t n_bytes) {
    for (size_t i = 0; i < n_bytes; i++) m->data[m->n++] = (uint8_t)(x >> 8 * i);
}

enum { VARINT = 0, FIXED64 = 1, BYTES = 2, FIXED32 = 5 };

static void put_key(message *m, unsigned field, unsigned wire) {
    put_varint(m, field << 3 | wire);
}

static void put_bytes(message *m, unsigned field, const void *data, size_t n) {
    put_key(m, field, BYTES);
    put_varint(m, n);
    memcpy(m->data + m->n, data, n);
    m->n += n;
}

static void put_double(message *m, unsigned field, double x) {
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    put_key(m, field, FIXED64);
    put_le(m, bits, 8);
}

static void put_float(message *m, unsigned field, float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    put_key(m, field, FIXED32);
    put_le(m, bits, 4);
}

static void put_int(message *m, unsigned field, int64_t x) {
    put_key(m, field, VARINT);
    put_varint(m, (uint64_t)x);
}

/* An Event with its frame. */
static uint8_t *record(size_t *n, const message *event) {
    message m = {mem_alloc(event->n + 16, 1), 0};
    if (!m.data) return NULL;
    put_le(&m, event->n, 8);
    put_le(&m, events_masked_crc(m.data, 8), 4);
    memcpy(m.data + m.n, event->data, event->n);
    m.n += event->n;
    put_le(&m, events_masked_crc(event->data, event->n), 4);
    *n = m.n;
    return m.data;
}

uint8_t *events_encode_version(size_t *n, double time) {
    uint8_t room[64];
    message event = {room, 0};
    put_double(&event, 1, time);
    put_bytes(&event, 3, "brain.Event:2", 13);
    return record(n, &event);
}

/* Event{1 wall_time, 2 step, 5 Summary{1 Value}}; `value` holds the fields of Value. */
static uint8_t *summary(size_t *n, double time, int64_t step, const message *value) {
    message nested = {mem_alloc(2 * (value->n + 64), 1), 0};
    if (!nested.data) return NULL;
    put_bytes(&nested, 1, value->data, value->n);
    message event = {nested.data + nested.n, 0};
    put_double(&event, 1, time);
    if (step) put_int(&event, 2, step); /* zero is the format's default and is left out */
    put_bytes(&event, 5, nested.data, nested.n);
    uint8_t *out = record(n, &event);
    mem_free(nested.data);
    return out;
}

uint8_t *events_encode_scalar(size_t *n, double time, int64_t step, const char *tag, float value) {
    uint8_t room[EVENTS_MAX_TAG + 64];
    message m = {room, 0};
    if (strlen(tag) > EVENTS_MAX_TAG) return NULL;
    put_bytes(&m, 1, tag, strlen(tag));
    put_float(&m, 2, value);
    return summary(n, time, step, &m);
}

/* Value{1 tag, 9 metadata{1 plugin{1 "text"}}, 8 tensor{1 dtype: string, 2 shape{2 dim{1: 1}}, 8 text}} */
uint8_t *events_encode_text(size_t *n, double time, int64_t step, const char *tag, const char *text) {
    static const uint8_t k_shape[] = {0x12, 0x02, 0x08, 0x01}, k_metadata[] = {0x0a, 0x06, 0x0a, 0x04, 't', 'e', 'x', 't'};
    size_t length = strlen(text);
    if (strlen(tag) > EVENTS_MAX_TAG || length > EVENTS_MAX_TEXT) return NULL;
    uint8_t *room = mem_alloc(2 * length + EVENTS_MAX_TAG + 128, 1);
    if (!room) return NULL;
    message tensor = {room, 0};
    put_int(&tensor, 1, 7);
    put_bytes(&tensor, 2, k_shape, sizeof k_shape);
    put_bytes(&tensor, 8, text, length);
    message value = {room + tensor.n, 0};
    put_bytes(&value, 1, tag, strlen(tag));
    put_bytes(&value, 8, tensor.data, tensor.n);
    put_bytes(&value, 9, k_metadata, sizeof k_metadata);
    uint8_t *out = summary(n, time, step, &value);
    mem_free(room);
    return out;
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Writes a record and frees it. */
static pali_status append(const events *e, uint8_t *bytes, size_t n) {
    if (!bytes) return status_fail(PALI_ERR_LIMIT, "%s: a tag or text is too long, or there is no memory", e->path);
    pali_status status = PALI_OK;
    for (size_t at = 0; at < n && status == PALI_OK;) {
        ssize_t got = write(e->fd, bytes + at, n - at);
        if (got >= 0) at += (size_t)got;
        else if (errno != EINTR) status = status_fail(PALI_ERR_IO, "%s: cannot write: %s", e->path, strerror(errno));
    }
    mem_free(bytes);
    return status;
}

/* A file of this second, host and process; the last number tells those apart that one process makes. */
static pali_status create(events *e, const char *dir) {
    char host[256] = "localhost", name[384];
    (void)gethostname(host, sizeof host - 1);
    for (char *c = host; *c; c++)
        if (*c == '/') *c = '_';
    for (int i = 0; i < 100; i++) {
        (void)snprintf(name, sizeof name, "events.out.tfevents.%010lld.%s.%ld.%d", (long long)now(), host, (long)getpid(), i);
        mem_free(e->path);
        e->path = file_join(dir, name);
        if (!e->path) return status_no_memory(strlen(dir));
        e->fd = open(e->path, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0666);
        if (e->fd >= 0) return PALI_OK;
        if (errno != EEXIST) break;
    }
    return status_fail(PALI_ERR_IO, "%s: %s", e->path, strerror(errno));
}

pali_status events_open(events *out, const char *dir) {
    *out = (events){.fd = -1};
    if (!*dir) return status_fail(PALI_ERR_ARGUMENT, "event files: the folder's name is empty");
    pali_status status = dir_make(dir, NULL);
    size_t n = 0;
    if (status == PALI_OK) status = create(out, dir);
    if (status == PALI_OK) {
        uint8_t *version = events_encode_version(&n, now());
        status = append(out, version, n);
    }
    if (status != PALI_OK) events_close(out);
    return status;
}

pali_status events_scalar(events *e, int64_t step, const char *tag, float value) {
    size_t n = 0;
    if (!e->path) return PALI_OK;
    uint8_t *bytes = events_encode_scalar(&n, now(), step, tag, value);
    return append(e, bytes, n);
}

pali_status events_text(events *e, int64_t step, const char *tag, const char *text) {
    size_t n = 0;
    if (!e->path) return PALI_OK;
    uint8_t *bytes = events_encode_text(&n, now(), step, tag, text);
    return append(e, bytes, n);
}

void events_close(events *e) {
    if (e->path && e->fd >= 0) (void)close(e->fd);
    mem_free(e->path);
    *e = (events){.fd = -1};
}
