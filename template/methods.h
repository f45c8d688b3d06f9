/* What the files of methods share. */
#ifndef TEMPLATE_METHODS_H
#define TEMPLATE_METHODS_H

#include "template/builtin.h"

extern const BuiltinTable text_methods_table; /* methods_text.c */

/* start and stop of find(), index(), startswith() ... as Python clamps them to `count` items; missing or none: all. *begin may lie behind
 * *end, or behind the items: then nothing is found. */
NODISCARD bool methods_range(Run *run, Value start, Value stop, size_t count, size_t *begin, size_t *end);

#endif
