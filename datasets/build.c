#include "datasets/build.h"

#include "base/progress.h"
#include "datasets/columns.h"
#include "datasets/lines.h"
#include "datasets/sources.h"
#include "datasets/stream.h"
#include "datasets/team.h"

#include <stdlib.h>
#include <string.h>

/* ---- Names and digests ----------------------------------------------------------------------------- */

/* CACHE_DIR/NAME-XXXXXXXX.tokens: one file per source path and kind, replaced when it no longer fits. */
static char *cache_path(const char *path, const DatasetOptions *options, Error *error) {
  char *absolute = realpath(path, NULL), digest[33];
  Buffer text = {0};
  char *file = NULL;
  if (buffer_format(&text, error, "%s %s", dataset_kind_name(options->kind), absolute ? absolute : path)) {
    bytes_digest(text.data, text.size, digest);
    file = memory_format("%s/%s-%.8s.tokens", options->cache_dir, path_name(path), digest);
    if (!file) error_out_of_memory(error, "cache path", strlen(path));
  }
  buffer_free(&text);
  free(absolute); /* realpath's own allocation */
  return file;
}

/* Everything that decides what the cache holds. */
static bool cache_digest(const char *path, const DatasetOptions *options, char out[33], Error *error) {
  char file[33], tokenizer[33];
  const ChatTemplate *chat = options->chat;
  if (!file_digest(path, file, error)) return false;
  tokenizer_digest(options->tokenizer, tokenizer);
  Buffer text = {0};
  bool ok =
      buffer_format(&text, error, "%d|%s|%s|%d|%d|%d|%d|%d", CACHE_VERSION, file, tokenizer,
                    (int)options->kind, (int)options->format, (int)options->truncation, options->max_length,
                    options->train_on_inputs) &&
      buffer_format(&text, error, "|%d|%s", options->by_safety, options->columns ? options->columns : "");
  if (ok && chat) ok = buffer_format(&text, error, "|%s", chat->digest);
  if (ok) bytes_digest(text.data, text.size, out);
  buffer_free(&text);
  return ok;
}

/* ---- Making a cache -------------------------------------------------------------------------------- */

typedef struct Build {
  const DatasetOptions *options;
  LineReader reader;
  CacheWriter writer;
  Team team;
  Columns columns;
  DatasetFormat format;
  uint64_t records;
  KeyNames passed;
  Progress progress;
} Build;

/* Bytes of records that may wait to be encoded, for each thread: a batch of long ones is shorter. */
enum { BATCH_BYTES = 1 << 20 };

static bool check_format(Build *build, const json_t *root, RecordPlace place, Error *error) {
  const DatasetOptions *options = build->options;
  build->format = options->format;
  if (build->format == FORMAT_AUTO && !record_detect(root, options->kind, place, &build->format, error)) {
    return false;
  }
  if (!dataset_kind_takes(options->kind, build->format)) {
    return error_set(error, ERROR_USAGE, "%s: data.format is %s, and those are no %s data", options->name,
                     dataset_format_names[build->format], dataset_kind_name(options->kind));
  }
  if (build->format != FORMAT_TEXT && !options->chat) {
    return error_set(error, ERROR_USAGE, "%s: %s has %s records, which need a chat template (data.template)",
                     options->name, place.file, dataset_format_names[build->format]);
  }
  return true;
}

/* Takes the next record into the batch. *more: there was one. What was read before a fault is encoded first. */
static bool take_record(Build *build, TeamItem *item, bool *more, Error *error) {
  LineReader *reader = &build->reader;
  json_t *root;
  *more = false;
  if (!line_reader_record(reader, &root, error)) return false;
  if (!root) return true;
  item->place = (RecordPlace){.file = reader->path, .line = reader->number, .columns = &build->columns};
  bool ok = columns_apply(&build->columns, root, &build->passed, error) &&
            (build->records > 0 || check_format(build, root, item->place, error));
  build->records++;
  item->record.passed = build->passed;
  item->record.by_safety = build->options->by_safety;
  ok = ok && record_parse(&item->record, root, build->options->kind, build->format, item->place, error);
  build->passed = item->record.passed;
  if (!ok) {
    json_decref(root);
    return false;
  }
  item->root = root;
  build->team.item_count++;
  *more = true;
  return true;
}

static bool read_records(Build *build, Error *error) {
  Team *team = &build->team;
  for (bool more = true, ok = true; more;) {
    Error why = {0};
    const uint64_t limit = build->reader.bytes + (uint64_t)BATCH_BYTES * team->worker_count;
    for (TeamItem *item; ok && more && build->reader.bytes < limit && (item = team_next(team));)
      ok = take_record(build, item, &more, &why);
    if (!team_encode(team, build->format, &build->writer, error)) return false;
    if (!ok) return error_set(error, why.code, "%s", why.message);
    progress_update(&build->progress, (int64_t)build->reader.bytes, NULL);
  }
  if (build->records == 0) {
    return error_set(error, ERROR_DATA, "%s: no records: the file is empty", build->reader.path);
  }
  return true;
}

static bool build_cache(Build *build, const char *path, const char *cache, const char digest[33],
                        Error *error) {
  const DatasetOptions *options = build->options;
  if (!line_reader_open(&build->reader, path, error)) return false;
  if (options->max_record) line_reader_limit(&build->reader, options->max_record);
  if (!directory_create(options->cache_dir, error)) return false;
  if (!cache_writer_open(&build->writer, cache, error)) return false;
  if (!columns_open(&build->columns, options->columns, options->format, options->name, error)) return false;
  if (!team_open(&build->team, options, error)) return false;
  progress_start_brief(&build->progress, options->log, "tokenising", progress_bytes,
                       (int64_t)build->reader.size);
  bool ok = read_records(build, error);
  progress_finish(&build->progress);
  DatasetCounts counts = {.records = build->records};
  team_counts(&build->team, &counts);
  if (ok && counts.examples > UINT32_MAX) {
    ok = error_set(error, ERROR_DATA, "%s: %llu examples, more than one source can have", path,
                   (unsigned long long)counts.examples);
  }
  return ok && cache_writer_commit(&build->writer, digest, build->format, &counts, &build->passed, error);
}

static bool make_cache(const char *path, const char *cache, const char digest[33],
                       const DatasetOptions *options, Error *error) {
  Build build = {.options = options};
  bool ok = build_cache(&build, path, cache, digest, error);
  cache_writer_close(&build.writer);
  line_reader_close(&build.reader);
  team_close(&build.team);
  columns_close(&build.columns);
  return ok;
}

bool source_open(DatasetSource *source, const DatasetOptions *options, bool *reused, Error *error) {
  char digest[33];
  if (!cache_digest(source->path, options, digest, error)) return false;
  char *cache = cache_path(source->path, options, error);
  if (!cache) return false;
  bool ok = true;
  *reused = cache_open(source, cache, digest);
  if (!*reused) {
    ok = make_cache(source->path, cache, digest, options, error);
    if (ok && !cache_open(source, cache, digest)) {
      ok = error_set(error, ERROR_FILE, "%s: changed while it was read", cache);
    }
  }
  memory_free(cache);
  return ok;
}

static bool detect_record(LineReader *reader, const Columns *columns, DatasetFormat *format,
                          DatasetKind *kind, Error *error) {
  KeyNames passed = {0};
  json_t *root = NULL;
  bool ok = line_reader_record(reader, &root, error);
  const RecordPlace place = {.file = reader->path, .line = reader->number, .columns = columns};
  if (ok && !root) ok = error_set(error, ERROR_DATA, "%s: no records: the file is empty", reader->path);
  ok = ok && columns_apply(columns, root, &passed, error) &&
       record_detect_kind(root, place, format, kind, error);
  json_decref(root);
  return ok;
}

static bool detect_file(const char *path, const char *names, DatasetFormat *format, DatasetKind *kind,
                        Error *error) {
  LineReader reader;
  Columns columns;
  if (!columns_open(&columns, names, FORMAT_AUTO, "data", error)) return false;
  bool ok = line_reader_open(&reader, path, error);
  ok = ok && detect_record(&reader, &columns, format, kind, error);
  line_reader_close(&reader);
  columns_close(&columns);
  return ok;
}

bool dataset_detect(const char *path, const char *columns, DatasetFormat *format, DatasetKind *kind,
                    Error *error) {
  OptionSource asked = {.path = (char *)path, .weight = 1};
  const OptionSources list = {.items = &asked, .count = 1};
  OptionSources files;
  *kind = record_kind(*format);
  if (*format != FORMAT_AUTO) return true;
  if (is_stream(path)) {
    return error_set(error, ERROR_USAGE, "%s: a pipe can be read once: say what kind of data it brings",
                     path);
  }
  if (!sources_resolve(&files, &list, "data", "", NULL, error)) return false;
  const bool ok = detect_file(files.items[0].path, columns, format, kind, error);
  sources_free(&files);
  return ok;
}
