/* For datasets/ and tools: data.columns, the user's names for the keys of a format.
 *
 * {"prompt": "question"}: what the format calls prompt stands under question. A record is renamed before anything looks at it, and
 * messages name the user's key. A key of the record that has one of the format's names, and is not what the user means by it, is an
 * extra one. */
#ifndef DATASETS_COLUMNS_H
#define DATASETS_COLUMNS_H

#include "datasets/dataset.h"

#include <jansson.h>

typedef struct Columns {
  json_t *map; /* the format's key -> the user's key; NULL: every key is the format's */
} Columns;

/* text: a JSON object, or NULL. ERROR_USAGE for a key that the format (with FORMAT_AUTO: any format) does not have, and for one
 * column that is given twice. `name` is the data set's ("data.train"). */
NODISCARD bool columns_open(Columns *columns, const char *text, DatasetFormat format, const char *name,
                            Error *error);
void columns_close(Columns *columns);

/* Renames the keys of one record; adds the names of those that are in the way to `passed`. */
NODISCARD bool columns_apply(const Columns *columns, json_t *root, KeyNames *passed, Error *error);

/* The user's name of a key, or of what a path begins with ("prompt[0].role"), in `out`; columns may be NULL. */
const char *columns_shown(const Columns *columns, const char *path, char *out, size_t room);

#endif
