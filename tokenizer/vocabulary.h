/* The tokens of a model: text by id and id by text. Ids may have gaps. */
#ifndef TOKENIZER_VOCABULARY_H
#define TOKENIZER_VOCABULARY_H

#include "base/reader.h"
#include "tokenizer/table.h"

#include <stddef.h>
#include <stdint.h>

typedef struct Vocabulary {
  const char **texts; /* by id, NUL-terminated; NULL = unused */
  uint32_t *lengths;  /* bytes */
  int size;           /* largest id + 1 */
  int count;          /* tokens */
  StringPool pool;
  StringTable ids;
} Vocabulary;

enum { VOCABULARY_MAX_ID = (1 << 24) - 1 };

/* Room for ids below `size`; once, before the first token. */
NODISCARD bool vocabulary_reserve(Vocabulary *vocabulary, int size, Error *error);
/* Gives a token its id, which must be below the size and free. Of several ids with one text the last is found. */
NODISCARD bool vocabulary_put(Vocabulary *vocabulary, int id, const char *text, size_t bytes, Error *error);
/* An object {"token": id, ...}. */
NODISCARD bool vocabulary_read(Vocabulary *vocabulary, const Reader *object, Error *error);
void vocabulary_free(Vocabulary *vocabulary);

/* The token's text, borrowed; NULL for an id that is not used. */
const char *vocabulary_token(const Vocabulary *vocabulary, int id, size_t *bytes);
static inline int vocabulary_id(const Vocabulary *vocabulary, const char *token, size_t bytes) {
  return string_table_get(&vocabulary->ids, token, bytes); /* -1 when absent */
}
/* The ids of <0x00> to <0xFF>; -1 for those that are absent. */
void vocabulary_byte_ids(const Vocabulary *vocabulary, int ids[256]);

#endif
