#include "scoring/verdict.h"

#include "base/digest.h"
#include "base/json.h"

static const JsonLimit limit = {1 << 20, 16 << 20};

void shown_text(const char *text, size_t bytes, char out[200]) {
  size_t used = 0;
  for (size_t i = 0; i < bytes && used < 150; i++) {
    const unsigned char c = (unsigned char)text[i];
    if (c >= 0x20 && c != 0x7f) {
      out[used++] = (char)c;
    } else {
      used += (size_t)snprintf(out + used, 8, c == '\n' ? "\\n" : c == '\t' ? "\\t" : "\\x%02x", c);
    }
  }
  while (used > 0 && used >= 150 && ((unsigned char)out[used - 1] & 0xc0) == 0x80)
    used--; /* not in a character */
  snprintf(out + used, 200 - used, bytes > 150 ? " ... (%zu bytes)" : "", bytes);
}

static bool refuse(const char *text, size_t bytes, const char *why, Error *error) {
  char shown[200];
  shown_text(text, bytes, shown);
  return error_set(error, ERROR_DATA,
                   "expected a number or {\"score\": ..., \"parts\": {...}}, found %s%s%s%s",
                   bytes ? "'" : "nothing", shown, bytes ? "'" : "", why);
}

/* A number that a float holds. */
static bool read_number(const json_t *value, double *number) {
  if (!json_is_number(value)) return false;
  *number = json_number_value(value);
  return isfinite((float)*number);
}

static bool read_parts(Verdict *verdict, const json_t *parts, const char **why) {
  const char *name;
  json_t *value;
  json_object_foreach((json_t *)parts, name, value) {
    const int p = verdict->part_count;
    *why = ": more parts than are kept";
    if (p == SCORING_MOST_PARTS) return false;
    *why = ": a part has no name of up to 40 letters, digits, _, - and .";
    if (!source_is_name(name)) return false;
    *why = ": a part is no finite number";
    if (!read_number(value, &verdict->parts[p].value)) return false;
    snprintf(verdict->parts[p].name, sizeof verdict->parts[p].name, "%s", name);
    verdict->part_count++;
  }
  return true;
}

static bool read_object(Verdict *verdict, const json_t *root, const char **why) {
  const json_t *parts = json_object_get(root, "parts"), *id = json_object_get(root, "id");
  *why = ": its score is no finite number";
  if (!read_number(json_object_get(root, "score"), &verdict->score)) return false;
  verdict->has_id = id && !json_is_null(id);
  verdict->id = json_integer_value(id);
  *why = ": its id is no integer";
  if (verdict->has_id && !json_is_integer(id)) return false;
  *why = ": its parts are no object";
  return !parts || json_is_null(parts) || (json_holds_object(parts) && read_parts(verdict, parts, why));
}

bool verdict_read(Verdict *verdict, const char *text, size_t bytes, Error *error) {
  json_error_t broken;
  const char *why = "";
  *verdict = (Verdict){0};
  json_t *root = json_parse(text, bytes, limit, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &broken);
  bool ok = root != NULL;
  if (!ok && json_error_code(&broken) == json_error_duplicate_key) why = ": a key is given twice";
  if (ok && json_holds_object(root)) {
    ok = read_object(verdict, root, &why);
  } else if (ok) {
    ok = read_number(root, &verdict->score);
  }
  json_decref(root);
  return ok || refuse(text, bytes, why, error);
}

/* -- as that of an answer --------------------------------------------------------------------------------- */

static bool take_down(const Verdict *verdict, Source *source, int64_t slot, Error *error) {
  for (int i = 0; i < verdict->part_count; i++) {
    const int p = source_part(source, verdict->parts[i].name, error);
    if (p < 0) return false;
    source->parts[p][slot] = (float)verdict->parts[i].value;
  }
  source_judged(source, slot, verdict->score);
  return true;
}

static bool parts_text(const Verdict *verdict, Buffer *out, Error *error) {
  json_t *parts = json_object();
  for (int i = 0; i < verdict->part_count; i++)
    json_object_set_new(parts, verdict->parts[i].name, json_real(verdict->parts[i].value));
  const bool ok =
      parts ? json_append_text(out, parts, error) : error_out_of_memory(error, "parts of a reward", 0);
  json_decref(parts);
  return ok;
}

static RunLogReward row_of(const Source *source, int64_t slot, char digest[33]) {
  const Scoring *scoring = source->scoring;
  bytes_digest(source->questions[slot].data, source->questions[slot].size, digest);
  return (RunLogReward){.source = source->common->name,
                        .step = scoring->step,
                        .id = scoring->answers[slot].id,
                        .digest = digest};
}

bool verdict_note(const Verdict *verdict, Source *source, int64_t slot, Error *error) {
  RunLog *log = source->scoring->setting.runlog;
  Buffer parts = {0};
  char digest[33];
  if (!take_down(verdict, source, slot, error)) return false;
  if (!log) return true;
  const bool ok = verdict->part_count == 0 || parts_text(verdict, &parts, error);
  RunLogReward row = row_of(source, slot, digest);
  row.score = verdict->score;
  row.parts = parts.data;
  if (ok) runlog_reward(log, &row);
  buffer_free(&parts);
  return ok;
}

bool verdict_recall(Source *source, int64_t slot, bool *found, Error *error) {
  RunLog *log = source->scoring->setting.runlog;
  char digest[33];
  *found = false;
  if (!log) return true;
  RunLogReward row = row_of(source, slot, digest);
  bool again = runlog_kept_reward(log, &row, false);
  if (!again && !(source->anywhere && runlog_kept_reward(log, &row, true))) return true;
  Verdict verdict = {.score = row.score};
  const char *why;
  json_t *parts = row.parts ? json_loads(row.parts, 0, NULL) : NULL;
  *found =
      !row.parts || (parts && read_parts(&verdict, parts, &why)); /* else somebody has changed the file */
  json_decref(parts);
  memory_free(row.parts);
  if (!*found) return true;
  return again ? take_down(&verdict, source, slot, error) : verdict_note(&verdict, source, slot, error);
}
