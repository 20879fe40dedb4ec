/* backprop.c: see backprop.h. */
#include "train/backprop.h"

#include <string.h>

#include "base/mem.h"
#include "tensor/norm.h"

/* One micro-batch. T rows, M of them with a target, P rows a picture. A use of a picture is its place in a sample. */
typedef struct walk {
    backprop *b;
    exec *e;
    const model *m;
    const backprop_item *items;
    const backprop_options *o;
    size_t n, n_targets, n_uses, n_pictures;
    size_t n_wanted;               /* rows of the last block's output: of each sample those from the one before the first target on */
    gemma_rows rows;
    size_t first, n_kept;          /* blocks from `first` on keep their input; the last n_kept their inside */
    size_t first_vit, n_kept_vit;  /* the same of the tower */
    bool back, vision_back;        /* there is a backward; it reaches the tower */
    bool pixels;                   /* some pictures are */
    const backprop_picture **pictures; /* [n_pictures], all different */
    size_t *uses;                  /* [n_uses] which of them, in the order of the samples */
    /* memory */
    const float **at_pixels;       /* [n_pictures] */
    gemma_sequence *sequences;     /* [n] of rows */
    int32_t *targets;              /* [M] */
    float *weights;                /* [M] */
    float *x;                      /* [1 + L - first, T, D] input of block first and of each after it, and the last one's output */
    float *dx;                     /* [T, D] */
    float *keep;                   /* [n_kept, gemma_block_keep_floats] */
    float *hidden, *dhidden;       /* [M, D] */
    float *features, *dfeatures;   /* [n_pictures, P, W]; the gradient if the tower is trained */
    float *image;                  /* [n_pictures, P, D] the projector's rows, then their gradients */
    float *vision, *dvision;       /* [1 + layers - first_vit, n_pictures, P, W] of the tower as x; [n_pictures, P, W] */
    float *keep_vit;               /* [n_kept_vit, vit_block_keep_floats] */
} walk;

static size_t picture_floats(const walk *w) {
    return w->m->vit.cfg.n_patches * w->m->vit.cfg.width;
}

static size_t stream_floats(const walk *w) {
    return w->rows.n_rows * w->m->text.cfg.width;
}

static size_t image_floats(const walk *w) {
    return w->m->vit.cfg.n_patches * w->m->text.cfg.width;
}

/* Residual streams of a picture that the tower keeps. */
static size_t vision_streams(const walk *w) {
    return 1 + w->m->vit.cfg.n_layers - w->first_vit;
}

/* Rows of the last block's output that a sample has: those before its targets, and its last. */
static size_t rows_wanted(const sample *s) {
    return s->n - (s->n_prefix - 1);
}

static const mat *head_of(const gemma *g) {
    return g->head.dtype != PALI_DTYPE_AUTO ? &g->head : &g->embed;
}

/* ---- Memory ---- */

typedef struct room {
    char *at; /* NULL: only counted */
    size_t n_bytes;
} room;

static void *take(room *r, size_t n, size_t size) {
    void *data = r->at ? r->at + r->n_bytes : NULL;
    r->n_bytes += (n * size + MEM_ALIGN - 1) / MEM_ALIGN * MEM_ALIGN;
    return data;
}

static size_t carve(walk *w, char *at) {
    room r = {.at = at};
    size_t targets = w->n_targets * w->m->text.cfg.width, streams = 1 + w->m->text.cfg.n_layers - w->first;
    size_t pictures = w->n_pictures * picture_floats(w);
    w->sequences = take(&r, w->n, sizeof *w->sequences);
    w->targets = take(&r, w->n_targets, sizeof *w->targets);
    w->weights = take(&r, w->n_targets, sizeof *w->weights);
    w->x = take(&r, streams * stream_floats(w), sizeof(float));
    w->dx = take(&r, w->back ? stream_floats(w) : 0, sizeof(float));
    w->keep = take(&r, w->n_kept ? w->n_kept * gemma_block_keep_floats(&w->m->text, &w->rows) : 0, sizeof(float));
    w->hidden = take(&r, targets, sizeof(float));
    w->dhidden = take(&r, w->back ? targets : 0, sizeof(float));
    w->at_pixels = take(&r, w->n_pictures, sizeof *w->at_pixels);
    w->features = take(&r, pictures, sizeof(float));
    w->image = take(&r, w->n_pictures * image_floats(w), sizeof(float));
    w->dfeatures = take(&r, w->vision_back ? pictures : 0, sizeof(float));
    w->vision = take(&r, w->vision_back ? pictures * vision_streams(w) : 0, sizeof(float));
    w->dvision = take(&r, w->vision_back ? pictures : 0, sizeof(float));
    w->keep_vit = take(&r, w->n_kept_vit * vit_block_keep_floats(&w->m->vit.cfg, w->n_pictures), sizeof(float));
    return r.n_bytes;
}

static pali_status memory_get(walk *w) {
    size_t n_bytes = carve(w, NULL);
    backprop *b = w->b;
    if (n_bytes > b->block_bytes) {
        mem_huge_free(b->block, b->block_bytes);
        b->block = mem_huge_alloc(n_bytes);
        b->block_bytes = b->block ? n_bytes : 0;
        if (!b->block) return status_no_memory(n_bytes);
    }
    (void)carve(w, b->block);
    return PALI_OK;
}

/* ---- Sizes ---- */

static pali_status item_check(const walk *w, size_t i) {
    const backprop_item *item = &w->items[i];
    const sample *s = item->text;
    size_t n_image;
    if (s->n_prefix == 0 || s->n_prefix > s->n) return status_fail(PALI_ERR_ARGUMENT, "sample %zu: a prefix of %zu of %zu rows", i, s->n_prefix, s->n);
    if (!mem_mul(&n_image, item->n_pictures, w->m->vit.cfg.n_patches) || n_image > s->n_prefix)
        return status_fail(PALI_ERR_ARGUMENT, "sample %zu: %zu pictures do not fit in a prefix of %zu rows", i, item->n_pictures, s->n_prefix);
    for (size_t j = 0; j < item->n_pictures; j++) {
        const backprop_picture *p = &item->pictures[j];
        if (!p->pixels && !p->features) return status_fail(PALI_ERR_ARGUMENT, "sample %zu: picture %zu is missing", i, j);
        if (!p->pixels && w->vision_back)
            return status_fail(PALI_ERR_ARGUMENT, "sample %zu: picture %zu: features of a tower that is trained", i, j);
    }
    return PALI_OK;
}

/* Its first ids, and no others, are those of image rows. */
static pali_status ids_check(const walk *w, size_t i) {
    size_t n_image = w->items[i].n_pictures * w->m->vit.cfg.n_patches;
    const sample *s = w->items[i].text;
    for (size_t j = 0; j < s->n; j++)
        if ((s->ids[j] == w->b->image_token) != (j < n_image)) return status_fail(PALI_ERR_ARGUMENT, "sample %zu: id %zu: image ids are not those of its pictures", i, j);
    return PALI_OK;
}

static bool same_picture(const backprop_picture *a, const backprop_picture *b) {
    return a->pixels == b->pixels && a->features == b->features;
}

/* Which pictures there are, and where each is used. Rows of a picture are neighbours as a rule, so the search begins at the last. */
static pali_status pictures_find(walk *w) {
    w->pictures = mem_alloc(w->n_uses, sizeof(void *));
    w->uses = mem_alloc(w->n_uses, sizeof *w->uses);
    if (!w->pictures || !w->uses) return status_no_memory(w->n_uses * sizeof *w->uses);
    for (size_t i = 0, use = 0; i < w->n; i++) {
        for (size_t j = 0; j < w->items[i].n_pictures; j++, use++) {
            const backprop_picture *p = &w->items[i].pictures[j];
            size_t at = w->n_pictures;
            while (at > 0 && !same_picture(w->pictures[at - 1], p)) at--;
            if (at == 0) w->pictures[at = w->n_pictures++] = p;
            else at--;
            w->uses[use] = at;
        }
    }
    return PALI_OK;
}

static void walk_free(walk *w) {
    mem_free((void *)w->pictures);
    mem_free(w->uses);
}

/* Blocks, counted from the last, whose insides fit. */
static size_t blocks_kept(uint64_t *left, uint64_t inside_bytes, size_t n_back) {
    size_t n = inside_bytes && *left / inside_bytes < n_back ? (size_t)(*left / inside_bytes) : n_back;
    *left -= n * inside_bytes;
    return n;
}

/* walk_free it, also after a failure. */
static pali_status walk_init(walk *w, backprop *b, exec *e, const backprop_item *items, size_t n, const backprop_options *o) {
    const grads *g = &b->grads;
    *w = (walk){.b = b, .e = e, .m = b->m, .items = items, .n = n, .o = o, .back = !o->loss_only, .vision_back = !o->loss_only && g->trains_vit};
    w->first = w->back ? g->first_text : b->m->text.cfg.n_layers;
    w->first_vit = g->first_vit;
    for (size_t i = 0; i < n; i++) {
        STATUS_TRY(item_check(w, i));
        w->rows.n_rows += items[i].text->n;
        if (w->rows.n_rows > BACKPROP_MAX_ROWS) return status_fail(PALI_ERR_LIMIT, "micro-batch: more than %u rows", BACKPROP_MAX_ROWS);
        w->n_targets += sample_n_targets(items[i].text);
        w->n_wanted += rows_wanted(items[i].text);
        w->n_uses += items[i].n_pictures;
    }
    STATUS_TRY(pictures_find(w));
    for (size_t i = 0; i < w->n_pictures; i++) w->pixels |= w->pictures[i]->pixels != NULL;
    uint64_t left = o->keep_bytes;
    w->n_kept = blocks_kept(&left, gemma_block_keep_floats(&b->m->text, &w->rows) * sizeof(float), b->m->text.cfg.n_layers - w->first);
    if (w->vision_back) w->n_kept_vit = blocks_kept(&left, vit_block_keep_floats(&b->m->vit.cfg, w->n_pictures) * sizeof(float), b->m->vit.cfg.n_layers - w->first_vit);
    return PALI_OK;
}

/* ---- Forward ---- */

static float *vision_at(const walk *w, size_t layer) {
    return w->vision + (layer - w->first_vit) * w->n_pictures * picture_floats(w);
}

static float *keep_vit_at(const walk *w, size_t layer) {
    size_t n = w->m->vit.cfg.n_layers;
    return layer < n - w->n_kept_vit ? NULL : w->keep_vit + (layer - (n - w->n_kept_vit)) * vit_block_keep_floats(&w->m->vit.cfg, w->n_pictures);
}

/* Pictures first..first+n, all pixels, through the tower; with a backward that reaches it, all of them, what that needs is kept. */
static pali_status tower_forward(const walk *w, size_t first, size_t n) {
    const vit *v = &w->m->vit;
    float *features = w->features + first * picture_floats(w), *x = w->vision_back ? w->vision : features;
    for (size_t i = 0; i < n; i++) w->at_pixels[first + i] = w->pictures[first + i]->pixels;
    STATUS_TRY(vit_embed(w->e, v, x, w->at_pixels + first, n));
    for (size_t i = 0; i < v->cfg.n_layers; i++) {
        if (w->vision_back && i >= w->first_vit) {
            memcpy(vision_at(w, i + 1), x, n * picture_floats(w) * sizeof *x);
            x = vision_at(w, i + 1);
        }
        STATUS_TRY(vit_block_forward(w->e, v, i, x, w->vision_back ? keep_vit_at(w, i) : NULL, n));
    }
    norm_layer(w->e, features, x, v->post_w, v->post_b, n * v->cfg.n_patches, v->cfg.width, v->cfg.norm_eps);
    return PALI_OK;
}

/* Features there are, and the tower's of runs of pictures that are pixels. */
static pali_status pictures_forward(const walk *w) {
    for (size_t i = 0, n; i < w->n_pictures; i += n) {
        n = 1;
        if (w->pictures[i]->pixels) {
            while (i + n < w->n_pictures && w->pictures[i + n]->pixels) n++;
            STATUS_TRY(tower_forward(w, i, n));
        } else {
            memcpy(w->features + i * picture_floats(w), w->pictures[i]->features, picture_floats(w) * sizeof *w->features);
        }
    }
    return w->n_pictures ? vit_project(w->e, &w->m->vit, w->image, w->features, w->n_pictures * w->m->vit.cfg.n_patches) : PALI_OK;
}

/* x [T, D] = image rows, then text rows of each sample. */
static pali_status embed_forward(const walk *w) {
    size_t d = w->m->text.cfg.width, use = 0;
    float *x = w->x;
    STATUS_TRY(pictures_forward(w));
    for (size_t i = 0; i < w->n; i++) {
        const backprop_item *item = &w->items[i];
        size_t n_image = item->n_pictures * w->m->vit.cfg.n_patches, n_text = item->text->n - n_image;
        for (size_t j = 0; j < item->n_pictures; j++, x += image_floats(w))
            memcpy(x, w->image + w->uses[use++] * image_floats(w), image_floats(w) * sizeof *x);
        STATUS_TRY(gemma_embed(w->e, &w->m->text, x, item->text->ids + n_image, n_text));
        x += n_text * d;
    }
    exec_tap(w->e, "text.embed", -1, w->x, w->rows.n_rows, d);
    return PALI_OK;
}

/* Where block `layer` finds its input, or the last one's output is. */
static float *stream_at(const walk *w, size_t layer) {
    return w->x + (layer > w->first ? layer - w->first : 0) * stream_floats(w);
}

static float *keep_at(const walk *w, size_t layer) {
    size_t n = w->m->text.cfg.n_layers;
    return layer < n - w->n_kept ? NULL : w->keep + (layer - (n - w->n_kept)) * gemma_block_keep_floats(&w->m->text, &w->rows);
}

static pali_status blocks_forward(const walk *w) {
    for (size_t i = 0; i < w->m->text.cfg.n_layers; i++) {
        float *x = stream_at(w, i), *y = stream_at(w, i + 1);
        STATUS_TRY(exec_check_cancel(w->e));
        if (y != x) memcpy(y, x, stream_floats(w) * sizeof *y);
        STATUS_TRY(gemma_block_forward(w->e, &w->m->text, i, y, keep_at(w, i), &w->rows));
        exec_tap(w->e, "text.layer", (int)i, y, i + 1 < w->m->text.cfg.n_layers ? w->rows.n_rows : w->n_wanted, w->m->text.cfg.width);
    }
    return PALI_OK;
}

static pali_status loss_compute(const walk *w, backprop_result *out) {
    const gemma *g = &w->m->text;
    const float *x = stream_at(w, g->cfg.n_layers);
    size_t row = 0, at = 0;
    for (size_t i = 0; i < w->n; row += rows_wanted(w->items[i++].text)) {
        const sample *s = w->items[i].text;
        size_t n = sample_n_targets(s);
        norm_rms(w->e, w->hidden + at * g->cfg.width, x + row * g->cfg.width, g->norm_final, n, g->cfg.width, g->cfg.norm_eps);
        for (size_t j = 0; j < n; j++, at++) {
            w->targets[at] = s->ids[s->n_prefix + j];
            w->weights[at] = (float)w->items[i].weight;
        }
    }
    const grads *grad = &w->b->grads;
    const xent loss = {.hidden = w->hidden, .head = head_of(g), .targets = w->targets, .weights = w->weights, .n_rows = w->n_targets,
                       .softcap = g->cfg.final_softcap, .smoothing = w->o->smoothing, .spread = w->o->spread};
    xent_result result = {.row_loss = out->row_loss, .row_right = out->row_right};
    STATUS_TRY(xent_forward_backward(w->e, &result, w->back ? w->dhidden : NULL, loss.head == &g->embed ? grad->embed : grad->head, &loss));
    out->loss = result.loss;
    return PALI_OK;
}

/* ---- Backward ---- */

/* dx [n_wanted, D] = the gradient by what the last block made: zero in the last row of each sample. */
static pali_status final_norm_backward(const walk *w) {
    const gemma *g = &w->m->text;
    const float *x = stream_at(w, g->cfg.n_layers);
    size_t row = 0, at = 0, d = g->cfg.width;
    memset(w->dx, 0, w->n_wanted * d * sizeof *w->dx);
    for (size_t i = 0; i < w->n; row += rows_wanted(w->items[i++].text)) {
        size_t n = sample_n_targets(w->items[i].text), first = row * d;
        STATUS_TRY(norm_rms_backward(w->e, w->dx + first, w->b->grads.norm_final, w->dhidden + at * d, x + first, g->norm_final, n, d, g->cfg.norm_eps, false));
        at += n;
    }
    return PALI_OK;
}

static pali_status blocks_backward(const walk *w) {
    const grads *g = &w->b->grads;
    for (size_t i = w->m->text.cfg.n_layers; i-- > w->first;) {
        STATUS_TRY(exec_check_cancel(w->e));
        STATUS_TRY(gemma_block_backward(w->e, &w->m->text, i, w->dx, &g->text[i], stream_at(w, i), keep_at(w, i), &w->rows, i > w->first || g->before_text));
        grads_stage_end(g, w->e, GRADS_VIT_BLOCKS + w->m->vit.cfg.n_layers + i);
    }
    return PALI_OK;
}

/* Of the image rows and the table. */
static pali_status embed_backward(const walk *w) {
    const vit *v = &w->m->vit;
    const grads *g = &w->b->grads;
    size_t d = w->m->text.cfg.width, n_image = w->n_pictures * v->cfg.n_patches, use = 0;
    const float *dx = w->dx;
    memset(w->image, 0, w->n_pictures * image_floats(w) * sizeof *w->image);
    for (size_t i = 0; i < w->n; i++) {
        const backprop_item *item = &w->items[i];
        const int32_t *ids = item->text->ids + item->n_pictures * v->cfg.n_patches;
        const size_t n_text = item->text->n - item->n_pictures * v->cfg.n_patches;
        for (size_t j = 0; j < item->n_pictures; j++, dx += image_floats(w)) w->e->k->add(w->image + w->uses[use++] * image_floats(w), dx, image_floats(w));
        if (g->embed) STATUS_TRY(gemma_embed_backward(w->e, &w->m->text, g->embed, ids, dx, n_text));
        dx += n_text * d;
    }
    STATUS_TRY(linear_backward(w->e, w->vision_back ? w->dfeatures : NULL, &g->projector, w->image, w->features, &v->projector, n_image, LINEAR_SET));
    grads_stage_end(g, w->e, GRADS_PROJECTOR);
    return PALI_OK;
}

static pali_status tower_backward(const walk *w) {
    const vit *v = &w->m->vit;
    const vit_config *cfg = &v->cfg;
    const grads *g = &w->b->grads;
    STATUS_TRY(norm_layer_backward(w->e, w->dvision, g->post_w, g->post_b, w->dfeatures, vision_at(w, cfg->n_layers), v->post_w,
                                   w->n_pictures * cfg->n_patches, cfg->width, cfg->norm_eps, false));
    for (size_t i = cfg->n_layers; i-- > w->first_vit;) {
        STATUS_TRY(vit_block_backward(w->e, v, i, w->dvision, &g->vit[i], vision_at(w, i), keep_vit_at(w, i), w->n_pictures, i > w->first_vit || g->before_vit));
        grads_stage_end(g, w->e, GRADS_VIT_BLOCKS + i);
    }
    if (g->before_vit) STATUS_TRY(vit_embed_backward(w->e, v, &g->patch, g->position, w->dvision, w->at_pixels, w->n_pictures));
    grads_stage_end(g, w->e, GRADS_PATCH);
    return PALI_OK;
}

/* ---- Both ---- */

pali_status backprop_init(backprop *b, const model *m, const params *p) {
    *b = (backprop){.m = m, .image_token = m->cfg.image_token};
    return grads_init(&b->grads, m, p);
}

void backprop_outline(backprop *b, const model *m, unsigned groups, bool half_grads) {
    *b = (backprop){.m = m, .image_token = m->cfg.image_token};
    grads_outline(&b->grads, m, groups, half_grads);
}

void backprop_free(backprop *b) {
    grads_free(&b->grads);
    mem_huge_free(b->block, b->block_bytes);
    *b = (backprop){0};
}

static void sequences_fill(walk *w) {
    for (size_t i = 0; i < w->n; i++) w->sequences[i] = (gemma_sequence){w->items[i].text->n, w->items[i].text->n_prefix, w->items[i].text->n_prefix - 1};
    w->rows.sequences = w->sequences;
    w->rows.n_sequences = w->n;
    w->rows.drop = w->o->drop;
}

static pali_status forward_backward(const walk *w, backprop_result *out) {
    STATUS_TRY(embed_forward(w));
    STATUS_TRY(blocks_forward(w));
    STATUS_TRY(loss_compute(w, out));
    if (!w->back) return PALI_OK;
    STATUS_TRY(final_norm_backward(w));
    STATUS_TRY(blocks_backward(w));
    if (w->b->grads.before_text) STATUS_TRY(embed_backward(w));
    return w->vision_back && w->n_pictures ? tower_backward(w) : PALI_OK;
}

static pali_status walk_run(walk *w, backprop_result *out) {
    for (size_t i = 0; i < w->n; i++) STATUS_TRY(ids_check(w, i));
    out->loss = 0;
    out->n_targets = w->n_targets;
    if (w->n_targets == 0) return PALI_OK;
    STATUS_TRY(memory_get(w));
    sequences_fill(w);
    pali_status s = forward_backward(w, out);
    if (s != PALI_OK) grads_stage_drop(&w->b->grads);
    return s;
}

pali_status backprop_run(backprop *b, exec *e, backprop_result *out, const backprop_item *items, size_t n, const backprop_options *o) {
    walk w;
    pali_status s = walk_init(&w, b, e, items, n, o);
    if (s == PALI_OK) s = walk_run(&w, out);
    walk_free(&w);
    return s;
}

static pali_status walk_need(exec_need *need, uint64_t *n_bytes, walk *w) {
    const gemma *g = &w->m->text;
    const vit *v = &w->m->vit;
    const size_t n_image = w->n_pictures * v->cfg.n_patches;
    *n_bytes = (w->n_targets ? carve(w, NULL) : 0) + w->b->grads.stage_floats * sizeof(float);
    if (w->n_targets == 0) return PALI_OK;
    w->sequences = mem_alloc(w->n, sizeof *w->sequences);
    if (!w->sequences) return status_no_memory(w->n * sizeof *w->sequences);
    sequences_fill(w);
    for (size_t i = 0; i < g->cfg.n_layers; i++) gemma_block_need(need, w->e, g, i, &w->rows);
    mem_free(w->sequences);
    xent_need(need, w->e, head_of(g), w->n_targets);
    norm_backward_need(need, w->n_targets);
    norm_backward_need(need, w->vision_back ? n_image : 0);
    if (w->pixels) vit_train_need(need, w->e, v, w->n_pictures);
    linear_need(need, w->e, &v->projector, NULL, n_image, LINEAR_SET);
    linear_backward_need(need, w->e, &v->projector, n_image);
    return PALI_OK;
}

pali_status backprop_need(exec_need *need, uint64_t *n_bytes, exec *e, backprop *b, const backprop_item *items, size_t n, const backprop_options *o) {
    walk w;
    pali_status s = walk_init(&w, b, e, items, n, o);
    if (s == PALI_OK) s = walk_need(need, n_bytes, &w);
    walk_free(&w);
    return s;
}
