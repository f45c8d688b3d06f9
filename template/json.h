/* |tojson: json.dumps of Python. */
#ifndef TEMPLATE_JSON_H
#define TEMPLATE_JSON_H

#include "template/run.h"

/* Missing options are those of Transformers: ensure_ascii false, no indent, separators ", " and ": ", keys in their order. */
NODISCARD bool json_dump(Run *run, Value value, Value ensure_ascii, Value indent, Value separators,
                         Value sort_keys, Value *out);

#endif
