/* A stage's whole run, as its program makes it, beside what tests/fixtures/make_runs.py computed for it: every metric of
 * the run log and every trained tensor. Failures fail the running cmocka test.
 *
 * Each figure has two limits, and both hold. One is a number that the test gives, WHOLE_RUN_... beside fp64: of metrics relative to
 * their size, or to 1 where they are smaller; of every weight absolute. The other is ten times what the same computation in fp32 is
 * away in PyTorch, since sums in another order round otherwise: of a metric beside the first limit relative to its size, which small
 * ones need; of a tensor the 2-norm, relative to how far training moved it. */
#ifndef TESTS_SUPPORT_WHOLE_RUN_H
#define TESTS_SUPPORT_WHOLE_RUN_H

#include "tests/support/fixture.h"
#include "tests/temporary.h"
#include "train/program.h"

#define WHOLE_RUN_METRICS 1e-5
#define WHOLE_RUN_WEIGHTS 1e-6 /* a thousandth of the way of each tensor, or less: the fixtures are made so */

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
void whole_run_metrics(WholeRun *run, double tolerance);
/* One metric with a tolerance of its own. */
void whole_run_metric(WholeRun *run, const char *name, double tolerance);
/* The trained tensors of PART are those of a safetensors file below the run directory: all of them, under the names that
 * begin with `prefix`. A tolerance of INFINITY leaves the other limit. */
void whole_run_tensors(WholeRun *run, const char *part, const char *file, const char *prefix,
                       double tolerance);

#endif
