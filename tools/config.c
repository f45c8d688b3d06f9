/* config: a configuration or a pipeline, YAML or JSON with comments, as plain JSON on standard output. */
#include "base/config_file.h"
#include "base/process.h"
#include "train/program.h"

#include <string.h>

static bool run(const char *path, Error *error) {
  ConfigFile file;
  Buffer text = {0};
  bool ok = config_file_open(&file, path, error);
  ok = ok && json_append_text(&text, file.root, error);
  if (ok) puts(text.data);
  ok = ok && ((fflush(stdout) == 0 && !ferror(stdout)) ||
              error_set(error, ERROR_FILE, "cannot write to standard output"));
  config_file_close(&file);
  buffer_free(&text);
  return ok;
}

int main(int argc, char **argv) {
  process_begin(argv);
  Error error = {0};
  const bool help = argc == 2 && strcmp(argv[1], "--help") == 0;
  if (help || argc != 2 || argv[1][0] == '-') {
    fputs(
        "usage: drover config FILE\n\nPrints a configuration or a pipeline, YAML or JSON with comments, as "
        "plain JSON.\n",
        help ? stdout : stderr);
    return help ? 0 : ERROR_USAGE;
  }
  if (!run(argv[1], &error)) fprintf(stderr, "error: %s\n", error.message);
  return (int)error.code;
}
