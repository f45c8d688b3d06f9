#include "train/summary.h"

#include "base/progress.h"

#include <inttypes.h>
#include <string.h>

static bool write_figure(const RunLogCourse *course, const SummaryFigure *figure, Buffer *out, Error *error) {
  const double best = figure->best > 0 ? course->largest : course->smallest;
  const int64_t at = figure->best > 0 ? course->largest_step : course->smallest_step;
  const int digits = figure->digits;
  bool ok = buffer_format(out, error, "%s %.*f", figure->name, digits, course->first);
  if (ok && course->count > 1) ok = buffer_format(out, error, " -> %.*f", digits, course->last);
  if (ok && course->count > 2 && figure->best)
    ok = buffer_format(out, error, " (best %.*f at update %" PRId64 ")", digits, best, at);
  return ok;
}

bool summary_write(const Run *run, int64_t updates, const SummaryFigure *figures, size_t count, Buffer *out,
                   Error *error) {
  char took[32];
  bool ok = buffer_format(out, error, "%" PRId64 " update%s in %s", updates, updates == 1 ? "" : "s",
                          duration_text(time_monotonic() - run->opened_at, took));
  const char *before = ": ";
  for (size_t i = 0; ok && i < count; i++) {
    RunLogCourse course;
    if (!runlog_course(&run->runlog, figures[i].metric, &course)) continue;
    ok = buffer_text(out, before, error) && write_figure(&course, &figures[i], out, error);
    before = ", ";
  }
  return ok;
}

static bool is_plain(const char *word) {
  return *word && word[strspn(word,
                              "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                              "_./@%+=:,-")] == '\0';
}

bool summary_option(Buffer *out, const char *option, const char *value, Error *error) {
  bool ok = buffer_format(out, error, " %s ", option);
  if (is_plain(value)) return ok && buffer_text(out, value, error);
  ok = ok && buffer_text(out, "'", error);
  for (const char *at = value; ok && *at; at++)
    ok = *at == '\'' ? buffer_text(out, "'\\''", error) : buffer_append(out, at, 1, error);
  return ok && buffer_text(out, "'", error);
}

bool summary_try(const char *model, const char *output, bool adapter, bool chat, Buffer *out, Error *error) {
  return buffer_text(out, "\nnext: drover generate", error) &&
         summary_option(out, "--model", adapter ? model : output, error) &&
         (!adapter || summary_option(out, "--adapter", output, error)) &&
         buffer_text(out, chat ? " --chat --prompt \"...\"" : " --prompt \"...\"", error);
}
