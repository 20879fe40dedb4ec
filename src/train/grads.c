/* grads.c: see grads.h. */
#include "train/grads.h"

#include <string.h>

#include "base/mem.h"

typedef struct finder {
    grads *g;
    const params *p;
    bool *found;     /* [p->n] */
    lora_grad *next; /* free ones */
    size_t stage, at; /* the current one, and where the next sum of it is */
} finder;

static void stage_begin(finder *f, size_t stage) {
    f->stage = stage;
    f->at = 0;
}

/* A place among the stage's sums. Until the size of all stages is known there is none, and the pointer means nothing. */
static float *sum_place(finder *f, const param *q) {
    grads *g = f->g;
    float *sum = g->stage ? g->stage + f->at : NULL;
    f->at += q->n;
    if (f->at > g->stage_floats) g->stage_floats = f->at;
    if (sum) g->sums[g->n_sums++] = (grads_sum){f->stage, q->n, sum, q->grad_half};
    return sum;
}

static float *vector_find(finder *f, const void *data) {
    for (size_t i = 0; data && i < f->p->n; i++) {
        const param *q = &f->p->items[i];
        if (q->value != data && q->half != data) continue;
        f->found[i] = true;
        return q->grad ? q->grad : sum_place(f, q);
    }
    return NULL;
}

static linear_grad linear_find(finder *f, const mat *w, const float *bias) {
    linear_grad g = {.w = vector_find(f, w->data), .b = vector_find(f, bias)};
    const lora_grad *list = f->next;
    for (const lora *l = w->lora; l; l = l->next) {
        *f->next = (lora_grad){.a = vector_find(f, l->a.data), .b = vector_find(f, l->b.data)};
        if (f->next->a || f->next->b) g.lora = list;
        f->next++;
    }
    return g;
}

static bool linear_any(const linear_grad *g) {
    return g->w || g->b || g->lora;
}

/* Each returns whether anything is trained. */
static bool text_layer_find(gemma_layer_grad *g, finder *f, const gemma_layer *l) {
    *g = (gemma_layer_grad){.norm_attn_in = vector_find(f, l->norm_attn_in), .norm_attn_out = vector_find(f, l->norm_attn_out),
                            .norm_mlp_in = vector_find(f, l->norm_mlp_in), .norm_mlp_out = vector_find(f, l->norm_mlp_out)};
    const struct {
        linear_grad *g;
        const mat *w;
    } list[] = {{&g->q, &l->q}, {&g->k, &l->k}, {&g->v, &l->v}, {&g->o, &l->o}, {&g->gate, &l->gate}, {&g->up, &l->up}, {&g->down, &l->down}};
    bool any = g->norm_attn_in || g->norm_attn_out || g->norm_mlp_in || g->norm_mlp_out;
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        *list[i].g = linear_find(f, list[i].w, NULL);
        any |= linear_any(list[i].g);
    }
    return any;
}

static bool vit_layer_find(vit_layer_grad *g, finder *f, const vit_layer *l) {
    *g = (vit_layer_grad){.norm1_w = vector_find(f, l->norm1_w), .norm1_b = vector_find(f, l->norm1_b), .norm2_w = vector_find(f, l->norm2_w),
                          .norm2_b = vector_find(f, l->norm2_b)};
    const struct {
        linear_grad *g;
        const mat *w;
        const float *b;
    } list[] = {{&g->q, &l->q, l->q_b}, {&g->k, &l->k, l->k_b}, {&g->v, &l->v, l->v_b}, {&g->o, &l->o, l->o_b}, {&g->fc1, &l->fc1, l->fc1_b},
                {&g->fc2, &l->fc2, l->fc2_b}};
    bool any = g->norm1_w || g->norm1_b || g->norm2_w || g->norm2_b;
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        *list[i].g = linear_find(f, list[i].w, list[i].b);
        any |= linear_any(list[i].g);
    }
    return any;
}

/* From the input to the loss, so that what is before is known. */
static void all_find(grads *g, finder *f, const model *m) {
    const vit *v = &m->vit;
    f->next = g->loras;
    stage_begin(f, GRADS_PATCH);
    g->patch = linear_find(f, &v->patch, v->patch_b);
    g->position = vector_find(f, v->position);
    g->before_vit = linear_any(&g->patch) || g->position;
    g->first_vit = g->before_vit ? 0 : v->cfg.n_layers;
    for (size_t i = 0; i < v->cfg.n_layers; i++) {
        stage_begin(f, GRADS_VIT_BLOCKS + i);
        if (vit_layer_find(&g->vit[i], f, &v->layers[i]) && i < g->first_vit) g->first_vit = i;
    }
    g->post_w = vector_find(f, v->post_w);
    g->post_b = vector_find(f, v->post_b);
    g->trains_vit = g->first_vit < v->cfg.n_layers || g->before_vit || g->post_w || g->post_b;
    stage_begin(f, GRADS_PROJECTOR);
    g->projector = linear_find(f, &v->projector, v->projector_b);
    g->embed = vector_find(f, m->text.embed.data);
    g->before_text = g->trains_vit || linear_any(&g->projector) || g->embed;
    g->first_text = g->before_text ? 0 : m->text.cfg.n_layers;
    for (size_t i = 0; i < m->text.cfg.n_layers; i++) {
        stage_begin(f, GRADS_VIT_BLOCKS + v->cfg.n_layers + i);
        if (text_layer_find(&g->text[i], f, &m->text.layers[i]) && i < g->first_text) g->first_text = i;
    }
    g->norm_final = vector_find(f, m->text.norm_final);
    g->head = vector_find(f, m->text.head.data);
}

static size_t count_loras(const spec *s) {
    size_t n = 0;
    for (size_t i = 0; i < s->n; i++)
        for (const lora *l = s->tensors[i].matrix ? s->tensors[i].matrix->lora : NULL; l; l = l->next) n++;
    return n;
}

/* Once to see how large stages are, and if there are any once more with memory for them. */
static pali_status fill(grads *g, finder *f, const model *m) {
    all_find(g, f, m);
    for (size_t i = 0; i < f->p->n; i++)
        if (!f->found[i]) return status_fail(PALI_ERR_ARGUMENT, "%s: cannot be trained: the model does not compute with it", f->p->items[i].name);
    if (!g->stage_floats) return PALI_OK;
    g->sums = mem_alloc(f->p->n, sizeof *g->sums);
    g->stage = mem_huge_alloc(g->stage_floats * sizeof *g->stage);
    if (!g->sums || !g->stage) return status_no_memory(g->stage_floats * sizeof *g->stage);
    all_find(g, f, m);
    return PALI_OK;
}

pali_status grads_init(grads *out, const model *m, const params *p) {
    size_t n_loras = count_loras(&m->spec);
    *out = (grads){0};
    finder f = {.g = out, .p = p, .found = mem_calloc(p->n, sizeof *f.found)};
    out->text = mem_calloc(m->text.cfg.n_layers, sizeof *out->text);
    out->vit = mem_calloc(m->vit.cfg.n_layers, sizeof *out->vit);
    out->loras = mem_calloc(n_loras, sizeof *out->loras);
    pali_status s = f.found && out->text && out->vit && out->loras ? fill(out, &f, m) : status_no_memory(p->n + n_loras * sizeof *out->loras);
    mem_free(f.found);
    if (s != PALI_OK) grads_free(out);
    return s;
}

/* The tensors of a stage follow one another in the table. */
static bool same_stage(const spec_tensor *a, const spec_tensor *b) {
    return (a->group <= SPEC_PROJ ? a->group : SPEC_EMBED) == (b->group <= SPEC_PROJ ? b->group : SPEC_EMBED) && a->npz.n_layers == b->npz.n_layers &&
           a->npz.layer == b->npz.layer;
}

void grads_outline(grads *out, const model *m, unsigned groups, bool half_grads) {
    const unsigned text = PARAMS_GROUP(SPEC_LLM_ATTN) | PARAMS_GROUP(SPEC_LLM_MLP) | PARAMS_GROUP(SPEC_LLM_NORM);
    *out = (grads){.trains_vit = groups & PARAMS_GROUP(SPEC_IMG)};
    out->before_vit = out->trains_vit;
    out->before_text = groups & (PARAMS_GROUP(SPEC_IMG) | PARAMS_GROUP(SPEC_PROJ) | PARAMS_GROUP(SPEC_EMBED));
    out->first_vit = out->before_vit ? 0 : m->vit.cfg.n_layers;
    out->first_text = out->before_text || (groups & text) ? 0 : m->text.cfg.n_layers;
    for (size_t i = 0, sum = 0; half_grads && i < m->spec.n; i++) {
        const spec_tensor *t = &m->spec.tensors[i];
        if (i && !same_stage(t, t - 1)) sum = 0;
        if (t->matrix && t->group != SPEC_EMBED && (groups & PARAMS_GROUP(t->group))) sum += spec_n_elements(t);
        if (sum > out->stage_floats) out->stage_floats = sum;
    }
}

void grads_free(grads *g) {
    mem_free(g->text);
    mem_free(g->vit);
    mem_free(g->loras);
    mem_free(g->sums);
    mem_huge_free(g->stage, g->stage_floats * sizeof *g->stage);
    *g = (grads){0};
}

#define ADD_FLOATS 1024u /* a task's piece */

static void add_pieces(const exec *e, void *context, size_t begin, size_t end) {
    const grads_sum *s = context;
    for (size_t i = begin; i < end; i++) {
        float room[ADD_FLOATS], *sum = s->sum + i * ADD_FLOATS;
        uint16_t *grad = s->grad + i * ADD_FLOATS;
        size_t n = s->n - i * ADD_FLOATS < ADD_FLOATS ? s->n - i * ADD_FLOATS : ADD_FLOATS;
        e->k->to_f32[PALI_DTYPE_BF16](room, grad, n);
        e->k->add(room, sum, n);
        e->k->from_f32[PALI_DTYPE_BF16](grad, room, n);
        memset(sum, 0, n * sizeof *sum);
    }
}

void grads_stage_end(const grads *g, exec *e, size_t stage) {
    for (size_t i = 0; i < g->n_sums; i++)
        if (g->sums[i].stage == stage) exec_rows(e, (g->sums[i].n + ADD_FLOATS - 1) / ADD_FLOATS, ADD_FLOATS, add_pieces, &g->sums[i]);
}

void grads_stage_drop(const grads *g) {
    if (g->stage) memset(g->stage, 0, g->stage_floats * sizeof *g->stage);
}
