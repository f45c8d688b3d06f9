/* The course that all stages run: with --check prepare, and a look at the values of all weights; else open the run directory, tell a finished run's result
 * again, or prepare and carry out; and close the run with what came of it. Options that are given in vain are said before
 * the stage prepares. */
#ifndef TRAIN_COURSE_H
#define TRAIN_COURSE_H

#include "train/program.h"
#include "train/run.h"

typedef struct Course {
  const char *name; /* "sft": of the stage */
  /* Configuration, data, device and memory plan: what --check looks at. */
  bool (*prepare)(void *stage, Error *error);
  /* Memory, resume, training, result. */
  bool (*carry_out)(void *stage, ProgramResult *result, Error *error);
} Course;

/* `run` is the stage's, zeroed; it is open from before prepare (but not with --check) until this returns. */
NODISCARD bool course_run(const Course *course, void *stage, Run *run, const RunConfig *config,
                          const ProgramCall *call, ProgramResult *result, Error *error);

#endif
