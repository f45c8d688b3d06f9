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

static bool push_parts(Shard *shard, const Members *members, Error *error) {
  const Comm *comm = &shard->compute->comm;
  const SlicePoint from = members->points[comm->rank], to = members->points[comm->rank + 1];
  for (int64_t i = 0; i < members->count; i++) {
    Parameter part = members->items[i];
    part.whole = tensor_count(part.value);
    part.grad = slices_part(part.grad, i, from, to, &part.first);
    part.value = slices_part(part.value, i, from, to, &part.first);
    if (!tensor_is_none(part.master)) part.master = slices_part(part.master, i, from, to, &part.first);
    if (tensor_count(part.value) > 0 && !parameter_list_push(&shard->own, part, error)) return false;
  }
  return true;
}

/* Fills the next unit. */
static bool add_unit(Shard *shard, const Members *members, Error *error) {
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
  if (!shard->compute->dry) {
    arena_unite(unit->gradients.data, tensor_bytes(unit->gradients));
    arena_unite(unit->values.data, tensor_bytes(unit->values));
  }
  return push_parts(shard, members, error);
}

/* `sorted`: room for all parameters, which get the order of their layers and there that of memory. */
static bool add_units(Shard *shard, Parameter *sorted, Members *members, Error *error) {
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
    ok = add_unit(shard, members, error);
  }
  return ok;
}

static bool make_units(Shard *shard, Error *error) {
  const size_t count = shard->all->count, ranks = (size_t)shard->compute->comm.size;
  Parameter *sorted = memory_zeroed(count, sizeof *sorted);
  Members members = {.gradients = memory_zeroed(count, sizeof(Tensor)),
                     .values = memory_zeroed(count, sizeof(Tensor)),
                     .points = memory_zeroed(ranks + 1, sizeof(SlicePoint))};
  shard->units = memory_zeroed(count, sizeof *shard->units);
  shard->places = memory_zeroed(count * 2 * (ranks + 1), sizeof *shard->places);
  bool ok = sorted && members.gradients && members.values && members.points && shard->units && shard->places;
  ok = ok ? add_units(shard, sorted, &members, error)
          : error_out_of_memory(error, "slices of parameters", count * ranks * 2 * sizeof *shard->places);
  memory_free(sorted);
  memory_free(members.gradients);
  memory_free(members.values);
  memory_free(members.points);
  return ok;
}

bool shard_open(Shard *shard, ShardLevel level, const ParameterList *parameters, Compute *compute,
                Error *error) {
  *shard = (Shard){.level = level, .compute = compute, .all = parameters};
  if (compute->comm.size == 1 || make_units(shard, error)) return true;
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

static void start_sum(Shard *shard, ShardUnit *unit) {
  if (unit->started) return;
  unit->started = true;
  unit->sum = shard->level == SHARD_NONE
                  ? collective_all_reduce(shard->compute, unit->gradients)
                  : collective_reduce_scatter(shard->compute, unit->gradients, unit->gradients_at);
}

static void before_block(void *self, int layer) {
  (void)self;
  (void)layer;
}

static void after_layer(void *self, int layer) {
  Shard *shard = self;
  for (size_t i = 0; i < shard->unit_count; i++)
    if (shard->units[i].layer == layer) start_sum(shard, &shard->units[i]);
}

const PassWatch *shard_watch(Shard *shard, bool last) {
  if (!shard->units || !last) return NULL;
  shard->watch = (PassWatch){shard, before_block, after_layer};
  return &shard->watch;
}

/* Waits for what is on its way; the next update starts anew. */
static void wait_for_sums(Shard *shard) {
  for (size_t i = 0; i < shard->unit_count; i++) {
    if (shard->units[i].started) collective_wait(shard->compute, shard->units[i].sum);
    shard->units[i].started = false;
  }
}

void shard_finish_sums(Shard *shard) {
  for (size_t i = 0; i < shard->unit_count; i++) start_sum(shard, &shard->units[i]);
  wait_for_sums(shard);
}

void shard_zero_gradients(Shard *shard) {
  wait_for_sums(shard);
  if (shard->level == SHARD_NONE) return;
  const int rank = shard->compute->comm.rank;
  for (size_t i = 0; i < shard->unit_count; i++) {
    const ShardUnit *unit = &shard->units[i];
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
    const int64_t first = unit->values_at[rank], end = unit->values_at[rank + 1];
    const Tensor own = tensor_rows(unit->values, first, end - first);
    last = collective_all_gather(shard->compute, own, unit->values, unit->values_at);
  }
  collective_wait(shard->compute, last);
  round_values(shard);
}
