#include "train/room.h"

#include "base/file.h"
#include "base/room.h"
#include "train/plan.h"

#include <inttypes.h>
#include <string.h>

bool room_measure(RunWrites *writes, const Trainee *trained, RunState *state, void *stage, Compute *compute,
                  Error *error) {
  Checkpoint checkpoint;
  *writes = (RunWrites){.result = trainee_result_bytes(trained), .results = 1};
  const bool ok =
      checkpoint_begin(&checkpoint, "", 0, "{}", compute, error) && state(stage, &checkpoint, error);
  if (ok) writes->checkpoint = checkpoint_bytes(&checkpoint);
  checkpoint_close(&checkpoint);
  return ok;
}

/* How many checkpoints the run makes at most. */
static int64_t made(const RunConfig *config, int64_t updates) {
  const bool any_time = config->save_minutes > 0 || config->keep_best != BEST_NONE || updates == 0;
  if (any_time) return updates ? updates : INT64_MAX;
  return config->save_every > 0 ? (updates - 1) / config->save_every + 1 : 1;
}

static int64_t least(int64_t a, int64_t b) {
  return a < b ? a : b;
}

/* Checkpoints that are there at once at most: one is removed when the next is written. */
static int64_t most_checkpoints(const RunConfig *config, int64_t updates) {
  const int64_t kept =
      config->on_alarm == ON_ALARM_ROLLBACK ? least(config->keep, INT64_MAX / 4) * 2 : config->keep;
  return least(made(config, updates), least(kept, INT64_MAX - 1) + 1);
}

/* As a sum that may be too large for any disk. */
static uint64_t times(uint64_t bytes, int64_t count) {
  return bytes && (uint64_t)count > UINT64_MAX / 4 / bytes ? UINT64_MAX / 4 : bytes * (uint64_t)count;
}

/* Bytes in RUN/NAME. */
static bool add_present(const RunConfig *config, const char *name, uint64_t *bytes, Error *error) {
  char *path = path_join(config->dir, name);
  uint64_t found = 0;
  const bool ok =
      path ? directory_bytes(path, &found, error) : error_out_of_memory(error, "path", strlen(name));
  *bytes += found;
  memory_free(path);
  return ok;
}

/* What is there and counts among what the run writes: checkpoints and the best model; of a run that starts over all that it removes. */
static bool find_present(const RunConfig *config, uint64_t *bytes, Error *error) {
  static const char *const names[] = {"checkpoints", "best", "model", "adapter", "ema"};
  const size_t count = config->resume ? 2 : sizeof names / sizeof *names;
  *bytes = 0;
  for (size_t i = 0; i < count; i++) {
    if (!add_present(config, names[i], bytes, error)) return false;
  }
  return true;
}

static bool refuse(const RunWrites *writes, const RunConfig *config, uint64_t available, Error *error) {
  char one[32], result[32], room[32];
  bytes_text(writes->checkpoint, one);
  bytes_text(writes->result * (uint64_t)writes->results, result);
  bytes_text(available, room);
  return error_set(
      error, ERROR_FILE,
      "run.dir %s: a checkpoint takes %s and the result %s, and %s are free there: make room, or "
      "choose another run.dir",
      config->dir, one, result, room);
}

bool room_check(const RunWrites *writes, const RunConfig *config, int64_t updates, Log *log, Error *error) {
  uint64_t available, present;
  bool going_on = false;
  if (!config->dir) return true;
  if (!directory_room(config->dir, &available, error) || !find_present(config, &present, error) ||
      (config->resume && !checkpoint_any(config->dir, &going_on, error))) {
    return false;
  }
  const int64_t checkpoints = most_checkpoints(config, updates);
  const uint64_t results = times(writes->result, writes->results);
  const uint64_t best = config->keep_best == BEST_NONE ? 0 : writes->result;
  const uint64_t all = times(writes->checkpoint, checkpoints) + results + best;
  char most[32], one[32], room[32];
  bytes_text(all, most);
  bytes_text(writes->checkpoint, one);
  bytes_text(available, room);
  log_info(log, "disk: up to %s in %s, %" PRId64 " checkpoint%s of %s among it; %s are free", most,
           config->dir, checkpoints, checkpoints == 1 ? "" : "s", one, room);
  if (!going_on && available + present < writes->checkpoint + results)
    return refuse(writes, config, available, error);
  if (available + present < all) {
    log_warning(log,
                "run.dir %s: the disk may become full: the run then stops, and goes on when there is room%s",
                config->dir, config->keep > 1 ? "; a smaller run.keep takes less" : "");
  }
  return true;
}
