#include "tools/data/write.h"

#include "datasets/lines.h"
#include "train/program.h"

typedef struct Outputs {
  FileWriter train, eval, removed;
  Buffer text; /* scratch */
} Outputs;

static bool put_line(FileWriter *writer, const Buffer *line, Error *error) {
  return file_writer_write(writer, line->data, line->size, error) &&
         file_writer_write(writer, "\n", 1, error);
}

static bool put_place(Buffer *out, const char *file, uint64_t line, Error *error) {
  return buffer_text(out, "\"file\":", error) && result_string(out, file, error) &&
         buffer_format(out, error, ",\"line\":%llu", (unsigned long long)line);
}

static bool put_removed(const Survey *survey, uint32_t record, const Buffer *line, Outputs *outputs,
                        Error *error) {
  const RecordNote *note = &survey->notes[record];
  Buffer *text = &outputs->text;
  buffer_clear(text);
  bool ok = buffer_format(text, error, "{\"reason\":\"%s\",", fate_names[note->fate]) &&
            put_place(text, survey_file(survey, record)->name, note->line, error);
  if (ok && note->first != record) {
    ok = buffer_text(text, ",\"like\":{", error) &&
         put_place(text, survey_file(survey, note->first)->name, survey->notes[note->first].line, error) &&
         buffer_text(text, "}", error);
  }
  ok = ok && buffer_text(text, ",\"record\":", error) &&
       (note->fate == FATE_BROKEN ? result_string(text, line->data, error)
                                  : buffer_append(text, line->data, line->size, error)) &&
       buffer_text(text, "}", error);
  return ok && put_line(&outputs->removed, text, error);
}

static bool put_record(const Survey *survey, uint32_t record, const Buffer *line, Outputs *outputs,
                       Error *error) {
  const RecordNote *note = &survey->notes[record];
  if (note->fate != FATE_KEPT)
    return !outputs->removed.stream || put_removed(survey, record, line, outputs, error);
  FileWriter *writer = note->eval ? &outputs->eval : &outputs->train;
  return !writer->stream || put_line(writer, line, error);
}

/* An element of a list may have several lines; between its values they are white space. */
static void join_lines(Buffer *text) {
  for (size_t i = 0; i < text->size; i++) {
    if (text->data[i] == '\n' || text->data[i] == '\r') text->data[i] = ' ';
  }
}

static bool write_file(const Survey *survey, const FileNote *file, Outputs *outputs, Error *error) {
  LineReader reader;
  bool ok = line_reader_open(&reader, file->path, error), found = true;
  if (ok && survey->config->max_record) line_reader_limit(&reader, survey->config->max_record);
  uint32_t record = file->begin;
  while (ok && (ok = line_reader_text(&reader, &found, error)) && found) {
    if (record == file->end || survey->notes[record].line != reader.number) break;
    if (reader.is_list) join_lines(&reader.line);
    ok = put_record(survey, record++, &reader.line, outputs, error);
  }
  if (ok && (found || record != file->end))
    ok = error_set(error, ERROR_DATA, "%s: changed while it was read", file->path);
  line_reader_close(&reader);
  return ok;
}

static bool open_output(FileWriter *writer, const char *path, Error *error) {
  return !path || file_writer_open(writer, path, error);
}

static bool commit(FileWriter *writer, Error *error) {
  return !writer->stream || file_writer_commit(writer, error);
}

bool write_records(const Survey *survey, Error *error) {
  const DataConfig *config = survey->config;
  Outputs outputs = {0};
  bool ok = open_output(&outputs.train, config->out, error) &&
            open_output(&outputs.eval, config->eval_out, error) &&
            open_output(&outputs.removed, config->removed, error);
  for (size_t i = 0; ok && i < survey->file_count; i++)
    ok = write_file(survey, &survey->files[i], &outputs, error);
  ok = ok && commit(&outputs.eval, error) && commit(&outputs.removed, error) && commit(&outputs.train, error);
  file_writer_close(&outputs.train);
  file_writer_close(&outputs.eval);
  file_writer_close(&outputs.removed);
  buffer_free(&outputs.text);
  return ok;
}
