/* demo_data --out DIR [--seed N] [--shuffle-preferences]: writes the help-desk data of the demo (datasets/demo.h). */
#include "datasets/demo.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
    "usage: demo_data --out DIR [--seed N] [--shuffle-preferences] [--scale X]\n"
    "\n"
    "Writes the data of the demo, a help desk in simple English, as JSONL files into DIR:\n"
    "pretrain, sft, sft_eval, preferences, preferences_eval, prompts and heldout.\n"
    "\n"
    "  --out DIR              where to; created when missing\n"
    "  --seed N               everything is a function of it (default 1)\n"
    "  --shuffle-preferences  control: labels of the training pairs are coin flips\n"
    "  --scale X              X times as many records in every file (default 1)\n";

static int scaled(int count, double scale) {
  int result = (int)(count * scale + 0.5);
  return result < 1 ? 1 : result;
}

static void scale_counts(DemoOptions *options, double scale) {
  int *counts[] = {&options->pretrain,         &options->sft,     &options->sft_eval, &options->preferences,
                   &options->preferences_eval, &options->prompts, &options->heldout};
  for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) *counts[i] = scaled(*counts[i], scale);
}

static bool parse(int argc, char **argv, DemoOptions *options, bool *help, Error *error) {
  options->directory = NULL;
  for (int i = 1; i < argc; i++) {
    char *end = NULL;
    const char *value = i + 1 < argc ? argv[i + 1] : NULL;
    if (strcmp(argv[i], "--help") == 0) {
      *help = true;
      return true;
    } else if (strcmp(argv[i], "--shuffle-preferences") == 0) {
      options->shuffle_preferences = true;
      continue;
    }
    if (strcmp(argv[i], "--out") && strcmp(argv[i], "--seed") && strcmp(argv[i], "--scale")) {
      return error_set(error, ERROR_USAGE, "unknown option %s", argv[i]);
    }
    if (!value) return error_set(error, ERROR_USAGE, "%s: expected a value", argv[i]);
    if (strcmp(argv[i], "--out") == 0) {
      options->directory = value;
    } else if (strcmp(argv[i], "--seed") == 0) {
      options->seed = strtoull(value, &end, 10);
      if (end == value || *end || *value == '-') {
        return error_set(error, ERROR_USAGE, "--seed: expected a number, found '%s'", value);
      }
    } else {
      double scale = strtod(value, &end);
      if (end == value || *end || !(scale > 0 && scale <= 20)) {
        return error_set(error, ERROR_USAGE, "--scale: expected a number above 0, at most 20, found '%s'",
                         value);
      }
      scale_counts(options, scale);
    }
    i++;
  }
  if (!options->directory) return error_set(error, ERROR_USAGE, "--out DIR is missing");
  return true;
}

int main(int argc, char **argv) {
  DemoOptions options = demo_options_default();
  Error error = {0};
  bool help = false;
  if (!parse(argc, argv, &options, &help, &error) || (!help && !demo_write(&options, &error))) {
    fprintf(stderr, "demo_data: %s\n", error.message);
    if (error.code == ERROR_USAGE) fputs(usage, stderr);
    return (int)error.code;
  }
  if (help) fputs(usage, stdout);
  return 0;
}
