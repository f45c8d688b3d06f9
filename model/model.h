/* A decoder model: its spec, its tensors by name, and which tensor plays which part.
 *
 * All tensors stand in one list, in checkpoint layout; a part refers to them by index (-1 = absent), so that
 * gradients, optimiser state and saving are loops over the list. Weights lie in the arena given at load, borrowed from the run, as a
 * WeightFormat says. The model knows no adapter: forward takes one as an argument. */
#ifndef MODEL_MODEL_H
#define MODEL_MODEL_H

#include "compute/ops.h"
#include "compute/parameter.h"
#include "lora/lora.h"
#include "model/arch.h"
#include "model/block_gradients.h"
#include "model/block_weights.h"
#include "model/filed_blocks.h"
#include "model/spec.h"

/* What becomes of the linears of a frozen model. */
typedef enum ModelQuantize { MODEL_QUANTIZE_NONE, MODEL_QUANTIZE_NF4, MODEL_QUANTIZE_INT8 } ModelQuantize;

/* How weights are kept in memory. */
typedef struct WeightFormat {
  DType dtype; /* F32 or BF16 */
  bool
      as_filed; /* BF16 where the backend computes in it and config.json says 16 bits, whatever dtype is; else dtype */
  ModelQuantize
      quantize; /* linears in 4 bits (compute/nf4.h) or 8 (compute/q8.h), where nf4_fits or q8_fits their shape */
  bool
      plain_scales; /* of 4-bit linears: not quantised again, as the checkpoint has them; model_open sets it */
  bool int8_tables; /* the table of embeddings and the LM head in 8 bits (compute/q8.h), where q8_fits */
  bool sliced;      /* of a block each rank keeps its slice alone (model/block_weights.h) */
  bool
      filed; /* blocks stay in their files (model/filed_blocks.h): of a frozen model that has nothing but what they hold, where
                       the CPU computes */
} WeightFormat;

typedef struct ModelTensor {
  char *name;   /* full checkpoint name, "model.layers.0.self_attn.q_proj.weight" */
  Tensor value; /* F32, BF16, or of a block dtype: then [O,I], and frozen */
  bool turned;  /* files have it [I,O]: a linear of a transposed architecture, in blocks */
  Tensor grad;  /* F32, or none when frozen */
  Tensor sum;   /* of the gradient, in host memory (model/block_gradients.h); or none */
  int layer;    /* the block that it is part of, or BEFORE_BLOCKS, BEHIND_BLOCKS (compute/parameter.h) */
} ModelTensor;

typedef struct Linear {
  int id;     /* index into Model.modules: which adapter pair applies; -1 = this role is absent */
  int weight; /* index into Model.tensors */
  int bias;   /* or -1 */
} Linear;

typedef struct Norm {
  int weight, bias; /* indices into Model.tensors, or -1 */
} Norm;

typedef struct Block {
  Linear linear[LINEAR_ROLES];
  Norm norm[NORM_ROLES];
} Block;

/* The scalar head of reward and value models: score[t] = hidden[t] . weight - zero.shift. */
typedef struct ScoreHead {
  Tensor weight;      /* [1, C] F32; none = no such head */
  Tensor weight_grad; /* or none when frozen */
  ScoreZero zero;
} ScoreHead;

typedef struct Model {
  ModelSpec spec;
  const Architecture *arch;
  char *directory; /* it was opened from, for messages; NULL when made from a config in memory; owned */
  json_t *config;  /* config.json as loaded; owned */

  ModelTensor *tensors;
  int tensor_count;
  int embedding, positions; /* indices; positions -1 when not learned */
  Norm embedding_norm, final_norm;
  Linear project_in, project_out; /* between the tables and the blocks, where embedding_size is given */
  int head,
      head_bias; /* head = embedding when tied; -1 in a ...ForSequenceClassification model: it only scores */
  Block *blocks; /* [layers] */

  BlockGradients
      *gradients; /* their sums lie in host memory; NULL: on the device, or there are none; owned */
  BlockWeights *block_weights; /* they are sliced over ranks; NULL: they are all here, all the time; owned */
  FiledBlocks *filed;          /* or in files; NULL likewise; owned */

  LoraModule *modules; /* every linear by id, the table and the head, for adapters */
  int module_count;
  int embedding_id, head_id; /* -1: takes no adapter */

  Tensor rope_frequency[2]; /* [rotary_size/2]: global, local */
  float rope_scale[2];
  Tensor alibi; /* [H] or none */

  WeightFormat format;
  DType dtype; /* format.dtype: of the weights that are in no blocks, and of what is computed from them */
} Model;

/* Says how long the longest sequence of the run is, before the first pass: rotary tables of a kind that looks at it (dynamic,
 * longrope) are computed again and uploaded. Without it sequences stay within the original positions. */
void model_set_context(Model *model, Compute *compute, int64_t longest);
/* Whether the tables are right for a sequence of `length` tokens; passes and engines insist on it. */
bool model_serves(const Model *model, int64_t length);

void model_free(Model *model); /* tensors' memory belongs to the arena */

static inline Weight model_weight(const Model *m, Linear linear) {
  const Tensor value = m->tensors[linear.weight].value;
  return (Weight){.data = value, .transposed = m->arch->transposed && !dtype_is_blocks(value.dtype)};
}
static inline Tensor model_tensor(const Model *m, int index) {
  return index < 0 ? (Tensor){0} : m->tensors[index].value;
}
static inline Tensor model_grad(const Model *m, int index) {
  return index < 0 ? (Tensor){0} : m->tensors[index].grad;
}
/* The rows of the learned position table that positions 0, 1, ... use, and their gradients. */
static inline Tensor model_positions(const Model *m) {
  const Tensor table = m->tensors[m->positions].value;
  return tensor_rows(table, m->spec.position_offset, table.dim[0] - m->spec.position_offset);
}
static inline Tensor model_position_grads(const Model *m) {
  const Tensor grad = m->tensors[m->positions].grad;
  return tensor_is_none(grad)
             ? grad
             : tensor_rows(grad, m->spec.position_offset, grad.dim[0] - m->spec.position_offset);
}

/* Block `layer` is there for the operations that are called next, and `next` will be soon, where there is such a block. Whoever reads
 * weights of blocks outside a pass says so too, on all ranks. */
static inline void model_use_block(const Model *m, Compute *compute, int layer, int next) {
  if (m->block_weights) block_weights_use(m->block_weights, compute, layer, next);
  if (m->filed && !compute->dry) filed_blocks_use(m->filed, layer, next);
}
/* The weights of a block were written, on all ranks alike, and have to last. */
NODISCARD bool model_keep_block(const Model *model, Compute *compute, int layer, Error *error);

/* Of the tensors of a layer the one that lies next behind `former` (-1: the first) in memory; -1: there is none. */
int model_next_in_memory(const Model *model, int layer, int former);
/* What takes part in matrix products, the linears of the blocks and the LM head: how many parameters, and bytes in memory. */
typedef struct ModelProducts {
  double blocks, head; /* parameters */
  double bytes;        /* of both */
} ModelProducts;
ModelProducts model_products(const Model *model);
/* Lists every tensor, with its gradient where it has one; and the score head. */
NODISCARD bool model_parameters(const Model *model, ParameterList *list, Error *error);
NODISCARD bool score_head_parameters(const ScoreHead *head, ParameterList *list, Error *error);
/* A table [rows, columns] with the zeros behind it that logits like (compute_table_rows), which nobody else sees; and how many rows
 * that of the head has with them, as HeadTerms.padded. */
Tensor model_table_new(Compute *compute, Arena *arena, DType dtype, int64_t rows, int64_t columns);
int64_t model_head_rows(const Model *model, const Compute *compute);
/* Gives every tensor a zeroed gradient in the arena and lists them: full fine-tuning. Gradients of a block lie together, in the order of
 * the weights. */
NODISCARD bool model_make_trainable(Model *model, Compute *compute, Arena *arena, ParameterList *list,
                                    Error *error);
/* The same with the gradients of block l in slot l % 2, not zeroed: who trains it takes them from there before another block's
 * (train/shard.h). */
NODISCARD bool model_make_trainable_in_slots(Model *model, Compute *compute, Arena *arena,
                                             ParameterList *list, Error *error);
/* The same with the gradients of blocks summed in host memory, which is compute_host_arena's. */
NODISCARD bool model_make_trainable_offloaded(Model *model, Compute *compute, Arena *arena, Arena *host,
                                              ParameterList *list, Error *error);
/* model_make_trainable for the score head. */
NODISCARD bool score_head_make_trainable(ScoreHead *head, Compute *compute, Arena *arena, ParameterList *list,
                                         Error *error);
int64_t model_parameter_count(const Model *model);
/* Whether any weight is of a block dtype: such a model is not trained, but under an adapter. */
bool model_is_quantized(const Model *model);

#endif
