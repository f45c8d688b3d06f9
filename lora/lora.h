/* LoRA adapters (Hu et al. 2021; reference implementation: PEFT 0.21): y = W x + s * B(A(dropout x)), s = alpha/r,
 * or alpha/sqrt(r) with rslora (Kalajdzievski 2023). An embedding table is a linear of one-hot inputs without dropout:
 * y = c * (E[id] + s * B A[:,id]), c the model's scale of embeddings.
 *
 * A LoraSet is one adapter: a pair (A [R,I], B [O,R]) for each adapted module of a model, by the module's id, and copies of
 * whole modules that stand in place of the base's (PEFT's modules_to_save): the embedding table and the LM head.
 *
 * Where the model ties the head to the table (config.json), PEFT's rule: an adapter on one of them is on that one alone, and
 * so is a copy; the other stays the base's. With `tie` (PEFT's ensure_weight_tying), and one of them called embed_tokens or
 * lm_head among the copies or else among the targets, the table has the copy or the pair, and the head takes both from it:
 * logits = x E^T + s * (dropout(x) B) A. A merged model that is not tied any more is saved so (model/weights.h).
 *
 * Any number of sets can exist beside one frozen base; a forward pass names the one to use, or none (DESIGN
 * decision 4). A and B have the dtype of the activations they meet (F32, or BF16, with F32 masters when they are
 * trained); files hold F32. The room knows no model: it is told the linears as LoraModules. */
#ifndef LORA_LORA_H
#define LORA_LORA_H

#include "compute/ops.h"
#include "compute/parameter.h"

typedef enum LoraKind {
  LORA_LINEAR,
  LORA_EMBEDDING, /* the table of token embeddings: inputs are the tokens */
  LORA_HEAD       /* the LM head */
} LoraKind;

/* A module that can carry an adapter. "all-linear" means those of kind LORA_LINEAR. */
typedef struct LoraModule {
  char *name; /* PEFT's module name in the causal LM: "model.layers.0.self_attn.q_proj" */
  int64_t inputs, outputs;
  int layer;       /* of its parameters (compute/parameter.h) */
  bool transposed; /* the weight is [in, out]; a table is */
  LoraKind kind;
  bool joined;         /* its input is that of the module before it */
  bool tied;           /* a head whose weight is the table */
  Tensor weight, bias; /* of the base; bias none where there is none */
} LoraModule;

/* A module whose rank or alpha differs from the rest: PEFT's rank_pattern and alpha_pattern, resolved. */
typedef struct LoraOverride {
  char *module; /* full name */
  int r;
  double alpha;
} LoraOverride;

/* A module whose base weights came with the adapter: those of a base whose vocabulary had been changed. */
typedef struct LoraCarried {
  char *module; /* full name */
  bool
      base_layer; /* its tensors are called MODULE.base_layer.weight, as PEFT does beside a pair; else MODULE.weight */
} LoraCarried;

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
  char **
      copies; /* modules_to_save but for the score head; as PEFT matches them, by the end of the name alone */
  size_t copy_count;
  bool tie; /* ensure_weight_tying */
  LoraCarried *carried;
  size_t carried_count;
  bool sequence_classification; /* task_type SEQ_CLS instead of CAUSAL_LM: an LM head has no part in it */
  /* The names of targets and copies are those for a language model too, and what is no module of a model that only scores is
   * passed over; else it is ERROR_MODEL. */
  bool names_shared;
} LoraSpec;

NODISCARD bool lora_spec_copy(LoraSpec *out, const LoraSpec *spec, Error *error);
void lora_spec_free(LoraSpec *spec);
/* Appends a target; a module to copy; an override; a carried module. */
NODISCARD bool lora_spec_target(LoraSpec *spec, const char *target, Error *error);
NODISCARD bool lora_spec_copied(LoraSpec *spec, const char *module, Error *error);
NODISCARD bool lora_spec_override(LoraSpec *spec, const char *module, int r, double alpha, Error *error);
NODISCARD bool lora_spec_carried(LoraSpec *spec, const char *module, bool base_layer, Error *error);

typedef struct LoraMatrix {
  Tensor value;
  Tensor
      master; /* F32, of a trained set whose values are rounded: the exact ones, read from files and saved; else none */
  Tensor grad; /* F32, or none when the set is frozen */
  char *name;  /* as PEFT saves the tensor; NULL where no file has it */
  bool turned; /* the tensors are the transpose of the file's */
} LoraMatrix;

typedef struct LoraPair {
  LoraMatrix a, b; /* [R,I] ([I,R] when turned), [O,R]; values none = this module is not adapted */
  float scale;
  bool shared; /* of a head tied to the table: the table's b and a. Neither trained nor counted twice. */
} LoraPair;

/* A module's own weights in place of the base's. */
typedef struct LoraCopy {
  LoraMatrix weight, bias; /* in the base's layout; values none = the base's are used, or there is none */
  bool frozen;             /* it came with the adapter and is not trained */
  bool shared;             /* of a tied head: the table's */
} LoraCopy;

typedef struct LoraSet {
  LoraSpec spec;
  const LoraModule *modules; /* borrowed: the model outlives the set, but for lora_free */
  LoraPair *pairs;           /* [module count], indexed by the module's id */
  LoraCopy *copies;          /* [module count] */
  int count;
  RandomKey dropout_key;
} LoraSet;

/* Makes the pairs of `spec` over the modules in the arena (which may be dry) without filling them, for a base whose
 * weights are `base_dtype`, which copies have too. A target that matches no module is ERROR_MODEL and lists the module
 * names there are; so is a module to copy that is neither table nor head. A module that is copied takes no pair. With
 * trainable, gradients are allocated too (zeroed unless dry), but for carried modules. The modules are borrowed. */
NODISCARD bool lora_open(LoraSet *set, const LoraSpec *spec, const LoraModule *modules, int module_count,
                         DType base_dtype, bool trainable, Compute *compute, Arena *arena, Error *error);
void lora_free(LoraSet *set); /* tensors' memory belongs to the arena */

/* As PEFT's default: A ~ U(-1/sqrt(I), 1/sqrt(I)), B = 0; of a table A = 0, B ~ N(0, 1), or
 * U(-1/sqrt(O), 1/sqrt(O)) where a tied head takes it. Copies are the base's weights,
 * which have been read. */
NODISCARD bool lora_initialize(LoraSet *set, Compute *compute, uint64_t seed, Error *error);
/* The list of trainable tensors, appended. */
NODISCARD bool lora_parameters(const LoraSet *set, ParameterList *list, Error *error);
int64_t lora_parameter_count(const LoraSet *set);

/* What stands at a module: NULL where nothing does, or without a set. */
const LoraPair *lora_pair(const LoraSet *set, int id);
const LoraCopy *lora_copy(const LoraSet *set, int id);
/* Whether a head tied to the table in the base is still equal to it. */
bool lora_keeps_tie(const LoraSet *set, int table, int head);

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

/* [T] I32 each, of DropoutSpec. draws none: nothing is dropped. */
typedef struct LoraRows {
  Tensor draws, positions;
} LoraRows;

/* out[T,O] = s * (dropout(x) A^T) B^T + beta * out. state NULL = inference, no dropout; memory for state->u from
 * arena. out may be none where only the state is wanted. */
bool lora_forward(Compute *c, const LoraSet *set, int id, Tensor out, Tensor x, float beta, LoraState *state,
                  LoraRows rows, Arena *arena);
/* The same with `addend` in the place of beta * out. */
bool lora_forward_add(Compute *c, const LoraSet *set, int id, Tensor out, Tensor addend, Tensor x,
                      LoraState *state, LoraRows rows, Arena *arena);
/* dx = gradient through the adapter + beta * dx (dx none: not wanted); dA, dB accumulate when the set is trainable. */
bool lora_backward(Compute *c, const LoraSet *set, int id, Tensor dx, Tensor dout, Tensor x, float beta,
                   const LoraState *state, Arena *arena);
/* The same of several linears with one input x. Where nothing is dropped, the pairs of modules that are joined are one product each
 * with x, with du and for dA: their As lie under each other. out and dout of those without a pair are not touched; state is
 * an array, or NULL. At most LORA_JOINED modules. */
enum { LORA_JOINED = ADAPTER_TERMS };
void lora_forward_joined(Compute *c, const LoraSet *set, const int *ids, int count, const Tensor *out,
                         Tensor x, float beta, LoraState *const *state, LoraRows rows, Arena *arena);
/* Whether a forward drops inputs of the adapter, so that each linear has inputs of its own. */
bool lora_drops(const LoraSet *set, bool training, LoraRows rows);
/* For op_linear_adapted, and without dropout: the terms of those linears, to which `out` belong, and how many of them have a pair.
 * Their u are in the arena, to be given back by the caller where state is NULL; else the backward needs them. */
int lora_terms(Compute *c, const LoraSet *set, const int *ids, int count, const Tensor *out, Tensor x,
               AdapterTerm *terms, LoraState *const *state, Arena *arena);
/* false, and dx is as it was: none has a pair. */
bool lora_backward_joined(Compute *c, const LoraSet *set, const int *ids, int count, Tensor dx,
                          const Tensor *dout, Tensor x, float beta, LoraState *const *state, Arena *arena);
/* The second half of lora_backward, from du = s * dout B [T,R], for a product with B that somebody else makes: the fused head. */
void lora_backward_thin(Compute *c, const LoraSet *set, int id, Tensor dx, Tensor du, Tensor x, float beta,
                        const LoraState *state, Arena *arena);

/* The same of a table: out[T,O] += scale * s * B A[:,ids]; and from dout, dA and dB when the set is trainable. */
void lora_embed(Compute *c, const LoraSet *set, int id, Tensor out, Tensor ids, float scale, Arena *arena);
void lora_embed_backward(Compute *c, const LoraSet *set, int id, Tensor dout, Tensor ids, float scale,
                         Arena *arena);

/* The exact values of a matrix as floats on the host, in the layout of files; memory_free them. NULL: out of memory. */
NODISCARD float *lora_download(const LoraMatrix *matrix, Compute *compute, Error *error);
/* Sets a matrix, and its master, from such floats. false: out of memory. */
NODISCARD bool lora_upload(const LoraMatrix *matrix, const float *values, Compute *compute, Error *error);

/* Gives a module's weight, in fp32 on host memory, the adapter's part: the copy in its place, then + s * B A. weight is
 * [O,I], or [I,O] when the module is transposed. */
NODISCARD bool lora_merge(const LoraSet *set, int id, float *weight, Compute *compute, Error *error);
/* The same of its bias, which only a copy changes. */
NODISCARD bool lora_merge_bias(const LoraSet *set, int id, float *bias, Compute *compute, Error *error);

/* -- PEFT files (lora/peft.c) -------------------------------------------------------------------------- */

/* Reads adapter_config.json, and of adapter_model.safetensors the names and shapes: spec for lora_open. Options
 * that are switched on and not supported here (DoRA, bias, pissa ...) are ERROR_MODEL naming the key.
 * rank_pattern and alpha_pattern become overrides. Where target_modules is a regular expression, or
 * exclude_modules or layers_to_transform narrow it, the modules are those that have tensors in the file. Tensors of whole
 * modules that modules_to_save does not name are carried: PEFT saves the tables of a base with them when its vocabulary
 * was changed, or when a table has a pair, and where it loads the adapter they are the base's from then on. */
NODISCARD bool lora_spec_read(LoraSpec *spec, const char *directory, Error *error);
/* Fills an opened set from adapter_model.safetensors (F32, F16 or BF16); missing, unexpected or misshapen tensors are
 * ERROR_MODEL; tables of more rows than the base's say how to give the base more. With compute->dry nothing is filled, and the same mistakes are found. */
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
typedef struct LoraBase {
  const char *name, *revision;
} LoraBase;
/* Writes adapter_config.json and adapter_model.safetensors. score (host, [hidden]) may be NULL; with it the
 * adapter is SEQ_CLS with modules_to_save ["score"] and its zero. base: base_model_name_or_path and revision, as PEFT has them; each may be
 * NULL. Values that are not finite are ERROR_MODEL. */
NODISCARD bool lora_save(const LoraSet *set, const float *score, int64_t hidden, ScoreZero zero,
                         LoraBase base, const char *directory, Compute *compute, Error *error);

#endif
