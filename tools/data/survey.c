#include "tools/data/survey.h"

#include "base/progress.h"
#include "tools/data/corpus.h"
#include "tools/data/split.h"

const char *const fate_names[FATE_COUNT] = {"kept", "broken", "empty", "overlap", "exact", "near"};

void survey_free(Survey *survey) {
  memory_free(survey->files);
  memory_free(survey->notes);
  view_free(&survey->view);
  exact_free(&survey->exact);
  near_free(&survey->near);
  near_free(&survey->prompts);
  unit_array_free(&survey->units);
  overlap_free(&survey->overlap);
  statistics_free(&survey->statistics);
}

const FileNote *survey_file(const Survey *survey, uint32_t record) {
  size_t i = 0;
  while (record >= survey->files[i].end) i++;
  return &survey->files[i];
}

FileNote survey_total(const Survey *survey) {
  FileNote total = {.end = survey->count};
  for (size_t i = 0; i < survey->file_count; i++) {
    const FileNote *file = &survey->files[i];
    for (int fate = 0; fate < FATE_COUNT; fate++) total.fates[fate] += file->fates[fate];
    total.bytes += file->bytes;
    total.eval += file->eval;
  }
  return total;
}

static bool splits_near(const Survey *survey) {
  return survey->config->eval_out && survey->config->split_near;
}

/* ---- Evaluation files ------------------------------------------------------------------------------ */

static bool read_against(Survey *survey, const char *path, Error *error) {
  CorpusReader reader;
  const DataConfig *config = survey->config;
  bool ok = corpus_open(&reader, path, FORMAT_AUTO, config->columns, config->max_record, error);
  for (CorpusItem item; ok && (item = corpus_next(&reader, error)) != CORPUS_END;) {
    if (item == CORPUS_BROKEN) *error = reader.problem;
    const UnitArray *words = &survey->view.words.units;
    ok = item == CORPUS_RECORD && view_make(&survey->view, &reader.text, error) &&
         overlap_eval(&survey->overlap, path, reader.lines.number, words->data, words->size, error);
  }
  if (ok && reader.records == 0) ok = error_set(error, ERROR_DATA, "%s: no records: the file is empty", path);
  corpus_close(&reader);
  return ok;
}

/* ---- Records --------------------------------------------------------------------------------------- */

static bool push_note(Survey *survey, uint64_t line, Error *error) {
  if (survey->count == survey->capacity) {
    const size_t capacity = survey->capacity ? 2 * (size_t)survey->capacity : 1024;
    RecordNote *notes = capacity < UINT32_MAX ? memory_resize(survey->notes, capacity * sizeof *notes) : NULL;
    if (!notes) return error_out_of_memory(error, "notes of records", capacity * sizeof *notes);
    survey->notes = notes;
    survey->capacity = (uint32_t)capacity;
  }
  survey->notes[survey->count] = (RecordNote){.line = line, .first = survey->count};
  survey->count++;
  return true;
}

/* Whether the record is left out for what it shares with evaluation files. */
static bool overlaps(Survey *survey) {
  const UnitArray *words = &survey->view.words.units;
  const size_t prompt = survey->view.prompt_words;
  uint64_t all, short_all;
  uint64_t found = overlap_data(&survey->overlap, words->data, words->size, &all);
  /* A short question of an evaluation file is found where it is asked, whatever is answered. */
  if (prompt < words->size && prompt < (size_t)survey->overlap.n)
    found += overlap_data(&survey->overlap, words->data, prompt, &short_all);
  return found > 0 && (double)found >= survey->config->overlap_share * (double)all;
}

static bool add_near(Survey *survey, Near *near, uint32_t record, const Buffer *folded,
                     const UnitArray *words, Error *error) {
  const bool characters = survey->config->shingle == 1;
  if (characters && !characters_cut(&survey->units, folded->data ? folded->data : "", folded->size, error))
    return false;
  const UnitArray *units = characters ? &survey->units : words;
  return near_add(near, record, units->data, units->size, error);
}

static bool look_for_duplicates(Survey *survey, const RecordText *text, uint32_t record, Error *error) {
  const DataConfig *config = survey->config;
  RecordNote *note = &survey->notes[record];
  Hash128 digest;
  if (config->dedup == DEDUP_NONE || text->nothing) return true;
  if (!view_digest(&survey->view, text, &digest, error) ||
      !exact_add(&survey->exact, digest, record, &note->first, error))
    return false;
  if (note->first != record) {
    note->fate = FATE_EXACT;
    return true;
  }
  return config->dedup != DEDUP_NEAR ||
         add_near(survey, &survey->near, record, &survey->view.body, &survey->view.words.signed_units, error);
}

static bool take_record(Survey *survey, const RecordText *text, Error *error) {
  const DataConfig *config = survey->config;
  const uint32_t record = survey->count - 1;
  RecordNote *note = &survey->notes[record];
  View *view = &survey->view;
  if (!view_make(view, text, error) ||
      !statistics_add(&survey->statistics, text, view->body.data, &view->words, error))
    return false;
  note->prompt = bytes_hash_seeded(view->prompt.data ? view->prompt.data : "", view->prompt.size, 0);
  const bool overlap = overlaps(survey);
  if (config->drop_empty && (text->empty_answer || text->nothing)) {
    note->fate = FATE_EMPTY;
  } else if (config->drop_overlap && overlap) {
    note->fate = FATE_OVERLAP;
  } else if (!look_for_duplicates(survey, text, record, error)) {
    return false;
  }
  if (!splits_near(survey) || note->fate != FATE_KEPT) return true;
  return words_cut(&view->words, view->prompt.data ? view->prompt.data : "", view->prompt.size, error) &&
         add_near(survey, &survey->prompts, record, &view->prompt, &view->words.signed_units, error);
}

static bool take_broken(Survey *survey, const Error *problem, Error *error) {
  survey->notes[survey->count - 1].fate = FATE_BROKEN;
  if (!survey->config->drop_broken)
    return error_set(error, problem->code, "%s (--drop-broken leaves such records out)", problem->message);
  if (survey->broken_told++ < 3) log_warning(survey->log, "left out: %s", problem->message);
  return true;
}

static bool read_file(Survey *survey, FileNote *file, Error *error) {
  CorpusReader reader;
  Progress progress = {0};
  const DataConfig *config = survey->config;
  file->begin = survey->count;
  bool ok = corpus_open(&reader, file->path, (DatasetFormat)config->format, config->columns,
                        config->max_record, error);
  if (ok) progress_start_brief(&progress, survey->log, "reading", progress_bytes, (int64_t)reader.lines.size);
  for (CorpusItem item; ok && (item = corpus_next(&reader, error)) != CORPUS_END;) {
    ok = item != CORPUS_FAILED && push_note(survey, reader.lines.number, error) &&
         (item == CORPUS_BROKEN ? take_broken(survey, &reader.problem, error)
                                : take_record(survey, &reader.text, error));
    progress_update(&progress, (int64_t)reader.lines.bytes, NULL);
  }
  progress_finish(&progress);
  if (ok && reader.records == 0)
    ok = error_set(error, ERROR_DATA, "%s: no records: the file is empty", file->path);
  file->end = survey->count;
  file->format = reader.format;
  file->bytes = reader.lines.bytes;
  file->passed = reader.record.passed;
  corpus_close(&reader);
  return ok;
}

/* ---- What becomes of them -------------------------------------------------------------------------- */

static bool finish_near(Survey *survey, Error *error) {
  Near *near = &survey->near, *prompts = &survey->prompts;
  if (survey->config->dedup == DEDUP_NEAR && !near_finish(near, error)) return false;
  for (size_t i = 0; i < near->count; i++) {
    RecordNote *note = &survey->notes[near->records[i]];
    note->first = near_first(near, i);
    if (note->first != near->records[i]) note->fate = FATE_NEAR;
  }
  /* What a record was an exact duplicate of may be a near duplicate itself. */
  for (uint32_t i = 0; i < survey->count; i++) {
    RecordNote *note = &survey->notes[i];
    if (note->fate == FATE_EXACT) note->first = survey->notes[note->first].first;
  }
  if (splits_near(survey) && !near_finish(prompts, error)) return false;
  for (size_t i = 0; i < prompts->count; i++) {
    survey->notes[prompts->records[i]].prompt = survey->notes[near_first(prompts, i)].prompt;
  }
  return true;
}

static void count_fates(Survey *survey) {
  const DataConfig *config = survey->config;
  for (size_t i = 0; i < survey->file_count; i++) {
    FileNote *file = &survey->files[i];
    for (uint32_t record = file->begin; record < file->end; record++) {
      RecordNote *note = &survey->notes[record];
      note->eval =
          config->eval_out && split_is_eval(note->prompt, (uint64_t)config->seed, config->eval_fraction);
      file->fates[note->fate]++;
      file->eval += note->fate == FATE_KEPT && note->eval;
    }
  }
}

static bool prepare(Survey *survey, const Tokenizer *tokenizer, Error *error) {
  const DataConfig *config = survey->config;
  const uint64_t seed = (uint64_t)config->seed;
  const int permutations = (int)config->permutations, size = (int)config->shingle_size;
  const OptionSources *data = &survey->inputs->data;
  const char *place = survey->inputs->place;
  survey->files = memory_zeroed(data->count, sizeof *survey->files);
  if (!survey->files) return error_out_of_memory(error, "files", data->count * sizeof *survey->files);
  survey->file_count = data->count;
  for (size_t i = 0; i < data->count; i++) {
    survey->files[i].path = data->items[i].path;
    survey->files[i].name = inputs_name(survey->inputs, data->items[i].path);
  }
  return view_init(&survey->view, (TextChoice)config->text, (Folding)config->normalize, error) &&
         statistics_init(&survey->statistics, tokenizer, (int)config->ngram, error) &&
         (config->dedup != DEDUP_NEAR ||
          near_init(&survey->near, config->threshold, permutations, size, seed, place, error)) &&
         (!splits_near(survey) ||
          near_init(&survey->prompts, config->threshold, permutations, size, seed, place, error));
}

bool survey_run(Survey *survey, const DataConfig *config, const Inputs *inputs, const Tokenizer *tokenizer,
                Log *log, Error *error) {
  *survey = (Survey){.config = config, .inputs = inputs, .log = log, .overlap.n = (int)config->overlap_ngram};
  bool ok = prepare(survey, tokenizer, error);
  for (size_t i = 0; ok && i < inputs->against.count; i++)
    ok = read_against(survey, inputs->against.items[i].path, error);
  if (ok && inputs->against.count) ok = overlap_ready(&survey->overlap, error);
  for (size_t i = 0; ok && i < survey->file_count; i++) ok = read_file(survey, &survey->files[i], error);
  if (!ok || !finish_near(survey, error)) return false;
  count_fates(survey);
  statistics_finish(&survey->statistics);
  overlap_finish(&survey->overlap);
  return true;
}
