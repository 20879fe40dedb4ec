/* calibration.c: calibration handles: what a session's runs tell about the inputs of the text model's layers. */
#include "api/handles.h"

#include "base/mem.h"
#include "base/memory.h"

/* Refused before it is taken: a promise of memory that is not there would be kept until the system kills somebody. */
static pali_status memory_check(const gemma_config *cfg) {
    memory_free left;
    const uint64_t needed = calibration_bytes(cfg);
    memory_free_get(&left, "");
    const uint64_t available = left.available < left.address ? left.available : left.address;
    if (needed <= available) return PALI_OK;
    return status_fail(PALI_ERR_MEMORY, "calibration: %.2f GiB needed, %.2f GiB available", (double)needed / 1073741824.0, (double)available / 1073741824.0);
}

pali_status pali_calibration_begin(pali_calibration **out, pali_session *s) {
    API_NEED(out);
    *out = NULL;
    API_NEED_AS(s, "session");
    if (s->calibration) return status_fail(PALI_ERR_ARGUMENT, "calibration: this session has one that is not ended");
    STATUS_TRY(memory_check(&s->s.m->text.cfg));
    pali_calibration *c = mem_calloc(1, sizeof *c);
    pali_status status = c ? calibration_init(&c->c, &s->s.m->text.cfg, s->s.m->cfg.vit.n_patches) : status_no_memory(sizeof *c);
    if (status != PALI_OK) {
        mem_free(c);
        return status;
    }
    c->model = s->model;
    atomic_fetch_add(&c->model->references, 1);
    c->session = s;
    s->calibration = c;
    s->s.e.input = calibration_see;
    s->s.e.input_user = &c->c;
    *out = c;
    return PALI_OK;
}

void session_calibration_drop(pali_session *s) {
    if (!s->calibration) return;
    s->calibration->session = NULL;
    s->calibration = NULL;
    s->s.e.input = NULL;
}

pali_status pali_calibration_end(pali_calibration *c, pali_progress_fn progress, void *user) {
    API_NEED_AS(c, "calibration");
    pali_session *s = c->session;
    if (!s) return status_fail(PALI_ERR_ARGUMENT, "calibration: ended already, or its session is gone");
    session_calibration_drop(s);
    return calibration_solve(&c->c, &s->s.e, progress, user);
}

void pali_calibration_free(pali_calibration *c) {
    if (!c) return;
    if (c->session) session_calibration_drop(c->session);
    calibration_free(&c->c);
    model_release(c->model);
    mem_free(c);
}
