/* A model with everything around it that one forward and backward need, opened as a program opens it: a dry run
 * of the work for the plan, then arenas of the planned size. Failures fail the running cmocka test. */
#ifndef TESTS_SUPPORT_RIG_H
#define TESTS_SUPPORT_RIG_H

#include "model/head.h"
#include "model/pass.h"
#include "model/weights.h"
#include "tests/support/device.h"
#include "tests/support/fixture.h"

typedef struct RigSpec {
  const char *model;   /* directory */
  const char *adapter; /* PEFT directory or NULL */
  bool train;          /* gradients: of the adapter when there is one, else of the model; of the head too */
  bool score;          /* with the score head of the adapter or model directory */
  DType dtype;         /* of the weights; F32 is 0 */
  Fixture *batch;      /* fills rig.batch from ids and offsets; NULL: the caller does, before each work */
} RigSpec;

typedef struct Rig {
  RigSpec spec;
  Compute compute;
  Arena memory; /* weights, adapter, gradients, optimiser */
  Arena step;
  Model model;
  LoraSet adapter;
  ScoreHead head;
  ParameterList parameters; /* what is trained */
  Batch batch;
  int64_t longest; /* sequence in spec.batch */
  Pass pass;
} Rig;

enum { RIG_ROWS = 64 }; /* of the completions in a batch */

/* One unit of work on an opened rig. It runs in the dry run too, where host results are not valid and loops over
 * data are harmless. */
typedef void RigWork(Rig *rig, void *context);

/* Plans with `work`, then opens for real; does not run the work again. */
void rig_open(Rig *rig, RigSpec spec, RigWork *work, void *context);
void rig_close(Rig *rig);

/* pass_forward over rig->batch with the adapter, if any. */
void rig_forward(Rig *rig, PassMode mode);
/* Logits [T,V] of every token of the batch, or scores [T]. */
void rig_outputs(Rig *rig, float *out);
/* After a rig_forward that keeps: adds the gradient of the loss, the mean of -log p(targets) at the fixture's rows, to
 * pass.dhidden. Returns the loss; logprob gets that of each row, at most RIG_ROWS. */
double rig_sft_backward(Rig *rig, Fixture *fixture, float *logprob);
/* Fails the test with the message of the error when `ok` is false. */
void rig_check(bool ok, const Error *error);
/* Whether every gradient of rig.parameters equals "grad.NAME" of the fixture, and the fixture has no others.
 * Prints the worst. Where the fixture has zeros alone (a key bias without rotary positions, which softmax does not see), what
 * rounding leaves must be less than a millionth of all gradients. */
void rig_assert_gradients(Rig *rig, Fixture *fixture, double tolerance);
/* "grad." and the name that the oracle gave it: an adapter's score head has PEFT's prefix. */
void rig_gradient_name(const Rig *rig, const Fixture *fixture, const Parameter *p, char *out, size_t size);
/* A parameter's value or gradient on the host, as F32; free() it. */
float *rig_host(Rig *rig, Tensor tensor);

#endif
