#include "train/answers.h"

int64_t answer_pack(Packer *packer, const Example *example, const ExampleAnswer *answer) {
  const int *ids = example->ids + answer->begin;
  if (example->count == 0) return packer_add(packer, ids, answer->count);
  const int64_t first = packer_add(packer, example->ids, example->count);
  packer_extend(packer, ids, answer->count);
  return first;
}
