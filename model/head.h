/* The heads, between device hidden states and host arrays: the boundary where reinforcement learning is plain
 * C.
 *
 * `rows` picks tokens of the packed batch: row t of the hidden states predicts token t+1 of its sequence, so
 * the log-probability of token t+1 is asked for with rows[n] = t, targets[n] = ids[t+1]. rows are distinct.
 * All arrays are host arrays of `count` elements. Works in chunks inside; logits are never stored whole. */
#ifndef MODEL_HEAD_H
#define MODEL_HEAD_H

#include "model/pass.h"

/* LogitEdits (compute/ops.h) of rows, on the host: not for a model whose logits are capped. */
typedef struct RowEdits {
  float penalty;
  const int32_t *ids; /* [id_count] */
  int64_t id_count;
  const int32_t *from, *count; /* of each row: its part of them, */
  int64_t most;                /* at most so many */
  const int32_t *banned;       /* [banned_count] */
  int64_t banned_count;
  const int32_t *bans; /* of each row */
} RowEdits;

typedef struct TokenRows {
  const int32_t *rows;
  const int32_t *targets; /* not used by score heads: may be NULL there, and so is ... */
  int64_t count;
  const RowEdits *edits; /* ... this: what is done to logits before they are a distribution; NULL: nothing */
} TokenRows;

static inline TokenRows token_rows(const int32_t *rows, const int32_t *targets, int64_t count) {
  return (TokenRows){.rows = rows, .targets = targets, .count = count};
}

/* logprob in nats at `temperature` (logits divided by it); entropy may be NULL. */
void lm_logprobs(Pass *pass, TokenRows rows, float temperature, float *logprob, float *entropy);

/* Adds the gradient of sum(dlogprob*logprob + dentropy*entropy) to pass->dhidden and, when trainable, the
 * head. dentropy may be NULL. logprob_out may be NULL; else it receives the log-probabilities (recomputed
 * here anyway), so SFT needs no lm_logprobs before. */
void lm_logprobs_backward(Pass *pass, TokenRows rows, float temperature, const float *dlogprob,
                          const float *dentropy, float *logprob_out);

/* values[n] = hidden[rows[n]] . weight - shift */
void score_values(Pass *pass, const ScoreHead *head, TokenRows rows, float *values);
void score_values_backward(Pass *pass, const ScoreHead *head, TokenRows rows, const float *dvalues);

/* out[N,V] F32 = logits of x [N,C], scaled and after the softcap: what cached decoding samples from. */
void head_logits(const BlockContext *context, Tensor out, Tensor x);

/* Raw logits [count, V] (after the softcap, no temperature) to the host: inspection and tests. */
void lm_logits(Pass *pass, TokenRows rows, float *logits);

#endif
