/* ModelSpec: one description for every decoder architecture (DESIGN decision 1).
 *
 * The forward and backward passes are driven by this struct alone; a new architecture is a file in
 * model/arch/ that fills it from config.json and names the tensors. Fields that an architecture does not use
 * keep the neutral value given here (0 unless said). */
#ifndef MODEL_SPEC_H
#define MODEL_SPEC_H

#include "compute/ops.h"

typedef enum PositionKind { POSITION_ROTARY, POSITION_LEARNED, POSITION_ALIBI } PositionKind;

typedef enum NormPlacement {
  NORM_PRE,     /* x + f(norm x) */
  NORM_POST,    /* norm(x + f(x)): OPT-350m */
  NORM_OUTPUT,  /* x + norm(f(x)): OLMo2 */
  NORM_SANDWICH /* x + norm(f(norm x)): Gemma 2 and 3 */
} NormPlacement;

/* How query, key and value rows are laid out in the projection(s). */
typedef enum QkvLayout {
  QKV_SEPARATE, /* three linears */
  QKV_BLOCKS,   /* one linear, rows q, then k, then v: GPT-2, MPT, Baichuan, Falcon-7B */
  QKV_HEADS     /* one linear, rows [head][q,k,v][D]: GPT-NeoX, BLOOM */
} QkvLayout;

typedef enum QkNorm {
  QK_NORM_NONE,
  QK_NORM_HEAD, /* over D of each head, weight [D]: Qwen3, Gemma 3 */
  QK_NORM_ALL   /* over the whole projection, weight [heads*D]: OLMo2 */
} QkNorm;

typedef enum RopeKind { ROPE_DEFAULT, ROPE_LINEAR, ROPE_LLAMA3, ROPE_YARN } RopeKind;

/* The inverse frequencies of one rotary table. */
typedef struct RopeSpec {
  RopeKind kind;
  double theta;
  double factor;                                 /* linear, llama3, yarn */
  double low_freq_factor;                        /* llama3 */
  double high_freq_factor;                       /* llama3 */
  double original_max;                           /* llama3, yarn: positions of the original training */
  double beta_fast, beta_slow, attention_factor; /* yarn; attention_factor 0 = from the factor */
} RopeSpec;

enum { MODEL_MAX_LAYERS = 256 };

typedef struct ModelSpec {
  /* shape */
  int64_t vocab, hidden, layers, heads, kv_heads, head_size, intermediate;
  int64_t max_positions; /* longest sequence; 0 = no limit of the architecture */

  /* norms */
  NormSpec norm;
  NormPlacement placement;
  bool final_norm;
  bool embedding_norm; /* BLOOM */

  /* residual stream */
  bool parallel;         /* x + attn(n1 x) + mlp(n2 x) */
  bool parallel_shared;  /* ... with n2 = n1: GPT-J, Phi, Falcon-7B */
  float embedding_scale; /* 1; Gemma: sqrt(hidden) */

  /* attention */
  PositionKind position;
  int64_t position_offset; /* learned positions: row = position + offset (OPT: 2) */
  int64_t rotary_size;     /* leading elements of each head that rotate */
  bool rotary_interleaved;
  RopeSpec rope, rope_local; /* rope_local: layers with a window, where the architecture tells them apart */
  bool rope_by_window;
  QkvLayout qkv;
  QkNorm qk_norm;
  float clip_qkv;        /* 0 = off */
  float attention_scale; /* on q.k; 0 = none given: 1/sqrt(head_size) */
  bool scale_by_layer;   /* GPT-2 scale_attn_by_inverse_layer_idx: further divided by layer + 1 */
  float attention_softcap;
  int window[MODEL_MAX_LAYERS]; /* keys seen by each layer, 0 = all */
  float alibi_max;              /* 8 */

  /* feed-forward */
  Activation activation;
  bool gated;
  bool gate_up_fused; /* one linear, rows gate then up: ChatGLM */

  /* head */
  bool tied; /* LM head = embedding table */
  float logit_softcap;
} ModelSpec;

/* Inverse frequencies of `spec` for rotary_size/2 pairs into out (host), and the factor on cos and sin. */
void rope_frequencies(const RopeSpec *spec, int64_t rotary_size, float *out, float *scale);

/* ALiBi slopes for `heads` heads (Press et al. 2022; reference: BLOOM's build_alibi_tensor) into out (host).
 */
void alibi_slopes(int64_t heads, float alibi_max, float *out);

#endif
