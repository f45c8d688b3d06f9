#include "tools/data/overlap.h"

#include "base/digest.h"

#include <string.h>

void overlap_free(Overlap *overlap) {
  memory_free(overlap->records);
  memory_free(overlap->hashes);
  memory_free(overlap->owners);
  memory_free(overlap->slots);
  memory_free(overlap->seen);
  memory_free(overlap->firsts);
  *overlap = (Overlap){0};
}

static size_t gram_count(const Overlap *overlap, size_t words) {
  return words == 0 ? 0 : words <= (size_t)overlap->n ? 1 : words - (size_t)overlap->n + 1;
}

static uint64_t gram_hash(const Overlap *overlap, const uint32_t *words, size_t count, size_t i) {
  const size_t wide = count < (size_t)overlap->n ? count : (size_t)overlap->n;
  return bytes_hash_seeded(words + i, wide * sizeof *words, 0);
}

static bool grow_records(Overlap *overlap, Error *error) {
  const size_t capacity = overlap->record_capacity ? 2 * overlap->record_capacity : 256;
  EvalRecord *records = memory_resize(overlap->records, capacity * sizeof *records);
  if (!records) return error_out_of_memory(error, "evaluation records", capacity * sizeof *records);
  overlap->records = records;
  overlap->record_capacity = capacity;
  return true;
}

static bool grow_grams(Overlap *overlap, size_t more, Error *error) {
  if (overlap->gram_count + more <= overlap->gram_capacity) return true;
  size_t capacity = overlap->gram_capacity ? 2 * overlap->gram_capacity : 4096;
  if (capacity < overlap->gram_count + more) capacity = overlap->gram_count + more;
  uint64_t *hashes = memory_resize(overlap->hashes, capacity * sizeof *hashes);
  if (hashes) overlap->hashes = hashes;
  uint32_t *owners = memory_resize(overlap->owners, capacity * sizeof *owners);
  if (owners) overlap->owners = owners;
  if (!hashes || !owners) return error_out_of_memory(error, "n-grams of evaluation records", capacity * 12);
  overlap->gram_capacity = capacity;
  return true;
}

bool overlap_eval(Overlap *overlap, const char *file, uint64_t line, const uint32_t *words, size_t count,
                  Error *error) {
  const size_t grams = gram_count(overlap, count);
  if (overlap->gram_count + grams > UINT32_MAX / 4)
    return error_set(error, ERROR_DATA, "%s:%llu: more than %u n-grams to compare with", file,
                     (unsigned long long)line, UINT32_MAX / 4);
  if (overlap->record_count == overlap->record_capacity && !grow_records(overlap, error)) return false;
  if (!grow_grams(overlap, grams, error)) return false;
  for (size_t i = 0; i < grams; i++) {
    overlap->hashes[overlap->gram_count] = gram_hash(overlap, words, count, i);
    overlap->owners[overlap->gram_count++] = (uint32_t)overlap->record_count;
  }
  overlap->records[overlap->record_count++] = (EvalRecord){.file = file, .line = line};
  return true;
}

static uint32_t *find_slot(const Overlap *overlap, uint64_t hash) {
  for (size_t at = hash;; at++) {
    uint32_t *slot = &overlap->slots[at & (overlap->slot_count - 1)];
    if (!*slot || overlap->hashes[*slot - 1] == hash) return slot;
  }
}

bool overlap_ready(Overlap *overlap, Error *error) {
  const size_t count = overlap->gram_count;
  for (overlap->slot_count = 16; overlap->slot_count < 2 * count;) overlap->slot_count *= 2;
  overlap->slots = memory_zeroed(overlap->slot_count, sizeof *overlap->slots);
  overlap->firsts = memory_alloc(count * sizeof *overlap->firsts);
  overlap->seen = memory_zeroed(count, 1);
  if (!overlap->slots || !overlap->firsts || !overlap->seen)
    return error_out_of_memory(error, "table of n-grams", overlap->slot_count * 4 + count * 5);
  for (size_t i = 0; i < count; i++) {
    uint32_t *slot = find_slot(overlap, overlap->hashes[i]);
    if (!*slot) *slot = (uint32_t)(i + 1);
    overlap->firsts[i] = *slot - 1;
  }
  return true;
}

uint64_t overlap_data(Overlap *overlap, const uint32_t *words, size_t count, uint64_t *all) {
  uint64_t found = 0;
  *all = overlap->slots ? gram_count(overlap, count) : 0;
  for (size_t i = 0; i < *all; i++) {
    const uint32_t slot = *find_slot(overlap, gram_hash(overlap, words, count, i));
    if (!slot) continue;
    overlap->seen[slot - 1] = 1;
    found++;
  }
  return found;
}

void overlap_finish(Overlap *overlap) {
  for (size_t i = 0; i < overlap->gram_count; i++) {
    EvalRecord *record = &overlap->records[overlap->owners[i]];
    record->grams++;
    record->found += overlap->seen[overlap->firsts[i]];
  }
}
