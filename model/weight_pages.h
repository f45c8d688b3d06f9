/* Weights from their files to where the CPU computes, all of them at once, so that no second copy of the model exists.
 *
 *   weight_pages_open(&pages, most, &error)
 *   weight_pages_add(&pages, entry, tensor.value)      for each of them; reads nothing
 *   weight_pages_read(&pages, threads, &progress, &error)
 *   weight_pages_close(&pages)
 *
 * Most of the time of loading is the system's, which clears each page of fresh memory. A thread takes one huge page of the destination
 * after the other, with all that comes to lie in it: none is cleared twice by threads that meet in it, and it is filled while much of it is
 * still in the cache. Small tensors keep no thread waiting. The pages of files are given back whenever a 64th of the weights, or 64 MiB, has been
 * read. */
#ifndef MODEL_WEIGHT_PAGES_H
#define MODEL_WEIGHT_PAGES_H

#include "base/progress.h"
#include "compute/tensor.h"
#include "formats/weight_files.h"

typedef struct WeightTarget WeightTarget;

typedef struct WeightPages {
  WeightTarget *targets;
  size_t count, most;
} WeightPages;

/* Room for `most` tensors. */
NODISCARD bool weight_pages_open(WeightPages *pages, size_t most, Error *error);
void weight_pages_close(WeightPages *pages);
/* The entry has as many elements as `out`, a tensor in host memory; both are borrowed until it has been read. */
void weight_pages_add(WeightPages *pages, const WeightEntry *entry, Tensor out);
/* Reads what was added since the last time. ERROR_MODEL for values that are not finite, of the first such tensor in memory. */
NODISCARD bool weight_pages_read(WeightPages *pages, int threads, Progress *progress, Error *error);

#endif
