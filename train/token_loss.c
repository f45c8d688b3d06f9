#include "train/token_loss.h"

void token_loss_pack(Packer *packer, const Example *example) {
  const int64_t first = packer_add(packer, example->ids, example->count);
  for (int t = 1; t < example->count; t++) {
    if (example->loss[t]) packer_want(packer, first + t - 1, example->ids[t]);
  }
}

void token_loss_read(Packer *packer, Pass *pass) {
  if (packer->row_count > 0) lm_logprobs(pass, packer_rows(packer), 1, packer->values, NULL);
}

/* In the order of the rows, in double: the same bits for the same micro-batch. */
double token_loss_sum(const Packer *packer) {
  double sum = 0;
  for (int64_t n = 0; n < packer->row_count; n++) sum -= (double)packer->values[n];
  return sum;
}

double token_loss_backward(Packer *packer, Pass *pass, double scale) {
  if (packer->row_count == 0) return 0;
  for (int64_t n = 0; n < packer->row_count; n++) packer->slopes[n] = -(float)scale;
  lm_logprobs_backward(pass, packer_rows(packer), 1, packer->slopes, NULL, packer->values);
  return token_loss_sum(packer);
}
