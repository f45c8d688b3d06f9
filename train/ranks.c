#include "train/ranks.h"

#include "base/memory.h"
#include "datasets/stream.h"

#include <string.h>

bool ranks_check_sources(const char *name, const OptionSources *sources, const Comm *comm, Error *error) {
  for (size_t i = 0; comm->size > 1 && i < sources->count; i++) {
    const char *path = sources->items[i].path;
    if (!is_stream(path)) continue;
    return error_set(error, ERROR_USAGE,
                     "%s: %s is a pipe, which only one of the %d ranks could read: give a file", name, path,
                     comm->size);
  }
  return true;
}

bool ranks_open_data(const Comm *comm, RanksOpen *open, void *context, Error *error) {
  if (comm->rank > 0) comm_barrier(comm);
  if (!open(context, error)) return false;
  if (comm->rank == 0) comm_barrier(comm);
  return true;
}

bool ranks_check_data(const Comm *comm, const Dataset *data, Error *error) {
  return comm_agree(comm, data->digest) ||
         error_set(error, ERROR_DATA, "the ranks read different data: all must see the same files");
}

bool ranks_agree(const Comm *comm, bool ok, Error *error) {
  if (comm->size == 1) return ok;
  const Error own = ok ? (Error){0} : *error;
  Error *all = memory_zeroed((size_t)comm->size, sizeof *all);
  const bool failed = ranks_most(comm, !ok || !all) > 0;
  if (failed && all) {
    int r = 0;
    comm_all_gather(comm, &own, all, sizeof own);
    while (!all[r].code) r++;
    *error = all[r];
  }
  memory_free(all);
  return !failed;
}

int ranks_most(const Comm *comm, int number) {
  int64_t most = number;
  comm_all_reduce(comm, COMM_MAX, DTYPE_I64, &most, 1);
  return (int)most;
}

bool ranks_first_text(const Comm *comm, char *text, size_t size, Error *error) {
  char *all = memory_zeroed((size_t)comm->size, size);
  if (!all) return error_out_of_memory(error, "messages of ranks", (size_t)comm->size * size);
  comm_all_gather(comm, text, all, size);
  int r = 0;
  while (r + 1 < comm->size && !all[(size_t)r * size]) r++;
  memcpy(text, all + (size_t)r * size, size);
  memory_free(all);
  return true;
}
