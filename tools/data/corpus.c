#include "tools/data/corpus.h"

bool corpus_open(CorpusReader *reader, const char *path, DatasetFormat format, const char *columns,
                 int64_t max_record, Error *error) {
  *reader = (CorpusReader){.format = format};
  if (!columns_open(&reader->columns, columns, format, "data", error) ||
      !line_reader_open(&reader->lines, path, error))
    return false;
  if (max_record) line_reader_limit(&reader->lines, max_record);
  return true;
}

void corpus_close(CorpusReader *reader) {
  line_reader_close(&reader->lines);
  columns_close(&reader->columns);
  record_free(&reader->record);
  record_text_free(&reader->text);
}

static bool parse(CorpusReader *reader, json_t *root, Error *error) {
  const RecordPlace place = {
      .file = reader->lines.path, .line = reader->lines.number, .columns = &reader->columns};
  Record *record = &reader->record;
  DatasetKind kind;
  if (!columns_apply(&reader->columns, root, &record->passed, error)) return false;
  if (reader->format == FORMAT_AUTO && !record_detect_kind(root, place, &reader->format, &kind, error))
    return false;
  const DatasetFormat format = reader->format;
  return record_parse(record, root, record_kind(format), format, place, error);
}

CorpusItem corpus_next(CorpusReader *reader, Error *error) {
  json_t *root = NULL;
  Error problem = {0};
  bool found;
  if (!line_reader_text(&reader->lines, &found, error)) return CORPUS_FAILED;
  if (!found) return CORPUS_END;
  const bool sound = line_reader_parse(&reader->lines, &root, &problem) && parse(reader, root, &problem);
  const bool made = sound && record_text(&reader->text, &reader->record, reader->format, error);
  json_decref(root);
  if (made) {
    reader->records++;
    return CORPUS_RECORD;
  }
  if (sound) return CORPUS_FAILED;
  if (reader->records && problem.code == ERROR_DATA) {
    reader->problem = problem;
    return CORPUS_BROKEN;
  }
  *error = problem;
  return CORPUS_FAILED;
}
