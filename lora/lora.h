/* LoRA adapters (Hu et al. 2021; reference implementation: PEFT): y = W x + s * B(A(dropout x)), s = alpha/r,
 * or alpha/sqrt(r) with rslora (Kalajdzievski 2023).
 *
 * A LoraSet is one adapter: a pair (A [R,I], B [O,R]) for each adapted linear of a model, by the linear's id.
 * Any number of sets can exist beside one frozen base; a forward pass names the one to use, or none (DESIGN
 * decision 4). A and B have the dtype of the activations they meet (F32, or BF16, with F32 masters when they are
 * trained); files hold F32. The room knows no model: it is told the linears as LoraModules. */
#ifndef LORA_LORA_H
#define LORA_LORA_H

#include "compute/ops.h"
#include "compute/parameter.h"

/* A linear that can carry an adapter. */
typedef struct LoraModule {
  char *name; /* PEFT's module name in the causal LM: "model.layers.0.self_attn.q_proj" */
  int64_t inputs, outputs;
  bool transposed; /* the weight is [in, out] */
  bool is_head;    /* the LM head: "all-linear" leaves it out */
} LoraModule;

/* A module whose rank or alpha differs from the rest: PEFT's rank_pattern and alpha_pattern, resolved. */
typedef struct LoraOverride {
  char *module; /* full name */
  int r;
  double alpha;
} LoraOverride;

/* What adapter_config.json says, as far as it matters here. Zeroed, then filled field by field; freed with
 * lora_spec_free. */
typedef struct LoraSpec {
  int r;
  double alpha;
  float dropout;
  bool rslora;
  /* Target modules: names matched as PEFT does (a module matches when it equals a target or ends in
   * ".target"), or the single word "all-linear" (every linear but the LM head). */
  char **targets;
  size_t target_count;
  LoraOverride *overrides;
  size_t override_count;
  bool sequence_classification; /* task_type SEQ_CLS instead of CAUSAL_LM */
} LoraSpec;

NODISCARD bool lora_spec_copy(LoraSpec *out, const LoraSpec *spec, Error *error);
void lora_spec_free(LoraSpec *spec);
/* Appends a target; an override. */
NODISCARD bool lora_spec_target(LoraSpec *spec, const char *target, Error *error);
NODISCARD bool lora_spec_override(LoraSpec *spec, const char *module, int r, double alpha, Error *error);

typedef struct LoraMatrix {
  Tensor value;
  Tensor
      master; /* F32, of a trained set whose values are rounded: the exact ones, read from files and saved; else none */
  Tensor grad; /* F32, or none when the set is frozen */
  char *name;  /* as PEFT saves the tensor */
} LoraMatrix;

typedef struct LoraPair {
  LoraMatrix a, b; /* [R,I], [O,R]; values none = this linear is not adapted */
  float scale;
} LoraPair;

typedef struct LoraSet {
  LoraSpec spec;
  LoraPair *pairs;  /* [module count], indexed by Linear.id */
  bool *transposed; /* [module count] of LoraModule */
  int count;
  RandomKey dropout_key;
} LoraSet;

/* Makes the pairs of `spec` over the modules in the arena (which may be dry) without filling them, for a base whose
 * weights are `base_dtype`. A target
 * that matches no module is ERROR_MODEL and lists the module names there are; so is one that names the LM head, which is
 * fused with the softmax and takes no adapter. With trainable, gradients are
 * allocated too (zeroed unless dry). */
NODISCARD bool lora_open(LoraSet *set, const LoraSpec *spec, const LoraModule *modules, int module_count,
                         DType base_dtype, bool trainable, Compute *compute, Arena *arena, Error *error);
void lora_free(LoraSet *set); /* tensors' memory belongs to the arena */

/* A ~ U(-1/sqrt(I), 1/sqrt(I)), B = 0, as PEFT's default. */
NODISCARD bool lora_initialize(LoraSet *set, Compute *compute, uint64_t seed, Error *error);
/* The list of trainable tensors, appended. */
NODISCARD bool lora_parameters(const LoraSet *set, ParameterList *list, Error *error);
int64_t lora_parameter_count(const LoraSet *set);

/* -- forward and backward of one linear's adapter ----------------------------------------------------------
 *
 * The adapter's part comes first, and the base's large product is added to it: a product that adds to its output
 * reads it behind its arithmetic, where a thin one would wait for memory a second time. Both return false, and do
 * nothing, when the linear is not adapted. */

/* What a forward keeps for the backward. */
typedef struct LoraState {
  Tensor u; /* [T,R] = dropout(x) A^T */
  bool dropped;
  DropoutSpec dropout; /* the mask is drawn again in the backward */
} LoraState;

/* [T] I32 each, of DropoutSpec; none where no forward drops. */
typedef struct LoraRows {
  Tensor draws, positions;
} LoraRows;

/* out[T,O] = s * (dropout(x) A^T) B^T + beta * out. state NULL = inference, no dropout; memory for state->u from
 * arena. out may be none where only the state is wanted. */
bool lora_forward(Compute *c, const LoraSet *set, int id, Tensor out, Tensor x, float beta, LoraState *state,
                  LoraRows rows, Arena *arena);
/* dx = gradient through the adapter + beta * dx (dx none: not wanted); dA, dB accumulate when the set is trainable. */
bool lora_backward(Compute *c, const LoraSet *set, int id, Tensor dx, Tensor dout, Tensor x, float beta,
                   const LoraState *state, Arena *arena);

/* The exact values of a matrix as floats on the host; memory_free them. NULL: out of memory. */
NODISCARD float *lora_download(const LoraMatrix *matrix, Compute *compute, Error *error);
/* Sets a matrix, and its master, from floats on the host. false: out of memory. */
NODISCARD bool lora_upload(const LoraMatrix *matrix, const float *values, Compute *compute, Error *error);

/* weight += s * B A in fp32 on host memory: weight is [O,I], or [I,O] when the module is transposed. */
NODISCARD bool lora_merge(const LoraSet *set, int id, float *weight, Compute *compute, Error *error);

/* -- PEFT files (lora/peft.c) -------------------------------------------------------------------------- */

/* Reads adapter_config.json, and of adapter_model.safetensors the names and shapes: spec for lora_open. Options
 * that are switched on and not supported here (DoRA, bias, pissa ...) are ERROR_MODEL naming the key.
 * rank_pattern and alpha_pattern become overrides. Where target_modules is a regular expression, or
 * exclude_modules or layers_to_transform narrow it, the modules are those that have tensors in the file. */
NODISCARD bool lora_spec_read(LoraSpec *spec, const char *directory, Error *error);
/* Fills an opened set from adapter_model.safetensors (F32, F16 or BF16); missing, unexpected or misshapen tensors are
 * ERROR_MODEL. With compute->dry nothing is filled, and the same mistakes are found. */
NODISCARD bool lora_read(LoraSet *set, const char *directory, Compute *compute, Error *error);
/* Where the scores of a reward model have their zero. In config.json and adapter_config.json: "score_shift" and
 * "score_zero_point". */
typedef struct ScoreZero {
  float shift; /* subtracted from the scores */
  bool known;  /* it makes the mean score of reference answers 0; else the zero of the scores is arbitrary */
} ScoreZero;

/* The score head that a SEQ_CLS adapter carries in modules_to_save: copies [C] floats; false in *found when
 * there is none. */
NODISCARD bool lora_read_score(const char *directory, int64_t hidden, float *weight, ScoreZero *zero,
                               bool *found, Error *error);
/* base_model_name_or_path of adapter_config.json, a new string; NULL in *name when it is not given. */
NODISCARD bool lora_base_name(const char *directory, char **name, Error *error);
/* Whether it is a reward model's: task_type SEQ_CLS, or a score head among its tensors. */
NODISCARD bool lora_is_score(const char *directory, bool *score, Error *error);
/* Writes adapter_config.json and adapter_model.safetensors. score (host, [hidden]) may be NULL; with it the
 * adapter is SEQ_CLS with modules_to_save ["score"] and its zero. base_path goes to
 * base_model_name_or_path. Values that are not finite are ERROR_MODEL. */
NODISCARD bool lora_save(const LoraSet *set, const float *score, int64_t hidden, ScoreZero zero,
                         const char *base_path, const char *directory, Compute *compute, Error *error);

#endif
