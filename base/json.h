/* JSON that others wrote: parsed within limits, and what its values are called.
 *
 * A parsed value takes up to 80 times the bytes of its text ("{}," again and again), so each kind of file has two limits, of
 * text and of memory; no more than that is ever held. Limits are far above what real files have.
 *
 * Numbers that JSON or 64 bits do not have, but Python writes (NaN, Infinity, 1e999, 2^64), do not make a file broken:
 * they are kept as they are spelled, are of no kind that a reader takes, and are named in its message. So they harm only where
 * they are read. */
#ifndef BASE_JSON_H
#define BASE_JSON_H

#include "base/memory.h"

#include <jansson.h>

typedef struct JsonLimit {
  size_t bytes;  /* of text */
  size_t memory; /* of values, about */
} JsonLimit;

static const JsonLimit json_limit_config = {16u << 20, 512u << 20}; /* config.json, adapter_config.json ... */
static const JsonLimit json_limit_tokenizer = {256u << 20,
                                               4096ull << 20}; /* tokenizer.json; the largest have 35 MB */
static const JsonLimit json_limit_tensors = {100000000, 1024u << 20}; /* headers and indexes of safetensors */
static const JsonLimit json_limit_record = {64u << 20, 512u << 20};   /* a line of data */

/* A new reference, or NULL with `problem` filled, its text a whole sentence ("broken JSON: ...", "too large: ...").
 * flags: jansson's. */
json_t *json_parse(const char *text, size_t bytes, JsonLimit limit, size_t flags, json_error_t *problem);

/* A new reference, or NULL. A file that cannot be read, or is no regular one, is ERROR_FILE; a broken or too large one is
 * ERROR_MODEL "PATH:LINE: ...". */
json_t *json_file_read(const char *path, Error *error); /* json_limit_config */
/* Appends the text of a regular file of at most limit.bytes. */
NODISCARD bool json_file_text(const char *path, JsonLimit limit, Buffer *text, Error *error);
/* Indented by two spaces, newline at the end; keys in the object's order; numbers as they were spelled. */
NODISCARD bool json_file_write(const char *path, const json_t *value, Error *error);

/* Appends the value as compact JSON, its keys in their order, each real in the fewest digits that give it back ("0.1" and not
 * 0.10000000000000001), and with a dot or an exponent, so that it stays one. */
NODISCARD bool json_append_text(Buffer *out, const json_t *value, Error *error);

/* A value by "section.key", or by a key without a section: NULL when it is not there or null. */
json_t *json_at(const json_t *root, const char *key);
/* Sets it, with its section where that is missing; takes the value over, also when it fails. */
NODISCARD bool json_put_take(json_t *root, const char *key, json_t *value, Error *error);

/* "an object", "a list", "a string", "a number", "a boolean", "null"; "nothing" for NULL; "NaN", "1e999" ... as spelled. */
const char *json_kind(const json_t *value);
/* json_is_object, without the numbers that are kept as they are spelled. */
bool json_holds_object(const json_t *value);

#endif
