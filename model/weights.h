/* Models on disk: Hugging Face directories in, Hugging Face directories out.
 *
 * Reading: config.json, and weights in any form of formats/weight_files.h; F32, F16 and BF16, also mixed, are converted to format.dtype,
 * or quantised where the format says so.
 * Names may lack the base prefix; known buffers (attn.bias, attn.masked_bias, rotary_emb.inv_freq, ...) are passed
 * over; missing, unexpected and misshapen tensors are one ERROR_MODEL with their names, expected and found.
 * Rows of a head that the spec calls normalized are divided by their lengths (unit_rows.h), and saved so.
 * Where the spec ties the head, one copy of the table under either name is fine, and so are two that are equal in
 * `dtype`, as Transformers takes them; a `score.weight` is read when asked for.
 * Writing: the same names, shapes and layout, tied weights once, config.json with the dtype written (and
 * architectures set), tokenizer and generation files copied from `source`. */
#ifndef MODEL_WEIGHTS_H
#define MODEL_WEIGHTS_H

#include "base/log.h"
#include "model/model.h"

/* Builds the model's tables from DIRECTORY/config.json without weights: every tensor in `arena` (which may be
 * dry: then only sizes are counted and model_read must not be called). Weights need not be there yet; where they
 * are, their names say whether the base prefix is written. A directory whose "architectures" names the
 * ...ForSequenceClassification class has no LM head: model->head is -1 and the model can only score. */
NODISCARD bool model_open(Model *model, const char *directory, WeightFormat format, Compute *compute,
                          Arena *arena, Error *error);
/* The same from a config in memory (borrowed), for a model that is in no directory yet. */
NODISCARD bool model_open_config(Model *model, const json_t *config, WeightFormat format, Compute *compute,
                                 Arena *arena, Error *error);
/* Whether a tensor of that name is none of the weights: causal masks and rotary tables that old files carry, and what the architecture
 * passes over. */
bool weights_is_passed_over(const Architecture *arch, const char *name);
/* What model_read would find wrong with the names, shapes and types in the directory: for a model in a dry arena. */
NODISCARD bool model_check(const Model *model, const char *directory, Error *error);
/* What it would find wrong with the values themselves: reads all weights, and keeps none. */
NODISCARD bool model_check_values(const Model *model, const char *directory, Error *error);
/* Fills the weights of an opened model from the directory's files, piece by piece: no second copy; but a matrix that is turned while it is
 * quantised is once there in floats. `log` is shown how far it is when it takes long; may be NULL. */
NODISCARD bool model_read(Model *model, const char *directory, Compute *compute, Log *log, Error *error);

/* The score head of a ...ForSequenceClassification directory, or of a SEQ_CLS adapter directory: weight into the
 * arena, and the shift. With must_exist false, a directory without one gives a head of N(0, 1/sqrt(C+1)) from
 * `seed`. In a dry arena the head is looked for, where there are weights, and only its size counted. */
NODISCARD bool score_head_open(ScoreHead *head, const Model *model, const char *directory, bool must_exist,
                               uint64_t seed, Compute *compute, Arena *arena, Error *error);

/* Fresh random weights, as Transformers initialises: matrices N(0, initializer_range), norms 1, biases 0. */
void model_initialize(Model *model, Compute *compute, uint64_t seed);

/* Token ids that the files of a saved model name. */
enum { SAVED_ENDS = 32 };
typedef struct SavedTokens {
  int ends[SAVED_ENDS]; /* what ends an answer, added to the ids that the source names */
  int end_count;
  int pad; /* pad_token_id for a reward model whose own will not do: an id that ends no text; -1 = none */
} SavedTokens;

/* Writes a directory. Of a model that is sliced over ranks rank 0 writes, while the others help (block_weights_help). head may be NULL (causal LM); with a head the class is the ...ForSequenceClassification
 * one with one label, the LM head is left out, score.weight is F32 whatever the dtype, and the shift goes to
 * config.json as "score_shift". `adapter` may be NULL; else its delta is added in fp32 to each weight before rounding
 * (merge); where it changes a tied table and head apart, both are written and config.json unties them. Weights in blocks are
 * written as the values that they stand for, one at a time in fp32 on the host. Numbers that dtype cannot hold, and those that are not finite, are ERROR_MODEL naming the tensor.
 *
 * The tokenizer's files (base/companions.h) and generation_config.json are copied from `source` unless it is NULL.
 * tokens (may be NULL): eos_token_id of generation_config.json, which Transformers and vLLM stop by, and of config.json,
 * where others look, becomes the list with their ends behind what is there. A reward model's pad_token_id is never an
 * id that ends a text, since Transformers scores the last token that is no padding: its own, else tokens->pad, else none.
 *
 * Shards hold at most 5 GB. A directory that does not exist appears when it is complete; in one that does, each file is
 * replaced whole, config.json last, and weights that are no longer part of the model go. */
NODISCARD bool model_save(const Model *model, const ScoreHead *head, const LoraSet *adapter,
                          const SavedTokens *tokens, const char *source, const char *directory, DType dtype,
                          Compute *compute, Error *error);

/* DIRECTORY/generation_config.json alone, as model_save writes it: beside an adapter it says what ends answers. */
NODISCARD bool generation_config_save(const json_t *config, const SavedTokens *tokens, const char *source,
                                      const char *directory, Error *error);
/* Adds the ends that DIRECTORY/generation_config.json names; a directory without one adds none. */
NODISCARD bool generation_config_ends(SavedTokens *tokens, const char *directory, Error *error);

#endif
