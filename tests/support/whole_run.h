/* A stage's whole run, as its program makes it, beside what tests/fixtures/make_runs.py computed for it: every metric of
 * the run log and every trained tensor. Failures fail the running cmocka test.
 *
 * Tolerances are ten times what the same computation in fp32 is away from fp64 in PyTorch: sums in another order round
 * otherwise, and AdamW makes whole steps of gradients that are little more than rounding. For metrics that is relative to
 * their size, or to 1 where they are smaller, and at least 1e-5; for a tensor, relative to how far training moved it. */
#ifndef TESTS_SUPPORT_WHOLE_RUN_H
#define TESTS_SUPPORT_WHOLE_RUN_H

#include "tests/support/fixture.h"
#include "tests/temporary.h"
#include "train/program.h"

typedef struct WholeRun {
  Temporary folder; /* the run directory is `run` in it */
  Fixture expected;
  size_t compared; /* tensors of `expected` that were compared */
} WholeRun;

/* Runs the program on fixtures/runs/NAME.json, with `options` (NULL at the end; may be NULL) after it; it must succeed.
 * The environment variable DROVER_TEST_BACKEND, if it is set, says where (tests/support/device.h). */
void whole_run_open(WholeRun *run, const Program *program, const char *name, const char *const *options);
/* Also checks that nothing that was expected has been left out. */
void whole_run_close(WholeRun *run);

/* All metrics of the fixture, at every update. */
void whole_run_metrics(WholeRun *run);
/* One metric with a tolerance of its own. */
void whole_run_metric(WholeRun *run, const char *name, double tolerance);
/* The trained tensors of PART are those of a safetensors file below the run directory: all of them, under the names that
 * begin with `prefix`. */
void whole_run_tensors(WholeRun *run, const char *part, const char *file, const char *prefix);

#endif
