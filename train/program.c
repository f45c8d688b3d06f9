#include "train/program.h"

#include "base/terminal.h"
#include "compute/comm.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool result_string(Buffer *json, const char *text, Error *error) {
  json_t *value = json_string(text);
  char *quoted = value ? json_dumps(value, JSON_ENCODE_ANY) : NULL;
  bool ok = quoted ? buffer_text(json, quoted, error) : error_out_of_memory(error, "result", strlen(text));
  free(quoted);
  json_decref(value);
  return ok;
}

static bool print_help(const Program *program, FILE *out, Error *error) {
  Buffer text = {0};
  bool ok =
      options_help(program->options, program->option_count, program->name, program->summary, &text, error);
  if (ok) fputs(text.data, out);
  buffer_free(&text);
  return ok;
}

static bool run_stage(const Program *program, const void *config, const OptionRequest *request, FILE *out,
                      Log *log, Error *error) {
  Buffer settings = {0};
  ProgramResult result = {0};
  bool ok = options_json(program->options, program->option_count, config, &settings, error);
  if (ok && request->print_config) {
    terminal_write(out, settings.data, settings.size);
  } else if (ok) {
    ProgramCall call = {.config = config,
                        .settings = settings.data,
                        .given = &request->given,
                        .check = request->check,
                        .log = log};
    ok = program->run(&call, &result, error);
    const Buffer *shown = request->json ? &result.json : &result.text;
    if (ok && shown->size) {
      const bool marked = result.marked && !request->json;
      (marked ? terminal_write_marked : terminal_write)(out, shown->data, shown->size);
      fputc('\n', out);
    }
  }
  buffer_free(&result.json);
  buffer_free(&result.text);
  buffer_free(&settings);
  return ok;
}

/* What is wrong with all ranks the first says; a launcher that sees another one end would not let it. */
static void say_failure(Log *log, const CommLaunch *launch, const Error *error) {
  if (launch->rank > 0) {
    sleep(1);
  } else {
    log_error(log, "%s", error->message);
  }
}

int program_run(const Program *program, int argc, char **argv, FILE *out, FILE *err) {
  Log log;
  log_init(&log, err, LOG_INFO);
  Error error = {0};
  OptionRequest request;
  CommLaunch launch = {0};
  void *config = memory_zeroed(1, program->config_size);
  bool ok = config || error_out_of_memory(&error, "configuration", program->config_size);
  ok = ok && comm_launch(&launch, &error) && comm_one_rank(&launch, program->name, &error);
  ok = ok && options_parse(program->options, program->option_count, config, argc, argv, &request, &error);
  if (ok && request.help) {
    ok = print_help(program, out, &error);
  } else if (ok && request.version) {
    fprintf(out, "drover %s %s\n", program->name, DROVER_VERSION);
  } else if (ok) {
    ok = run_stage(program, config, &request, out, &log, &error);
  }
  if (ok && (fflush(out) != 0 || ferror(out))) {
    ok = error_set(&error, ERROR_FILE, "cannot write to standard output");
  }
  if (!ok) say_failure(&log, &launch, &error);
  if (config) options_free(program->options, program->option_count, config);
  memory_free(config);
  return (int)error.code;
}
