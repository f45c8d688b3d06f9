#include "datasets/show.h"

static bool sequence_ids(const Example *example, int k, IntArray *ids, Error *error) {
  if (!int_array_append(ids, example->ids, (size_t)example->count, error)) return false;
  if (!example->answers) return true;
  const ExampleAnswer *answer = &example->answers[k];
  return int_array_append(ids, example->ids + answer->begin, (size_t)answer->count, error);
}

static bool is_marked(const Example *example, int i) {
  return example->answers ? i >= example->count : example->loss && example->loss[i];
}

bool example_show(const Example *example, int k, const Tokenizer *tokenizer, IntArray *ids, Buffer *text,
                  Error *error) {
  const size_t first = ids->size;
  bool ok = buffer_append(text, "", 0, error) && sequence_ids(example, k, ids, error);
  const int *id = ids->data + first;
  const int count = (int)(ids->size - first);
  for (int begin = 0, end; ok && begin < count; begin = end) {
    const bool marked = is_marked(example, begin);
    end = begin + 1;
    while (end < count && is_marked(example, end) == marked) end++;
    ok = (!marked || buffer_text(text, SHOW_BEGIN, error)) &&
         tokenizer_decode(tokenizer, id + begin, (size_t)(end - begin), false, text, error) &&
         (!marked || buffer_text(text, SHOW_END, error));
  }
  return ok;
}

const char *example_sequence_name(const Example *example, int k, char out[32]) {
  if (!example->answers) return example->loss ? "example" : "prompt";
  if (example->answer_count == 1) return example->answers[0].rank == 0 ? "good answer" : "bad answer";
  if (example->answer_count == 2) return k == 0 ? "chosen" : "rejected";
  snprintf(out, 32, "answer %d", k + 1);
  return out;
}

const char *dataset_marked(DatasetKind kind) {
  switch (kind) {
    case DATASET_PROMPT:
      return NULL;
    case DATASET_PREFERENCE:
      return "the answers that are compared";
    case DATASET_UNPAIRED:
      return "the answer that is learnt from";
    default:
      return "the tokens in the loss";
  }
}
