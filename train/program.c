#include "train/program.h"

#include "base/file.h"
#include "base/terminal.h"
#include "compute/compute.h"
#include "train/model_path.h"
#include "train/ranks.h"
#include "train/run.h"

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

/* Seconds after which what was said at the start is out of sight. */
enum { SCREENFUL = 60 };

static bool print_help(const Program *program, const char *topic, FILE *out, Error *error) {
  Buffer text = {0};
  const OptionHelp about = {program->name, program->summary, program->example};
  bool ok = options_help(program->options, program->option_count, &about, topic, &text, error);
  if (ok) fputs(text.data, out);
  buffer_free(&text);
  return ok;
}

/* The configuration of somebody who gives no option. */
static bool write_defaults(const Program *program, Buffer *out, Error *error) {
  void *config = memory_zeroed(1, program->config_size);
  if (!config) return error_out_of_memory(error, "configuration", program->config_size);
  const bool ok = options_recall(program->options, program->option_count, config, "{}", "defaults", error) &&
                  options_json(program->options, program->option_count, config, out, error);
  options_free(program->options, program->option_count, config);
  memory_free(config);
  return ok;
}

static bool print_config(const Program *program, const void *config, FILE *out, Error *error) {
  Buffer text = {0};
  const bool ok = options_json(program->options, program->option_count, config, &text, error);
  if (ok) terminal_write(out, text.data, text.size);
  buffer_free(&text);
  return ok;
}

/* A number that some programs have an option for; 0 where there is none. */
static int64_t int_option(const Program *program, const void *config, const char *key) {
  const Option *option = option_find(program->options, program->option_count, key);
  if (!option) return 0;
  ASSERT(option->type == OPTION_INT);
  return *(const int64_t *)((const char *)config + option->offset);
}

/* CPU threads that the user allows, of a stage or a tool; 0: all. */
static int64_t threads_option(const Program *program, const void *config) {
  const int64_t of_stage = int_option(program, config, "device.threads");
  return of_stage ? of_stage : int_option(program, config, "threads");
}

/* What --check found, where the program has nothing more to say of it. */
static bool say_checked(ProgramResult *result, Error *error) {
  return result->text.size || result->json.size ||
         (buffer_text(&result->text, "the check found nothing wrong", error) &&
          buffer_text(&result->json, "{\"ok\": true}", error));
}

static bool run_stage(const Program *program, void *config, const OptionRequest *request, const Comm *comm,
                      FILE *out, Log *log, Error *error) {
  Buffer settings = {0}, defaults = {0};
  ProgramResult result = {0};
  bool ok = model_paths_open(program->options, program->option_count, config, &settings, log, error) &&
            ranks_check_settings(comm, settings.data, error) && write_defaults(program, &defaults, error);
  if (ok) {
    ProgramCall call = {.config = config,
                        .settings = {settings.data, defaults.data},
                        .given = &request->given,
                        .check = request->check,
                        .comm = comm,
                        .log = log};
    const double began = time_monotonic();
    StringList warnings = {0};
    log->warnings = &warnings;
    ok = program->run(&call, &result, error) && (!call.check || say_checked(&result, error));
    if (ok && time_monotonic() - began > SCREENFUL) log_warnings_again(log);
    log->warnings = NULL;
    string_list_free(&warnings);
    const Buffer *shown = request->json ? &result.json : &result.text;
    if (ok && shown->size && comm->rank == 0) {
      const bool marked = result.marked && !request->json;
      (marked ? terminal_write_marked : terminal_write)(out, shown->data, shown->size);
      fputc('\n', out);
    }
  }
  buffer_free(&result.json);
  buffer_free(&result.text);
  buffer_free(&settings);
  buffer_free(&defaults);
  return ok;
}

/* What is wrong with all ranks one says; a launcher that sees another one end would not let it. */
static void say_failure(Log *log, const CommLaunch *launch, const Error *error) {
  if (!launch->speaks) {
    sleep(1);
  } else {
    log->threshold = LOG_ERROR;
    log_error(log, "%s", error->message);
  }
}

/* Ranks that are planned for, and not there. */
static bool imagine_ranks(Comm *comm, int64_t ranks, const CommLaunch *launch, bool check, Error *error) {
  if (!check)
    return error_set(error, ERROR_USAGE,
                     "device.plan_ranks %lld is for --check: drover launch -n %lld starts so many ranks",
                     (long long)ranks, (long long)ranks);
  if (launch->size > 1)
    return error_set(error, ERROR_USAGE,
                     "device.plan_ranks %lld: expected no launcher, found %s=%d in the environment",
                     (long long)ranks, launch->variable, launch->size);
  *comm = comm_imagined((int)ranks);
  return true;
}

/* MPI and sockets have threads, and signals are to be taken before. */
static bool open_ranks(Comm *comm, const Program *program, const void *config, const CommLaunch *launch,
                       const OptionRequest *request, const Log *log, Error *error) {
  const int64_t planned = program->ranks ? int_option(program, config, "device.plan_ranks") : 1;
  if (planned > 1) return imagine_ranks(comm, planned, launch, request->check, error);
  if (launch->size == 1) return true;
  Log shown = *log;
  shown.threshold = LOG_INFO;
  const CommJoin join = {.seconds = (double)int_option(program, config, "device.rank_timeout"),
                         .stopped = request->check ? NULL : run_stop_signal,
                         .log = launch->speaks ? &shown : NULL};
  return (request->check || run_signals_install(launch->rank > 0, error)) &&
         comm_open(comm, launch, &join, error);
}

/* All ranks end with an error that one of them has. What a signal or an alarm stops all have agreed on. */
static void close_ranks(Comm *comm, const Error *error) {
  const bool agreed = error_is_signal(error) || error->code == ERROR_ALARM;
  if (comm->world && error->code && !agreed) comm_abandon(comm, error);
  comm_close(comm);
}

int program_run(const Program *program, int argc, char **argv, FILE *out, FILE *err) {
  Log log;
  log_init(&log, err, LOG_INFO);
  Error error = {0};
  OptionRequest request;
  CommLaunch launch = {0};
  void *config = memory_zeroed(1, program->config_size);
  bool ok = config || error_out_of_memory(&error, "configuration", program->config_size);
  ok =
      ok && comm_launch(&launch, &error) && (program->ranks || comm_one_rank(&launch, program->name, &error));
  ok = ok && options_parse(program->options, program->option_count, config, argc, argv, &request, &error);
  if (launch.rank > 0) log.threshold = LOG_SILENT;
  const bool told = ok && (request.help || request.version || request.print_config);
  if (told && launch.rank > 0) {
    /* rank 0 tells */
  } else if (ok && request.help) {
    ok = print_help(program, request.help_topic, out, &error);
  } else if (ok && request.version) {
    fprintf(out, "drover %s %s\n", program->name, DROVER_VERSION);
  } else if (ok && request.print_config) {
    ok = (!program->rules || program->rules(config, &error)) && print_config(program, config, out, &error);
  } else if (ok) {
    Comm comm = comm_single();
    const int all_threads = compute_all_threads();
    const int64_t threads = threads_option(program, config);
    if (threads > 0) compute_limit_threads((int)threads); /* whatever the process does: data and files too */
    ok = open_ranks(&comm, program, config, &launch, &request, &log, &error) &&
         run_stage(program, config, &request, &comm, out, &log, &error);
    close_ranks(&comm, &error);
    compute_limit_threads(all_threads);
  }
  if (ok && (fflush(out) != 0 || ferror(out))) {
    ok = error_set(&error, ERROR_FILE, "cannot write to standard output");
  }
  if (!ok) say_failure(&log, &launch, &error);
  if (config) options_free(program->options, program->option_count, config);
  memory_free(config);
  return (int)error.code;
}
