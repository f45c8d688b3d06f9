#include "rollout/scheduler.h"

#include "base/memory.h"

#include <stddef.h>

bool scheduler_init(Scheduler *scheduler, int64_t slots, int64_t blocks, int64_t block_size,
                    int64_t max_blocks, int64_t prefill_chunk, Error *error) {
  ASSERT(slots > 0 && block_size > 0 && prefill_chunk > 0 && blocks >= max_blocks && max_blocks > 0);
  *scheduler = (Scheduler){
      .slots = slots, .max_blocks = max_blocks, .block_size = block_size, .prefill_chunk = prefill_chunk};
  Scheduler *s = scheduler;
  if (!blocks_init(&s->blocks, blocks, error)) return false;
  const size_t rows = (size_t)(slots + prefill_chunk);
  s->running = memory_zeroed((size_t)slots, sizeof *s->running);
  s->free_slots = memory_zeroed((size_t)slots, sizeof *s->free_slots);
  s->table = memory_zeroed((size_t)(slots * max_blocks), sizeof *s->table);
  s->ids = memory_zeroed(rows, sizeof *s->ids);
  s->sequence = memory_zeroed(rows, sizeof *s->sequence);
  s->position = memory_zeroed(rows, sizeof *s->position);
  s->picked = memory_zeroed((size_t)slots, sizeof *s->picked);
  s->picked_running = memory_zeroed((size_t)slots, sizeof *s->picked_running);
  if (!s->running || !s->free_slots || !s->table || !s->ids || !s->sequence || !s->position || !s->picked ||
      !s->picked_running) {
    scheduler_free(s);
    return error_out_of_memory(error, "rollout scheduler", rows * sizeof *s->ids);
  }
  for (int64_t i = 0; i < slots; i++) s->free_slots[i] = (int32_t)(slots - 1 - i);
  s->table_changed = true;
  return true;
}

void scheduler_free(Scheduler *s) {
  blocks_free(&s->blocks);
  memory_free(s->running);
  memory_free(s->free_slots);
  memory_free(s->table);
  memory_free(s->ids);
  memory_free(s->sequence);
  memory_free(s->position);
  memory_free(s->picked);
  memory_free(s->picked_running);
  *s = (Scheduler){0};
}

/* -- the queue ----------------------------------------------------------------------------------------- */

void scheduler_enqueue(Scheduler *s, RolloutSample *sample) {
  sample->next = NULL;
  if (s->last) {
    s->last->next = sample;
  } else {
    s->waiting = sample;
  }
  s->last = sample;
}

static void enqueue_front(Scheduler *s, RolloutSample *sample) {
  sample->next = s->waiting;
  s->waiting = sample;
  if (!s->last) s->last = sample;
}

/* Takes out the sample after `before` (NULL: the first). */
static RolloutSample *dequeue_after(Scheduler *s, RolloutSample *before) {
  RolloutSample **link = before ? &before->next : &s->waiting;
  RolloutSample *sample = *link;
  *link = sample->next;
  if (s->last == sample) s->last = before;
  sample->next = NULL;
  return sample;
}

/* -- sequences ----------------------------------------------------------------------------------------- */

static int64_t known_tokens(const RolloutSample *sample) {
  return sample->prompt_length + sample->length;
}

static int32_t known_token(const RolloutSample *sample, int64_t i) {
  return i < sample->prompt_length ? sample->prompt[i] : sample->response[i - sample->prompt_length];
}

static int64_t blocks_for(const Scheduler *s, int64_t tokens) {
  return (tokens + s->block_size - 1) / s->block_size;
}

static int32_t *table_row(const Scheduler *s, int32_t slot) {
  return s->table + slot * s->max_blocks;
}

/* Takes running[index] out, keeping the order of the rest. */
static void leave(Scheduler *s, int64_t index) {
  const Sequence sequence = s->running[index];
  for (int64_t i = 0; i < sequence.blocks; i++) {
    blocks_release(&s->blocks, table_row(s, sequence.slot)[i]);
  }
  s->running_count--;
  for (int64_t i = index; i < s->running_count; i++) s->running[i] = s->running[i + 1];
  s->free_slots[s->slots - s->running_count - 1] = sequence.slot;
}

static void grow(Scheduler *s, Sequence *sequence) {
  ASSERT(sequence->blocks < s->max_blocks);
  table_row(s, sequence->slot)[sequence->blocks++] = blocks_take(&s->blocks);
  s->table_changed = true;
}

/* Every running sequence gets a block for each of its known tokens, the oldest first; when there is none
 * left, the youngest gives up all of its own. The oldest can always grow: the cache holds one longest one. */
static void grow_running(Scheduler *s) {
  for (int64_t i = 0; i < s->running_count; i++) {
    Sequence *sequence = &s->running[i];
    const int64_t needed = blocks_for(s, known_tokens(sequence->sample));
    while (sequence->blocks < needed) {
      if (s->blocks.free_count > 0) {
        grow(s, sequence);
        continue;
      }
      RolloutSample *youngest = s->running[s->running_count - 1].sample;
      leave(s, s->running_count - 1);
      enqueue_front(s, youngest);
      s->preemptions++;
      if (i == s->running_count) return; /* it was this one */
    }
  }
}

/* -- admission ----------------------------------------------------------------------------------------- */

/* How many of a prompt's blocks are full without the last token, which must be run for its logits. */
static int64_t shareable_blocks(const Scheduler *s, const RolloutSample *sample) {
  return (sample->prompt_length - 1) / s->block_size;
}

/* The running sequence with the same prompt that is furthest, or NULL. */
static const Sequence *find_sibling(const Scheduler *s, const RolloutSample *sample) {
  const Sequence *best = NULL;
  for (int64_t i = 0; i < s->running_count; i++) {
    const RolloutSample *other = s->running[i].sample;
    if (other->prompt != sample->prompt || other->prompt_length != sample->prompt_length) continue;
    if (!best || s->running[i].computed > best->computed) best = &s->running[i];
  }
  return best;
}

typedef enum Admission { ADMITTED, NOT_YET, NO_ROOM } Admission;

static Admission admit(Scheduler *s, RolloutSample *before) {
  RolloutSample *sample = before ? before->next : s->waiting;
  const int64_t shareable = shareable_blocks(s, sample);
  const Sequence *sibling = shareable > 0 ? find_sibling(s, sample) : NULL;
  if (sibling && sibling->computed < shareable * s->block_size) return NOT_YET;
  const int64_t shared = sibling ? shareable : 0;
  const int64_t needed = blocks_for(s, known_tokens(sample)) - shared;
  /* One more block for each that runs: otherwise the newcomer would be sent away again at the next step. */
  if (needed + s->running_count > s->blocks.free_count) return NO_ROOM;

  const int32_t sibling_slot = sibling ? sibling->slot : 0;
  Sequence *sequence = &s->running[s->running_count];
  *sequence = (Sequence){.sample = dequeue_after(s, before),
                         .slot = s->free_slots[s->slots - s->running_count - 1],
                         .computed = shared * s->block_size,
                         .blocks = shared};
  s->running_count++;
  for (int64_t i = 0; i < shared; i++) {
    const int32_t block = table_row(s, sibling_slot)[i];
    blocks_share(&s->blocks, block);
    table_row(s, sequence->slot)[i] = block;
  }
  s->shared_tokens += shared * s->block_size;
  s->table_changed = true;
  for (int64_t i = 0; i < needed; i++) grow(s, sequence);
  return ADMITTED;
}

/* A sample that does not fit holds back those behind it, so that long ones are not starved by short ones. */
static void admit_waiting(Scheduler *s) {
  RolloutSample *before = NULL;
  while (s->running_count < s->slots && (before ? before->next : s->waiting)) {
    const Admission admission = admit(s, before);
    if (admission == NO_ROOM) return;
    if (admission == NOT_YET) before = before ? before->next : s->waiting;
  }
}

/* -- the step ------------------------------------------------------------------------------------------ */

/* Adds the next `count` rows of running[index]; the last known token's row is picked. */
static void add_rows(Scheduler *s, int64_t index, int64_t count) {
  Sequence *sequence = &s->running[index];
  for (int64_t i = 0; i < count; i++) {
    const int64_t position = sequence->computed + i;
    s->ids[s->row_count] = known_token(sequence->sample, position);
    s->sequence[s->row_count] = sequence->slot;
    s->position[s->row_count] = (int32_t)position;
    s->row_count++;
  }
  sequence->computed += count;
  if (sequence->computed == known_tokens(sequence->sample)) {
    s->picked[s->pick_count] = (int32_t)(s->row_count - 1);
    s->picked_running[s->pick_count] = (int32_t)index;
    s->pick_count++;
  }
}

void scheduler_plan(Scheduler *s) {
  grow_running(s);
  admit_waiting(s);
  s->row_count = s->prompt_rows = s->pick_count = 0;
  for (int64_t i = 0; i < s->running_count; i++) {
    const RolloutSample *sample = s->running[i].sample;
    const int64_t left = known_tokens(sample) - s->running[i].computed;
    ASSERT(left > 0);
    if (left == 1 && sample->length > 0) { /* decoding */
      add_rows(s, i, 1);
      continue;
    }
    const int64_t room = s->prefill_chunk - s->prompt_rows;
    const int64_t count = left < room ? left : room;
    add_rows(s, i, count);
    s->prompt_rows += count;
  }
  ASSERT(s->row_count > 0 || !scheduler_busy(s));
}

void scheduler_retire(Scheduler *s) {
  for (int64_t i = s->running_count - 1; i >= 0; i--) {
    if (s->running[i].sample->finished != ROLLOUT_UNFINISHED) leave(s, i);
  }
}

void scheduler_clear(Scheduler *s) {
  while (s->running_count > 0) leave(s, s->running_count - 1);
  s->waiting = s->last = NULL;
}
