/* The "post_processor" of tokenizer.json, for one text: the ids put in front of it and behind it.
 * TemplateProcessing, RobertaProcessing, BertProcessing, ByteLevel (which only trims offsets), Sequence. */
#ifndef TOKENIZER_POSTPROCESS_H
#define TOKENIZER_POSTPROCESS_H

#include "base/reader.h"

typedef struct PostProcessor {
  IntArray before, after;
} PostProcessor;

/* value NULL: nothing is added. */
NODISCARD bool postprocessor_init(PostProcessor *post, const Reader *reader, Error *error);
void postprocessor_free(PostProcessor *post);

#endif
