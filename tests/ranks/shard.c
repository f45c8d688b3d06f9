/* Parameters over the ranks that a launcher started: sums of gradients that begin during a backward pass, slices of what is
 * updated, values that are shared. Each rank knows what all of them give, and compares bits. */
#include "train/shard.h"

#include "base/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LAYERS = 3, PARAMETERS = 12 };

typedef struct Lab {
  Compute compute;
  Arena values, masters, gradients;
  ParameterList list;
  Shard shard;
} Lab;

static const Comm *world;
static const Model model = {.spec.layers = LAYERS};

static void expect(bool condition, const char *what) {
  if (condition) return;
  Error error = {0};
  (void)error_set(&error, ERROR_DATA, "%s", what);
  fprintf(stderr, "rank %d: %s\n", world->rank, what);
  comm_abandon(world, &error);
}

static void must(bool ok, const Error *error) {
  if (!ok) comm_abandon(world, error);
}

/* Element i of parameter p: of sizes so different that the order of a sum is seen. */
static float number(int rank, size_t p, int64_t i, int time) {
  const uint32_t bits =
      ((uint32_t)i * 7u + 977u * (uint32_t)rank + 31u * (uint32_t)p + (uint32_t)time) * 2654435761u;
  return (float)(bits >> 8) * (1.0f / (float)(1 << (bits % 23)));
}

static float sum_of(size_t p, int64_t i, int time) {
  float sum = number(0, p, i, time);
  for (int r = 1; r < world->size; r++) sum += number(r, p, i, time);
  return sum;
}

/* In front of, in, and behind the blocks; some with values in BF16, and of these some with an owner's master. */
static void open_lab(Lab *lab, ShardLevel level) {
  static const int64_t lengths[PARAMETERS] = {9000, 64, 600, 7, 2000, 300, 5, 2000, 300, 5, 33, 3000};
  static const int layers[PARAMETERS] = {BEFORE_BLOCKS, BEFORE_BLOCKS, 0, 0, 0, 1, 1, 1, 2, 2,
                                         BEHIND_BLOCKS, BEHIND_BLOCKS};
  static const char *const names[PARAMETERS] = {"a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"};
  Error error = {0};
  *lab = (Lab){0};
  must(compute_open(&lab->compute, DEVICE_CPU, 1, &error), &error);
  lab->compute.comm = *world;
  must(arena_init(&lab->values, "values", 1 << 20, &error), &error);
  must(arena_init(&lab->masters, "masters", 1 << 20, &error), &error);
  must(arena_init(&lab->gradients, "gradients", 1 << 20, &error), &error);
  for (size_t p = 0; p < PARAMETERS; p++) {
    const bool narrow = layers[p] == 1;
    Parameter parameter = {.name = names[p], .layer = layers[p]};
    parameter.value = tensor_new_1d(&lab->values, narrow ? DTYPE_BF16 : DTYPE_F32, lengths[p]);
    parameter.grad = tensor_new_1d(&lab->gradients, DTYPE_F32, lengths[p]);
    if (narrow) parameter.master = tensor_new_1d(&lab->masters, DTYPE_F32, lengths[p]);
    must(parameter_list_push(&lab->list, parameter, &error), &error);
  }
  must(shard_open(&lab->shard, level, &lab->list, false, NULL, &lab->compute, &lab->gradients, &error),
       &error);
  expect(lab->shard.unit_count == (world->size > 1 ? LAYERS + 2 : 0), "a unit for each layer");
}

static void close_lab(Lab *lab) {
  shard_close(&lab->shard);
  parameter_list_free(&lab->list);
  arena_free(&lab->values);
  arena_free(&lab->masters);
  arena_free(&lab->gradients);
  compute_close(&lab->compute);
}

static void fill_gradients(const Lab *lab, int time) {
  for (size_t p = 0; p < PARAMETERS; p++) {
    float *gradient = lab->list.items[p].grad.data;
    for (int64_t i = 0; i < tensor_count(lab->list.items[p].grad); i++)
      gradient[i] = number(world->rank, p, i, time);
  }
}

static size_t number_of(const Lab *lab, const Parameter *part) {
  size_t p = 0;
  while (lab->list.items[p].name != part->name) p++;
  return p;
}

static void expect_sums(const Lab *lab, const ParameterList *list, int time) {
  for (size_t k = 0; k < list->count; k++) {
    const Parameter *part = &list->items[k];
    const float *gradient = part->grad.data;
    for (int64_t i = 0; i < tensor_count(part->grad); i++)
      expect(gradient[i] == sum_of(number_of(lab, part), part->first + i, time), "a sum");
  }
}

/* Each element of each parameter is counted on one rank. */
static void expect_counted_once(const Lab *lab) {
  const ParameterList *counted = shard_counted(&lab->shard);
  double counts[PARAMETERS] = {0};
  for (size_t k = 0; k < counted->count; k++)
    counts[number_of(lab, &counted->items[k])] += (double)tensor_count(counted->items[k].grad);
  comm_sum(world, counts, PARAMETERS);
  for (size_t p = 0; p < PARAMETERS; p++)
    expect(counts[p] == (double)tensor_count(lab->list.items[p].grad), "every element is counted once");
}

static void expect_zero(const Lab *lab) {
  for (size_t p = 0; p < PARAMETERS; p++) {
    const float *gradient = lab->list.items[p].grad.data;
    for (int64_t i = 0; i < tensor_count(lab->list.items[p].grad); i++)
      expect(gradient[i] == 0, "a gradient that is zeroed");
  }
}

static void zero_own(const Lab *lab, Compute *compute) {
  const ParameterList *list = shard_updated(&lab->shard);
  for (size_t k = 0; k < list->count; k++) op_fill(compute, list->items[k].grad, 0);
}

static const ShardLevel levels[] = {SHARD_NONE, SHARD_OPTIMIZER};
enum { LEVELS = sizeof levels / sizeof *levels };

/* Twice, told by a backward pass, and not told at all. */
static void sums_are_in_rank_order(void) {
  for (int k = 0; k < LEVELS; k++) {
    Lab lab;
    open_lab(&lab, levels[k]);
    expect_counted_once(&lab);
    for (int time = 0; time < 3; time++) {
      fill_gradients(&lab, time);
      if (time < 2) pass_backward_idle(&model, &lab.compute, shard_watch(&lab.shard, true));
      shard_finish_sums(&lab.shard);
      expect_sums(&lab, shard_updated(&lab.shard), time);
      expect_sums(&lab, shard_counted(&lab.shard), time);
      zero_own(&lab, &lab.compute);
      shard_zero_gradients(&lab.shard);
      expect_zero(&lab);
    }
    close_lab(&lab);
  }
}

/* An update that is dropped while sums are on their way leaves nothing behind. */
static void dropped_sums_leave_nothing(void) {
  for (int k = 0; k < LEVELS; k++) {
    Lab lab;
    open_lab(&lab, levels[k]);
    fill_gradients(&lab, 0);
    pass_backward_idle(&model, &lab.compute, shard_watch(&lab.shard, true));
    shard_zero_gradients(&lab.shard);
    zero_own(&lab, &lab.compute);
    expect_zero(&lab);
    close_lab(&lab);
  }
}

/* Each rank changes what it updates; then all have all, and rounded what is rounded. */
static void values_are_shared(void) {
  Lab lab;
  open_lab(&lab, SHARD_OPTIMIZER);
  const ParameterList *own = shard_updated(&lab.shard);
  for (size_t k = 0; k < own->count; k++) {
    const Parameter *part = &own->items[k];
    const size_t p = number_of(&lab, part);
    float *value = tensor_is_none(part->master) ? part->value.data : part->master.data;
    for (int64_t i = 0; i < tensor_count(part->value); i++) value[i] = number(0, p, part->first + i, 5);
  }
  shard_share_values(&lab.shard);
  for (size_t p = 0; p < PARAMETERS; p++) {
    const Parameter *parameter = &lab.list.items[p];
    for (int64_t i = 0; i < tensor_count(parameter->value); i++) {
      const float exact = number(0, p, i, 5);
      if (tensor_is_none(parameter->master)) {
        expect(((float *)parameter->value.data)[i] == exact || world->size == 1, "a value of all ranks");
      } else if (world->size > 1) {
        expect(((float *)parameter->master.data)[i] == exact, "a master of all ranks");
        expect(((uint16_t *)parameter->value.data)[i] == bf16_from_float(exact), "a value that is rounded");
      }
    }
  }
  close_lab(&lab);
}

int main(void) {
  CommLaunch launch;
  Comm comm;
  Error error = {0};
  const CommJoin join = {.seconds = 60};
  if (!comm_launch(&launch, &error) || !comm_open(&comm, &launch, &join, &error)) {
    fprintf(stderr, "error: %s\n", error.message);
    return (int)error.code;
  }
  world = &comm;
  static const struct {
    const char *name;
    void (*run)(void);
  } cases[] = {{"sums_are_in_rank_order", sums_are_in_rank_order},
               {"dropped_sums_leave_nothing", dropped_sums_leave_nothing},
               {"values_are_shared", values_are_shared}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    cases[i].run();
    if (comm.rank == 0) printf("[       OK ] %s, %d ranks\n", cases[i].name, comm.size);
  }
  comm_close(&comm);
  return 0;
}
