/* Models on disk: Hugging Face directories in, Hugging Face directories out.
 *
 * Reading: config.json, model.safetensors or its sharded index; F32, F16 and BF16 are converted to `dtype`.
 * Names may lack the base prefix; known buffers (attn.bias, attn.masked_bias, rotary_emb.inv_freq) are passed
 * over; a missing, unexpected or misshapen tensor is ERROR_MODEL naming file, tensor, expected and found.
 * A file without the LM head is fine when the spec ties it; a `score.weight` is read when asked for.
 * Writing: the same names, shapes and layout, tied weights once, config.json with the dtype written (and
 * architectures set), tokenizer and generation files copied from `source`. */
#ifndef MODEL_WEIGHTS_H
#define MODEL_WEIGHTS_H

#include "model/model.h"

/* Builds the model's tables from DIRECTORY/config.json without weights: every tensor in `arena` (which may be
 * dry: then only sizes are counted and model_read must not be called). Weights need not be there yet; where they
 * are, their names say whether the base prefix is written. A directory whose "architectures" names the
 * ...ForSequenceClassification class has no LM head: model->head is -1 and the model can only score. */
NODISCARD bool model_open(Model *model, const char *directory, DType dtype, Compute *compute, Arena *arena,
                          Error *error);
/* The same from a config in memory (borrowed), for a model that is in no directory yet. */
NODISCARD bool model_open_config(Model *model, const json_t *config, DType dtype, Compute *compute,
                                 Arena *arena, Error *error);
/* Whether a tensor of that name is none of the weights: causal masks and rotary tables that old files carry. */
bool weights_is_buffer(const char *name);
/* What model_read would find wrong with the directory, without reading weights: for a model in a dry arena. */
NODISCARD bool model_check(const Model *model, const char *directory, Error *error);
/* Fills the weights of an opened model from the directory's safetensors, piece by piece: no second copy. */
NODISCARD bool model_read(Model *model, const char *directory, Compute *compute, Error *error);

/* The score head of a ...ForSequenceClassification directory, or of a SEQ_CLS adapter directory: weight into the
 * arena, and the shift. With must_exist false, a directory without one gives a head of N(0, 1/sqrt(C+1)) from
 * `seed`. In a dry arena the head is looked for, and only its size counted. */
NODISCARD bool score_head_open(ScoreHead *head, const Model *model, const char *directory, bool must_exist,
                               uint64_t seed, Compute *compute, Arena *arena, Error *error);

/* Fresh random weights, as Transformers initialises: matrices N(0, initializer_range), norms 1, biases 0. */
void model_initialize(Model *model, Compute *compute, uint64_t seed);

/* Writes a directory. head may be NULL (causal LM); with a head the class is the ...ForSequenceClassification
 * one with one label, the LM head is left out, and the shift goes to config.json as "score_shift". `adapter` may be
 * NULL; else its delta is added in fp32 to each weight before rounding (merge). Tokenizer and generation files are
 * copied from `source` unless it is NULL. Shards hold at most 5 GB.
 * A directory that does not exist appears when it is complete; in one that does, each file is replaced whole,
 * config.json last. */
NODISCARD bool model_save(const Model *model, const ScoreHead *head, const LoraSet *adapter,
                          const char *source, const char *directory, DType dtype, Compute *compute,
                          Error *error);

#endif
