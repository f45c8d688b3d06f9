#include "template/run.h"

#include "template/object.h"
#include "template/text.h"

#include <stdio.h>
#include <string.h>

const TemplateLimits template_limits = {.steps = 20000000, .depth = 200, .output = 64 << 20};

void run_set_error(Run *run, const char *format, ...) {
  char text[800];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  error_set(run->error, ERROR_DATA, "%s:%d: %s", run->template->name, run->line, text);
}

bool run_fail_steps(Run *run) {
  run->steps = 0;
  return run_fail(run, "the chat template takes too long: more than %lld steps",
                  (long long)run->limits.steps);
}

/* Nodes are nested by the template's text and by calls; both together must not take the stack. */
enum { NODES_PER_CALL = 8 };

bool run_deepen(Run *run) {
  if (++run->depth <= run->limits.depth * NODES_PER_CALL) return true;
  return run_fail(run, "nested too deeply: more than %d expressions and blocks within each other",
                  run->limits.depth * NODES_PER_CALL);
}

bool run_undefined(Run *run, const char *hint, Value object, Value name, Value *out) {
  return undefined_new(run->heap, hint, object, name, out, run->error);
}

void *run_alloc(Run *run, size_t bytes) {
  return heap_alloc(run->heap, bytes, run->error);
}

/* The repr of a name for a message, in a few bytes of the caller's. */
static const char *short_repr(Run *run, Value name, char *out, size_t size) {
  size_t mark = text_mark(run);
  if (!print_repr(run, name)) return NULL;
  snprintf(out, size, "%.*s", (int)(run->text->size - mark), run->text->data + mark);
  text_drop(run, mark);
  return out;
}

bool run_fail_undefined(Run *run, Value value) {
  const ValueUndefined *undefined = value.as.undefined;
  if (!undefined) return run_fail(run, "a variable is undefined");
  if (undefined->hint) return run_fail(run, "%s", undefined->hint);
  char name[200];
  if (!short_repr(run, undefined->name, name, sizeof name)) return false;
  if (value_is_missing(undefined->object)) return run_fail(run, "%s is undefined", name);
  char object[160];
  if (undefined->object.kind == VALUE_NONE)
    snprintf(object, sizeof object, "None");
  else
    snprintf(object, sizeof object, "%s object", object_path(undefined->object));
  if (!value_is_string(undefined->name)) return run_fail(run, "%s has no element %s", object, name);
  return run_fail(run, "'%s' has no attribute %s", object, name);
}

/* ---- rendering ---- */

static bool resolve(Run *run, const ValueDict *variables) {
  const Template *template = run->template;
  Value *context = run_alloc(run, ((size_t) template->name_count + 1) * sizeof *context);
  if (!context) return false;
  for (int i = 0; i < template->name_count; i++) {
    context[i] = value_missing();
    if (!template->context[i]) continue;
    Value name = template->names->entries[i].key;
    const Value *given = dict_get(variables, name);
    if (given)
      context[i] = *given;
    else if (!global_find(run, name, &context[i]))
      return false;
  }
  run->context = context;
  return true;
}

static bool push_origin(TemplateText *out, Span span, Error *error) {
  TemplateOrigin *last = out->origin_count ? &out->origins[out->origin_count - 1] : NULL;
  if (last && last->end == span.begin && last->exact && span.exact && last->from + last->bytes == span.from) {
    last->end = span.end;
    last->bytes += span.bytes;
    return true;
  }
  if (out->origin_count == out->origin_capacity) {
    size_t capacity = out->origin_capacity ? out->origin_capacity * 2 : 16;
    TemplateOrigin *origins = memory_resize(out->origins, capacity * sizeof *origins);
    if (!origins) return error_out_of_memory(error, "origins of a rendering", capacity * sizeof *origins);
    out->origins = origins;
    out->origin_capacity = capacity;
  }
  out->origins[out->origin_count++] = (TemplateOrigin){
      .begin = span.begin, .end = span.end, .from = span.from, .bytes = span.bytes, .exact = span.exact};
  return true;
}

static bool push_generation(TemplateText *out, Span span, Error *error) {
  TemplateStretch *last = out->generation_count ? &out->generations[out->generation_count - 1] : NULL;
  if (last && last->end == span.begin) {
    last->end = span.end;
    return true;
  }
  if (out->generation_count == out->generation_capacity) {
    size_t capacity = out->generation_capacity ? out->generation_capacity * 2 : 16;
    TemplateStretch *stretches = memory_resize(out->generations, capacity * sizeof *stretches);
    if (!stretches) return error_out_of_memory(error, "origins of a rendering", capacity * sizeof *stretches);
    out->generations = stretches;
    out->generation_capacity = capacity;
  }
  out->generations[out->generation_count++] = (TemplateStretch){.begin = span.begin, .end = span.end};
  return true;
}

bool template_render(const Template *template, ValueHeap *heap, Value variables, int64_t now,
                     const TemplateLimits *limits, TemplateText *out, Error *error) {
  ASSERT(variables.kind == VALUE_DICT);
  buffer_clear(&out->text);
  out->origin_count = out->generation_count = 0;
  Run run = {.template = template,
             .heap = heap,
             .error = error,
             .limits = *limits,
             .steps = limits->steps,
             .now = now,
             .text = &out->text,
             .spans = heap_spans(heap),
             .line = 1};
  run.spans->count = 0;
  size_t frame = sizeof(Frame) + (size_t) template->root.slot_count * sizeof(Value);
  run.frame = run_alloc(&run, frame);
  if (!run.frame || !resolve(&run, variables.as.dict) || !text_add(&run, "", 0)) return false;
  memset(run.frame, 0, frame);
  frame_load(&run, &template->root.loads);
  if (execute(&run, template->root.body) == FLOW_FAILED) return false;
  for (size_t i = 0; i < run.spans->count; i++) {
    Span span = run.spans->items[i];
    if (span.from && !push_origin(out, span, error)) return false;
    if (span.generation && !push_generation(out, span, error)) return false;
  }
  return true;
}

void template_text_free(TemplateText *text) {
  buffer_free(&text->text);
  memory_free(text->origins);
  memory_free(text->generations);
  *text = (TemplateText){0};
}
