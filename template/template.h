/* Chat templates in Jinja: parsed once, then rendered within limits.
 *
 * The language is the subset of Jinja2 that chat templates use, and its behaviour is that of jinja2's immutable sandbox as
 * Transformers sets it up (utils/chat_template_utils.py): trim_blocks and lstrip_blocks, loop controls, {% generation %}, a `tojson` that does not
 * escape, raise_exception and strftime_now. What the interpreter does not have (a filter, a test, a tag) is an error when the template
 * is parsed, with line and column, never a silent difference. docs/templates.md has the list. */
#ifndef TEMPLATE_TEMPLATE_H
#define TEMPLATE_TEMPLATE_H

#include "base/memory.h"
#include "template/value.h"

typedef struct Template Template;

/* text: UTF-8, not kept. name is for messages ("DIR/chat_template.jinja"). ERROR_MODEL "NAME:LINE:COLUMN: ...". */
NODISCARD Template *template_parse(const char *text, size_t bytes, const char *name, Error *error);
void template_free(Template *template); /* NULL is fine */

/* Whether it has {% generation %} blocks. */
bool template_has_generation(const Template *template);
/* Whether it reads a variable of the caller of this name anywhere ("tools", "enable_thinking"). */
bool template_reads(const Template *template, const char *name);
/* A variable of the caller that it reads anywhere and that is none of these names (NULL-terminated), nor a function of the language: false
 * when there is none. */
bool template_reads_other(const Template *template, const char *const *names, char out[64]);

/* What a rendering may use before it ends with ERROR_DATA that names the limit. The defaults are far above what real templates use. */
typedef struct TemplateLimits {
  int64_t steps; /* nodes evaluated, loop rounds, and bytes that filters and operators handle, 64 to a step */
  int depth;     /* macros and expressions within each other */
  size_t output; /* bytes */
} TemplateLimits;

extern const TemplateLimits template_limits; /* 20 million, 200, 64 MiB */

/* Bytes [begin, end) of the rendering came from `bytes` bytes of the caller's memory from `from` on. exact: they are the same bytes;
 * else they were changed on the way (JSON escapes, upper ...) and only the stretches as wholes belong together. */
typedef struct TemplateOrigin {
  size_t begin, end;
  const char *from;
  size_t bytes;
  bool exact;
} TemplateOrigin;

/* Bytes [begin, end) that stood in a {% generation %} block. */
typedef struct TemplateStretch {
  size_t begin, end;
} TemplateStretch;

/* A rendering, reused from one to the next. */
typedef struct TemplateText {
  Buffer text;
  TemplateOrigin *origins; /* ascending, not overlapping; only those of tracked strings */
  size_t origin_count, origin_capacity;
  TemplateStretch *generations;
  size_t generation_count, generation_capacity;
} TemplateText;

void template_text_free(TemplateText *text);

/* Replaces what is in out. variables: a dict. now: the seconds since 1970 (UTC) that strftime_now tells. ERROR_DATA with the template's own words
 * where it calls raise_exception ("the chat template refuses: ..."), "NAME:LINE: ..." where an operation has no meaning (jinja2 raises an exception), and
 * for limits. */
NODISCARD bool template_render(const Template *template, ValueHeap *heap, Value variables, int64_t now,
                               const TemplateLimits *limits, TemplateText *out, Error *error);

#endif
