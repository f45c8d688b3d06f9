/* The pickles of torch.save: what the few names of Python mean that a state_dict is made of.
 *
 * Known are the classes of storages (torch.FloatStorage ...), collections.OrderedDict, torch._utils._rebuild_tensor_v2 and
 * _rebuild_parameter; a persistent id is a storage. Sizes, strides and offsets are checked against the storage's size here, so a tensor that
 * comes out lies within it, whatever the file says. Reference: torch/_utils.py, torch/serialization.py (persistent_id). */
#ifndef FORMATS_TORCH_PICKLE_H
#define FORMATS_TORCH_PICKLE_H

#include "base/dtype.h"
#include "formats/pickle.h"
#include "formats/weight_files.h"

typedef struct TorchStorage TorchStorage;
struct TorchStorage {
  TorchStorage
      *next; /* in the list of all that were named, the last one first; the same key may be named often */
  const char *key; /* in the pickle, without a NUL */
  size_t key_bytes;
  DType dtype;
  size_t count;        /* elements; their bytes are less than 2^63 */
  const uint8_t *data; /* filled in by who knows where it lies */
};

/* A view of a storage. */
typedef struct TorchTensor {
  const TorchStorage *storage;
  int rank;
  int64_t shape[WEIGHT_MAX_RANK], stride[WEIGHT_MAX_RANK]; /* elements, none negative */
  size_t offset;                                           /* element of the storage where it begins */
  size_t count;                                            /* elements */
  size_t span; /* from the first to behind the last of them in the storage, in elements; 0 without any */
} TorchTensor;

typedef struct TorchPickle {
  PicklePool pool;
  TorchStorage *storages;
} TorchPickle;

/* One pickle, as pickle_read. Storages of several pickles make one list. */
PickleValue *torch_pickle_read(TorchPickle *pickle, const char *path, const uint8_t *data, size_t size,
                               size_t *used, Error *error);
void torch_pickle_free(TorchPickle *pickle);
const TorchTensor *torch_tensor(const PickleValue *value); /* NULL when it is none */

#endif
