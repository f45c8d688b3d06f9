/* What options of other trainers are called here: answers to who brings a command line or a configuration of TRL, axolotl or
 * LLaMA-Factory, and what `drover convert` goes by. A program takes nothing under such a name, since what looks alike may count otherwise.
 *
 * The keys are words to this module: tests/unit/train_elsewhere.c holds every key, those within remarks too, against the tables of the
 * programs named.
 *
 * Names: transformers.TrainingArguments and the *Config classes of TRL 1.9 (warmup_ratio, max_seq_length, overwrite_output_dir
 * of earlier ones), axolotl's schema (src/axolotl/utils/schemas), LLaMA-Factory's hparams (src/llamafactory/hparams); the last block
 * has what else people are used to, told and not converted. */
#ifndef BASE_OPTION_ELSEWHERE_H
#define BASE_OPTION_ELSEWHERE_H

#include "base/option.h"

/* How a value there becomes one here. */
typedef enum ElsewhereUse {
  ELSEWHERE_TOLD, /* by arithmetic or a decision, if at all: the remark says it to people, tools/convert has the code */
  ELSEWHERE_SAME,  /* it is the same */
  ELSEWHERE_WORDS, /* by `words`; a value that is not among them has no equal */
  ELSEWHERE_ASIDE, /* it has no part in what is learnt, or what it asks for is always so: the remark says which */
} ElsewhereUse;

typedef struct OptionElsewhere {
  const char *name;     /* there; "wandb_*" is all that begin so */
  const char *key;      /* here; NULL: nothing is its equal */
  const char *programs; /* the stages that have the key, as text: "sft, reward and dpo"; NULL without a key */
  const char *remark;   /* the value or the arithmetic, or why there is no equal; NULL: it means the same */
  ElsewhereUse use;
  const char
      *words; /* "true=nf4 false=none", with values as they are written in JSON, strings without quotes */
} OptionElsewhere;

/* A name may have several rows, with keys of different programs. */
extern const OptionElsewhere options_elsewhere[];
extern const size_t options_elsewhere_count;

/* The row of a name, sections before it and - for _ passed over, that this table can answer with: it has the key, or there is
 * none; else one whose key only other programs have; NULL when the name has no row. */
const OptionElsewhere *option_elsewhere(const Option *table, size_t rows, const char *name);
/* The same for a stage by its name. */
const OptionElsewhere *option_elsewhere_of(const char *stage, const char *name);

/* What stands behind "WORD=" in words like those above, in out[64]; false: the word is not among them. */
bool elsewhere_word(const char *words, const char *word, char out[64]);
/* The value of an option of this key that others call by this word, in out[64]; false: there is none. */
bool option_elsewhere_value(const char *key, const char *word, char out[64]);

/* The programs that have options in this section, as text: "ppo and sample"; NULL: none, or all. */
const char *option_section_programs(const char *section);

#endif
