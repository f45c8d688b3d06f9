/* Any bytes as a template: parsed, and rendered over a small conversation within small limits.
 *
 * With -DLIBFUZZER it is a target of libFuzzer (fuzz_target.sh builds and runs it). Without, main runs it over files: a template each, or the sources
 * of a .json of cases; this is what the tests do, so that it stays true under the sanitizers. */
#include "base/file.h"
#include "base/json.h"
#include "template/template.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char conversation[] =
    "{\"messages\": [{\"role\": \"system\", \"content\": \"Be kind.\"}, {\"role\": \"user\", \"content\": \" "
    "Hé \\n\"}, "
    "{\"role\": \"assistant\", \"content\": \"<think>\\nx\\n</think>\\n\\nYes\", \"tool_calls\": [{\"id\": "
    "\"123456789\", "
    "\"type\": \"function\", \"function\": {\"name\": \"f\", \"arguments\": {\"a\": 1, \"b\": [null, 2.5, "
    "true]}}}]}, "
    "{\"role\": \"tool\", \"content\": \"{}\"}], \"tools\": [{\"type\": \"function\", \"function\": "
    "{\"name\": \"f\", "
    "\"description\": \"Does.\", \"parameters\": {\"type\": \"object\", \"properties\": {\"a\": {\"type\": "
    "[\"string\", "
    "\"null\"]}}}}}], \"s\": \" text \", \"name\": \"world\", \"n\": 7, \"xs\": [3, 1, 2], \"d\": {\"b\": 1, "
    "\"a\": 2}, "
    "\"t\": true, \"nil\": null, \"f\": 2.5, \"bos_token\": \"<s>\", \"eos_token\": \"</s>\", "
    "\"add_generation_prompt\": true}";

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size) {
  static const TemplateLimits limits = {.steps = 5000, .depth = 50, .output = 1 << 16};
  static ValueHeap *heap;
  static TemplateText text;
  static json_t *variables;
  Error error = {0};
  if (!heap) {
    heap = value_heap_open(8u << 20, &error);
    variables = json_loads(conversation, 0, NULL);
    ASSERT(heap && variables);
  }
  char *copy = memory_alloc(size); /* of this size, so that a byte too far is seen */
  ASSERT(copy);
  memcpy(copy, data, size);
  Template *template = template_parse(copy, size, "fuzz", &error);
  memory_free(copy); /* it is not kept */
  if (template) {
    Value values;
    value_heap_clear(heap);
    if (value_json(heap, variables, true, &values, &error) &&
        template_render(template, heap, values, 1753795815, &limits, &text, &error)) {
      ASSERT(text.text.size <= limits.output);
      for (size_t i = 0; i < text.origin_count; i++) {
        const TemplateOrigin *origin = &text.origins[i];
        ASSERT(origin->begin < origin->end && origin->end <= text.text.size);
        ASSERT(i == 0 || origin->begin >= text.origins[i - 1].end);
        ASSERT(!origin->exact || (origin->bytes == origin->end - origin->begin &&
                                  memcmp(text.text.data + origin->begin, origin->from, origin->bytes) == 0));
      }
      for (size_t i = 0; i < text.generation_count; i++) {
        ASSERT(text.generations[i].begin <= text.generations[i].end &&
               text.generations[i].end <= text.text.size);
      }
    }
    template_free(template);
  }
  ASSERT(template || error.code != ERROR_NONE);
  return 0;
}

#ifndef LIBFUZZER
static void run_cases(const Buffer *text) {
  json_error_t problem;
  json_t *root = json_parse(text->data, text->size, json_limit_record, 0, &problem);
  ASSERT(root);
  const json_t *cases = json_object_get(root, "cases");
  for (size_t i = 0; i < json_array_size(cases); i++) {
    const char *source = json_string_value(json_object_get(json_array_get(cases, i), "source"));
    if (!source) continue;
    size_t size = strlen(source);
    LLVMFuzzerTestOneInput((const unsigned char *)source, size);
    for (size_t cut = 1; cut < size; cut += 1 + size / 16) { /* and torn ones */
      LLVMFuzzerTestOneInput((const unsigned char *)source, cut);
      LLVMFuzzerTestOneInput((const unsigned char *)source + cut, size - cut);
    }
  }
  json_decref(root);
}

int main(int count, char **arguments) {
  for (int i = 1; i < count; i++) {
    Error error = {0};
    Buffer text = {0};
    if (!file_read(arguments[i], &text, &error)) {
      printf("%s\n", error.message);
      return 1;
    }
    size_t length = strlen(arguments[i]);
    if (length > 5 && strcmp(arguments[i] + length - 5, ".json") == 0) {
      run_cases(&text);
    } else {
      LLVMFuzzerTestOneInput((const unsigned char *)text.data, text.size);
    }
    buffer_free(&text);
  }
  return 0;
}
#endif
