/* Writing a checkpoint: it is there whole or not at all. Of many ranks each writes its parts of tensors, if there are such, and
 * rank 0 everything else; the manifest, which has the digests of all files, comes last. */
#include "train/checkpoint_parts.h"

#include "base/draft.h"
#include "train/ranks.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { COPY_ELEMENTS = 1 << 20, DIGEST = 33 };

/* Device tensors cross in pieces: the largest of them may be most of the memory. */
static bool write_item(const Checkpoint *checkpoint, const CheckpointItem *item, SafetensorsWriter *writer,
                       void *piece, Error *error) {
  if (item->host)
    return safetensors_writer_write_finite(writer, item->host, tensor_bytes(item->tensor), error);
  int64_t total = tensor_count(item->tensor);
  Tensor flat = tensor_1d(item->tensor.data, item->tensor.dtype, total);
  for (int64_t first = 0; first < total; first += COPY_ELEMENTS) {
    int64_t count = total - first < COPY_ELEMENTS ? total - first : COPY_ELEMENTS;
    Tensor part = tensor_rows(flat, first, count);
    compute_download(checkpoint->compute, piece, part);
    if (!safetensors_writer_write_finite(writer, piece, tensor_bytes(part), error)) return false;
  }
  return true;
}

static bool write_state(const Checkpoint *checkpoint, const char *path, Error *error) {
  const struct CheckpointParts *parts = checkpoint->parts;
  SafetensorsWriter writer = {0};
  bool ok = true;
  for (size_t i = 0; ok && i < parts->count; i++) {
    const CheckpointItem *item = &parts->items[i];
    ok = safetensors_writer_declare(&writer, item->name, item->tensor.dtype, item->tensor.rank,
                                    item->tensor.dim, error);
  }
  void *piece = memory_alloc((size_t)COPY_ELEMENTS * sizeof(double));
  ok = ok && (piece || error_out_of_memory(error, "checkpoint", (size_t)COPY_ELEMENTS * sizeof(double)));
  ok = ok && safetensors_writer_begin(&writer, path, error);
  const SafetensorsEntry *next;
  while (ok && (next = safetensors_writer_next(&writer))) {
    ok = write_item(checkpoint, &parts->items[next->index], &writer, piece, error);
  }
  ok = ok && safetensors_writer_finish(&writer, error);
  safetensors_writer_free(&writer);
  memory_free(piece);
  return ok;
}

/* digests[files] of the files of ranks 0, 1, ... */
static bool write_manifest(Checkpoint *checkpoint, const char *directory, const char (*digests)[DIGEST],
                           int files, Error *error) {
  json_t *manifest = checkpoint->parts->manifest, *list = json_object();
  char *path = path_join(directory, CHECKPOINT_MANIFEST), *text = NULL;
  bool ok = list && path && json_object_set(manifest, "files", list) == 0;
  for (int r = 0; ok && r < files; r++) {
    char name[CHECKPOINT_NAME];
    checkpoint_state_name(r, files, name);
    ok = json_object_set_new(list, name, json_string(digests[r])) == 0;
  }
  json_decref(list);
  if (!ok) error_out_of_memory(error, "checkpoint", 0);
  ok = ok && manifest_digest(manifest, checkpoint->digest, error);
  if (ok) {
    ok = json_object_set_new(manifest, "digest", json_string(checkpoint->digest)) == 0 &&
         (text = json_dumps(manifest, JSON_INDENT(2) | JSON_SORT_KEYS));
    ok = ok ? file_write_text(path, text, error) : error_out_of_memory(error, "checkpoint", 0);
  }
  free(text);
  memory_free(path);
  return ok;
}

/* This rank's file. */
static bool write_own(const Checkpoint *checkpoint, const char *directory, int files, char digest[DIGEST],
                      Error *error) {
  char name[CHECKPOINT_NAME];
  checkpoint_state_name(checkpoint->parts->comm.rank, files, name);
  char *path = path_join(directory, name);
  const bool ok = (path || error_out_of_memory(error, "path", strlen(directory))) &&
                  write_state(checkpoint, path, error) && file_digest(path, digest, error);
  memory_free(path);
  return ok;
}

/* What all ranks write into the directory that rank 0 has made. */
static bool write_divided(Checkpoint *checkpoint, const char *directory, Error *error) {
  const Comm *comm = &checkpoint->parts->comm;
  char own[DIGEST] = "", (*digests)[DIGEST] = memory_zeroed((size_t)comm->size, sizeof *digests);
  bool ok = digests || error_out_of_memory(error, "digests", (size_t)comm->size * sizeof *digests);
  ok = ranks_agree(comm, ok && write_own(checkpoint, directory, comm->size, own, error), error);
  if (ok) comm_all_gather(comm, own, digests, sizeof own);
  ok = ok && (comm->rank > 0 || write_manifest(checkpoint, directory, digests, comm->size, error));
  memory_free(digests);
  return ok;
}

static bool write_alone(Checkpoint *checkpoint, const char *directory, Error *error) {
  char digests[1][DIGEST];
  return write_own(checkpoint, directory, 1, digests[0], error) &&
         write_manifest(checkpoint, directory, digests, 1, error);
}

static bool remove_step(const char *directory, int64_t step, Error *error) {
  char *path = checkpoint_step_path(directory, step, "");
  const bool ok = path ? directory_remove_all(path, error) : error_out_of_memory(error, "path", 0);
  memory_free(path);
  return ok;
}

/* Checkpoints of later steps are from before this run was taken back, so they go too. */
static bool prune(const char *directory, int64_t step, CheckpointKeep keep, Error *error) {
  int64_t *steps;
  size_t count;
  bool ok = checkpoint_steps(directory, true, &steps, &count, error);
  int64_t kept = 0, multiples = 0;
  for (size_t i = 0; ok && i < count; i++) {
    const bool multiple = keep.every > 0 && steps[i] % keep.every == 0;
    const bool stays = steps[i] <= step && (kept < keep.keep || (multiple && multiples < keep.keep));
    if (!stays) {
      ok = remove_step(directory, steps[i], error);
      continue;
    }
    kept++;
    multiples += multiple;
  }
  memory_free(steps);
  return ok;
}

/* Of the rank that has the directory: what others do too begins when it is there, and is done when this returns. */
static bool make_ready(const char *directory, const char *ready, Error *error) {
  return directory_create(directory, error) && directory_remove_all(ready, error) &&
         directory_create(ready, error);
}

static bool write_all(Checkpoint *checkpoint, const char *directory, const char *ready, const char *place,
                      bool divided, Error *error) {
  const Comm *comm = &checkpoint->parts->comm;
  const bool first = comm->rank == 0;
  bool ok = !first || make_ready(directory, ready, error);
  if (!divided) return ok && write_alone(checkpoint, ready, error) && directory_replace(ready, place, error);
  ok = ranks_agree(comm, ok, error) && write_divided(checkpoint, ready, error) &&
       (!first || directory_replace(ready, place, error));
  return ranks_agree(comm, ok, error);
}

bool checkpoint_commit(Checkpoint *checkpoint, const char *run_dir, CheckpointKeep keep, Error *error) {
  ASSERT(!checkpoint->loading && !checkpoint->path);
  const Comm *comm = &checkpoint->parts->comm;
  const bool divided = ranks_most(comm, checkpoint->parts->divided), first = comm->rank == 0;
  char *directory = path_join(run_dir, "checkpoints");
  char *place = directory ? checkpoint_step_path(directory, checkpoint->step, "") : NULL;
  char *ready = directory ? checkpoint_step_path(directory, checkpoint->step, ".unfinished") : NULL;
  bool ok = (place && ready) || error_out_of_memory(error, "path", strlen(run_dir));
  if (divided) ok = ranks_agree(comm, ok, error);
  if (ok && (first || divided)) ok = write_all(checkpoint, directory, ready, place, divided, error);
  if (ok) {
    checkpoint->path = place;
    place = NULL;
    ok = !first || prune(directory, checkpoint->step, keep, error);
  } else if (ready && first) {
    Error ignored = {0}; /* a full disk gets its space back; the first error is the one that matters */
    if (!directory_remove_all(ready, &ignored)) ok = false;
  }
  memory_free(directory);
  memory_free(place);
  memory_free(ready);
  return ok || error_context(error, "checkpoint of step %" PRId64, checkpoint->step);
}

/* -- going back ----------------------------------------------------------------------------------------- */

static bool list_steps(const char *run_dir, int64_t **steps, size_t *count, char **directory, Error *error) {
  *directory = path_join(run_dir, "checkpoints");
  *steps = NULL;
  *count = 0;
  return *directory ? checkpoint_steps(*directory, false, steps, count, error)
                    : error_out_of_memory(error, "path", strlen(run_dir));
}

static bool find_before(const char *run_dir, int64_t step, int64_t every, int64_t *found, Error *error) {
  char *directory;
  int64_t *steps;
  size_t count;
  bool ok = list_steps(run_dir, &steps, &count, &directory, error);
  *found = -1;
  for (size_t i = 0; ok && i < count && (*found < 0 || *found > step); i++) {
    if (steps[i] % every == 0) *found = steps[i];
  }
  if (ok && *found < 0)
    ok = error_set(error, ERROR_MODEL, "%s: there is no checkpoint of run.save_every to go back to",
                   directory);
  memory_free(steps);
  memory_free(directory);
  return ok;
}

bool checkpoint_before(const char *run_dir, int64_t step, int64_t every, const Comm *comm, int64_t *found,
                       Error *error) {
  if (comm->rank == 0 && !find_before(run_dir, step, every, found, error)) return false;
  comm_broadcast(comm, 0, found, sizeof *found);
  return true;
}

bool checkpoint_drop_after(const char *run_dir, int64_t step, Error *error) {
  char *directory;
  int64_t *steps;
  size_t count;
  bool ok = list_steps(run_dir, &steps, &count, &directory, error);
  for (size_t i = 0; ok && i < count && steps[i] > step; i++) ok = remove_step(directory, steps[i], error);
  memory_free(steps);
  memory_free(directory);
  return ok;
}
