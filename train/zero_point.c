#include "train/zero_point.h"

#include "train/answers.h"

void scores_pack(Packer *packer, const Example *example) {
  for (int k = 0; k < example->answer_count; k++) (void)answer_pack(packer, example, &example->answers[k]);
  if (!example->answers) (void)packer_add(packer, example->ids, example->count);
}

void scores_judge(Supervised *s) {
  score_values(&s->pass, &s->trainee.predictor.head, packer_last(&s->micro.packer), s->micro.packer.values);
}

static void add_scores(Supervised *s, void *context) {
  double *sum = context;
  for (int64_t i = 0; i < s->micro.packer.batch.sequences; i++) *sum += s->micro.packer.values[i];
}

bool zero_point(Supervised *s, double *mean, Error *error) {
  const Dataset *answers = &s->corpus.reference;
  double sum = 0;
  s->trainee.predictor.head.zero = (ScoreZero){0};
  if (!supervised_judge_all(s, answers, add_scores, &sum, error)) return false;
  comm_sum(&s->compute.comm, &sum, 1);
  *mean = sum / (double)answers->count;
  return true;
}
