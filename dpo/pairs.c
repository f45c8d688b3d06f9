#include "dpo/pairs.h"

#include "train/answers.h"
#include "train/token_loss.h"

int64_t answer_rows(const Example *example, const ExampleAnswer *answer) {
  return example->count > 0 ? answer->count : answer->count - 1;
}

void pairs_pack(Packer *packer, const Example *example) {
  for (int k = 0; k < example->answer_count; k++) {
    const ExampleAnswer *answer = &example->answers[k];
    const int *end = example->ids + answer->begin + answer->count;
    const int64_t row = answer_pack(packer, example, answer) + example->count + answer->count - 1;
    for (int64_t left = answer_rows(example, answer); left > 0; left--)
      packer_want(packer, row - left, end[-left]);
  }
}

void pairs_judge(Supervised *s) {
  token_loss_read(&s->micro.packer, &s->pass);
}

double logprob_sum(const float *values, int64_t rows) {
  double sum = 0;
  for (int64_t i = 0; i < rows; i++) sum += (double)values[i];
  return sum;
}
