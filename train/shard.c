#include "train/shard.h"

#include "base/memory.h"
#include "compute/slices.h"

#include <stdlib.h>

/* -- units ---------------------------------------------------------------------------------------------- */

/* What is exact of a parameter lies in its master where its owner keeps one. */
static Tensor exact_of(const Parameter *parameter) {
  return tensor_is_none(parameter->master) ? parameter->value : parameter->master;
}

static int by_place(const void *a, const void *b) {
  const uintptr_t x = (uintptr_t)exact_of(a).data, y = (uintptr_t)exact_of(b).data;
  return x < y ? -1 : x > y;
}

/* Of one unit, in the order of memory. */
typedef struct Members {
  const Parameter *items;
  Tensor *gradients, *values;
  SlicePoint *points;
  int64_t count;
} Members;

/* How many from the first on are one unit: of one block, and together in memory. */
static int64_t members_from(const Parameter *items, int64_t count) {
  int64_t n = 1;
  while (n < count && items[n].layer == items[0].layer && slices_adjacent(items[n - 1].grad, items[n].grad) &&
         slices_adjacent(exact_of(&items[n - 1]), exact_of(&items[n])))
    n++;
  return n;
}

/* What lies in this rank's slice of memory, where the slice itself is. */
static Tensor in_slice(Tensor part, Tensor memory, const int64_t *at, int rank, Tensor slice) {
  const uintptr_t begin = (uintptr_t)memory.data + (uintptr_t)at[rank] * dtype_size(memory.dtype);
  part.data = (void *)((uintptr_t)slice.data + ((uintptr_t)part.data - begin)); /* they may be dry */
  return part;
}

static bool push_parts(Shard *shard, const ShardUnit *unit, const Members *members, Error *error) {
  const int rank = shard->compute->comm.rank;
  const SlicePoint from = members->points[rank], to = members->points[rank + 1];
  for (int64_t i = 0; i < members->count; i++) {
    Parameter part = members->items[i];
    part.whole = tensor_count(part.value);
    part.grad = slices_part(part.grad, i, from, to, &part.first);
    part.value = slices_part(part.value, i, from, to, &part.first);
    if (!tensor_is_none(part.master)) part.master = slices_part(part.master, i, from, to, &part.first);
    if (tensor_count(part.value) == 0) continue;
    if (!tensor_is_none(unit->sum))
      part.grad = in_slice(part.grad, unit->gradients, unit->gradients_at, rank, unit->sum);
    if (tensor_is_none(unit->values))
      part.value = in_slice(part.value, shard->weights->whole[unit->layer], unit->values_at, rank,
                            shard->weights->own[unit->layer]);
    if (!parameter_list_push(&shard->own, part, error)) return false;
  }
  return true;
}

/* A block's gradients lie in a slot: room for their sums. Its values may be sliced already, and cut in the same way. */
static void set_apart(Shard *shard, ShardUnit *unit, Arena *arena) {
  const int rank = shard->compute->comm.rank;
  if (unit->layer < 0 || unit->layer == BEHIND_BLOCKS) return;
  if (shard->slots) {
    unit->sum = tensor_new_1d(arena, DTYPE_F32, unit->gradients_at[rank + 1] - unit->gradients_at[rank]);
    if (!arena->dry) op_fill(shard->compute, unit->sum, 0);
  }
  if (shard->weights) {
    const Tensor whole = shard->weights->whole[unit->layer];
    ASSERT(unit->values.data == whole.data && tensor_bytes(unit->values) == tensor_bytes(whole));
    unit->values = (Tensor){0};
  }
}

/* Fills the next unit. */
static bool add_unit(Shard *shard, const Members *members, Arena *arena, Error *error) {
  const int ranks = shard->compute->comm.size;
  int64_t *places = shard->places + shard->unit_count * 2 * (size_t)(ranks + 1);
  ShardUnit *unit = &shard->units[shard->unit_count++];
  for (int64_t i = 0; i < members->count; i++) {
    members->gradients[i] = members->items[i].grad;
    members->values[i] = exact_of(&members->items[i]);
  }
  *unit = (ShardUnit){.layer = members->items[0].layer,
                      .gradients = slices_memory(members->gradients, members->count, DTYPE_F32),
                      .values = slices_memory(members->values, members->count, DTYPE_U8),
                      .gradients_at = places,
                      .values_at = places + ranks + 1};
  slices_cut(members->values, members->count, ranks, members->points);
  slices_places(unit->gradients, members->gradients, members->count, members->points, ranks,
                unit->gradients_at);
  slices_places(unit->values, members->values, members->count, members->points, ranks, unit->values_at);
  if (!arena->dry) {
    arena_unite(unit->gradients.data, tensor_bytes(unit->gradients));
    arena_unite(unit->values.data, tensor_bytes(unit->values));
  }
  set_apart(shard, unit, arena);
  return push_parts(shard, unit, members, error);
}

/* `sorted`: room for all parameters, which get the order of their layers and there that of memory. */
static bool add_units(Shard *shard, Parameter *sorted, Members *members, Arena *arena, Error *error) {
  const int64_t count = (int64_t)shard->all->count;
  memcpy(sorted, shard->all->items, (size_t)count * sizeof *sorted);
  for (int64_t first = 0, end; first < count; first = end) {
    for (end = first + 1; end < count && sorted[end].layer == sorted[first].layer;) end++;
    qsort(sorted + first, (size_t)(end - first), sizeof *sorted, by_place);
  }
  bool ok = true;
  for (int64_t first = 0; ok && first < count; first += members->count) {
    members->items = sorted + first;
    members->count = members_from(sorted + first, count - first);
    ok = add_unit(shard, members, arena, error);
  }
  return ok;
}

static bool make_units(Shard *shard, Arena *arena, Error *error) {
  const size_t count = shard->all->count, ranks = (size_t)shard->compute->comm.size;
  Parameter *sorted = memory_zeroed(count, sizeof *sorted);
  Members members = {.gradients = memory_zeroed(count, sizeof(Tensor)),
                     .values = memory_zeroed(count, sizeof(Tensor)),
                     .points = memory_zeroed(ranks + 1, sizeof(SlicePoint))};
  shard->units = memory_zeroed(count, sizeof *shard->units);
  shard->places = memory_zeroed(count * 2 * (ranks + 1), sizeof *shard->places);
  bool ok = sorted && members.gradients && members.values && members.points && shard->units && shard->places;
  ok = ok ? add_units(shard, sorted, &members, arena, error)
          : error_out_of_memory(error, "slices of parameters", count * ranks * 2 * sizeof *shard->places);
  memory_free(sorted);
  memory_free(members.gradients);
  memory_free(members.values);
  memory_free(members.points);
  return ok;
}

bool shard_open(Shard *shard, ShardLevel level, const ParameterList *parameters, bool slots,
                BlockWeights *weights, Compute *compute, Arena *arena, Error *error) {
  *shard = (Shard){.level = level, .compute = compute, .all = parameters, .slots = slots, .weights = weights};
  if (compute->comm.size == 1 || make_units(shard, arena, error)) return true;
  shard_close(shard);
  return false;
}

void shard_close(Shard *shard) {
  parameter_list_free(&shard->own);
  memory_free(shard->units);
  memory_free(shard->places);
  *shard = (Shard){0};
}

const ParameterList *shard_updated(const Shard *shard) {
  return shard->units && shard->level != SHARD_NONE ? &shard->own : shard->all;
}

const ParameterList *shard_counted(const Shard *shard) {
  return shard->units ? &shard->own : shard->all;
}

/* -- sums ----------------------------------------------------------------------------------------------- */

static Tensor own_gradients(const Shard *shard, const ShardUnit *unit) {
  const int64_t *at = &unit->gradients_at[shard->compute->comm.rank];
  return tensor_rows(unit->gradients, at[0], at[1] - at[0]);
}

static bool is_in_slot(const ShardUnit *unit) {
  return !tensor_is_none(unit->sum);
}

static void start_sum(Shard *shard, ShardUnit *unit) {
  if (unit->started) return;
  unit->started = true;
  unit->arrival = shard->level == SHARD_NONE
                      ? collective_all_reduce(shard->compute, unit->gradients)
                      : collective_reduce_scatter(shard->compute, unit->gradients, unit->gradients_at);
}

/* Waits for it; a slot may be used again then. */
static void finish_sum(Shard *shard, ShardUnit *unit) {
  if (!unit->started) return;
  unit->started = false;
  collective_wait(shard->compute, unit->arrival);
  if (is_in_slot(unit)) op_axpby(shard->compute, unit->sum, own_gradients(shard, unit), 1, 1);
}

static void before_block(void *self, int layer) {
  Shard *shard = self;
  for (size_t i = 0; i < shard->unit_count; i++) {
    ShardUnit *unit = &shard->units[i];
    if (is_in_slot(unit) && unit->layer % 2 == layer % 2) finish_sum(shard, unit);
  }
  for (size_t i = 0; i < shard->unit_count; i++) {
    const ShardUnit *unit = &shard->units[i];
    if (is_in_slot(unit) && unit->layer == layer) op_fill(shard->compute, unit->gradients, 0);
  }
}

static void after_layer(void *self, int layer) {
  Shard *shard = self;
  for (size_t i = 0; i < shard->unit_count; i++) {
    ShardUnit *unit = &shard->units[i];
    if (unit->layer == layer && (shard->last || is_in_slot(unit))) start_sum(shard, unit);
  }
  for (size_t i = 0; layer == BEFORE_BLOCKS && i < shard->unit_count; i++)
    if (is_in_slot(&shard->units[i])) finish_sum(shard, &shard->units[i]);
}

const PassWatch *shard_watch(Shard *shard, bool last) {
  if (!shard->units || !(last || shard->slots)) return NULL;
  shard->last = last;
  shard->watch = (PassWatch){shard, before_block, after_layer};
  return &shard->watch;
}

void shard_finish_sums(Shard *shard) {
  for (size_t i = 0; i < shard->unit_count; i++)
    if (!is_in_slot(&shard->units[i])) start_sum(shard, &shard->units[i]);
  for (size_t i = 0; i < shard->unit_count; i++) finish_sum(shard, &shard->units[i]);
}

void shard_zero_gradients(Shard *shard) {
  const int rank = shard->compute->comm.rank;
  for (size_t i = 0; i < shard->unit_count; i++) {
    ShardUnit *unit = &shard->units[i];
    finish_sum(shard, unit);
    if (shard->level == SHARD_NONE || is_in_slot(unit)) continue;
    const int64_t first = unit->gradients_at[rank], end = unit->gradients_at[rank + 1];
    op_fill(shard->compute, tensor_rows(unit->gradients, 0, first), 0);
    op_fill(shard->compute, tensor_rows(unit->gradients, end, tensor_count(unit->gradients) - end), 0);
  }
}

/* -- values --------------------------------------------------------------------------------------------- */

/* What others updated is exact in the master alone, where the owner keeps one. */
static void round_values(const Shard *shard) {
  for (size_t i = 0; i < shard->all->count; i++) {
    const Parameter *parameter = &shard->all->items[i];
    if (!tensor_is_none(parameter->master))
      op_axpby(shard->compute, parameter->value, parameter->master, 1, 0);
  }
}

void shard_share_values(Shard *shard) {
  if (shard->level == SHARD_NONE || !shard->units) return;
  Collective last = {0};
  const int rank = shard->compute->comm.rank;
  for (size_t i = 0; i < shard->unit_count; i++) {
    const ShardUnit *unit = &shard->units[i];
    if (tensor_is_none(unit->values)) continue;
    const int64_t first = unit->values_at[rank], end = unit->values_at[rank + 1];
    const Tensor own = tensor_rows(unit->values, first, end - first);
    last = collective_all_gather(shard->compute, own, unit->values, unit->values_at);
  }
  collective_wait(shard->compute, last);
  if (shard->weights) block_weights_changed(shard->weights);
  round_values(shard);
}
