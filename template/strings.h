/* What strings can do that filters and methods share: split, replace, pad. Origins of what is kept are kept. */
#ifndef TEMPLATE_STRINGS_H
#define TEMPLATE_STRINGS_H

#include "template/run.h"

/* Byte position of `part` at or behind `from` (the last one that ends at or before `to`, for rfind); SIZE_MAX: not there. */
size_t strings_find(const ValueString *string, const ValueString *part, size_t from, size_t to);
NODISCARD bool strings_find_last(Run *run, const ValueString *string, const ValueString *part, size_t from,
                                 size_t to, size_t *out);

/* count: at most so many, all if negative. */
NODISCARD bool strings_replace(Run *run, const ValueString *string, const ValueString *old,
                               const ValueString *new, int64_t count, Value *out);
/* separator: NULL for stretches of space. */
NODISCARD bool strings_split(Run *run, const ValueString *string, const ValueString *separator, int64_t count,
                             bool from_right, Value *out);
NODISCARD bool strings_lines(Run *run, const ValueString *string, bool keep_ends, Value *out);

typedef enum PadSide { PAD_LEFT, PAD_RIGHT, PAD_CENTER } PadSide; /* where the padding goes */
/* To `width` code points; fill: one code point, NULL: a blank. */
NODISCARD bool strings_pad(Run *run, const ValueString *string, int64_t width, const ValueString *fill,
                           PadSide side, Value *out);
/* The argument of strip(): NULL for space. */
NODISCARD bool strings_cut_set(Run *run, const char *method, Value argument, const ValueString **out);
NODISCARD bool strings_strip_tags(Run *run, const ValueString *string, Value *out);

#endif
