/* What is read, a predictor: a model, perhaps under an adapter, perhaps with a scalar head; and what is trained, a trainee:
 * a predictor with gradients and an optimiser, of the model's own weights or of an adapter over them.
 *
 * Several may stand over one base Model (DESIGN decision 4): in PPO with LoRA, actor and critic are trainees,
 * reference and reward model are predictors, all with adapters over the same base.
 *
 * Everything is opened twice by the same code: first in a dry TrainMemory for the plan, then in a real one of
 * the planned sizes (train/plan.h):
 *
 *   train_memory_dry(&memory); compute_dry_begin(compute);
 *   base_open(...); trainee_open(...); one dry step; memory plan; trainee_close, base_close
 *   compute_dry_end(compute); train_memory_allocate(&memory)
 *   base_open(...); trainee_open(...);
 *
 * In a dry memory no weights are kept and only shapes are valid, but files that do not fit are found. */
#ifndef TRAIN_TRAINEE_H
#define TRAIN_TRAINEE_H

#include "base/log.h"
#include "model/model.h"
#include "model/pass.h"
#include "model/weights.h"
#include "train/checkpoint.h"
#include "train/config.h"
#include "train/data.h"
#include "train/identity.h"
#include "train/optimizer.h"
#include "train/shard.h"

/* -- memory --------------------------------------------------------------------------------------------- */

/* The arenas of a run, by what they hold. */
typedef struct TrainMemory {
  Arena weights;   /* base models */
  Arena adapters;  /* adapters, heads and their gradients */
  Arena gradients; /* of base models */
  Arena optimizer; /* moments and master weights */
  Arena step;      /* activations and temporaries of one micro-batch */
  Arena offloaded; /* what passes keep in host memory (compute_host_arena) */
  Arena sums;      /* gradients in host memory, and values on their way (compute_host_arena) */
  Arena state;     /* moments and master weights in host memory */
  Arena cache;     /* a rollout engine: keys and values, and its steps */
  Arena
      shared; /* where a stage has both, step and cache are the same memory: it never rolls out in a pass, and
                      an engine begins each run without memories of the last */
  Log *log;   /* borrowed, or NULL */
} TrainMemory;

void train_memory_dry(TrainMemory *memory);
/* Replaces dry arenas by real ones of their peaks. `log` is shown how far models are read into them; may be NULL. */
NODISCARD bool train_memory_allocate(TrainMemory *memory, Compute *compute, Log *log, Error *error);
void train_memory_free(TrainMemory *memory, Compute *compute);

/* Where gradients of earlier trainees end. */
typedef struct GradientTurns {
  size_t gradients, sums;
} GradientTurns;

/* What is opened in between has its gradients where those of all earlier trainees lie. They take turns: who has made its step leaves zeros. */
GradientTurns gradient_turns_begin(TrainMemory *memory);
void gradient_turns_end(TrainMemory *memory, GradientTurns turns);

/* -- the base ------------------------------------------------------------------------------------------- */

/* Opens the model of `path` in memory->weights and reads it, or sees that it could be read when dry; when dry, a directory without weights
 * is as good as its config.json (train/absent.h). merge: a PEFT directory whose delta
 * is added to the weights (in fp32, then rounded to format.dtype), or NULL; ERROR_USAGE for one with 4-bit weights. format.filed is what may
 * be: blocks come into memory where something is made of them (merged, quantised, sliced) and where a device has memory of its own. */
NODISCARD bool base_open(Model *model, const char *path, const char *merge, WeightFormat format,
                         Compute *compute, TrainMemory *memory, Error *error);
void base_close(Model *model);
/* Tells what of the files is left aside, if anything is; log may be NULL. */
void base_say(const Model *model, Log *log);
/* Sequences will have up to `longest` tokens: rotary tables are made for it (model_set_context). A table of positions ends,
 * and so does what spec.positions_end says: ERROR_USAGE. Computed positions go on, but what the model never saw is worth a warning (log may be NULL). */
NODISCARD bool base_set_length(Model *model, int64_t longest, Compute *compute, Log *log, Error *error);

/* -- a predictor ---------------------------------------------------------------------------------------- */

typedef struct PredictorSpec {
  const char *name; /* "policy", "reference": in messages and checkpoints; borrowed, static */
  bool adapted;     /* under an adapter; else the model as it is */
  /* PEFT directory to start from (its r, alpha, targets), or NULL; where not adapted: the one that was merged into the
   * model. Borrowed while it is open. */
  const char *adapter;
  const LoraSpec *lora; /* shape of a new adapter when `adapter` is NULL; its dropout in any case */
  bool lora_shared; /* lora is a language model's too: what it says of the LM head is for that one alone */
  bool score_head;  /* with a scalar head: the one that `adapter` carries, else the one of ... */
  const char *head_from; /* ... this model directory, random from seed where it has none ... */
  bool head_must_exist;  /* ... unless this is set: then ERROR_MODEL */
  bool offload;          /* where not adapted: gradients of blocks are summed in host memory */
  bool slots;    /* where not adapted: gradients of blocks have two slots (model_make_trainable_in_slots) */
  uint64_t seed; /* adapter and head initialisation, dropout */
} PredictorSpec;

typedef struct Predictor {
  const char *name;
  Model *model; /* borrowed */
  bool adapted;
  LoraSet adapter;
  ScoreHead head; /* weight none when there is none */
} Predictor;

/* What may happen to its parameters. */
typedef enum PredictorUse {
  PREDICTOR_FROZEN,   /* nothing */
  PREDICTOR_RECALLED, /* their values are read from a checkpoint */
  PREDICTOR_TRAINED   /* they have gradients */
} PredictorUse;

/* parameters: receives what is recalled or trained: an adapter and a head, or a whole model; unused when frozen.
 * ERROR_MODEL when model or adapter are not of the kind that is wanted: a reward model or its adapter where there is to be no
 * score head, a language model's adapter where there must be one. */
NODISCARD bool predictor_open(Predictor *predictor, const PredictorSpec *spec, Model *model, PredictorUse use,
                              ParameterList *parameters, Compute *compute, TrainMemory *memory, Error *error);
void predictor_close(Predictor *predictor); /* also of a zeroed one */

/* The adapter to give to pass_forward: NULL when it is not adapted. */
const LoraSet *predictor_adapter(const Predictor *predictor);
bool predictor_has_head(const Predictor *predictor);
/* Forward passes on this rank, which has tokens for `own` of them: as many on all ranks where they go in step. In the others it calls
 * pass_forward_idle. */
int predictor_passes(const Predictor *predictor, const Compute *compute, int own);

/* -- a trainee ------------------------------------------------------------------------------------------ */

typedef struct TraineeSpec {
  PredictorSpec predictor;
  bool
      recalled; /* it was trained: no gradients and no optimiser, values by trainee_recall from a run's checkpoint */
  bool offload;     /* gradients, masters and moments in host memory; ERROR_USAGE where there is no other */
  ShardLevel shard; /* over the ranks of compute->comm */
  OptimizerSpec optimizer;  /* unused when recalled */
  const TextIdentity *text; /* kept with the result; NULL: nothing is; borrowed while the trainee is open */
} TraineeSpec;

/* Must not move while open: shard and optimiser refer to the parameter list. */
typedef struct Trainee {
  Predictor predictor;
  ParameterList parameters;
  Shard shard;                /* of the parameters over ranks; zeroed when recalled, as is ... */
  Optimizer optimizer;        /* ... */
  const TextIdentity *text;   /* of the spec */
  const char *origin;         /* the adapter that it started from or that was merged, or NULL */
  WeightsDigest base, before; /* of the model's files and of that adapter's, when they were read */
} Trainee;

/* LoraSpec of a configuration; free with lora_spec_free. */
NODISCARD bool lora_spec_of(LoraSpec *spec, const LoraConfig *config, Error *error);

/* How passes are made that are to be learnt from. */
PassMode training_mode(const ModelConfig *model);
/* Gives the pass the host memory that model.offload says; one pass at a time may use it. ERROR_USAGE where the backend has no
 * other memory. */
NODISCARD bool training_offload(Pass *pass, const ModelConfig *model, const Compute *compute,
                                TrainMemory *memory, Error *error);

/* Opens what records passes of up to `tokens` (Pass.records) with `bytes` of memory, device.graphs; 0: leaves it zeroed, to record none.
 * ERROR_USAGE where nothing can be recorded. */
NODISCARD bool training_graphs(PassRecords *records, int64_t bytes, int64_t tokens, Compute *compute,
                               Error *error);

/* The usual trainee of a stage: full weights or adapter as the configuration says. `lora` is borrowed by it. */
TraineeSpec trainee_spec_of(const char *name, const ModelConfig *model, const LoraConfig *config,
                            const LoraSpec *lora, const OptimConfig *optim, uint64_t seed);
/* What the base merges at load for such a stage: model.adapter when everything is trained, else NULL. */
const char *trainee_merge_of(const ModelConfig *model, const LoraConfig *lora);

/* Errors are those of predictor_open. */
NODISCARD bool trainee_open(Trainee *trainee, const TraineeSpec *spec, Model *model, Compute *compute,
                            TrainMemory *memory, Error *error);
void trainee_close(Trainee *trainee);

int64_t trainee_parameter_count(const Trainee *trainee); /* trainable numbers */

/* About the bytes of its result's files. */
uint64_t trainee_result_bytes(const Trainee *trainee);

/* Passes of an update on this rank, which has tokens for `own` of them: at least one, and as many on all ranks where they go in step.
 * In the others it stands by. */
int trainee_passes(const Trainee *trainee, const Compute *compute, int own);
/* pass_backward. `last`: the update has no further pass on this rank, and gradients may be summed as they come; all ranks say so, or
 * none does, and they are summed before the step. */
void trainee_backward(Trainee *trainee, Pass *pass, bool last);
void trainee_stand_by(Trainee *trainee, Compute *compute, bool last);

/* One optimiser update, of all ranks together. Errors say the trainee. */
NODISCARD bool trainee_step(Trainee *trainee, Compute *compute, double lr, double *grad_norm, Error *error);
/* An update that is not made. */
void trainee_zero_gradients(Trainee *trainee, Compute *compute);

/* The weights in `path` by their digest, to or from a checkpoint: ERROR_MODEL when they are no longer those that the run began with. owner, what:
 * "policy", "base". */
NODISCARD bool origin_state(Checkpoint *checkpoint, const char *owner, const char *what, const char *path,
                            const WeightsDigest *digest, Error *error);

/* Trainable values, exact whatever they are rounded to in memory, and optimiser state to or from a checkpoint. ERROR_MODEL when the files of the model or adapter that it started from are no longer those
 * that the run began with. */
NODISCARD bool trainee_state(Trainee *trainee, Checkpoint *checkpoint, Error *error);

/* Values of a recalled trainee from a checkpoint of the one that was trained: `group` is "NAME.value", or of other values
 * of the same parameters. ERROR_MODEL when an adapter's base is no longer that of the run. */
NODISCARD bool trainee_recall(Trainee *trainee, Checkpoint *checkpoint, const char *group, Error *error);

/* Of many ranks all call it, and rank 0 writes the result where the next stage takes it: DIRECTORY/model (dtype of the weights) or, of an adapter,
 * DIRECTORY/adapter, with its identity (train/identity.h), complete or not at all. source: the model directory it was trained from (tokenizer
 * files, base_model_name_or_path). text: tokenizer and template of the
 * training, whose end ids go to generation_config.json; NULL when there are none.
 * *path (may be NULL) receives a new string. Of many ranks rank 0 writes; the others, where the model is sliced, have to call it too. */
NODISCARD bool trainee_save(const Trainee *trainee, const char *source, const TextTools *text,
                            const char *directory, Compute *compute, char **path, Error *error);
/* The same as the directory `place` itself. about: the content of a file best.json beside the model (train/run.h); NULL: none. */
NODISCARD bool trainee_save_as(const Trainee *trainee, const char *source, const TextTools *text,
                               const char *place, const char *about, Compute *compute, Error *error);

#endif
