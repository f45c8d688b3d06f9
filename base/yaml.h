/* YAML that people write for configurations: parsed into the values that JSON has.
 *
 * What means one thing to YAML 1.1 (which most programs in Python read) and another to 1.2 is refused by name, with how to write
 * it: yes, no, on and off; numbers with a leading 0, in other bases, with _ or with colons. So are anchors, aliases, merge keys, tags, keys that
 * are given twice or are no text, and more than one document. 1e-5 is a number, though 1.1 wants a dot in it: nobody means
 * the text. Dates are text. A text of quotes or of a block is never anything else. */
#ifndef BASE_YAML_H
#define BASE_YAML_H

#include "base/json.h"
#include "base/key_lines.h"

/* A new reference, or NULL with `problem` filled: line and column from 1 on, its text a whole sentence. At most 1 MiB. Notes the
 * line of every key in `lines` (may be NULL). An empty text is null. */
json_t *yaml_parse(const char *text, size_t bytes, KeyLines *lines, json_error_t *problem);

/* The value of a scalar without quotes, a new reference; or NULL with why it is refused in why[size]. */
json_t *yaml_plain_value(const char *text, char *why, size_t size);

#endif
