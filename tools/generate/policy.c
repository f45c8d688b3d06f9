#include "tools/generate/policy.h"

static bool open_adapter(Policy *p, const char *directory, Compute *compute, Error *error) {
  LoraSpec spec = {0};
  bool scores;
  if (!lora_is_score(directory, &scores, error)) return false;
  if (scores)
    return error_set(error, ERROR_MODEL,
                     "%s: a reward model's adapter (SEQ_CLS): it scores and does not write", directory);
  bool ok = lora_spec_read(&spec, directory, error) &&
            lora_open(&p->adapter, &spec, p->model.modules, p->model.module_count, p->model.dtype, false,
                      compute, &p->memory.adapters, error) &&
            lora_read(&p->adapter, directory, compute, error);
  lora_spec_free(&spec);
  return ok;
}

bool policy_open(Policy *policy, const char *model, const char *adapter, WeightFormat format, int64_t longest,
                 Compute *compute, Error *error) {
  policy->adapted = adapter != NULL;
  if (!base_open(&policy->model, model, NULL, format, compute, &policy->memory, error)) return false;
  const int64_t most = policy->model.spec.max_positions; /* they end an answer */
  return base_set_length(&policy->model, most > 0 && most < longest ? most : longest, compute, NULL, error) &&
         (!adapter || open_adapter(policy, adapter, compute, error));
}

void policy_close(Policy *policy) {
  lora_free(&policy->adapter);
  base_close(&policy->model);
}

const LoraSet *policy_adapter(const Policy *policy) {
  return policy->adapted ? &policy->adapter : NULL;
}
