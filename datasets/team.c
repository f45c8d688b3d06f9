#include "datasets/team.h"

#include "base/memory.h"

/* Enough that starting threads is nothing beside encoding, few enough to be held in memory. */
enum { RECORDS_EACH = 64 };

bool team_open(Team *team, const DatasetOptions *options, Error *error) {
  const size_t workers = options->threads > 0 ? (size_t)options->threads : 1;
  *team = (Team){.worker_count = workers, .item_capacity = workers * RECORDS_EACH};
  team->workers = memory_zeroed(workers, sizeof *team->workers);
  team->items = memory_zeroed(team->item_capacity, sizeof *team->items);
  if (!team->workers || !team->items) {
    team_close(team);
    return error_out_of_memory(error, "encoders", workers * RECORDS_EACH * sizeof *team->items);
  }
  for (size_t k = 0; k < workers; k++) team->workers[k].encoder.options = options;
  return true;
}

static void drop_batch(Team *team) {
  for (size_t i = 0; i < team->item_count; i++) json_decref(team->items[i].root);
  team->item_count = 0;
}

void team_close(Team *team) {
  drop_batch(team);
  for (size_t i = 0; team->items && i < team->item_capacity; i++) record_free(&team->items[i].record);
  for (size_t k = 0; team->workers && k < team->worker_count; k++) encoder_free(&team->workers[k].encoder);
  memory_free(team->items);
  memory_free(team->workers);
  *team = (Team){0};
}

TeamItem *team_next(Team *team) {
  return team->item_count < team->item_capacity ? &team->items[team->item_count] : NULL;
}

static void encode_some(TeamWorker *worker, const TeamItem *items, size_t count, DatasetFormat format) {
  bool ok = true;
  for (size_t i = 0; ok && i < count; i++) {
    const TeamItem *item = &items[i];
    if (item->record.nothing) {
      encoder_note_no_loss(&worker->encoder, item->place.line);
    } else {
      ok = encoder_add(&worker->encoder, &item->record, item->root, format, item->place, &worker->error);
    }
  }
}

bool team_encode(Team *team, DatasetFormat format, CacheWriter *writer, Error *error) {
  const size_t workers = team->worker_count, count = team->item_count;
#pragma omp parallel for num_threads(workers) schedule(static, 1) if (workers > 1 && count > 1)
  for (size_t k = 0; k < workers; k++) {
    const size_t first = count * k / workers, last = count * (k + 1) / workers;
    encode_some(&team->workers[k], team->items + first, last - first, format);
  }
  bool ok = true;
  for (size_t k = 0; ok && k < workers; k++) {
    TeamWorker *worker = &team->workers[k];
    if (worker->error.code) ok = error_set(error, worker->error.code, "%s", worker->error.message);
    ok = ok && cache_writer_append(writer, &worker->encoder.part, error);
  }
  drop_batch(team);
  return ok;
}

static void add_note(DatasetNote *to, DatasetNote from) {
  if (from.records && (to->records == 0 || from.line < to->line)) to->line = from.line;
  to->records += from.records;
}

static void highest(uint64_t *to, uint64_t from) {
  if (from > *to) *to = from;
}

static void add_counts(DatasetCounts *to, const DatasetCounts *from) {
  DatasetNote no_loss = {to->no_loss, to->no_loss_line};
  add_note(&no_loss, (DatasetNote){from->no_loss, from->no_loss_line});
  to->no_loss = no_loss.records;
  to->no_loss_line = no_loss.line;
  to->examples += from->examples;
  to->too_long += from->too_long;
  to->truncated += from->truncated;
  to->empty += from->empty;
  add_note(&to->left_out, from->left_out);
  add_note(&to->changed, from->changed);
  add_note(&to->without_end, from->without_end);
  add_note(&to->apart, from->apart);
  add_note(&to->unequal, from->unequal);
  to->tokens += from->tokens;
  to->loss_tokens += from->loss_tokens;
  highest(&to->longest, from->longest);
  highest(&to->longest_sequence, from->longest_sequence);
  highest(&to->most_sequences, from->most_sequences);
  highest(&to->largest_id, from->largest_id);
  to->answers += from->answers;
  to->pairs += from->pairs;
  to->answers_too_long += from->answers_too_long;
  to->answers_no_loss += from->answers_no_loss;
}

void team_counts(const Team *team, DatasetCounts *counts) {
  for (size_t k = 0; k < team->worker_count; k++) add_counts(counts, &team->workers[k].encoder.counts);
}
