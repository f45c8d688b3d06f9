/* The command line that the stages have in common: --config, overrides, --help, --print-config, --check, --json.
 * A stage's main is
 *
 *   int main(int argc, char **argv) { return program_run(&program, argc, argv, stdout, stderr); } */
#ifndef TRAIN_PROGRAM_H
#define TRAIN_PROGRAM_H

#include "base/log.h"
#include "base/memory.h"
#include "base/option.h"
#include "compute/comm.h"
#include "train/settings.h"

#include <stdio.h>

/* What a stage is given. */
typedef struct ProgramCall {
  const void *config;       /* the stage's config struct; models are what to open (train/model_path.h) */
  Settings settings;        /* the same, as JSON */
  const OptionGiven *given; /* which of its options the user gave */
  bool
      check; /* validate, plan, stop: nothing is written; with an empty result the program says that all is well */
  const Comm *comm; /* NULL: one rank. Only rank 0 has a log that says anything, and a result that is shown */
  Log *log;
} ProgramCall;

/* What a stage gives back for standard output: JSON for --json, a line for people otherwise. */
typedef struct ProgramResult {
  Buffer json; /* one object, no newline */
  Buffer text;
  bool marked; /* the text has marks around what is to stand out (terminal_write_marked) */
} ProgramResult;

typedef struct Program {
  const char *name;    /* "sft" */
  const char *summary; /* one sentence, for --help */
  const Option *options;
  size_t option_count;
  size_t config_size;
  bool ranks; /* it can run on many, which the launcher asks for; otherwise more than one is refused */
  /* What options have to be together, which their table cannot say; NULL: nothing. `run` looks at it too: this is for --print-config, by
   * which a pipeline looks at all of its stages before the first runs. */
  bool (*rules)(const void *config, Error *error);
  bool (*run)(const ProgramCall *call, ProgramResult *result, Error *error);
  const char *example; /* lines of a command, for --help; NULL: none */
} Program;

/* Appends text as a JSON string, quotes included: for paths in results. */
NODISCARD bool result_string(Buffer *json, const char *text, Error *error);

/* Returns the exit code. Results go to `out`, the log and errors to `err`. */
int program_run(const Program *program, int argc, char **argv, FILE *out, FILE *err);

#endif
