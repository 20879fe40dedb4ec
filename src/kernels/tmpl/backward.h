/* backward.h: the loops of the backward pass, in the words and with the helpers of loops.h, which includes this. */

static void k_transpose(float *y, size_t ldy, const float *x, size_t ldx, size_t rows, size_t cols) {
    for (size_t r0 = 0; r0 < rows; r0 += VL) {
        size_t n = rows - r0 < VL ? rows - r0 : VL;
        for (size_t c0 = 0; c0 < cols; c0 += VL) {
            size_t left = cols - c0 < VL ? cols - c0 : VL;
            float *to = y + c0 * ldy + r0;
            vu r[VL];
            rows_transpose(r, (const char *)(x + r0 * ldx), ldx * sizeof *x, n, c0 * sizeof *x, left * sizeof *x);
            for (size_t c = 0; c < left; c++) {
                float block[VL];
                vu_store(block, r[c]);
                v_store_n(to + c * ldy, v_load(block), n);
            }
        }
    }
}

/* gelu_tanh(x), with the operations of v_gelu, and its derivative. */
static inline vf v_gelu_both(vf x, vf *slope) {
    vf one = v_set1(1), c = v_set1(0.7978845608f), square = v_mul(x, x), half_x = v_mul(v_set1(0.5f), x);
    vf t = v_tanh(v_mul(c, v_fma(v_mul(square, x), v_set1(0.044715f), x)));
    vf inner = v_mul(c, v_fma(square, v_set1(3 * 0.044715f), one));
    *slope = v_fma(v_mul(half_x, v_mul(v_sub(one, t), v_add(one, t))), inner, v_mul(v_set1(0.5f), v_add(one, t)));
    return v_mul(half_x, v_add(one, t));
}

static void k_gelu_backward(float *x, float *dy, size_t n) {
    for (size_t i = 0; i < n; i += VL) {
        size_t left = n - i < VL ? n - i : VL;
        vf slope, y = v_gelu_both(v_load_n(x + i, left), &slope);
        v_store_n(x + i, v_mul(v_load_n(dy + i, left), slope), left);
        v_store_n(dy + i, y, left);
    }
}

static void k_geglu_backward(float *gate, float *up, float *dy, size_t n) {
    for (size_t i = 0; i < n; i += VL) {
        size_t left = n - i < VL ? n - i : VL;
        vf slope, y = v_gelu_both(v_load_n(gate + i, left), &slope), u = v_load_n(up + i, left), d = v_load_n(dy + i, left);
        v_store_n(gate + i, v_mul(v_mul(d, u), slope), left);
        v_store_n(up + i, v_mul(d, y), left);
        v_store_n(dy + i, v_mul(y, u), left);
    }
}

/* Both norms: y = h (w + plus) + .., h = (x - mean) inv; g = dy (w + plus); dx = inv (g - mean(g) - h mean(g h)), without mean(g)
 * where nothing is subtracted. */
static inline void norm_backward(float *dx, const float *dy, const float *x, const float *w, float plus, float mean, float inv,
                                 bool centred, size_t n, bool accumulate) {
    vf m = v_set1(mean), p = v_set1(plus), sum = v_zero(), dot = v_zero(), factor = v_set1(inv);
    for (size_t i = 0; i < n; i += VL) {
        size_t left = n - i < VL ? n - i : VL;
        vf g = v_mul(v_load_n(dy + i, left), v_add(v_load_n(w + i, left), p));
        sum = v_add(sum, g);
        dot = v_fma(g, v_sub(v_load_n(x + i, left), m), dot);
    }
    vf mean_g = v_set1(centred ? v_hsum(sum) / (float)n : 0), mean_gh = v_set1(v_hsum(dot) * inv / (float)n);
    for (size_t i = 0; i < n; i += VL) {
        size_t left = n - i < VL ? n - i : VL;
        vf g = v_mul(v_load_n(dy + i, left), v_add(v_load_n(w + i, left), p));
        vf h = v_mul(v_sub(v_load_n(x + i, left), m), factor);
        vf d = v_mul(factor, v_fnma(h, mean_gh, v_sub(g, mean_g)));
        v_store_n(dx + i, accumulate ? v_add(v_load_n(dx + i, left), d) : d, left);
    }
}

static void k_rms_norm_backward(float *dx, float stats[2], const float *dy, const float *x_array, const float *w, size_t n, float eps,
                                bool accumulate) {
    float square;
    SUM(square, x_array, n, v_mul(x, x));
    stats[0] = 0;
    stats[1] = 1.0f / __builtin_sqrtf(square / (float)n + eps);
    norm_backward(dx, dy, x_array, w, 1, 0, stats[1], false, n, accumulate);
}

static void k_layer_norm_backward(float *dx, float stats[2], const float *dy, const float *x_array, const float *w, size_t n, float eps,
                                  bool accumulate) {
    float sum, square;
    SUM(sum, x_array, n, x);
    vf mean = v_set1(sum / (float)n);
    SUM(square, x_array, n, v_mul(v_sub(x, mean), v_sub(x, mean)));
    stats[0] = sum / (float)n;
    stats[1] = 1.0f / __builtin_sqrtf(square / (float)n + eps);
    norm_backward(dx, dy, x_array, w, 0, stats[0], stats[1], true, n, accumulate);
}

static void k_norm_weight_backward(float *dw, const float *dy, const float *x, float mean, float inv, size_t n) {
    vf m = v_set1(mean), factor = v_set1(inv);
    for (size_t i = 0; i < n; i += VL) {
        size_t left = n - i < VL ? n - i : VL;
        vf h = v_mul(v_sub(v_load_n(x + i, left), m), factor);
        v_store_n(dw + i, v_fma(v_load_n(dy + i, left), h, v_load_n(dw + i, left)), left);
    }
}

/* cap(x scale), with the operations of k_softmax, and d cap / d x. */
static inline vf v_cap_both(vf x, float scale, float cap, vf *slope) {
    vf z = v_mul(x, v_set1(scale)), one = v_set1(1);
    *slope = v_set1(scale);
    if (!(cap > 0)) return z;
    vf t = v_tanh(v_mul(z, v_set1(1.0f / cap)));
    *slope = v_mul(*slope, v_mul(v_sub(one, t), v_add(one, t)));
    return v_mul(v_set1(cap), t);
}

static void k_softmax_stats(float stats[3], const float *x, const float *g, size_t n, float scale, float cap) {
    vf slope, sum = v_zero(), dot = v_zero(), max = v_cap_both(v_set1(x[0]), scale, cap, &slope);
    for (size_t i = 0; i < n; i += VL) {
        if (n - i >= VL) {
            max = v_max(max, v_cap_both(v_load(x + i), scale, cap, &slope));
            continue;
        }
        float tail[VL]; /* filled with an element that takes part anyway */
        v_store(tail, v_set1(x[0]));
        memcpy(tail, x + i, (n - i) * sizeof *tail);
        max = v_max(max, v_cap_both(v_load(tail), scale, cap, &slope));
    }
    stats[0] = v_hmax(max);
    vf top = v_set1(stats[0]);
    for (size_t i = 0; i < n; i += VL) {
        size_t left = n - i < VL ? n - i : VL;
        vf e = v_exp(v_sub(v_cap_both(v_load_n(x + i, left), scale, cap, &slope), top));
        if (left < VL) e = v_keep_n(e, left);
        sum = v_add(sum, e);
        if (g) dot = v_fma(e, v_load_n(g + i, left), dot);
    }
    stats[1] = v_hsum(sum);
    stats[2] = v_hsum(dot);
}

static void k_softmax_backward(float *x, float *g, const float *max, const float *inv, const float *dot, size_t step, size_t n, float scale,
                               float cap) {
    vf top = v_set1(*max), factor = v_set1(*inv), mean = v_set1(*dot);
    for (size_t i = 0; i < n; i += VL) {
        size_t left = n - i < VL ? n - i : VL;
        if (step) {
            top = v_load_n(max + i, left);
            factor = v_load_n(inv + i, left);
            mean = v_load_n(dot + i, left);
        }
        vf slope, p = v_mul(v_exp(v_sub(v_cap_both(v_load_n(x + i, left), scale, cap, &slope), top)), factor);
        v_store_n(x + i, p, left);
        v_store_n(g + i, v_mul(v_mul(p, v_sub(v_load_n(g + i, left), mean)), slope), left);
    }
}

static void k_xent_backward(float *z, size_t n, float max, float inv, float other, float weight, float cap) {
    vf top = v_set1(max), factor = v_set1(inv), away = v_set1(other), w = v_set1(weight), one = v_set1(1);
    vf per_cap = v_set1(cap > 0 ? 1.0f / cap : 0);
    for (size_t i = 0; i < n; i += VL) {
        size_t left = n - i < VL ? n - i : VL;
        vf x = v_load_n(z + i, left), t = v_mul(x, per_cap);
        vf d = v_sub(v_mul(v_exp(v_sub(x, top)), factor), away);
        v_store_n(z + i, v_mul(v_mul(w, d), v_mul(v_sub(one, t), v_add(one, t))), left);
    }
}

static void backward_fill(kernels *k) {
    k->transpose = k_transpose;
    k->gelu_backward = k_gelu_backward;
    k->geglu_backward = k_geglu_backward;
    k->rms_norm_backward = k_rms_norm_backward;
    k->layer_norm_backward = k_layer_norm_backward;
    k->norm_weight_backward = k_norm_weight_backward;
    k->softmax_stats = k_softmax_stats;
    k->softmax_backward = k_softmax_backward;
    k->xent_backward = k_xent_backward;
}
