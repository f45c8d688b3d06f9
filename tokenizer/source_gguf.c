#include "tokenizer/source.h"

bool source_gguf(const char *path, TokenizerSource *source, Error *error) {
  (void)source;
  return error_set(error, ERROR_MODEL, "%s: not yet", path);
}
