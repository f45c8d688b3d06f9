/* Losses that learn from preferences without a reward model: from pairs, or from single answers that are called good or bad.
 *
 * For an answer of T tokens let p be its log-probability under the policy, summed over its tokens, q the same under the
 * reference, and r its implicit reward. For a pair, w is the better answer, l the worse one and d = r_w - r_l:
 *
 *   sigmoid       r = beta (p - q)   -(1 - e) log sigmoid(d) - e log sigmoid(-d)
 *                 DPO: Rafailov et al. 2023, equation 7; e = label_smoothing: Mitchell 2023, conservative DPO
 *   robust        r = beta (p - q)   (-(1 - e) log sigmoid(d) + e log sigmoid(-d)) / (1 - 2e)
 *                 robust DPO: Chowdhury et al. 2024: without bias where a share e of the pairs is the wrong way round
 *   sigmoid_norm  r = beta (p - q)   -log sigmoid(beta ((p_w - q_w)/T_w - (p_l - q_l)/T_l))
 *                 length-normalised DPO: Lambert et al. 2024 (Tulu 3)
 *   hinge         r = beta (p - q)   max(0, 1 - d)
 *                 Liu et al. 2023 (RSO), after the hinge of SLiC, Zhao et al. 2023
 *   ipo           r = beta (p - q)   ((p_w - q_w)/T_w - (p_l - q_l)/T_l - 1/(2 beta))^2
 *                 Azar et al. 2023, equation 17, with TRL's means over tokens
 *   apo_zero      r = beta (p - q)   1 - sigmoid(r_w) + sigmoid(r_l)
 *   apo_down      r = beta (p - q)   sigmoid(r_w) + 1 - sigmoid(d)
 *                 APO: D'Oosterlinck et al. 2024, equations 7 and 8, for better answers that are better, or worse, than the model's own
 *   orpo          r = beta p/T       -p_w/T_w - beta log sigmoid(h_w - h_l),  h = m - log(1 - exp m),  m = p/T
 *                 Hong et al. 2024, equations 6 and 7
 *   simpo         r = beta p/T       as sigmoid, with d - gamma for d
 *                 Meng et al. 2024, equation 6
 *
 * and to each but orpo sft_coef * -p_w/T_w is added (RPO: Pang et al. 2024, equation 1). A record with several answers gives all
 * pairs of different rank, and its loss is their mean, as that of the reward model is:
 *
 *   l = 1/P * sum over the P pairs;   L = 1/n * sum over the records of the update of l
 *
 * Of a single answer:
 *
 *   kto                r = beta (p - q)   w_D (1 - sigmoid(r - beta z0)) of a good one, w_U (1 - sigmoid(beta z0 - r)) of a bad one
 *                      KTO: Ethayarajh et al. 2024, equation 7; z0: dpo/mismatched.h; no gradient goes through it
 *   apo_zero_unpaired  the same with z0 = 0: APO for single answers
 *
 * with w_D = desirable_weight, w_U = undesirable_weight, and L the mean over the answers of the update.
 *
 * Everything is on the host, in nats. */
#ifndef DPO_LOSS_H
#define DPO_LOSS_H

#include <stdbool.h>
#include <stdint.h>

typedef enum DpoLossKind {
  DPO_SIGMOID,
  DPO_ROBUST,
  DPO_SIGMOID_NORM,
  DPO_HINGE,
  DPO_IPO,
  DPO_APO_ZERO,
  DPO_APO_DOWN,
  DPO_ORPO,
  DPO_SIMPO,
  DPO_KTO,
  DPO_APO_ZERO_UNPAIRED
} DpoLossKind;
extern const char *const dpo_loss_names[]; /* in that order, NULL at the end */

typedef struct DpoTerms {
  int loss; /* DpoLossKind */
  double beta, label_smoothing, gamma, sft_coef;
  double desirable_weight, undesirable_weight;
} DpoTerms;

/* Whether the loss compares with a reference. */
bool dpo_has_reference(const DpoTerms *terms);
/* Whether it is of single answers. */
bool dpo_is_unpaired(const DpoTerms *terms);

typedef struct DpoAnswer {
  double logprob, reference; /* p, q; q is unused where there is no reference */
  int64_t tokens;            /* T; an answer of none counts as one */
  int32_t rank;              /* the lower, the better; of a single answer 0: a good one */
} DpoAnswer;

/* Sums over the answers that are compared, each pair's two anew, but for the loss. Chosen: the better ones and the good ones.
 * Correct: those on their side of what they are compared with, half where they are equal: r_w > r_l; r > beta z0 of a good one. */
typedef struct DpoSums {
  double loss;                             /* l / n */
  double correct, chosen, rejected;        /* how many */
  double reward_chosen, reward_rejected;   /* r */
  double logprob_chosen, logprob_rejected; /* p */
} DpoSums;

/* Adds one record to the sums. answers: [count], at least two of different rank. n: records of the whole update, over all
 * micro-batches and ranks. slopes [count] receives dL/dp of each answer, or is NULL for an evaluation. */
void dpo_loss(const DpoTerms *terms, const DpoAnswer *answers, int64_t count, double n, DpoSums *sums,
              double *slopes);

/* Adds a single answer. kl: z0, which apo_zero_unpaired does not look at; slope: dL/dp, or NULL. */
void dpo_loss_single(const DpoTerms *terms, const DpoAnswer *answer, double kl, double n, DpoSums *sums,
                     double *slope);

#endif
