/* inspect COMMAND ...: what a tokenizer, a template, a model or a data set does, made visible. */
#include "base/process.h"
#include "tools/inspect/inspect.h"

#include <string.h>

typedef struct Command {
  const char *name;
  const Program *program;
} Command;

static const Command commands[] = {{"tokens", &inspect_tokens}, {"decode", &inspect_decode},
                                   {"chat", &inspect_chat},     {"logprobs", &inspect_logprobs},
                                   {"score", &inspect_score},   {"model", &inspect_model},
                                   {"data", &inspect_data}};
enum { COMMANDS = sizeof commands / sizeof *commands };

static void usage(FILE *out) {
  fputs("usage: drover inspect COMMAND --model DIR ...\n\n", out);
  for (int i = 0; i < COMMANDS; i++)
    fprintf(out, "  %-9s %s\n", commands[i].name, commands[i].program->summary);
  fputs("\ninspect COMMAND --help lists the options of a command; --json prints results as\nJSON.\n", out);
}

int main(int argc, char **argv) {
  process_begin(argv);
  const char *names[COMMANDS];
  for (int i = 0; i < COMMANDS; i++) {
    names[i] = commands[i].name;
    if (argc > 1 && strcmp(argv[1], commands[i].name) == 0) {
      return program_run(commands[i].program, argc - 1, argv + 1, stdout, stderr);
    }
  }
  if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
    usage(stdout);
    return 0;
  }
  if (argc > 1) {
    const char *near = nearest_name(argv[1], names, COMMANDS);
    fprintf(stderr, "inspect: unknown command '%s'", argv[1]);
    fprintf(stderr, near ? "; did you mean '%s'?\n\n" : "\n\n", near);
  }
  usage(stderr);
  return ERROR_USAGE;
}
