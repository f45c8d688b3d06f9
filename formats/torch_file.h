/* Weights as torch.save writes them (pytorch_model.bin): one file, or several with an index.
 *
 * Two forms are read. Since PyTorch 1.6 a zip archive: NAME/data.pkl is a pickle of the state_dict, in which every storage is a
 * persistent id ("storage", class, key, device, elements) whose bytes are the entry NAME/data/KEY. Before that (and by request) a row of
 * pickles: a magic number, the protocol 1001, a note on the machine, the state_dict, the list of keys; then, for each key, 8 bytes of
 * element count and the bytes.
 *
 * The pickle is read by the rules of formats/pickle.h: storages of torch, _rebuild_tensor_v2, _rebuild_parameter and OrderedDict are
 * all the names there are. The bytes of tensors stay in the mapping; a view that is not contiguous is gathered while it is read.
 * What is found must be a dictionary of tensors, each within its storage; anything else is ERROR_MODEL.
 *
 * Reference: torch/serialization.py (_save, _legacy_save), torch/_utils.py. */
#ifndef FORMATS_TORCH_FILE_H
#define FORMATS_TORCH_FILE_H

#include "formats/weight_files.h"

/* The weights of FILE, or of the shards that the index INDEX names. Both fill a zeroed WeightFiles. */
NODISCARD bool torch_file_open(WeightFiles *files, const char *path, Error *error);
NODISCARD bool torch_file_open_index(WeightFiles *files, const char *index_path, Error *error);

#endif
