#include "dpo/loss.h"

#include <math.h>
#include <stddef.h>

const char *const dpo_loss_names[] = {"sigmoid", "ipo", "orpo", "simpo", NULL};

bool dpo_has_reference(const DpoTerms *terms) {
  return terms->loss == DPO_SIGMOID || terms->loss == DPO_IPO;
}

/* log(1 + e^x) without overflow */
static double softplus(double x) {
  return x > 0 ? x + log1p(exp(-x)) : log1p(exp(x));
}

static double sigmoid(double x) {
  return exp(-softplus(-x));
}

/* A value and its derivative. */
typedef struct Sloped {
  double value, slope;
} Sloped;

static double tokens_of(const DpoAnswer *answer) {
  return answer->tokens > 0 ? (double)answer->tokens : 1;
}

/* log(e^m / (1 - e^m)). A probability that has rounded to 1 has no odds: there it is taken a little below. */
static Sloped log_odds(double m) {
  const double limit = -1e-7;
  if (m > limit) m = limit;
  return (Sloped){m - log(-expm1(m)), -1 / expm1(m)};
}

/* What the loss compares of an answer, by p. */
static Sloped strength(const DpoTerms *terms, const DpoAnswer *answer) {
  const double p = answer->logprob, q = answer->reference, tokens = tokens_of(answer);
  switch ((DpoLossKind)terms->loss) {
    case DPO_SIGMOID:
      return (Sloped){p - q, 1};
    case DPO_IPO:
      return (Sloped){(p - q) / tokens, 1 / tokens};
    case DPO_SIMPO:
      return (Sloped){p / tokens, 1 / tokens};
    case DPO_ORPO:
      break;
  }
  const Sloped odds = log_odds(p / tokens);
  return (Sloped){odds.value, odds.slope / tokens};
}

/* What a pair costs, by the difference of its strengths. */
static Sloped cost(const DpoTerms *terms, double difference) {
  const double beta = terms->beta, e = terms->label_smoothing;
  if (terms->loss == DPO_IPO) {
    const double off = difference - 1 / (2 * beta);
    return (Sloped){off * off, 2 * off};
  }
  if (terms->loss == DPO_ORPO) return (Sloped){beta * softplus(-difference), -beta * sigmoid(-difference)};
  const double z = beta * difference - (terms->loss == DPO_SIMPO ? terms->gamma : 0);
  return (Sloped){(1 - e) * softplus(-z) + e * softplus(z), beta * (e * sigmoid(z) - (1 - e) * sigmoid(-z))};
}

static double sft_weight(const DpoTerms *terms) {
  return terms->loss == DPO_ORPO ? 1 : terms->sft_coef;
}

static double reward_of(const DpoTerms *terms, const DpoAnswer *answer) {
  if (dpo_has_reference(terms)) return terms->beta * (answer->logprob - answer->reference);
  return terms->beta * answer->logprob / tokens_of(answer);
}

static void add_figures(const DpoTerms *terms, const DpoAnswer *better, const DpoAnswer *worse,
                        DpoSums *sums) {
  const double chosen = reward_of(terms, better), rejected = reward_of(terms, worse);
  sums->pairs++;
  sums->correct += chosen > rejected ? 1 : chosen == rejected ? 0.5 : 0;
  sums->reward_chosen += chosen;
  sums->reward_rejected += rejected;
  sums->logprob_chosen += better->logprob;
  sums->logprob_rejected += worse->logprob;
}

static double count_pairs(const DpoAnswer *answers, int64_t count) {
  double pairs = 0;
  for (int64_t i = 0; i < count; i++) {
    for (int64_t j = 0; j < count; j++) pairs += answers[i].rank < answers[j].rank;
  }
  return pairs;
}

void dpo_loss(const DpoTerms *terms, const DpoAnswer *answers, int64_t count, double n, DpoSums *sums,
              double *slopes) {
  const double share = n * count_pairs(answers, count), sft = sft_weight(terms);
  double loss = 0;
  for (int64_t i = 0; slopes && i < count; i++) slopes[i] = 0;
  for (int64_t i = 0; i < count; i++) {
    const Sloped better = strength(terms, &answers[i]);
    for (int64_t j = 0; j < count; j++) {
      if (answers[i].rank >= answers[j].rank) continue;
      const Sloped worse = strength(terms, &answers[j]);
      const Sloped pair = cost(terms, better.value - worse.value);
      loss += pair.value - sft * answers[i].logprob / tokens_of(&answers[i]);
      add_figures(terms, &answers[i], &answers[j], sums);
      if (!slopes) continue;
      slopes[i] += (pair.slope * better.slope - sft / tokens_of(&answers[i])) / share;
      slopes[j] -= pair.slope * worse.slope / share;
    }
  }
  sums->loss += loss / share;
}
