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
  QKV_HEADS,    /* one linear, rows [head][q,k,v][D]: GPT-NeoX, BLOOM */
  QKV_GROUPS    /* one linear, rows [k/v head][its query heads, k, v][D]: Falcon-40B, InternLM2 */
} QkvLayout;

typedef enum QkNorm {
  QK_NORM_NONE,
  QK_NORM_HEAD, /* over D of each head, weight [D]: Qwen3, Gemma 3 */
  QK_NORM_HEADS, /* over D of each head with a weight of its own: one tensor [heads, D] (Cohere), or one [D] per head
                    (StableLM-2) */
  QK_NORM_ALL /* over the whole projection, weight [heads*D]: OLMo2 */
} QkNorm;

typedef enum RopeKind {
  ROPE_DEFAULT,
  ROPE_LINEAR,
  ROPE_DYNAMIC,
  ROPE_LLAMA3,
  ROPE_YARN,
  ROPE_LONGROPE
} RopeKind;

enum { ROPE_MAX_PAIRS = 256 };

/* The inverse frequencies of one rotary table. Those of dynamic and longrope depend on the longest sequence (`context`): one
 * table serves a whole run, so that a token has the same rotation in training, in scoring and in the cache. */
typedef struct RopeSpec {
  RopeKind kind;
  double theta;
  double factor;               /* linear, dynamic, llama3, yarn, longrope */
  double low_freq_factor;      /* llama3 */
  double high_freq_factor;     /* llama3 */
  double original_max;         /* dynamic, llama3, yarn, longrope: positions of the original training */
  double beta_fast, beta_slow; /* yarn */
  bool yarn_exact;             /* yarn: the corrections are not rounded ("truncate": false) */
  double attention_factor;     /* yarn, longrope; 0 = from the factor */
  double context;              /* dynamic, longrope: longest sequence of the run; 0 = within original_max */
  float short_factor[ROPE_MAX_PAIRS], long_factor[ROPE_MAX_PAIRS]; /* longrope, by pair */
} RopeSpec;

enum { MODEL_MAX_LAYERS = 256 };

typedef struct ModelSpec {
  /* shape */
  int64_t vocab, hidden, layers, heads, kv_heads, head_size, intermediate;
  int64_t
      embedding_size; /* columns of the embedding table and of the head where they are not hidden: OPT-350m; else 0 */
  int64_t max_positions; /* longest sequence; 0 = no limit of the architecture */
  bool
      positions_end; /* longer ones are refused, as where positions are learned: Qwen, whose code changes its mathematics there */

  /* norms */
  NormSpec norm;
  NormPlacement placement;
  bool final_norm;
  bool embedding_norm; /* BLOOM */

  /* residual stream */
  bool parallel;                /* x + attn(n1 x) + mlp(n2 x) */
  bool parallel_shared;         /* ... with n2 = n1: GPT-J, Phi, Falcon-7B */
  float embedding_scale;        /* 1; Gemma: sqrt(hidden) */
  bool embedding_scale_rounded; /* to the dtype of the weights: Gemma */
  float residual_scale;         /* 1; x + scale * f(x): Granite, MiniCPM */

  /* attention */
  PositionKind position;
  int64_t position_offset; /* learned positions: row = position + offset (OPT: 2) */
  int64_t rotary_size;     /* leading elements of each head that rotate */
  bool rotary_interleaved;
  RopeSpec rope, rope_local; /* rope_local: layers with a window, where the architecture tells them apart */
  bool rope_by_window;
  bool without_rotary[MODEL_MAX_LAYERS]; /* layers whose heads do not rotate: SmolLM3, Cohere 2 */
  QkvLayout qkv;
  QkNorm qk_norm;
  bool qk_norm_rotated;  /* those norms come after the rotation: HunYuan */
  float clip_qkv;        /* 0 = off */
  float attention_scale; /* on q.k; 0 = none given: 1/sqrt(head_size) */
  bool scale_by_layer;   /* GPT-2 scale_attn_by_inverse_layer_idx: further divided by layer + 1 */
  float attention_softcap;
  int window[MODEL_MAX_LAYERS]; /* keys seen by each layer, 0 = all */
  float alibi_max;              /* 8 */
  bool alibi_by_place;          /* Falcon: attention_scale * bf16(slope * bf16(k)), slopes in BF16 */

  /* feed-forward */
  Activation activation;
  bool gated;
  bool gate_up_fused; /* one linear, rows gate then up: ChatGLM, Phi-3 */

  /* head */
  bool tied;            /* LM head = embedding table */
  bool head_bias;       /* GPT-J, Phi */
  bool head_normalized; /* rows of the head have length 1: Baichuan 2. They are made so when they are read. */
  float logit_scale;    /* 1; on the logits, before the cap: Cohere, Granite, MiniCPM */
  float logit_softcap;
} ModelSpec;

/* Columns of the embedding table and of the head. */
static inline int64_t model_width(const ModelSpec *spec) {
  return spec->embedding_size ? spec->embedding_size : spec->hidden;
}

/* Whether `context` asks for other frequencies than sequences within the original positions have. Transformers looks at the
 * length of each call, Drover once at the longest sequence of a run, so that a token turns by the same angle in training, in
 * scoring and in the cache. */
bool rope_is_extended(const RopeSpec *spec);
/* Whether the table is right for a sequence of `length` tokens. */
bool rope_serves(const RopeSpec *spec, int64_t length);
/* Inverse frequencies of `spec` for rotary_size/2 pairs into out (host), and the factor on cos and sin. */
void rope_frequencies(const RopeSpec *spec, int64_t rotary_size, float *out, float *scale);

/* ALiBi slopes of all heads (Press et al. 2022; references: Transformers' build_alibi_tensor of BLOOM and Falcon and
 * build_mpt_alibi_tensor, which come to the same) into out (host). */
void alibi_slopes(const ModelSpec *spec, float *out);

/* What q.k is multiplied by, but for scale_by_layer. */
float attention_scale(const ModelSpec *spec);

#endif
