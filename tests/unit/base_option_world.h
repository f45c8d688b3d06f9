/* A table with an option of every kind, and what its tests share. */
#ifndef TESTS_UNIT_BASE_OPTION_WORLD_H
#define TESTS_UNIT_BASE_OPTION_WORLD_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/option.h"
#include "tests/folder.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct Config {
  char *path;
  bool recompute;
  int dtype;
  double lr, clip, rate;
  int64_t seed, batch, limit, rank, room;
  OptionStrings targets, modules;
  OptionSources train;
  char *note;
  double share;
  int64_t count;
} Config;

static const char *const dtypes[] = {"f32", "bf16", NULL};

static const Option table[] = {
    ROW_STRING_REQUIRED("model.path", Config, path, "model directory", .names = OPTION_NAMES_MODEL,
                        .first = true),
    ROW_BOOL("model.recompute", Config, recompute, "false", "recompute blocks"),
    ROW_FLOAT("optim.lr", Config, lr, "1e-5", 0, 1, "peak learning rate", .first = true),
    ROW_FLOAT("optim.clip", Config, clip, "0.1", 0, INFINITY, "gradient norm"),
    ROW_INT("optim.batch_size", Config, batch, "8", 1, 1024, "sequences per update"),
    ROW_CHOICE("model.dtype", Config, dtype, "f32", dtypes, "type of the weights"),
    ROW_STRINGS("lora.targets", Config, targets, "q_proj,v_proj", "modules"),
    ROW_SOURCES("data.train", Config, train, NULL, "training data"),
    ROW_BYTES("device.memory_limit", Config, limit, "0", "bytes, 0 = none"),
    ROW_INT("run.seed", Config, seed, "1", 0, 0, "random seed"),
    ROW_STRING(
        "run.note", Config, note, NULL,
        "anything; a help text that is longer than the line is wide is wrapped between words, below itself"),
    ROW_FLOAT("adapter.rate", Config, rate, "1e-5", 0, 1, "rate of an adapter", .instead = "1e-4",
              .instead_when = "model.dtype = bf16, model.recompute",
              .when = "run.note or optim.clip > 0.5, no data.train"),
    ROW_INT("adapter.rank", Config, rank, "8", 1, 64, "rank", .when = "model.dtype != f32"),
    ROW_BYTES("adapter.room", Config, room, "1MiB", "room", .when = "model.recompute"),
    ROW_STRINGS("adapter.modules", Config, modules, "q,v", "names of modules",
                .when = "run.seed = 3 or lora.targets = q_proj"),
    ROW_INT("adapter.count", Config, count, "0", 0, 100, "a number"),
    ROW_FLOAT("adapter.share", Config, share, "0", 0, 1, "the same as a share", .excludes = "adapter.count"),
};
enum { ROWS = sizeof table / sizeof *table, MOST_ARGUMENTS = 16 };

/* Parses a NULL-terminated command line (without the program's name). */
static inline bool parse(Config *config, OptionRequest *request, Error *error, const char *const *arguments) {
  char *argv[MOST_ARGUMENTS + 1] = {"sft"};
  int argc = 1;
  for (; arguments[argc - 1]; argc++) argv[argc] = (char *)arguments[argc - 1];
  *config = (Config){0};
  *error = (Error){0};
  return options_parse(table, ROWS, config, argc, argv, request, error);
}

#define PARSE(config, request, error, ...) \
  parse(config, request, error, (const char *const[]){__VA_ARGS__, NULL})

static inline const char *write_config_as(const char *name, const char *text) {
  Error error = {0};
  const char *path = temporary_path(&folder, name);
  assert_true(file_write_text(path, text, &error));
  return path;
}

static inline const char *write_config(const char *json) {
  return write_config_as("c.json", json);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, open_folder, close_folder)

#endif
