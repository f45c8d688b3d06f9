/* A program as a source: one process for the whole run, a line in for each answer, a line out with what it is worth. docs/rewards.md has the
 * protocol for those who write one.
 *
 * It is started when the first answer is there. When it ends, hangs or does not read any more it is started again, and given again what it
 * has not answered; but so many times in a rollout, and nonsense ends the run at once: what a judge means by it nobody knows. */
#include "scoring/child.h"
#include "scoring/request.h"
#include "scoring/verdict.h"

#include "base/memory.h"

#include <inttypes.h>
#include <string.h>

typedef struct CommandOptions {
  SourceCommon common;
  OptionStrings command;
  double timeout;
  int64_t restarts;
} CommandOptions;

/* clang-format off */
static const Option command_options[] = {
    SOURCE_OPTIONS(CommandOptions, common)
    ROW_STRINGS("command", CommandOptions, command, NULL, "program and arguments, as a list; no shell reads them"),
    ROW_FLOAT("timeout", CommandOptions, timeout, "120", 0.01, 1e6, "seconds from one answer to the next, and to the first"),
    ROW_INT("restarts", CommandOptions, restarts, "3", 0, 1000, "times that it may be started again in a rollout")};
/* clang-format on */

enum {
  LONGEST_SAID = 1000,
  MOST_SAID = 200
}; /* bytes of a line of its standard error, and lines, that a rollout's log takes */

typedef struct State {
  char **argv;
  Child child;
  Buffer line;
  int64_t *queue; /* [capacity] slots in the order in which they were given to it */
  int64_t count;  /* of them */
  int64_t first;  /* before this all are answered */
  int64_t left;   /* to be answered */
  int64_t lines;  /* of its answers, since it was started */
  int64_t restarts, said;
  double since;     /* of its last answer, or of the first question after that: time_monotonic */
  double looked_at; /* when somebody last looked */
  char last_said[200];
} State;

static bool check(const void *config, const char *place, Error *error) {
  const CommandOptions *options = config;
  Error why = {0};
  if (options->command.count == 0)
    return error_set(error, ERROR_USAGE, "%s: 'command' is required (a list of program and arguments)",
                     place);
  return child_check(options->command.items[0], &why) ||
         error_set(error, ERROR_USAGE, "%s: 'command': %s", place, why.message);
}

static bool open(Source *source, Error *error) {
  const CommandOptions *options = source->options;
  const size_t n = (size_t)source->scoring->setting.capacity, arguments = options->command.count;
  State *state = source->state = memory_zeroed(1, sizeof *state);
  if (!state) return error_out_of_memory(error, "command", sizeof *state);
  source->scoring->wants_text = true;
  state->queue = memory_zeroed(n, sizeof *state->queue);
  state->argv = memory_zeroed(arguments + 1, sizeof *state->argv);
  if (!state->queue || !state->argv) return error_out_of_memory(error, "command", n * sizeof *state->queue);
  for (size_t i = 0; i < arguments; i++) state->argv[i] = options->command.items[i];
  return true;
}

/* -- what it says beside its answers ---------------------------------------------------------------------- */

static void tell_said(Source *source) {
  State *state = source->state;
  Log *log = source->scoring->setting.log;
  const char *line;
  size_t bytes;
  while (child_line(&state->child.err, LONGEST_SAID, &line, &bytes)) {
    if (bytes == 0) continue;
    shown_text(line, bytes, state->last_said);
    if (state->said++ < MOST_SAID) log_info(log, "%s: %.*s", source->common->name, (int)bytes, line);
  }
}

/* ", and said: ..." */
static void last_words(const State *state, char out[240]) {
  snprintf(out, 240, *state->last_said ? "; the last it said: %s" : "", state->last_said);
}

static void close(Source *source) {
  State *state = source->state;
  if (!state) return;
  (void)child_end(&state->child, state->left > 0 ? 0 : 5); /* one that is busy is not waited for */
  tell_said(source);
  child_free(&state->child);
  buffer_free(&state->line);
  memory_free(state->argv);
  memory_free(state->queue);
  memory_free(state);
  source->state = NULL;
}

/* -- questions -------------------------------------------------------------------------------------------- */

static bool question(Source *source, int64_t slot, Buffer *out, Error *error) {
  return request_body(&source->scoring->answers[slot], &source->scoring->texts[slot], out, error);
}

static bool ask(Source *source, int64_t slot, Error *error) {
  State *state = source->state;
  buffer_clear(&state->line);
  return request_whole(&source->scoring->answers[slot], &source->questions[slot], &state->line, error) &&
         buffer_text(&state->line, "\n", error) &&
         child_send(&state->child, state->line.data, state->line.size, error);
}

/* Starts it, and asks what it has not answered. */
static bool start(Source *source, Error *error) {
  State *state = source->state;
  if (!child_start(&state->child, state->argv, error)) return false;
  state->since = state->looked_at = time_monotonic();
  state->lines = 0;
  for (int64_t i = state->first; i < state->count; i++) {
    if (!source->judged[state->queue[i]] && !ask(source, state->queue[i], error)) return false;
  }
  return true;
}

static int64_t oldest(const Source *source) {
  State *state = source->state;
  while (state->first < state->count && source->judged[state->queue[state->first]]) state->first++;
  return state->queue[state->first];
}

static bool start_again(Source *source, const char *why, double patience, Error *error) {
  const CommandOptions *options = source->options;
  State *state = source->state;
  char status[80], said[240], label[96];
  child_status_text(child_end(&state->child, patience), status, sizeof status);
  tell_said(source);
  last_words(state, said);
  child_free(&state->child);
  if (state->restarts >= options->restarts) {
    return error_set(error, ERROR_DATA,
                     "%s (%s) with %" PRId64
                     " answers to come, the first of id %lld; it was started again %" PRId64
                     " times in this rollout%s",
                     why, status, state->left, (long long)source->scoring->answers[oldest(source)].id,
                     state->restarts, said);
  }
  state->restarts++;
  log_warning(source->scoring->setting.log,
              "%s: %s (%s) with %" PRId64 " answers to come: it is started again, %" PRId64 " of %" PRId64
              " times in a rollout%s",
              source_label(source, label), why, status, state->left, state->restarts, options->restarts,
              said);
  return start(source, error);
}

static void begin(Source *source) {
  State *state = source->state;
  if (state->left > 0) { /* of a rollout that was given up: its answers would be taken for others */
    (void)child_end(&state->child, 0);
    child_free(&state->child);
  }
  state->count = state->first = state->left = state->restarts = state->said = 0;
}

static bool submit(Source *source, int64_t slot, Error *error) {
  State *state = source->state;
  state->queue[state->count++] = slot;
  if (state->left++ == 0) state->since = state->looked_at = time_monotonic();
  return state->child.pid == 0 ? start(source, error) : ask(source, slot, error);
}

/* -- answers ---------------------------------------------------------------------------------------------- */

/* The slot that an answer is for; -1 when none waits for it. */
static int64_t slot_of(const Source *source, const Verdict *verdict) {
  const State *state = source->state;
  if (state->left == 0) return -1;
  const int64_t slot = oldest(source);
  for (int64_t i = state->first; verdict->has_id && i < state->count; i++) {
    const int64_t other = state->queue[i];
    if (source->scoring->answers[other].id == verdict->id) return source->judged[other] ? -1 : other;
  }
  return verdict->has_id ? -1 : slot;
}

static bool take_line(Source *source, const char *line, size_t bytes, Error *error) {
  State *state = source->state;
  Verdict verdict;
  state->lines++;
  if (!verdict_read(&verdict, line, bytes, error))
    return error_context(error, "line %" PRId64 " of its output", state->lines);
  const int64_t slot = slot_of(source, &verdict);
  if (slot < 0) {
    char shown[200];
    shown_text(line, bytes, shown);
    return error_set(error, ERROR_DATA, "line %" PRId64 " of its output: no answer waits for %s",
                     state->lines, shown);
  }
  state->left--;
  state->since = time_monotonic();
  return verdict_note(&verdict, source, slot, error);
}

static bool is_blank(const char *line, size_t bytes) {
  while (bytes > 0 && (*line == ' ' || *line == '\t')) line++, bytes--;
  return bytes == 0;
}

static bool take_lines(Source *source, Error *error) {
  State *state = source->state;
  const char *line;
  size_t bytes;
  while (child_line(&state->child.out, CHILD_LONGEST_LINE, &line, &bytes)) {
    if (bytes >= CHILD_LONGEST_LINE)
      return error_set(error, ERROR_DATA, "line %" PRId64 " of its output has more than %d bytes",
                       state->lines + 1, CHILD_LONGEST_LINE);
    if (!is_blank(line, bytes) && !take_line(source, line, bytes, error)) return false;
  }
  return true;
}

/* Time in which nobody looked is none that it took. */
static bool is_late(const Source *source) {
  const CommandOptions *options = source->options;
  State *state = source->state;
  const double now = time_monotonic(), away = now - state->looked_at;
  if (away > 1) state->since += away;
  state->looked_at = now;
  return now - state->since > options->timeout;
}

static bool attend(Source *source, double seconds, Error *error) {
  const CommandOptions *options = source->options;
  State *state = source->state;
  if (!child_exchange(&state->child, seconds, error)) return false;
  tell_said(source);
  if (!take_lines(source, error)) return false;
  if (state->left == 0) return true;
  if (child_is_over(&state->child)) {
    char why[240] = "its program has ended", shown[200];
    size_t bytes;
    const char *rest = child_rest(&state->child.out, &bytes);
    shown_text(rest, bytes, shown);
    if (bytes) snprintf(why, sizeof why, "its program has ended within the line '%.160s'", shown);
    return start_again(source, why, 1, error);
  }
  if (!is_late(source)) return true;
  char why[80];
  snprintf(why, sizeof why, "no answer within %g seconds", options->timeout);
  return start_again(source, why, 0, error);
}

static int64_t left(const Source *source) {
  const State *state = source->state;
  return state->left;
}

const SourceKind command_source = {
    .keys = {"command", command_options, sizeof command_options / sizeof *command_options},
    .config_size = sizeof(CommandOptions),
    .check = check,
    .open = open,
    .close = close,
    .begin = begin,
    .question = question,
    .submit = submit,
    .attend = attend,
    .left = left};
