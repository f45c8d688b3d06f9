#include "tokenizer/vocabulary.h"

#include "base/memory.h"

#include <stdio.h>

bool vocabulary_reserve(Vocabulary *vocabulary, int size, Error *error) {
  size_t rows = (size_t)size;
  vocabulary->size = size;
  vocabulary->texts = memory_zeroed(rows + 1, sizeof *vocabulary->texts);
  vocabulary->lengths = memory_zeroed(rows + 1, sizeof *vocabulary->lengths);
  return (vocabulary->texts && vocabulary->lengths) ||
         error_out_of_memory(error, "vocabulary", rows * sizeof *vocabulary->texts);
}

bool vocabulary_put(Vocabulary *vocabulary, int id, const char *text, size_t bytes, Error *error) {
  ASSERT(id >= 0 && id < vocabulary->size && !vocabulary->texts[id]);
  const char *kept = string_pool_add(&vocabulary->pool, text, bytes, error);
  if (!kept || !string_table_put(&vocabulary->ids, kept, bytes, id, error)) return false;
  vocabulary->texts[id] = kept;
  vocabulary->lengths[id] = (uint32_t)bytes;
  vocabulary->count++;
  return true;
}

bool vocabulary_read(Vocabulary *vocabulary, const Reader *object, Error *error) {
  const char *text;
  json_t *value;
  long long max = -1;
  if (!reader_as_object(object, error)) return false;
  json_object_foreach(object->value, text, value) {
    long long id = json_is_integer(value) ? json_integer_value(value) : -1;
    if (id < 0 || id > VOCABULARY_MAX_ID)
      return reader_fail(object, error, "token \"%.60s\": expected an id from 0 to %d", text,
                         VOCABULARY_MAX_ID);
    if (id > max) max = id;
  }
  if (!vocabulary_reserve(vocabulary, (int)(max + 1), error)) return false;
  size_t bytes;
  json_object_keylen_foreach(object->value, text, bytes, value) {
    int id = (int)json_integer_value(value);
    if (vocabulary->texts[id])
      return reader_fail(object, error, "tokens \"%.60s\" and \"%.60s\" have the same id %d",
                         vocabulary->texts[id], text, id);
    if (!vocabulary_put(vocabulary, id, text, bytes, error)) return false;
  }
  return true;
}

void vocabulary_free(Vocabulary *vocabulary) {
  memory_free(vocabulary->texts);
  memory_free(vocabulary->lengths);
  string_table_free(&vocabulary->ids);
  string_pool_free(&vocabulary->pool);
  *vocabulary = (Vocabulary){0};
}

const char *vocabulary_token(const Vocabulary *vocabulary, int id, size_t *bytes) {
  if (id < 0 || id >= vocabulary->size || !vocabulary->texts[id]) return NULL;
  *bytes = vocabulary->lengths[id];
  return vocabulary->texts[id];
}

void vocabulary_byte_ids(const Vocabulary *vocabulary, int ids[256]) {
  char token[8];
  for (unsigned byte = 0; byte < 256; byte++) {
    snprintf(token, sizeof token, "<0x%02X>", byte);
    ids[byte] = vocabulary_id(vocabulary, token, 6);
  }
}
