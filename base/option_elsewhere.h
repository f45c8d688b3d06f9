/* What options of other trainers are called here: answers to who brings a command line or a configuration of TRL, axolotl or
 * LLaMA-Factory. Nothing is taken under such a name, since what looks alike may count otherwise.
 *
 * A row is needed where the nearest name (option_nearest) is not the answer, or not all of it: lora_alpha, weight_decay,
 * gamma or seed have none. The keys are words to this module: tests/unit/train_elsewhere.c holds every key, those within
 * remarks too, against the tables of the programs named.
 *
 * Names: transformers.TrainingArguments and the *Config classes of TRL 1.9 (warmup_ratio, max_seq_length, overwrite_output_dir
 * of earlier ones), axolotl's schema (src/axolotl/utils/schemas), LLaMA-Factory's hparams (src/llamafactory/hparams). */
#ifndef BASE_OPTION_ELSEWHERE_H
#define BASE_OPTION_ELSEWHERE_H

#include "base/option.h"

typedef struct OptionElsewhere {
  const char *name;     /* there */
  const char *key;      /* here; NULL: nothing is its equal */
  const char *programs; /* the stages that have the key, as text: "sft and reward"; NULL without a key */
  const char *remark;   /* the value or the arithmetic, or why there is no equal; NULL: it means the same */
} OptionElsewhere;

/* A name may have several rows, with keys of different programs. */
extern const OptionElsewhere options_elsewhere[];
extern const size_t options_elsewhere_count;

/* The row of a name, sections before it and - for _ passed over, that this table can answer with: it has the key, or there is
 * none; else one whose key only other programs have; NULL when the name has no row. */
const OptionElsewhere *option_elsewhere(const Option *table, size_t rows, const char *name);

#endif
