/* head_logprob, head_logprob_backward, edit_logits, edit_logits_backward, sample. Sizes: N, C, V. */
#ifndef TESTS_COMPUTE_OPS_HEADS_H
#define TESTS_COMPUTE_OPS_HEADS_H

#include "products.h"
#include "rows.h"

/* -- edits -- */

/* Of the rows of logits over V >= 7 tokens, beside what the host knows of them. */
typedef struct EditCase {
  LogitEdits edits;
  const int32_t *ids, *from, *count, *banned, *bans;
} EditCase;

static inline Tensor some_ids(Test *t, int64_t count) {
  return random_ids(t, count, 1);
}

/* Rows of 0 to 4 ids, some of which are banned too, and in every other row a token and the last one banned, but never a target. */
static inline EditCase edit_case(Test *t, int64_t N, int64_t V, const int32_t *targets) {
  EditCase e = {.edits = {.penalty = 1.3f, .most = 4}};
  Tensor *tensors[] = {&e.edits.ids, &e.edits.from, &e.edits.count, &e.edits.banned, &e.edits.bans};
  const int64_t counts[] = {5 * N + 3, N, N, 2, N};
  for (int i = 0; i < 5; i++) *tensors[i] = some_ids(t, counts[i]);
  int32_t *ids = ids_of(t, e.edits.ids), *from = ids_of(t, e.edits.from), *count = ids_of(t, e.edits.count);
  int32_t *banned = ids_of(t, e.edits.banned), *bans = ids_of(t, e.edits.bans);
  banned[0] = (int32_t)(V / 2);
  banned[1] = (int32_t)(V - 1);
  for (int64_t r = 0; r < N; r++) {
    from[r] = (int32_t)(5 * r + r % 3);
    count[r] = (int32_t)(r % 5);
    for (int64_t i = 0; i < count[r]; i++) ids[from[r] + i] = (int32_t)((r + i * (V / 2)) % V);
    bans[r] = r % 2 == 0 && (!targets || (targets[r] != banned[0] && targets[r] != banned[1]));
    for (int64_t i = 0; i < count[r]; i++) { /* each once */
      for (int64_t k = 0; k < i; k++) {
        if (ids[from[r] + k] == ids[from[r] + i]) count[r] = (int32_t)i;
      }
    }
  }
  e.ids = ids;
  e.from = from;
  e.count = count;
  e.banned = banned;
  e.bans = bans;
  return e;
}

/* As Transformers has it, of row r; slopes [V]: what each logit's gradient is multiplied by, or NULL. */
static inline void edit_ref(const EditCase *e, int64_t r, double *z, double *slopes) {
  const double penalty = (double)e->edits.penalty;
  for (int64_t i = 0; i < e->count[r]; i++) {
    const int32_t id = e->ids[e->from[r] + i];
    const double factor = z[id] < 0 ? penalty : 1 / penalty;
    z[id] *= factor;
    if (slopes) slopes[id] = factor;
  }
  for (int64_t i = 0; e->bans[r] && i < 2; i++) {
    z[e->banned[i]] = -INFINITY;
    if (slopes) slopes[e->banned[i]] = 0;
  }
}

/* -INFINITY is compared as a number. */
static inline double as_number(double x) {
  return isinf(x) ? -1e6 : x;
}

static void test_edit_logits(Test *t) {
  const int64_t N = t->shape.size[0], V = t->shape.size[2];
  Tensor logits = random_tensor(t, DTYPE_F32, 2, N, V, 1, 1);
  const EditCase e = edit_case(t, N, V, NULL);
  const Tensor none = {0};
  double *expected = doubles(t, logits), *actual;
  for (int64_t r = 0; r < N; r++) edit_ref(&e, r, expected + r * V, NULL);
  RUN(t, op_edit_logits(&t->c, logits, e.edits, none));
  actual = doubles(t, logits);
  for (int64_t i = 0; i < N * V; i++) {
    expected[i] = as_number(expected[i]);
    actual[i] = as_number(actual[i]);
  }
  compare_arrays(t, "logits", DTYPE_F32, expected, actual, N * V, 1);
}

static void test_edit_logits_backward(Test *t) {
  const int64_t N = t->shape.size[0], V = t->shape.size[2];
  Tensor logits = random_tensor(t, DTYPE_F32, 2, N, V, 1, 1);
  Tensor slopes = random_tensor(t, DTYPE_F32, 2, N, 4, 1, 1);
  Tensor d = random_tensor(t, activation_dtype(t), 2, N, V, 1, 1);
  const EditCase e = edit_case(t, N, V, NULL);
  double *z = doubles(t, logits), *expected = doubles(t, d), *factor = zeros(t, V);
  for (int64_t r = 0; r < N; r++) {
    for (int64_t j = 0; j < V; j++) factor[j] = 1;
    edit_ref(&e, r, z + r * V, factor);
    for (int64_t j = 0; j < V; j++) expected[r * V + j] *= factor[j];
  }
  RUN(t, op_edit_logits(&t->c, logits, e.edits, slopes));
  RUN(t, op_edit_logits_backward(&t->c, d, e.edits, slopes));
  compare(t, "d", expected, d);
}

/* -- heads -- */

typedef struct HeadRef {
  LinearRef linear;
  double *u, *b; /* [N,R], [V,R]; or NULL */
  const int32_t *targets;
  HeadSpec spec;
  const EditCase *edited;                          /* or NULL */
  double *logprob, *entropy, *dlogprob, *dentropy; /* dentropy or NULL */
} HeadRef;

enum { THIN_RANK = 3 };
static const double THIN_SCALE = 0.75;

static inline double thin_ref(const HeadRef *r, int64_t t, int64_t j) {
  return r->u ? THIN_SCALE * dot(r->u + t * THIN_RANK, r->b + j * THIN_RANK, THIN_RANK) : 0;
}

static inline void head_ref(HeadRef *r) {
  linear_ref(&r->linear);
  int64_t V = r->linear.O;
  for (int64_t t = 0; t < r->linear.T; t++) {
    double *z = r->linear.out + t * V, highest = -INFINITY, sum = 0, mean = 0;
    for (int64_t j = 0; j < V; j++) {
      double cap = (double)r->spec.softcap;
      z[j] += thin_ref(r, t, j);
      if (cap > 0) z[j] = cap * tanh(z[j] / cap);
    }
    if (r->edited) edit_ref(r->edited, t, z, NULL);
    for (int64_t j = 0; j < V; j++) {
      z[j] /= (double)r->spec.temperature;
      highest = fmax(highest, z[j]);
    }
    for (int64_t j = 0; j < V; j++) {
      double e = exp(z[j] - highest);
      sum += e;
      if (e > 0) mean += e * z[j];
    }
    r->logprob[t] = z[r->targets[t]] - highest - log(sum);
    r->entropy[t] = highest + log(sum) - mean / sum;
  }
}

static inline double head_loss(void *context) {
  HeadRef *r = context;
  head_ref(r);
  double loss = dot(r->logprob, r->dlogprob, r->linear.T);
  return r->dentropy ? loss + dot(r->entropy, r->dentropy, r->linear.T) : loss;
}

typedef struct HeadCase {
  LinearCase linear;
  HeadTerms z;
  Tensor targets, logprob, entropy, dlogprob, dentropy;
  HeadSpec spec;
  EditCase edited;
  HeadRef ref;
} HeadCase;

/* The same matrix in front of `more` rows of a value. */
static inline Tensor with_rows(Test *t, Tensor x, int64_t more, double value) {
  const int64_t rows = x.dim[0];
  const Tensor all = random_tensor(t, x.dtype, 2, rows + more, x.dim[1], 1, 1);
  assert_int_equal(all.stride[0], x.dim[1]);
  for (int64_t i = 0; i < tensor_count(all); i++) store(t, all, i, i < tensor_count(x) ? at(t, x, i) : value);
  return tensor_rows(all, 0, rows);
}

/* *k is not to move: its reference points into it. */
static inline void head_case(Test *t, HeadCase *out) {
  int64_t N = t->shape.size[0], C = t->shape.size[1], V = t->shape.size[2];
  HeadCase k = {.linear = linear_case(t)};
  for (int64_t i = 0; i < N * C; i++) { /* logits of a few units */
    store(t, k.linear.x, offset_of(k.linear.x, i), 3 * at(t, k.linear.x, i));
  }
  k.linear.ref.x = doubles(t, k.linear.x);
  round_for_matrix_unit(t, k.linear.ref.x, N * C);
  k.z = (HeadTerms){.x = k.linear.x, .w = k.linear.w, .bias = k.linear.bias};
  if (t->shape.flags & PADDED) {
    k.z.padded = compute_table_rows(&t->c, V);
    k.z.w.data = with_rows(t, k.z.w.data, k.z.padded - V, 0);
  }
  if (t->shape.flags & THIN) {
    k.z.u = random_2d(t, N, THIN_RANK);
    k.z.b = random_tensor(t, activation_dtype(t), 2, V, THIN_RANK, 1, 1);
    k.z.scale = (float)THIN_SCALE;
  }
  k.targets = random_ids(t, N, V);
  k.logprob = random_1d(t, DTYPE_F32, N, 1);
  k.entropy = random_1d(t, DTYPE_F32, N, 1);
  k.dlogprob = random_1d(t, DTYPE_F32, N, 1);
  if (t->shape.flags & ENTROPY) k.dentropy = random_1d(t, DTYPE_F32, N, 1);
  k.spec = (HeadSpec){.temperature = t->shape.flags & TEMPERATURE ? 0.7f : 1.0f,
                      .softcap = t->shape.flags & CAP ? 2.5f : 0.0f};
  k.ref = (HeadRef){.linear = k.linear.ref, .targets = ids_of(t, k.targets), .spec = k.spec};
  if (t->shape.flags & THIN) {
    k.ref.u = doubles(t, k.z.u);
    k.ref.b = doubles(t, k.z.b);
  }
  k.ref.logprob = zeros(t, N);
  k.ref.entropy = zeros(t, N);
  k.ref.dlogprob = doubles(t, k.dlogprob);
  k.ref.dentropy = t->shape.flags & ENTROPY ? doubles(t, k.dentropy) : NULL;
  if (t->shape.flags & EDITED) {
    k.edited = edit_case(t, N, V, ids_of(t, k.targets));
    k.spec.edits = k.edited.edits;
    k.ref.edited = &out->edited;
  }
  *out = k;
}

static void test_head_logprob(Test *t) {
  HeadCase k;
  head_case(t, &k);
  poison(t, k.logprob);
  poison(t, k.entropy);
  RUN(t, op_head_logprob(&t->c, k.logprob, k.entropy, k.z, k.targets, k.spec));
  head_ref(&k.ref);
  compare(t, "logprob", k.ref.logprob, k.logprob);
  compare(t, "entropy", k.ref.entropy, k.entropy);
  poison(t, k.logprob);
  Tensor none = {0};
  RUN(t, op_head_logprob(&t->c, k.logprob, none, k.z, k.targets, k.spec));
  compare(t, "logprob alone", k.ref.logprob, k.logprob);
}

/* With bf16 activations, and on a processor's matrix unit, the gradient of the logits is rounded to bf16 on its way into
 * the products: as for NARROW_PROBABILITIES. */
static const double NARROW_LOGIT_GRADIENT = 0x1p-7;

static void test_head_logprob_backward(Test *t) {
  HeadCase k;
  head_case(t, &k);
  LinearCase *l = &k.linear;
  HeadTerms d = {.x = random_2d(t, l->ref.T, l->ref.I), .w = l->w};
  d.w.data = random_tensor(t, DTYPE_F32, 2, l->w.data.dim[0], l->w.data.dim[1], 1, 1);
  if (t->shape.flags & PADDED) {
    d.padded = k.z.padded;
    d.w.data = with_rows(t, d.w.data, d.padded - l->ref.O, 0);
  }
  double *before = doubles(t, d.w.data), *before_bias = NULL, *before_b = NULL;
  if (l->ref.bias) {
    d.bias = random_1d(t, DTYPE_F32, l->ref.O, 1);
    before_bias = doubles(t, d.bias);
  }
  if (k.ref.u) {
    d.u = random_2d(t, l->ref.T, THIN_RANK);
    d.b = random_tensor(t, DTYPE_F32, 2, l->ref.O, THIN_RANK, 1, 1);
    before_b = doubles(t, d.b);
    poison(t, d.u);
  }
  poison(t, d.x);
  poison(t, k.logprob);
  RUN(t, op_head_logprob_backward(&t->c, d, k.logprob, k.z, k.targets, k.dlogprob, k.dentropy, k.spec));
  head_ref(&k.ref);
  compare(t, "logprob", k.ref.logprob, k.logprob);
  if (t->shape.flags & NARROW || on_matrix_unit(t)) t->tolerance = NARROW_LOGIT_GRADIENT;
  compare_gradient(t, "dx", k.ref.linear.x, d.x, 1, NULL, 0, head_loss, &k.ref);
  compare_gradient(t, "dw", k.ref.linear.w, d.w.data, 1, before, 1, head_loss, &k.ref);
  if (l->ref.bias)
    compare_gradient(t, "dbias", k.ref.linear.bias, d.bias, 1, before_bias, 1, head_loss, &k.ref);
  if (k.ref.u) {
    compare_gradient(t, "du", k.ref.u, d.u, 1, NULL, 0, head_loss, &k.ref);
    compare_gradient(t, "db", k.ref.b, d.b, 1, before_b, 1, head_loss, &k.ref);
  }
  /* nothing but dx wanted, as for a frozen head */
  const Tensor none = {0};
  const HeadTerms alone = {.x = random_2d(t, l->ref.T, l->ref.I)};
  RUN(t, op_head_logprob_backward(&t->c, alone, none, k.z, k.targets, k.dlogprob, k.dentropy, k.spec));
  compare(t, "dx alone", doubles(t, d.x), alone.x);
}

/* -- sample -- */

typedef struct Candidate {
  double p;
  int id;
} Candidate;

static inline int by_probability(const void *a, const void *b) {
  const Candidate *x = a, *y = b;
  if (x->p != y->p) return x->p < y->p ? 1 : -1;
  return x->id - y->id;
}

/* The definition, with a sort. */
static inline int sample_ref(Test *t, const double *logits, int64_t V, SampleRow row, double *logprob) {
  bool greedy = row.temperature <= 0;
  double temperature = greedy ? 1 : (double)row.temperature, highest = -INFINITY, total = 0, kept = 0,
         rest = 0;
  Candidate *list = arena_alloc(&t->host, (size_t)V * sizeof *list);
  double *p = zeros(t, V);
  for (int64_t j = 0; j < V; j++) highest = fmax(highest, logits[j]);
  for (int64_t j = 0; j < V; j++) total += p[j] = exp((logits[j] - highest) / temperature);
  for (int64_t j = 0; j < V; j++) list[j] = (Candidate){logits[j], (int)j};
  qsort(list, (size_t)V, sizeof *list, by_probability);
  int id = list[0].id;
  if (!greedy) {
    int64_t count = row.top_k > 0 && row.top_k < V ? row.top_k : V, used = 0;
    for (int64_t j = 0; j < count; j++) rest += p[list[j].id];
    while (used < count) {
      kept += p[list[used++].id];
      if (row.top_p < 1 && kept >= (double)row.top_p * rest) break;
    }
    bool *in = arena_alloc(&t->host, (size_t)V);
    for (int64_t j = 0; j < V; j++) in[j] = false;
    for (int64_t j = 0; j < used; j++) in[list[j].id] = true;
    double u = (double)random_uniform(row.key, row.sample, row.position) * kept, sum = 0;
    for (id = 0; id < V; id++) {
      if (in[id]) sum += p[id];
      if (in[id] && sum > u) break;
    }
  }
  *logprob = log(p[id] / total);
  return id;
}

static void test_sample(Test *t) {
  int64_t N = t->shape.size[0], V = t->shape.size[2];
  Tensor logits = random_tensor(t, DTYPE_F32, 2, N, V, 1, 1), ids = ids_tensor(t, N),
         logprob = random_1d(t, DTYPE_F32, N, 1);
  SampleRow *device_rows = arena_alloc(&t->arena, (size_t)(N + 1) * sizeof *device_rows);
  SampleRow *rows = host_of(t, device_rows);
  double *ids_expected = zeros(t, N), *ids_actual = zeros(t, N), *expected = zeros(t, N);
  const float temperatures[] = {0, 1, 0.5f, 2, 0.05f}, top_ps[] = {1, 0.9f, 0.5f, 0.05f, 0};
  const int top_ks[] = {0, 1, 5, 40, 1 << 20, 2, 3};
  for (int64_t i = 0; i < N; i++) {
    for (int64_t j = 0; j < V; j++) {
      double z = 2 * at(t, logits, i * V + j);
      store(t, logits, offset_of(logits, i * V + j), i % 3 == 0 ? round(z) : z); /* ties in every third row */
    }
    rows[i] = (SampleRow){.key = random_key(11, RANDOM_SAMPLE),
                          .sample = (uint64_t)i,
                          .position = 3,
                          .temperature = temperatures[i % 5],
                          .top_p = top_ps[i / 5 % 5],
                          .top_k = top_ks[i % 7]};
    ids_expected[i] = sample_ref(t, doubles(t, tensor_rows(logits, i, 1)), V, rows[i], &expected[i]);
  }
  poison(t, logprob);
  RUN(t, op_sample(&t->c, ids, logprob, logits, device_rows));
  for (int64_t i = 0; i < N; i++) ids_actual[i] = ids_of(t, ids)[i];
  double tolerance = t->tolerance;
  t->tolerance = 1e-9; /* ids are equal or not */
  compare_arrays(t, "ids", DTYPE_I32, ids_expected, ids_actual, N, 1);
  t->tolerance = tolerance;
  compare(t, "logprob", expected, logprob);
}

#define HEAD_SHAPES(op, run, f, tolerance)                                                                  \
  {op, run, {{1, 20, 7}, f}, tolerance}, {op, run, {{9, 33, 65}, f | BIAS | STRIDED | ENTROPY}, tolerance}, \
      {op, run, {{5, 16, 301}, f | TEMPERATURE | ENTROPY | BF16}, tolerance},                               \
      {op, run, {{6, 12, 50}, f | CAP | TEMPERATURE | ENTROPY | TRANSPOSED | BIAS}, tolerance},             \
      {op, run, {{7, 18, 90}, f | CAP | ENTROPY | BIAS | STRIDED | THIN}, tolerance}, {                     \
    op, run, {{0, 20, 7}, f | BIAS}, tolerance                                                              \
  }

#define HEAD_PADDED(op, run, f, tolerance)                                           \
  {op, run, {{8, 64, 61}, f | PADDED | ENTROPY}, tolerance},                         \
      {op, run, {{5, 16, 301}, f | PADDED | TEMPERATURE | CAP | THIN}, tolerance}, { \
    op, run, {{9, 32, 65}, f | PADDED | BIAS}, tolerance                             \
  }

/* The logits of all rows are too many for one chunk. */
#define HEAD_LARGE(op, run, tolerance) \
  { op, run, {{31, 3, 300001}, ENTROPY | FEW | THIN}, tolerance }
#define HEAD_NARROW(op, run, tolerance)                                                 \
  {op, run, {{37, 64, 520}, NARROW | BF16 | ENTROPY | STRIDED | ALIGNED}, tolerance}, { \
    op, run, {{20, 8, 70001}, NARROW | BF16 | FEW | THIN}, 4 * tolerance                \
  }

#define HEAD_EDITED(op, run, f, tolerance)                                              \
  {op, run, {{9, 20, 7}, f | EDITED | ENTROPY}, tolerance},                             \
      {op, run, {{12, 16, 301}, f | EDITED | TEMPERATURE | THIN | ENTROPY}, tolerance}, \
      {op, run, {{8, 32, 65}, f | EDITED | PADDED | BIAS}, tolerance}, {                \
    op, run, {{0, 20, 7}, f | EDITED}, tolerance                                        \
  }
#define EDIT_SHAPES(op, run, f)                                                     \
  {op, run, {{11, 0, 7}, f}, 1e-6}, {op, run, {{30, 0, 400}, f | STRIDED}, 1e-6}, { \
    op, run, {{0, 0, 9}, f}, 1e-6                                                   \
  }
/* Several chunks. */
#define EDITED_LARGE(op, run, tolerance) \
  { op, run, {{31, 3, 300001}, EDITED | ENTROPY | FEW}, tolerance }

#define HEAD_CASES                                                                                          \
  HEAD_SHAPES("head_logprob", test_head_logprob, 0, 2e-6),                                                  \
      HEAD_SHAPES("head_logprob_backward", test_head_logprob_backward, 0, 5e-6),                            \
      HEAD_LARGE("head_logprob", test_head_logprob, 2e-5),                                                  \
      HEAD_LARGE("head_logprob_backward", test_head_logprob_backward, 5e-5),                                \
      HEAD_SHAPES("head_logprob", test_head_logprob, NARROW, 2e-6),                                         \
      HEAD_SHAPES("head_logprob_backward", test_head_logprob_backward, NARROW, 5e-6),                       \
      HEAD_NARROW("head_logprob", test_head_logprob, 5e-6),                                                 \
      HEAD_NARROW("head_logprob_backward", test_head_logprob_backward, 5e-6),                               \
      HEAD_PADDED("head_logprob", test_head_logprob, 0, 2e-6),                                              \
      HEAD_PADDED("head_logprob_backward", test_head_logprob_backward, 0, 5e-6),                            \
      HEAD_PADDED("head_logprob", test_head_logprob, NARROW | BF16, 2e-6),                                  \
      HEAD_PADDED("head_logprob_backward", test_head_logprob_backward, NARROW | BF16, 5e-6),                \
      HEAD_EDITED("head_logprob", test_head_logprob, 0, 2e-6),                                              \
      HEAD_EDITED("head_logprob_backward", test_head_logprob_backward, 0, 5e-6),                            \
      HEAD_EDITED("head_logprob", test_head_logprob, NARROW | BF16, 2e-6),                                  \
      HEAD_EDITED("head_logprob_backward", test_head_logprob_backward, NARROW | BF16, 5e-6),                \
      EDITED_LARGE("head_logprob", test_head_logprob, 2e-5),                                                \
      EDITED_LARGE("head_logprob_backward", test_head_logprob_backward, 5e-5),                              \
      EDIT_SHAPES("edit_logits", test_edit_logits, 0),                                                      \
      EDIT_SHAPES("edit_logits_backward", test_edit_logits_backward, 0),                                    \
      EDIT_SHAPES("edit_logits_backward", test_edit_logits_backward, NARROW),                               \
      {"sample", test_sample, {{1, 0, 1}, 0}, 2e-6}, {"sample", test_sample, {{70, 0, 20}, STRIDED}, 2e-6}, \
      {"sample", test_sample, {{70, 0, 300}, STRIDED}, 2e-6},                                               \
      {"sample", test_sample, {{35, 0, 9000}, 0}, 2e-6}, {                                                  \
    "sample", test_sample, {{0, 0, 20}, 0}, 2e-6                                                            \
  }

#endif
