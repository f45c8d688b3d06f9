#include "train/examples.h"

#include "datasets/show.h"

enum { KEPT_EXAMPLES = 3, SAID_BYTES = 1200 };

/* At the beginning of a character at or after `at`. */
static size_t character_at(const Buffer *text, size_t at) {
  while (at < text->size && ((unsigned char)text->data[at] & 0xc0) == 0x80) at++;
  return at;
}

static void say(Log *log, const char *name, const Buffer *text) {
  if (text->size <= SAID_BYTES) {
    log_info(log, "  %s: %s", name, text->data);
    return;
  }
  const size_t head = character_at(text, SAID_BYTES / 2),
               tail = character_at(text, text->size - SAID_BYTES / 2);
  log_info(log, "  %s: %.*s ... (%zu bytes left out) ... %s", name, (int)head, text->data, tail - head,
           text->data + tail);
}

bool examples_say(const char *name, const Dataset *dataset, const TextTools *text, Log *log, Error *error) {
  if (!log || dataset->count == 0) return true;
  const Example example = dataset_example(dataset, dataset_reference(dataset, 0));
  const char *marked = dataset_marked(dataset->kind);
  log_info(log, "%s: the first example, %s:%llu%s%s", name, dataset->sources[example.source].path,
           (unsigned long long)example.line, marked ? "; between " SHOW_BEGIN " and " SHOW_END ": " : "",
           marked ? marked : "");
  bool ok = true;
  for (int k = 0; ok && k < example_sequences(&example); k++) {
    char number[32];
    IntArray ids = {0};
    Buffer shown = {0};
    ok = example_show(&example, k, text->tokenizer, &ids, &shown, error);
    if (ok) say(log, example_sequence_name(&example, k, number), &shown);
    int_array_free(&ids);
    buffer_free(&shown);
  }
  return ok;
}

bool examples_keep(const char *name, const Dataset *dataset, const TextTools *text, RunLog *log,
                   Error *error) {
  bool ok = true;
  for (uint64_t i = 0; ok && i < dataset->count && i < KEPT_EXAMPLES; i++) {
    const Example example = dataset_example(dataset, dataset_reference(dataset, i));
    for (int k = 0; ok && k < example_sequences(&example); k++) {
      char number[32];
      IntArray ids = {0};
      Buffer shown = {0};
      ok = example_show(&example, k, text->tokenizer, &ids, &shown, error);
      if (ok) {
        const RunLogExample row = {.data = name,
                                   .path = dataset->sources[example.source].path,
                                   .line = (int64_t)example.line,
                                   .number = (int64_t)i,
                                   .sequence = example_sequence_name(&example, k, number),
                                   .text = shown.data,
                                   .text_bytes = shown.size,
                                   .ids = ids.data,
                                   .count = (int64_t)ids.size};
        runlog_example(log, &row);
      }
      int_array_free(&ids);
      buffer_free(&shown);
    }
  }
  return ok;
}
