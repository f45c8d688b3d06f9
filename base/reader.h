/* Typed access to the members of a parsed JSON file. Errors are ERROR_MODEL and say
 * "FILE: WHERE.KEY: expected ..., found ...". */
#ifndef BASE_READER_H
#define BASE_READER_H

#include "base/error.h"
#include "base/json.h"
#include <stddef.h>

/* A JSON value and where it stands in the file. */
typedef struct Reader {
  const char *path; /* file, borrowed; NULL: whoever asked for the reading says which */
  json_t *value;    /* borrowed */
  char where[160];  /* "pre_tokenizer.pretokenizers[1]"; "" at the top */
} Reader;

/* Parses text; the caller owns the result. Broken JSON is ERROR_MODEL with its line. */
NODISCARD json_t *reader_parse(const char *path, const Buffer *text, Error *error);
Reader reader_top(const char *path, json_t *root);

/* error_set with the reader's place in front. Always false. */
bool reader_fail(const Reader *reader, Error *error, const char *format, ...) PRINTF_LIKE(3, 4);

/* A member that is absent or null is `false`, without an error. */
bool reader_has(const Reader *object, const char *key);
/* Positions `out` on a member, which may be absent or null (value NULL then); fails when object is none. */
NODISCARD bool reader_member(const Reader *object, const char *key, Reader *out, Error *error);
NODISCARD bool reader_item(const Reader *array, size_t index, Reader *out, Error *error);
NODISCARD bool reader_array(const Reader *object, const char *key, Reader *out, Error *error); /* required */

NODISCARD bool reader_bool(const Reader *object, const char *key, bool fallback, bool *out, Error *error);
NODISCARD bool reader_bool_required(const Reader *object, const char *key, bool *out, Error *error);
NODISCARD bool reader_int(const Reader *object, const char *key, long long min, long long max, long long *out,
                          Error *error); /* required */
NODISCARD bool reader_number(const Reader *object, const char *key, double min, double max, double fallback,
                             double *out, Error *error);
/* Text with its length, borrowed from the JSON value. NULL when absent and not required. */
NODISCARD bool reader_text(const Reader *object, const char *key, bool required, const char **out,
                           size_t *bytes, Error *error);
NODISCARD bool reader_type(const Reader *object, const char **type, Error *error); /* its "type" */

/* The value itself. */
NODISCARD bool reader_as_object(const Reader *reader, Error *error);
NODISCARD bool reader_as_list(const Reader *reader, Error *error);
NODISCARD bool reader_as_text(const Reader *reader, const char **out, size_t *bytes, Error *error);
NODISCARD bool reader_as_number(const Reader *reader, double min, double max, double *out, Error *error);
NODISCARD bool reader_as_int(const Reader *reader, long long min, long long max, long long *out,
                             Error *error);

#endif
