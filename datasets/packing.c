#include "datasets/packing.h"

#include "base/memory.h"

#include <limits.h>
#include <stdlib.h>

bool packing_plan_init(PackingPlan *plan, int capacity, Error *error) {
  *plan = (PackingPlan){.capacity = capacity};
  size_t count = (size_t)capacity;
  plan->begins = memory_zeroed(count + 1, sizeof *plan->begins);
  plan->members = memory_zeroed(count + 1, sizeof *plan->members);
  plan->tokens = memory_zeroed(count + 1, sizeof *plan->tokens);
  plan->bin_of = memory_zeroed(count + 1, sizeof *plan->bin_of);
  plan->keys = memory_zeroed(count + 1, sizeof *plan->keys);
  if (plan->begins && plan->members && plan->tokens && plan->bin_of && plan->keys) return true;
  packing_plan_free(plan);
  return error_out_of_memory(error, "packing plan", count * 24);
}

void packing_plan_free(PackingPlan *plan) {
  memory_free(plan->begins);
  memory_free(plan->members);
  memory_free(plan->tokens);
  memory_free(plan->bin_of);
  memory_free(plan->keys);
  *plan = (PackingPlan){0};
}

static int key_compare(const void *a, const void *b) {
  uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
  return x < y ? -1 : x > y;
}

/* First fit: fills bin_of and tokens, items taken in the order of the keys. */
static void first_fit(PackingPlan *plan, const int *lengths, int count, int limit, bool packing) {
  plan->count = 0;
  for (int k = 0; k < count; k++) {
    int item = (int)(plan->keys[k] & UINT32_MAX), bin = packing ? 0 : plan->count;
    while (bin < plan->count && plan->tokens[bin] > limit - lengths[item]) bin++;
    if (bin == plan->count) plan->tokens[plan->count++] = 0;
    plan->tokens[bin] += lengths[item];
    plan->bin_of[item] = bin;
  }
}

bool packing_plan_make(PackingPlan *plan, const int *lengths, int count, int micro_batch_tokens, bool packing,
                       Error *error) {
  ASSERT(count >= 0 && count <= plan->capacity);
  for (int i = 0; i < count; i++) {
    ASSERT(lengths[i] > 0);
    if (lengths[i] > micro_batch_tokens) {
      return error_set(error, ERROR_USAGE,
                       "optim.micro_batch_tokens is %d, and an example has %d tokens: raise it, or lower "
                       "data.max_length",
                       micro_batch_tokens, lengths[i]);
    }
    uint32_t rank = packing ? (uint32_t)(INT_MAX - lengths[i]) : 0; /* longest first; else by position */
    plan->keys[i] = (uint64_t)rank << 32 | (uint32_t)i;
  }
  qsort(plan->keys, (size_t)count, sizeof *plan->keys, key_compare);
  first_fit(plan, lengths, count, micro_batch_tokens, packing);
  for (int b = 0; b <= plan->count; b++) plan->begins[b] = 0;
  for (int i = 0; i < count; i++) plan->begins[plan->bin_of[i] + 1]++;
  for (int b = 0; b < plan->count; b++) plan->begins[b + 1] += plan->begins[b];
  for (int i = 0; i < count; i++) plan->members[plan->begins[plan->bin_of[i]]++] = i;
  for (int b = plan->count; b > 0; b--) plan->begins[b] = plan->begins[b - 1]; /* the filling moved them on */
  plan->begins[0] = 0;
  return true;
}
