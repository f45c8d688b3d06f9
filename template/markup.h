/* HTML escapes, and strings that are marked as having them. Rendering never escapes by itself. */
#ifndef TEMPLATE_MARKUP_H
#define TEMPLATE_MARKUP_H

#include "template/run.h"

/* escape(): str() of the value with & < > ' " escaped, marked; markup is left as it is. */
NODISCARD bool markup_escape(Run *run, Value value, Value *out);
/* The same, also of markup. */
NODISCARD bool markup_force(Run *run, Value value, Value *out);
/* Marked as it is. */
NODISCARD bool markup_mark(Run *run, Value value, bool markup, Value *out);

#endif
