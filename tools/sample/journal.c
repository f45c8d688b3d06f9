#include "tools/sample/journal.h"

#include "base/memory.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool file_error(const Journal *journal, const char *what, Error *error) {
  return error_set(error, ERROR_FILE, "cannot %s %s: %s", what, journal->path, strerror(errno));
}

bool journal_open_take(Journal *journal, char *path, int64_t bytes, Error *error) {
  *journal = (Journal){.path = path, .bytes = bytes};
  if (!path) return error_out_of_memory(error, "path", 0);
  journal->stream = fopen(path, "ab");
  struct stat info;
  if (!journal->stream || fstat(fileno(journal->stream), &info) != 0)
    return file_error(journal, "open", error);
  if (info.st_size < bytes) {
    return error_set(error, ERROR_FILE,
                     "%s has %lld bytes, and at the last checkpoint it had %lld: put the former file back, "
                     "or start over with run.resume false",
                     path, (long long)info.st_size, (long long)bytes);
  }
  return ftruncate(fileno(journal->stream), bytes) == 0 || file_error(journal, "cut", error);
}

void journal_close(Journal *journal) {
  if (journal->stream) fclose(journal->stream);
  memory_free(journal->path);
  *journal = (Journal){0};
}

static json_t *answer_json(const SampledAnswer *answer) {
  return json_pack("{s:o, s:f, s:s, s:I}", "text", json_stringn(answer->text, answer->bytes), "score",
                   answer->score, "finished", answer->finished, "tokens", (json_int_t)answer->tokens);
}

bool journal_add(Journal *journal, const SampledAnswer *answers, int64_t count, Error *error) {
  json_t *list = json_array();
  bool ok = list != NULL;
  for (int64_t i = 0; ok && i < count; i++) ok = json_array_append_new(list, answer_json(&answers[i])) == 0;
  json_t *line = json_pack("{s:o}", "answers", list);
  /* Scores are fp32: 9 digits are all there is. */
  char *text = ok && line ? json_dumps(line, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
  json_decref(line);
  if (!text) return error_out_of_memory(error, "answers", 0);
  const size_t bytes = strlen(text);
  ok = fwrite(text, 1, bytes, journal->stream) == bytes && fputc('\n', journal->stream) != EOF;
  free(text);
  if (!ok) return file_error(journal, "write", error);
  journal->bytes += (int64_t)bytes + 1;
  return true;
}

bool journal_sync(Journal *journal, Error *error) {
  return (fflush(journal->stream) == 0 && fsync(fileno(journal->stream)) == 0) ||
         file_error(journal, "write", error);
}

bool journal_next(LineReader *reader, SampledAnswer *answers, int64_t count, json_t **line, Error *error) {
  if (!line_reader_record(reader, line, error)) return false;
  const json_t *list = json_object_get(*line, "answers");
  bool whole = json_array_size(list) == (size_t)count;
  for (int64_t i = 0; whole && i < count; i++) {
    const json_t *item = json_array_get(list, (size_t)i), *text = json_object_get(item, "text");
    const json_t *score = json_object_get(item, "score"), *finished = json_object_get(item, "finished");
    whole = json_is_string(text) && json_is_number(score) && json_is_string(finished);
    if (!whole) break;
    answers[i] = (SampledAnswer){.text = json_string_value(text),
                                 .bytes = json_string_length(text),
                                 .finished = json_string_value(finished),
                                 .tokens = json_integer_value(json_object_get(item, "tokens")),
                                 .score = json_number_value(score),
                                 .number = i};
  }
  if (whole) return true;
  json_decref(*line);
  *line = NULL;
  return error_set(error, ERROR_FILE,
                   "%s:%llu: expected the %lld answers to a prompt, as they were written; start over with "
                   "run.resume false",
                   reader->path, (unsigned long long)reader->number, (long long)count);
}
