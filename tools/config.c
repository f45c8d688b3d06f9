/* config: a configuration or a pipeline, YAML or JSON with comments, as plain JSON on standard output; or where a key of it stands. */
#include "base/config_file.h"
#include "base/process.h"
#include "train/program.h"

#include <string.h>

/* The file as JSON, or the line of the key, 0 for none of that name. */
static bool run(const char *path, const char *key, Error *error) {
  ConfigFile file;
  Buffer text = {0};
  bool ok = config_file_open(&file, path, error);
  if (ok && key) {
    ok = buffer_format(&text, error, "%d", key_lines_find(&file.lines, key));
  } else if (ok) {
    ok = json_append_text(&text, file.root, error);
  }
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
  const bool help = argc > 1 && strcmp(argv[1], "--help") == 0;
  const bool line = argc == 4 && strcmp(argv[1], "--line") == 0;
  if (help || (!line && argc != 2) || argv[argc - 1][0] == '-') {
    fputs(
        "usage: drover config [--line KEY] FILE\n\n"
        "Prints a configuration or a pipeline, YAML or JSON with comments, as plain JSON;\n"
        "or the line of a key, like stages[0].config.optim.lr.\n",
        help ? stdout : stderr);
    return help ? 0 : ERROR_USAGE;
  }
  if (!run(argv[argc - 1], line ? argv[2] : NULL, &error)) fprintf(stderr, "error: %s\n", error.message);
  return (int)error.code;
}
