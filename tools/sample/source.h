/* The records that the prompts are from, one after the other, with their prompts ready to have answers beside them. */
#ifndef TOOLS_SAMPLE_SOURCE_H
#define TOOLS_SAMPLE_SOURCE_H

#include "datasets/columns.h"
#include "datasets/lines.h"
#include "datasets/record.h"
#include "train/data.h"

typedef struct PromptSource {
  const Dataset *prompts; /* borrowed, as are ... */
  const DataConfig *config;
  uint64_t next; /* number of the next prompt */
  bool open;     /* the reader is, at `source` */
  uint32_t source;
  LineReader reader;
  Columns columns;
  Record record;
} PromptSource;

NODISCARD bool prompt_source_open(PromptSource *source, const Dataset *prompts, const DataConfig *config,
                                  Error *error);
void prompt_source_close(PromptSource *source);
/* The next prompt as a record of its own (datasets/prompt_record.h): a new reference. *example: the prompt as the model reads it. source->record is the
 * record's until the next call; the number of the prompt is source->next - 1. */
NODISCARD bool prompt_source_next(PromptSource *source, json_t **out, Example *example, Error *error);

/* Whether all prompts, written and read again, are the ids that will be answered; those that data.truncation cuts are not looked at. ERROR_DATA naming the
 * first that is not. */
NODISCARD bool prompt_source_check(const Dataset *prompts, const DataConfig *config, const TextTools *text,
                                   Error *error);

#endif
