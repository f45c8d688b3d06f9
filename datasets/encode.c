#include "datasets/encode.h"

#include "base/digest.h"
#include "datasets/chat_parts.h"
#include "datasets/prompt_context.h"

#include <string.h>

static void encoded_free(Encoded *encoded) {
  int_array_free(&encoded->ids);
  int_array_free(&encoded->loss);
}

void encoder_free(Encoder *encoder) {
  encoded_free(&encoder->first);
  for (size_t i = 0; i < MOST_ANSWERS; i++) encoded_free(&encoder->answers[i]);
  int_array_free(&encoder->ids);
  buffer_free(&encoder->mask);
  buffer_free(&encoder->record);
  chat_reading_free(&encoder->reading);
  cache_part_free(&encoder->part);
}

/* ---- Ids and masks --------------------------------------------------------------------------------- */

void dataset_note(DatasetNote *note, RecordPlace place) {
  if (note->records == 0) note->line = place.line;
  note->records++;
}

void encoder_note(Encoder *encoder, const ChatFindings *found, RecordPlace place) {
  DatasetCounts *counts = &encoder->counts;
  if (found->left_out >= 0) dataset_note(&counts->left_out, place);
  if (found->changed >= 0) dataset_note(&counts->changed, place);
  if (found->without_end >= 0) dataset_note(&counts->without_end, place);
  if (found->apart) dataset_note(&counts->apart, place);
}

void encoder_note_no_loss(Encoder *encoder, uint64_t line) {
  if (encoder->counts.no_loss++ == 0) encoder->counts.no_loss_line = line;
}

static void first_finding(int *to, int found) {
  if (*to < 0) *to = found;
}

bool encoder_talk(Encoder *encoder, const Conversation *talk, size_t count, ChatUse use, RecordPlace place,
                  Encoded *out, ChatFindings *found, Error *error) {
  ChatReading *reading = &encoder->reading;
  out->ids.size = out->loss.size = 0;
  if (!chat_read(encoder->options->chat, talk, count, use, (size_t)encoder->options->max_length, reading,
                 error)) {
    return error_context(error, "%s:%llu", place.file, (unsigned long long)place.line);
  }
  if (!int_array_append(&out->ids, reading->ids.data, reading->ids.size, error) ||
      !int_array_append(&out->loss, reading->loss.data, reading->loss.size, error)) {
    return false;
  }
  first_finding(&found->left_out, reading->found.left_out);
  first_finding(&found->changed, reading->found.changed);
  first_finding(&found->without_end, reading->found.without_end);
  found->apart |= reading->found.apart;
  found->beyond |= reading->found.beyond;
  chat_drop_double_bos(encoder->options->tokenizer, &out->ids, &out->loss);
  if (out->loss.size) out->loss.data[0] = 0; /* nothing predicts the first token */
  return true;
}

static size_t first_loss(const Encoded *encoded) {
  size_t at = 0;
  while (at < encoded->loss.size && !encoded->loss.data[at]) at++;
  return at;
}

/* ---- Limits ---------------------------------------------------------------------------------------- */

Verdict encoder_verdict(const Encoder *encoder, size_t tokens, RecordPlace place, Error *error) {
  const DatasetOptions *options = encoder->options;
  if (tokens <= (size_t)options->max_length) return FITS;
  switch (options->truncation) {
    case TRUNCATION_DROP:
      return SKIP_IT;
    case TRUNCATION_CUT:
      return CUT_IT;
    case TRUNCATION_ERROR:
      break;
  }
  error_set(error, ERROR_DATA,
            "%s:%llu: %zu tokens, and data.max_length is %d (data.truncation: drop, error or truncate)",
            place.file, (unsigned long long)place.line, tokens, options->max_length);
  return FAILED;
}

static Verdict judge_length(Encoder *encoder, size_t tokens, RecordPlace place, Error *error) {
  const Verdict verdict = encoder_verdict(encoder, tokens, place, error);
  encoder->counts.too_long += verdict == SKIP_IT;
  return verdict;
}

/* ---- Examples -------------------------------------------------------------------------------------- */

static void note_ids(DatasetCounts *counts, const int *ids, uint64_t count) {
  for (uint64_t i = 0; i < count; i++) {
    if ((uint64_t)ids[i] > counts->largest_id) counts->largest_id = (uint64_t)ids[i];
  }
}

static void note_sequence(DatasetCounts *counts, uint64_t tokens) {
  counts->tokens += tokens;
  if (tokens > counts->longest_sequence) counts->longest_sequence = tokens;
}

bool encoder_put(Encoder *encoder, const CacheItem *item, Error *error) {
  DatasetCounts *counts = &encoder->counts;
  const CacheExample *fixed = &item->fixed;
  const uint64_t before = counts->tokens, answers = (uint64_t)fixed->answer_count;
  counts->examples++;
  counts->loss_tokens += (uint64_t)fixed->loss_count;
  counts->answers += answers;
  counts->pairs += (uint64_t)answers_pairs(item->answers, fixed->answer_count);
  if (answers == 0) note_sequence(counts, (uint64_t)fixed->count);
  for (uint64_t k = 0; k < answers; k++) {
    note_sequence(counts, (uint64_t)fixed->count + (uint64_t)item->answers[k].count);
  }
  if (counts->tokens - before > counts->longest) counts->longest = counts->tokens - before;
  if (counts->most_sequences < 1) counts->most_sequences = 1;
  if (answers > counts->most_sequences) counts->most_sequences = answers;
  note_ids(counts, item->ids, cache_id_count(fixed, item->answers));
  return cache_part_add(&encoder->part, item, error);
}

/* Writes ids [begin, end) with their mask, whose first entry becomes 0; counted and left out when no loss
 * token remains. */
static bool add_masked(Encoder *encoder, const Encoded *encoded, size_t begin, size_t end, uint64_t group,
                       uint64_t line, Error *error) {
  size_t count = end - begin;
  int loss_count = 0, prompt_count = (int)count;
  buffer_clear(&encoder->mask);
  for (size_t i = 0; i < count; i++) {
    char bit = i > 0 && encoded->loss.data[begin + i] != 0;
    if (bit && !loss_count) prompt_count = (int)i;
    loss_count += bit;
    if (!buffer_append(&encoder->mask, &bit, 1, error)) return false;
  }
  if (loss_count == 0) {
    encoder_note_no_loss(encoder, line);
    return true;
  }
  CacheItem item = {.fixed = {.count = (int32_t)count,
                              .prompt_count = prompt_count,
                              .loss_count = loss_count,
                              .line = line,
                              .group = group},
                    .ids = encoded->ids.data + begin,
                    .loss = (const uint8_t *)encoder->mask.data};
  return encoder_put(encoder, &item, error);
}

static void set_all_loss(Encoded *encoded) {
  for (size_t i = 0; i < encoded->loss.size; i++) encoded->loss.data[i] = i > 0;
}

/* A text that is too long as overlapping pieces: the last token of one is the first of the next. */
static bool add_pieces(Encoder *encoder, const Encoded *encoded, uint64_t group, uint64_t line,
                       Error *error) {
  size_t step = (size_t)encoder->options->max_length - 1, count = encoded->ids.size;
  for (size_t begin = 0; begin + 1 < count; begin += step) {
    size_t end = begin + step + 1 < count ? begin + step + 1 : count;
    if (!add_masked(encoder, encoded, begin, end, group, line, error)) return false;
  }
  return true;
}

static bool add_text(Encoder *encoder, const Record *record, RecordPlace place, Error *error) {
  const DatasetOptions *options = encoder->options;
  Encoded *encoded = &encoder->first;
  int eos = tokenizer_eos(options->tokenizer);
  encoded->ids.size = encoded->loss.size = 0;
  if (!tokenizer_encode(options->tokenizer, record->text, record->text_bytes, true, &encoded->ids, error)) {
    return error_context(error, "%s:%llu", place.file, (unsigned long long)place.line);
  }
  chat_drop_double_bos(options->tokenizer, &encoded->ids, &encoded->loss);
  size_t count = encoded->ids.size;
  if (count > 0 && eos >= 0 && encoded->ids.data[count - 1] != eos) {
    if (!int_array_push(&encoded->ids, eos, error)) return false;
  }
  for (size_t i = 0; i < encoded->ids.size; i++) {
    if (!int_array_push(&encoded->loss, i > 0, error)) return false;
  }
  uint64_t group = bytes_hash(record->text, record->text_bytes);
  count = encoded->ids.size;
  if (options->kind == DATASET_TEXT && count > (size_t)options->max_length) {
    return add_pieces(encoder, encoded, group, place.line, error);
  }
  Verdict verdict = judge_length(encoder, count, place, error);
  if (verdict == CUT_IT) {
    encoder->counts.truncated++;
    count = (size_t)options->max_length;
  }
  if (verdict == SKIP_IT || verdict == FAILED) return verdict == SKIP_IT;
  return add_masked(encoder, encoded, 0, count, group, place.line, error);
}

bool conversation_empty_answer(const Conversation *talk) {
  for (size_t i = 0; i < talk->count; i++) {
    const ChatMessage *message = &talk->items[i];
    if (message->role == CHAT_ASSISTANT && !message->unlearnt && message->bytes == 0) return true;
  }
  return false;
}

/* Adds what stands in encoder->first. beyond: it has more to learn than its mask says. */
static bool add_encoded(Encoder *encoder, bool beyond, uint64_t group, RecordPlace place, Error *error) {
  Encoded *encoded = &encoder->first;
  if (!beyond) chat_trim(&encoded->ids, &encoded->loss);
  size_t count = encoded->ids.size;
  Verdict verdict = judge_length(encoder, count, place, error);
  if (verdict == SKIP_IT || verdict == FAILED) return verdict == SKIP_IT;
  if (verdict == CUT_IT) {
    encoder->counts.truncated++;
    encoded->ids.size = encoded->loss.size = (size_t)encoder->options->max_length;
    chat_trim(&encoded->ids, &encoded->loss); /* the cut may fall into a later user turn */
    count = encoded->ids.size;
  }
  return add_masked(encoder, encoded, 0, count, group, place.line, error);
}

/* Each turn that is learnt as the last of its own conversation, all in one group. */
static bool add_turns(Encoder *encoder, const Conversation *talk, RecordPlace place, ChatFindings *found,
                      Error *error) {
  Encoded *encoded = &encoder->first;
  uint64_t group = 0;
  bool first = true;
  for (size_t i = 0; i < talk->count; i++) {
    const ChatMessage *message = &talk->items[i];
    if (message->role != CHAT_ASSISTANT || message->unlearnt) continue;
    if (!encoder_talk(encoder, talk, i + 1, CHAT_LAST_TURN, place, encoded, found, error)) return false;
    if (first) group = bytes_hash(encoded->ids.data, first_loss(encoded) * sizeof(int));
    first = false;
    if (!add_encoded(encoder, false, group, place, error)) return false;
  }
  return true;
}

static bool add_dialogue(Encoder *encoder, const Record *record, RecordPlace place, Error *error) {
  const Conversation *talk = &record->talk;
  Encoded *encoded = &encoder->first;
  ChatFindings found = CHAT_FOUND_NOTHING;
  if (!encoder_talk(encoder, talk, talk->count, CHAT_EVERY_TURN, place, encoded, &found, error)) return false;
  uint64_t group = bytes_hash(encoded->ids.data, first_loss(encoded) * sizeof(int));
  encoder->counts.empty += conversation_empty_answer(talk);
  bool ok;
  if (encoder->options->train_on_inputs) {
    set_all_loss(encoded);
    found.apart = false;
    ok = add_encoded(encoder, found.beyond, group, place, error);
  } else if (found.apart) {
    ok = add_turns(encoder, talk, place, &found, error);
  } else {
    ok = add_encoded(encoder, found.beyond, group, place, error);
  }
  encoder_note(encoder, &found, place);
  return ok;
}

/* The text to show: the one message as it is, else what the template made of all. */
static void prompt_text(const Encoder *encoder, const Conversation *talk, CacheItem *item) {
  const ChatMessage *only = &talk->items[0];
  const Buffer *rendered = &encoder->reading.text.text;
  const bool one = talk->count == 1 && !only->input && only->text;
  item->prompt = one ? only->text : rendered->data;
  item->fixed.prompt_bytes = (uint32_t)(one ? only->bytes : rendered->size);
}

static bool add_prompt(Encoder *encoder, const Record *record, const json_t *root, DatasetFormat format,
                       RecordPlace place, Error *error) {
  const DatasetOptions *options = encoder->options;
  Encoded *encoded = &encoder->first;
  ChatFindings found = CHAT_FOUND_NOTHING;
  const Conversation *talk = &record->talk;
  if (!encoder_talk(encoder, talk, talk->count, CHAT_ASK, place, encoded, &found, error)) return false;
  encoder_note(encoder, &found, place);
  uint64_t group = bytes_hash(encoded->ids.data, encoded->ids.size * sizeof(int));
  if (encoded->ids.size == 0) { /* an empty text without marks around it: nothing to continue */
    encoder_note_no_loss(encoder, place.line);
    return true;
  }
  Verdict verdict = judge_length(encoder, encoded->ids.size, place, error);
  if (verdict == SKIP_IT || verdict == FAILED) return verdict == SKIP_IT;
  if (verdict == CUT_IT) {
    encoder->counts.truncated++;
    size_t excess = encoded->ids.size - (size_t)options->max_length;
    chat_cut_front(options->tokenizer, &encoded->ids, &encoded->loss, excess);
  }
  if (!prompt_context_write(record, root, format, &encoder->record, error)) return false;
  encoder->counts.empty += record->talk.items[record->talk.count - 1].bytes == 0;
  CacheItem item = {.fixed = {.count = (int32_t)encoded->ids.size,
                              .prompt_count = (int32_t)encoded->ids.size,
                              .reference_bytes = (uint32_t)record->reference_bytes,
                              .record_bytes = (uint32_t)encoder->record.size,
                              .line = place.line,
                              .group = group},
                    .ids = encoded->ids.data,
                    .reference = record->reference,
                    .record = encoder->record.data};
  prompt_text(encoder, talk, &item);
  return encoder_put(encoder, &item, error);
}

bool encoder_add(Encoder *encoder, const Record *record, const json_t *root, DatasetFormat format,
                 RecordPlace place, Error *error) {
  bool ok = false;
  if (format == FORMAT_TEXT) {
    ok = add_text(encoder, record, place, error);
  } else {
    switch (encoder->options->kind) {
      case DATASET_SFT:
      case DATASET_TEXT:
        ok = add_dialogue(encoder, record, place, error);
        break;
      case DATASET_UNPAIRED:
        ok = encoder_add_unpaired(encoder, record, format, place, error);
        break;
      case DATASET_PREFERENCE:
        ok = encoder_add_preference(encoder, record, format, place, error);
        break;
      case DATASET_PROMPT:
        ok = add_prompt(encoder, record, root, format, place, error);
        break;
    }
  }
  return ok;
}
