/* The files beside a model's weights that go with every copy of it: those of its tokenizer, and the code (*.py) of tokenizer and
 * model that config.json names in auto_map. The one list of them, for all who copy a model. */
#ifndef BASE_COMPANIONS_H
#define BASE_COMPANIONS_H

#include "base/error.h"

/* Copies byte for byte what there is of them in the directory `from` into the existing directory `to`: tokenizer.json,
 * tokenizer_config.json, special_tokens_map.json, added_tokens.json; vocabularies and merges of slow tokenizers;
 * SentencePiece and tiktoken models; chat_template.jinja and the folder additional_chat_templates. Nothing is done when
 * both are the same directory, or `from` is none (a file has all in itself). ERROR_FILE. */
NODISCARD bool companions_copy(const char *from, const char *to, Error *error);

#endif
