#include "dpo/loss.h"

#include "base/error.h"

#include <math.h>
#include <stddef.h>

const char *const dpo_loss_names[] = {"sigmoid", "robust",   "sigmoid_norm",      "hinge",
                                      "ipo",     "apo_zero", "apo_down",          "orpo",
                                      "simpo",   "kto",      "apo_zero_unpaired", NULL};

bool dpo_has_reference(const DpoTerms *terms) {
  return terms->loss != DPO_ORPO && terms->loss != DPO_SIMPO;
}

bool dpo_is_unpaired(const DpoTerms *terms) {
  return terms->loss == DPO_KTO || terms->loss == DPO_APO_ZERO_UNPAIRED;
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
    case DPO_ROBUST:
    case DPO_HINGE:
    case DPO_APO_ZERO:
    case DPO_APO_DOWN:
      return (Sloped){p - q, 1};
    case DPO_SIGMOID_NORM:
    case DPO_IPO:
      return (Sloped){(p - q) / tokens, 1 / tokens};
    case DPO_SIMPO:
      return (Sloped){p / tokens, 1 / tokens};
    default: /* DPO_ORPO */
      break;
  }
  const Sloped odds = log_odds(p / tokens);
  return (Sloped){odds.value, odds.slope / tokens};
}

/* What a pair costs, and its derivatives by the two strengths. */
typedef struct PairCost {
  double value, better, worse;
} PairCost;

/* A cost of the difference alone. */
static PairCost by_difference(double value, double slope) {
  return (PairCost){value, slope, -slope};
}

/* -right log sigmoid(z) - wrong log sigmoid(-z), of z = beta difference + constant. */
static PairCost logistic(double beta, double z, double right, double wrong) {
  return by_difference(right * softplus(-z) + wrong * softplus(z),
                       beta * (wrong * sigmoid(z) - right * sigmoid(-z)));
}

/* d sigmoid(x) / dx */
static double bell(double x) {
  return sigmoid(x) * sigmoid(-x);
}

static PairCost cost(const DpoTerms *terms, double better, double worse) {
  const double beta = terms->beta, e = terms->label_smoothing, difference = better - worse;
  const double z = beta * difference, off = difference - 1 / (2 * beta);
  switch ((DpoLossKind)terms->loss) {
    case DPO_SIGMOID:
      return logistic(beta, z, 1 - e, e);
    case DPO_ROBUST:
      return logistic(beta, z, (1 - e) / (1 - 2 * e), -e / (1 - 2 * e));
    case DPO_SIGMOID_NORM:
      return logistic(beta, z, 1, 0);
    case DPO_HINGE:
      return by_difference(z < 1 ? 1 - z : 0, z < 1 ? -beta : 0);
    case DPO_IPO:
      return by_difference(off * off, 2 * off);
    case DPO_APO_ZERO:
      return (PairCost){sigmoid(-beta * better) + sigmoid(beta * worse), -beta * bell(beta * better),
                        beta * bell(beta * worse)};
    case DPO_APO_DOWN:
      return (PairCost){sigmoid(beta * better) + sigmoid(-z), beta * (bell(beta * better) - bell(z)),
                        beta * bell(z)};
    case DPO_SIMPO:
      return logistic(beta, z - terms->gamma, 1 - e, e);
    default: /* DPO_ORPO */
      return logistic(1, difference, beta, 0);
  }
}

static double sft_weight(const DpoTerms *terms) {
  return terms->loss == DPO_ORPO ? 1 : terms->sft_coef;
}

static double reward_of(const DpoTerms *terms, const DpoAnswer *answer) {
  if (dpo_has_reference(terms)) return terms->beta * (answer->logprob - answer->reference);
  return terms->beta * answer->logprob / tokens_of(answer);
}

/* side: above 0 when it is on its side of what it is compared with. */
static void add_figures(const DpoTerms *terms, const DpoAnswer *answer, bool chosen, double side,
                        DpoSums *sums) {
  sums->correct += side > 0 ? 1 : side == 0 ? 0.5 : 0;
  *(chosen ? &sums->chosen : &sums->rejected) += 1;
  *(chosen ? &sums->reward_chosen : &sums->reward_rejected) += reward_of(terms, answer);
  *(chosen ? &sums->logprob_chosen : &sums->logprob_rejected) += answer->logprob;
}

static void add_pair(const DpoTerms *terms, const DpoAnswer *better, const DpoAnswer *worse, DpoSums *sums) {
  const double side = reward_of(terms, better) - reward_of(terms, worse);
  add_figures(terms, better, true, side, sums);
  add_figures(terms, worse, false, side, sums);
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
  ASSERT(!dpo_is_unpaired(terms));
  const double share = n * count_pairs(answers, count), sft = sft_weight(terms);
  double loss = 0;
  for (int64_t i = 0; slopes && i < count; i++) slopes[i] = 0;
  for (int64_t i = 0; i < count; i++) {
    const Sloped better = strength(terms, &answers[i]);
    for (int64_t j = 0; j < count; j++) {
      if (answers[i].rank >= answers[j].rank) continue;
      const Sloped worse = strength(terms, &answers[j]);
      const PairCost pair = cost(terms, better.value, worse.value);
      loss += pair.value - sft * answers[i].logprob / tokens_of(&answers[i]);
      add_pair(terms, &answers[i], &answers[j], sums);
      if (!slopes) continue;
      slopes[i] += (pair.better * better.slope - sft / tokens_of(&answers[i])) / share;
      slopes[j] += pair.worse * worse.slope / share;
    }
  }
  sums->loss += loss / share;
}

void dpo_loss_single(const DpoTerms *terms, const DpoAnswer *answer, double kl, double n, DpoSums *sums,
                     double *slope) {
  const bool good = answer->rank == 0;
  const double point = terms->loss == DPO_KTO ? terms->beta * kl : 0, sign = good ? 1 : -1;
  const double weight = (good ? terms->desirable_weight : terms->undesirable_weight) / n;
  const double side = sign * (reward_of(terms, answer) - point);
  sums->loss += weight * sigmoid(-side);
  if (slope) *slope = -sign * weight * terms->beta * bell(side);
  add_figures(terms, answer, good, side, sums);
}
