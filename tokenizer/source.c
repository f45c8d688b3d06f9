#include "tokenizer/source.h"

void tokenizer_source_free(TokenizerSource *source) {
  json_decref(source->top);
  json_decref(source->config);
  memory_free(source->note);
  *source = (TokenizerSource){0};
}

json_t *source_added_token(json_int_t id, const char *text, size_t bytes, bool special) {
  return json_pack("{s:I, s:s%, s:b, s:b, s:b, s:b, s:b}", "id", id, "content", text, bytes, "single_word", 0,
                   "lstrip", 0, "rstrip", 0, "normalized", 0, "special", (int)special);
}

bool source_config(const Companions *files, TokenizerSource *source, Error *error) {
  if (files->config.value && !reader_as_object(&files->config, error)) return false;
  source->config = files->config.value ? json_deep_copy(files->config.value) : json_object();
  return source->config || error_out_of_memory(error, "tokenizer_config.json", 0);
}
