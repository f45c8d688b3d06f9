/* Text as it is put together. There is one for the whole rendering: what is printed stands in it, and whatever makes a string writes behind
 * that and cuts its part off again. So nothing is allocated but the string itself, and spans need no care. */
#ifndef TEMPLATE_TEXT_H
#define TEMPLATE_TEXT_H

#include "template/run.h"

static inline size_t text_mark(Run *run) {
  return run->barrier = run->text->size;
}
NODISCARD bool text_add(Run *run, const char *bytes, size_t size);
NODISCARD bool text_add_text(Run *run, const char *text);
NODISCARD bool text_repeat(Run *run, const char *bytes, size_t size, int64_t times);
NODISCARD bool text_add_string(Run *run, const ValueString *string);
NODISCARD bool text_add_slice(Run *run, const ValueString *string, size_t begin, size_t end);
/* `bytes` stand for the bytes [begin, end) of the string, changed. */
NODISCARD bool text_add_changed(Run *run, const ValueString *string, size_t begin, size_t end,
                                const char *bytes, size_t size);
NODISCARD bool text_add_point(Run *run, int32_t point);
/* What was written since the mark, cut off as a string. */
NODISCARD bool text_cut(Run *run, size_t mark, Value *out);
/* The same, but `source` itself if nothing has changed. */
NODISCARD bool text_cut_if_changed(Run *run, size_t mark, const ValueString *source, Value *out);
void text_drop(Run *run, size_t mark);
/* What was written since the mark stood in {% generation %}. */
NODISCARD bool text_mark_generation(Run *run, size_t mark);

#endif
