#include "train/absent.h"

#include "model/source.h"

#include <inttypes.h>

bool absent_data(const ModelConfig *model, const DataConfig *config, const char *name,
                 const OptionSources *sources, Log *log) {
  const bool given = sources->count > 0;
  if (given && (model_weights_exist(model->path) || tokenizer_exists(model->path))) return false;
  log_warning(
      log, "%s%s: the plan is for sequences of data.max_length %" PRId64 " tokens, and no data are looked at",
      given ? model->path : name, given ? " has no tokenizer" : " is not given", config->max_length);
  return true;
}

Dataset absent_dataset(const DataConfig *config, int64_t sequences) {
  const uint64_t each = (uint64_t)config->max_length, most = (uint64_t)sequences;
  return (Dataset){.longest = most * each, .longest_sequence = each, .most_sequences = most};
}
