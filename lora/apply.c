/* Forward and backward of one module's adapter. */
#include "lora/lora.h"

static Weight plain(Tensor data) {
  return (Weight){.data = data};
}

static Weight a_weight(const LoraPair *pair) {
  return (Weight){.data = pair->a.value, .transposed = pair->a.turned};
}

static int64_t rank_of(const LoraPair *pair) {
  return pair->b.value.dim[1];
}

static const Tensor none = {0};

bool lora_drops(const LoraSet *set, bool training, LoraRows rows) {
  return training && set->spec.dropout > 0 && !tensor_is_none(rows.draws);
}

/* addend or none. */
static bool forward(Compute *c, const LoraSet *set, int id, Tensor out, Tensor addend, Tensor x, float beta,
                    LoraState *state, LoraRows rows, Arena *arena) {
  const LoraPair *pair = lora_pair(set, id);
  if (!pair) return false;
  size_t outer = arena_mark(arena);
  Tensor u = tensor_new_2d(arena, x.dtype, x.dim[0], rank_of(pair));
  size_t inner = arena_mark(arena);
  const bool dropped = lora_drops(set, state != NULL, rows);
  DropoutSpec dropout = {0};
  if (dropped) {
    Tensor kept = tensor_new_2d(arena, x.dtype, x.dim[0], x.dim[1]);
    dropout = (DropoutSpec){.p = set->spec.dropout,
                            .key = set->dropout_key,
                            .site = (uint32_t)id,
                            .draws = rows.draws,
                            .positions = rows.positions};
    op_dropout(c, kept, x, dropout, 0);
    x = kept;
  }
  op_linear(c, u, x, a_weight(pair), none, 1, 0);
  if (!tensor_is_none(addend)) {
    op_linear_add(c, out, addend, u, plain(pair->b.value), none, pair->scale);
  } else if (!tensor_is_none(out)) {
    op_linear(c, out, u, plain(pair->b.value), none, pair->scale, beta);
  }
  arena_release(arena, state ? inner : outer);
  if (state) *state = (LoraState){.u = u, .dropped = dropped, .dropout = dropout};
  return true;
}

bool lora_forward(Compute *c, const LoraSet *set, int id, Tensor out, Tensor x, float beta, LoraState *state,
                  LoraRows rows, Arena *arena) {
  return forward(c, set, id, out, none, x, beta, state, rows, arena);
}

bool lora_forward_add(Compute *c, const LoraSet *set, int id, Tensor out, Tensor addend, Tensor x,
                      LoraState *state, LoraRows rows, Arena *arena) {
  return forward(c, set, id, out, addend, x, 0, state, rows, arena);
}

void lora_backward_thin(Compute *c, const LoraSet *set, int id, Tensor dx, Tensor du, Tensor x, float beta,
                        const LoraState *state, Arena *arena) {
  const LoraPair *pair = lora_pair(set, id);
  const size_t mark = arena_mark(arena);
  Tensor dropped = none; /* first dropout(x), then the gradient of it */
  if (state->dropped) dropped = tensor_new_2d(arena, x.dtype, x.dim[0], x.dim[1]);
  if (!tensor_is_none(pair->a.grad)) {
    if (state->dropped) op_dropout(c, dropped, x, state->dropout, 0);
    op_linear_backward_weight(c, (Weight){.data = pair->a.grad, .transposed = pair->a.turned}, none, du,
                              state->dropped ? dropped : x, 1);
  }
  if (!tensor_is_none(dx) && state->dropped) {
    op_linear_backward_input(c, dropped, du, a_weight(pair), 1, 0);
    op_dropout(c, dx, dropped, state->dropout, beta);
  } else if (!tensor_is_none(dx)) {
    op_linear_backward_input(c, dx, du, a_weight(pair), 1, beta);
  }
  arena_release(arena, mark);
}

bool lora_backward(Compute *c, const LoraSet *set, int id, Tensor dx, Tensor dout, Tensor x, float beta,
                   const LoraState *state, Arena *arena) {
  const LoraPair *pair = lora_pair(set, id);
  if (!pair) return false;
  size_t mark = arena_mark(arena);
  Tensor du = tensor_new_2d(arena, x.dtype, x.dim[0], rank_of(pair));
  op_linear_backward_input(c, du, dout, plain(pair->b.value), pair->scale, 0);
  if (!tensor_is_none(pair->b.grad))
    op_linear_backward_weight(c, plain(pair->b.grad), none, dout, state->u, pair->scale);
  lora_backward_thin(c, set, id, dx, du, x, beta, state, arena);
  arena_release(arena, mark);
  return true;
}

/* u[T,R] = A[:,ids] */
static Tensor thin_rows(Compute *c, const LoraPair *pair, Tensor like, Tensor ids, Arena *arena) {
  const Tensor u = tensor_new_2d(arena, like.dtype, ids.dim[0], rank_of(pair));
  op_embedding(c, u, pair->a.value, ids, 1, 0);
  return u;
}

void lora_embed(Compute *c, const LoraSet *set, int id, Tensor out, Tensor ids, float scale, Arena *arena) {
  const LoraPair *pair = lora_pair(set, id);
  if (!pair) return;
  const size_t mark = arena_mark(arena);
  const Tensor u = thin_rows(c, pair, out, ids, arena);
  op_linear(c, out, u, plain(pair->b.value), none, scale * pair->scale, 1);
  arena_release(arena, mark);
}

void lora_embed_backward(Compute *c, const LoraSet *set, int id, Tensor dout, Tensor ids, float scale,
                         Arena *arena) {
  const LoraPair *pair = lora_pair(set, id);
  if (!pair || tensor_is_none(pair->a.grad)) return;
  const size_t mark = arena_mark(arena);
  const Tensor u = thin_rows(c, pair, dout, ids, arena);
  op_linear_backward_weight(c, plain(pair->b.grad), none, dout, u, scale * pair->scale);
  op_linear_backward_input(c, u, dout, plain(pair->b.value), scale * pair->scale, 0);
  op_embedding_backward(c, pair->a.grad, u, ids, 1);
  arena_release(arena, mark);
}

/* Those of some modules that have a pair, and their As under each other; a none where these lie elsewhere. */
typedef struct Joined {
  int count, place[LORA_JOINED];
  const LoraPair *pair[LORA_JOINED];
  Tensor a, da;
} Joined;

static Joined joined(const LoraSet *set, const int *ids, int count) {
  Joined j = {0};
  Tensor a[LORA_JOINED] = {0}, da[LORA_JOINED] = {0};
  ASSERT(count <= LORA_JOINED);
  for (int i = 0; i < count; i++) {
    const LoraPair *pair = lora_pair(set, ids[i]);
    if (!pair) continue;
    a[j.count] = pair->a.value;
    da[j.count] = pair->a.grad;
    j.place[j.count] = i;
    j.pair[j.count++] = pair;
  }
  if (j.count > 1) j.a = tensor_stacked(a, j.count), j.da = tensor_stacked(da, j.count);
  return j;
}

void lora_forward_joined(Compute *c, const LoraSet *set, const int *ids, int count, const Tensor *out,
                         Tensor x, float beta, LoraState *const *state, LoraRows rows, Arena *arena) {
  const Joined j = joined(set, ids, count);
  if (tensor_is_none(j.a) || lora_drops(set, state != NULL, rows)) {
    for (int i = 0; i < count; i++)
      lora_forward(c, set, ids[i], out[i], x, beta, state ? state[i] : NULL, rows, arena);
    return;
  }
  const size_t mark = arena_mark(arena);
  const Tensor u = tensor_new_2d(arena, x.dtype, x.dim[0], j.a.dim[0]);
  op_linear(c, u, x, plain(j.a), none, 1, 0);
  int64_t column = 0;
  for (int k = 0; k < j.count; k++) {
    const Tensor part = tensor_columns(u, column, rank_of(j.pair[k]));
    op_linear(c, out[j.place[k]], part, plain(j.pair[k]->b.value), none, j.pair[k]->scale, beta);
    if (state) *state[j.place[k]] = (LoraState){.u = part};
    column += part.dim[1];
  }
  if (!state) arena_release(arena, mark);
}

int lora_terms(Compute *c, const LoraSet *set, const int *ids, int count, const Tensor *out, Tensor x,
               AdapterTerm *terms, LoraState *const *state, Arena *arena) {
  const Joined j = joined(set, ids, count);
  const bool at_once = !tensor_is_none(j.a);
  Tensor u = none;
  for (int i = 0; i < count; i++) terms[i] = (AdapterTerm){.outputs = out[i].dim[1]};
  if (at_once) {
    u = tensor_new_2d(arena, x.dtype, x.dim[0], j.a.dim[0]);
    op_linear(c, u, x, plain(j.a), none, 1, 0);
  }
  int64_t column = 0;
  for (int k = 0; k < j.count; k++) {
    AdapterTerm *term = &terms[j.place[k]];
    const int64_t rank = rank_of(j.pair[k]);
    term->u = at_once ? tensor_columns(u, column, rank) : tensor_new_2d(arena, x.dtype, x.dim[0], rank);
    if (!at_once) op_linear(c, term->u, x, a_weight(j.pair[k]), none, 1, 0);
    term->b = j.pair[k]->b.value;
    term->scale = j.pair[k]->scale;
    if (state) *state[j.place[k]] = (LoraState){.u = term->u};
    column += rank;
  }
  return j.count;
}

bool lora_backward_joined(Compute *c, const LoraSet *set, const int *ids, int count, Tensor dx,
                          const Tensor *dout, Tensor x, float beta, LoraState *const *state, Arena *arena) {
  const Joined j = joined(set, ids, count);
  if (tensor_is_none(j.a) || state[j.place[0]]->dropped) {
    for (int k = 0; k < j.count; k++)
      lora_backward(c, set, ids[j.place[k]], dx, dout[j.place[k]], x, k ? 1 : beta, state[j.place[k]], arena);
    return j.count > 0;
  }
  const size_t mark = arena_mark(arena);
  const Tensor du = tensor_new_2d(arena, x.dtype, x.dim[0], j.a.dim[0]);
  int64_t column = 0;
  for (int k = 0; k < j.count; k++) {
    const LoraPair *pair = j.pair[k];
    const Tensor part = tensor_columns(du, column, rank_of(pair)), d = dout[j.place[k]];
    op_linear_backward_input(c, part, d, plain(pair->b.value), pair->scale, 0);
    if (!tensor_is_none(pair->b.grad))
      op_linear_backward_weight(c, plain(pair->b.grad), none, d, state[j.place[k]]->u, pair->scale);
    column += part.dim[1];
  }
  if (!tensor_is_none(j.da)) op_linear_backward_weight(c, plain(j.da), none, du, x, 1);
  op_linear_backward_input(c, dx, du, plain(j.a), 1, beta);
  arena_release(arena, mark);
  return true;
}
