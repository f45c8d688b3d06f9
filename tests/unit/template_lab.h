/* Renders small templates with variables that are written as JSON. */
#ifndef TESTS_TEMPLATE_LAB_H
#define TESTS_TEMPLATE_LAB_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/json.h"
#include "template/template.h"

#include <stdlib.h>
#include <string.h>

typedef struct TemplateLab {
  json_t *variables; /* whose strings are tracked */
  ValueHeap *heap;
  TemplateLimits limits;
  TemplateText out;
  Error error;
} TemplateLab;

static inline void lab_open(TemplateLab *lab, const char *variables) {
  json_error_t problem;
  *lab = (TemplateLab){.limits = template_limits};
  lab->variables = json_loads(variables, 0, &problem);
  lab->heap = value_heap_open(64 << 20, &lab->error);
  assert_non_null(lab->variables);
  assert_non_null(lab->heap);
}

static inline void lab_close(TemplateLab *lab) {
  json_decref(lab->variables);
  value_heap_close(lab->heap);
  template_text_free(&lab->out);
}

/* False with lab->error, be it of parsing or of rendering. The time is 2024-02-29 13:05:09. */
static inline bool lab_render(TemplateLab *lab, const char *text) {
  lab->error = (Error){0};
  Value variables;
  value_heap_clear(lab->heap);
  Template *template = template_parse(text, strlen(text), "t", &lab->error);
  bool done =
      template && value_json(lab->heap, lab->variables, true, &variables, &lab->error) &&
      template_render(template, lab->heap, variables, 1709211909, &lab->limits, &lab->out, &lab->error);
  template_free(template);
  return done;
}

static inline void expect_text(TemplateLab *lab, const char *text, const char *expected) {
  if (!lab_render(lab, text)) fail_msg("%s: %s", text, lab->error.message);
  if (strcmp(lab->out.text.data, expected) != 0)
    fail_msg("%s: expected \"%s\", got \"%s\"", text, expected, lab->out.text.data);
}

static inline void expect_error(TemplateLab *lab, const char *text, ErrorCode code, const char *message) {
  if (lab_render(lab, text)) fail_msg("%s: no error but \"%s\"", text, lab->out.text.data);
  if (strcmp(lab->error.message, message) != 0 || lab->error.code != code)
    fail_msg("%s: expected \"%s\", got \"%s\"", text, message, lab->error.message);
}

#endif
