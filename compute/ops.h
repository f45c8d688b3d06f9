/* The operations: types of their arguments, and the wrappers and backend table generated from ops.def.
 *
 * Dimension letters, used in every comment of the project:
 *   B sequences   T tokens (rows of a packed batch)   N rows picked out of T   C channels (hidden size)
 *   H query heads   K key/value heads   D head size   V vocabulary   R rank of an adapter
 *   I, O inputs and outputs of a linear
 * A gradient of x is called dx. Gradients of weights accumulate; gradients of activations are overwritten
 * unless the operation takes `beta` or says so. All sums, softmax and norms are in fp32 whatever the dtypes.
 *
 * A weight (`Weight`, table, norm vectors) may be F32 or BF16; a frozen `Weight` may be NF4 or NF4_PLAIN too, an embedding or head
 * Q8. Activations are F32 on the CPU backend; on CUDA they are F32 or BF16, all activations of one call alike
 * (compute_activation says which). Statistics of rows (mean, rstd, lse), log-probabilities, entropies, logits given
 * to `sample`, gradients of weights are F32; optimiser state is F32 or 8-bit (OptimState). Ids, rows, positions and
 * offsets are I32 tensors. */
#ifndef COMPUTE_OPS_H
#define COMPUTE_OPS_H

#include "base/random.h"
#include "compute/compute.h"
#include "compute/nf4.h"
#include "compute/tensor.h"

/* The matrix of a linear y = x W^T: data is [O, I]; with `transposed` it is [I, O] (GPT-2's Conv1D). A weight of a block dtype
 * (compute/nf4.h, compute/q8.h) is never transposed and never trained: an operation on it is, to the bit, the one on the
 * BF16 matrix of its values. */
typedef struct Weight {
  Tensor data;
  bool transposed;
  bool narrow; /* of a gradient: the weight is BF16, and so may a matrix unit take x and dy */
} Weight;

static inline int64_t weight_inputs(Weight w) {
  return w.data.dim[w.transposed ? 0 : 1];
}
static inline int64_t weight_outputs(Weight w) {
  return w.data.dim[w.transposed ? 1 : 0];
}

/* What an adapter adds to so many neighbouring outputs of a linear: scale * u b^T. */
typedef struct AdapterTerm {
  int64_t outputs;
  Tensor u, b; /* [T,R], [outputs,R]; or none: nothing is added */
  float scale;
} AdapterTerm;

enum { ADAPTER_TERMS = 3 }; /* most of a call */

typedef enum NormKind {
  NORM_LAYER, /* (x - mean) / sqrt(var + eps) * w + b */
  NORM_RMS    /* x / sqrt(mean(x^2) + eps) * w */
} NormKind;

typedef struct NormSpec {
  NormKind kind;
  float eps;
  float weight_offset; /* 1 for Gemma's (1 + w), else 0 */
} NormSpec;

/* The tensors of a norm, as its arguments. */
typedef struct NormTerms {
  Tensor out, mean, rstd, x, weight, bias;
} NormTerms;

typedef enum Activation {
  ACTIVATION_SILU,
  ACTIVATION_GELU,      /* x/2 (1 + erf(x/sqrt 2)) */
  ACTIVATION_GELU_TANH, /* the tanh form: "gelu_new", "gelu_pytorch_tanh" */
  ACTIVATION_RELU,
  ACTIVATION_RELU_SQUARED /* max(x, 0)^2 */
} Activation;

/* Rotary position embedding (Su et al. 2021) on the first 2*pairs elements of each head. */
typedef struct RotarySpec {
  Tensor inverse_frequency; /* [pairs] F32: the angle of pair i at position p is p * inverse_frequency[i] */
  float scale;              /* factor on cos and sin (yarn's attention factor); 1 otherwise */
  bool interleaved;         /* pairs (2i, 2i+1) instead of (i, i+pairs) */
} RotarySpec;

typedef struct AttentionSpec {
  float scale;   /* on q.k, usually 1/sqrt(D) */
  float softcap; /* c: scores become c*tanh(s/c); 0 = none */
  int window;    /* a query at q sees keys k with q - window < k <= q; 0 = all keys <= q */
  Tensor slopes; /* ALiBi slopes [H] F32, bias slope * (k - q) on the score; or none */
  float
      place_scale; /* not 0: the bias is place_scale * bf16(slope * bf16(k)) instead, k counted from 0 in its sequence */
} AttentionSpec;

/* Where the keys and values of running sequences lie (rollouts): F32, BF16, or 8 bits.
 *
 * In 8 bits the D elements of a token's key in one head, and those of its value, have a scale of their own:
 *
 *   scale = absmax / 127            F32
 *   code  = round(x / scale)        to nearest, ties to even, within -127 .. 127; 0 where the scale is 0
 *   value = code * scale            in F32; where queries are BF16 rounded once more, to nearest even
 *
 * An element that is not finite makes the scale NaN, and so all values. What is stored of a token is a function of the token:
 * nothing that comes later, and nobody who shares its block, changes a bit of it. Attention over codes is, to the bit, that
 * over a cache of their values in the queries' type. */
typedef struct PagedCache {
  Tensor keys;   /* [blocks, K, block_size, D], rotary already applied; codes: I8, contiguous */
  Tensor values; /* alike */
  /* [sequences, max_blocks] I32, rows may be strided: block that holds positions j*block_size .. of a sequence. A call whose rows
   * have lower positions may be given the first columns alone: the same bits, by smaller grids on a card. */
  Tensor table;
  Tensor key_scales, value_scales; /* of codes: [blocks, K, block_size] F32, contiguous; else none */
} PagedCache;

/* What dropout drops is a function of counters, not of where an element lies in a batch: of the four words that philox4x32 gives
 * for key and the counters (i / 4, site, t, s), lowest first, word i % 4 is for column i in the row of position t of sequence
 * s. Its upper 24 bits, times 2^-24, are the draw. So masks are the same however sequences are packed into micro-batches, and
 * when a pass is run again. */
typedef struct DropoutSpec {
  float p; /* 0 <= p < 1 */
  RandomKey key;
  uint32_t site; /* which of the places of the model that drop: the module */
  Tensor draws,
      positions; /* [T] I32: each row's sequence, by its number among all that the run trains on; its position */
} DropoutSpec;

/* The logits of an LM head over rows x: x W^T + bias + scale * u b^T, where the thin product is an adapter's. The same
 * struct names the gradients of its parts. */
typedef struct HeadTerms {
  Tensor x; /* [N,C] */
  Weight w; /* [V,C] */
  int64_t
      padded; /* rows that w has in memory, zeros from V on (compute_table_rows), for shapes that a card likes; 0: V */
  Tensor bias; /* [V], or none */
  Tensor u, b; /* [N,R] like x, [V,R]; or none */
  float scale; /* of the thin product */
} HeadTerms;

/* What is done to single logits of a row before they become a distribution. First a logit whose id is in the row's part of `ids` is divided by
 * `penalty`, or multiplied where it is negative (the repetition penalty of Keskar et al. 2019, section 4.1, in the form of Transformers'
 * RepetitionPenaltyLogitsProcessor); then, in rows whose `bans` is not 0, the logits of `banned` become -infinity. */
typedef struct LogitEdits {
  float penalty;      /* above 0 */
  Tensor ids;         /* [M] I32; the part of a row has each id once, below V. Or none, with from and count */
  Tensor from, count; /* [N] I32: where the part of a row begins, and its length, which is at most ... */
  int64_t most;
  Tensor banned, bans; /* [B] I32, [N] I32; or none */
} LogitEdits;

static inline bool logits_edited(LogitEdits edits) {
  return !tensor_is_none(edits.ids) || !tensor_is_none(edits.banned);
}
/* Of the rows first .. first + count - 1. */
static inline LogitEdits edits_rows(LogitEdits edits, int64_t first, int64_t count) {
  Tensor *of_rows[] = {&edits.from, &edits.count, &edits.bans};
  for (int i = 0; i < 3; i++) {
    if (!tensor_is_none(*of_rows[i])) *of_rows[i] = tensor_rows(*of_rows[i], first, count);
  }
  return edits;
}

typedef struct HeadSpec {
  float temperature; /* logits are divided by it; 1 in training on text */
  float softcap;     /* c*tanh(logit/c) before the temperature; 0 = none */
  LogitEdits edits;  /* before the temperature; not with a softcap */
} HeadSpec;

typedef struct SampleRow {
  RandomKey key;
  uint64_t sample; /* the draw is random_uniform(key, sample, position) */
  uint64_t position;
  float temperature; /* 0 = greedy */
  float top_p;       /* 1 = off */
  int top_k;         /* 0 = off */
} SampleRow;

/* Optimiser state of a tensor of n elements: F32 of its shape; or in 8 bits (Dettmers et al. 2022, block-wise
 * quantisation): codes of the dynamic map (compute/dynamic_map.h), U8 [blocks, STATE_BLOCK] with the elements in
 * order and the rest of the last block zero, and for each block the factor of its codes, F32 [blocks]. All zero
 * bytes is a state of zeros. */
enum { STATE_BLOCK = 256 };

typedef struct OptimState {
  Tensor data;   /* F32, or U8 codes; or none where the optimiser has no such state */
  Tensor absmax; /* of codes, else none */
} OptimState;

static inline int64_t state_blocks(int64_t elements) {
  return (elements + STATE_BLOCK - 1) / STATE_BLOCK;
}

/* One parameter as an optimiser step sees it. */
typedef struct OptimTensor {
  Tensor p;        /* F32: the parameter, or the master copy of a BF16 one */
  Tensor value;    /* BF16: receives p, rounded; or none */
  OptimState m, v; /* v: AdamW alone; m and v alike in type */
  Tensor grad;     /* F32 */
  bool decay;      /* weight decay applies */
} OptimTensor;

typedef struct AdamStep {
  float lr, beta1, beta2, eps, weight_decay;
  float correction1, correction2; /* 1 - beta^step */
  float grad_scale;               /* clipping */
} AdamStep;

typedef struct LionStep {
  float lr, beta1, beta2, weight_decay, grad_scale;
} LionStep;

typedef struct SgdStep {
  float lr, momentum, weight_decay, grad_scale;
} SgdStep;

/* The table of one backend: what compute.h asks of a device, and every operation of ops.def. */
typedef struct Backend {
  const char *name;
  bool host_memory;        /* tensors lie in the host's own memory, which may be written without an upload */
  bool narrow_activations; /* activations take the dtype of the weights; else they are F32 */
  int64_t table_unit;      /* of compute_table_rows */
  Nf4Layout nf4_layout;    /* how the codes of its 4-bit weights lie */
  bool nf4_wide_scales; /* it takes NF4_PLAIN alone: decoding scales would cost more than reading wide ones */
  bool (*open)(Compute *c, Error *error);
  void (*close)(Compute *c);
  bool (*arena)(Compute *c, Arena *arena, const char *name, size_t bytes, Error *error);
  void (*arena_free)(Compute *c, Arena *arena);
  void (*upload)(Compute *c, Tensor device, const void *host);
  void (*download)(Compute *c, void *host, Tensor device);
  DeviceMemory (*memory)(const Compute *c);
  /* Pinned host memory and copies beside the operations; NULL where tensors lie in the host's memory. */
  bool (*host_arena)(Compute *c, Arena *arena, const char *name, size_t bytes, Error *error);
  void (*host_arena_free)(Compute *c, Arena *arena);
  void (*offload)(Compute *c, void *host, Tensor device);
  void (*prefetch)(Compute *c, Tensor device, const void *host);
  void (*offload_wait)(Compute *c);
  void (*offload_finish)(Compute *c);
  const char *(*describe)(const Compute *c); /* name and card, for logs; NULL: the name says it */
  /* Recording; NULL when the backend has none. */
  void (*record_begin)(Compute *c);
  ComputeGraph *(*record_end)(Compute *c);
  void (*replay)(Compute *c, ComputeGraph *graph);
  void (*graph_free)(Compute *c, ComputeGraph *graph);
  size_t (*graph_bytes)(const ComputeGraph *graph);
#define OP(name, parameters, arguments) void(*name) parameters;
#include "compute/ops.def"
#undef OP
} Backend;

#define OP(name, parameters, arguments)     \
  static inline void op_##name parameters { \
    c->backend->name arguments;             \
  }
#include "compute/ops.def"
#undef OP

/* Names of all operations, NULL at the end: the operation table test checks that it covers them. */
extern const char *const op_names[];

/* The tables; backend choice is compute_open's. */
extern const Backend backend_cpu_v3;              /* AVX2 + FMA */
extern const Backend backend_cpu_v4;              /* AVX-512 */
extern const Backend *const backend_cuda;         /* NULL in a build without CUDA */
extern const Backend *const backend_cuda_assumed; /* a card that is not there, for plans; NULL likewise */

#endif
