#include "datasets/encode.h"

#include <string.h>

void encoder_free(Encoder *encoder) {
  int_array_free(&encoder->first.ids);
  int_array_free(&encoder->first.loss);
  int_array_free(&encoder->second.ids);
  int_array_free(&encoder->second.loss);
  buffer_free(&encoder->mask);
  chat_text_free(&encoder->rendered);
}

/* FNV-1a; only to keep equal prompts on one side of a split. */
static uint64_t hash_bytes(const void *bytes, size_t count) {
  const unsigned char *at = bytes;
  uint64_t hash = 0xcbf29ce484222325u;
  for (size_t i = 0; i < count; i++) hash = (hash ^ at[i]) * 0x100000001b3u;
  return hash;
}

/* ---- Ids and masks --------------------------------------------------------------------------------- */

/* Takes `count` ids out, from position `at` on. */
static void encoded_cut(Encoded *encoded, size_t at, size_t count) {
  size_t rest = encoded->ids.size - at - count;
  memmove(encoded->ids.data + at, encoded->ids.data + at + count, rest * sizeof(int));
  encoded->ids.size -= count;
  if (encoded->loss.size == 0) return;
  memmove(encoded->loss.data + at, encoded->loss.data + at + count, rest * sizeof(int));
  encoded->loss.size -= count;
}

/* A text may begin with the BOS that tokenizer or template put in front as well. */
static void drop_double_bos(Encoded *encoded, const Tokenizer *tokenizer) {
  const int bos = tokenizer_bos(tokenizer), *ids = encoded->ids.data;
  size_t more = 0;
  if (bos < 0 || encoded->ids.size == 0 || ids[0] != bos) return;
  while (more + 1 < encoded->ids.size && ids[more + 1] == bos) more++;
  encoded_cut(encoded, 0, more);
}

static bool encode_talk(const Encoder *encoder, const Conversation *talk, bool generation_prompt,
                        RecordPlace place, Encoded *out, Error *error) {
  out->ids.size = out->loss.size = 0;
  if (!chat_encode(encoder->options->chat, talk->items, talk->count, generation_prompt, &out->ids, &out->loss,
                   error)) {
    return error_context(error, "%s:%llu", place.file, (unsigned long long)place.line);
  }
  drop_double_bos(out, encoder->options->tokenizer);
  if (out->loss.size) out->loss.data[0] = 0; /* nothing predicts the first token */
  return true;
}

static size_t first_loss(const Encoded *encoded) {
  size_t at = 0;
  while (at < encoded->loss.size && !encoded->loss.data[at]) at++;
  return at;
}

/* Cuts off what follows the last loss token. */
static void trim_tail(Encoded *encoded) {
  size_t end = encoded->loss.size;
  while (end > 0 && !encoded->loss.data[end - 1]) end--;
  encoded->ids.size = encoded->loss.size = end;
}

/* ---- Limits ---------------------------------------------------------------------------------------- */

typedef enum Verdict { FITS, CUT_IT, SKIP_IT, FAILED } Verdict;

static Verdict judge_length(Encoder *encoder, size_t tokens, RecordPlace place, Error *error) {
  const DatasetOptions *options = encoder->options;
  if (tokens <= (size_t)options->max_length) return FITS;
  switch (options->truncation) {
    case TRUNCATION_DROP:
      encoder->counts.too_long++;
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

/* Cuts the earliest ids but for a leading BOS. */
static void cut_front(Encoded *encoded, size_t count, int bos) {
  size_t at = bos >= 0 && encoded->ids.size && encoded->ids.data[0] == bos;
  encoded_cut(encoded, at, count);
}

/* ---- Examples -------------------------------------------------------------------------------------- */

static void note_ids(DatasetCounts *counts, const int *ids, int32_t count) {
  for (int32_t i = 0; i < count; i++) {
    if ((uint64_t)ids[i] > counts->largest_id) counts->largest_id = (uint64_t)ids[i];
  }
}

static bool add_item(Encoder *encoder, CacheItem *item, Error *error) {
  DatasetCounts *counts = &encoder->counts;
  uint64_t tokens = (uint64_t)item->fixed.count + (uint64_t)item->fixed.rejected_count;
  counts->examples++;
  counts->tokens += tokens;
  counts->loss_tokens += (uint64_t)item->fixed.loss_count;
  if (tokens > counts->longest) counts->longest = tokens;
  const int32_t sides[] = {item->fixed.count, item->fixed.rejected_count};
  for (int i = 0; i < 2; i++) {
    if ((uint64_t)sides[i] > counts->longest_sequence) counts->longest_sequence = (uint64_t)sides[i];
  }
  note_ids(counts, item->ids, item->fixed.count);
  note_ids(counts, item->rejected, item->fixed.rejected_count);
  return cache_writer_add(encoder->writer, item, error);
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
    encoder->counts.no_loss++;
    return true;
  }
  CacheItem item = {.fixed = {.count = (int32_t)count,
                              .prompt_count = prompt_count,
                              .loss_count = loss_count,
                              .has_loss = 1,
                              .line = line,
                              .group = group},
                    .ids = encoded->ids.data + begin,
                    .loss = (const uint8_t *)encoder->mask.data};
  return add_item(encoder, &item, error);
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
  drop_double_bos(encoded, options->tokenizer);
  size_t count = encoded->ids.size;
  if (count > 0 && eos >= 0 && encoded->ids.data[count - 1] != eos) {
    if (!int_array_push(&encoded->ids, eos, error)) return false;
  }
  for (size_t i = 0; i < encoded->ids.size; i++) {
    if (!int_array_push(&encoded->loss, i > 0, error)) return false;
  }
  uint64_t group = hash_bytes(record->text, record->text_bytes);
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

/* Whether an assistant's turn that is learnt has no text: its end mark would be all of it. */
static bool has_empty_answer(const Conversation *talk) {
  for (size_t i = 0; i < talk->count; i++) {
    const ChatMessage *message = &talk->items[i];
    if (message->role == CHAT_ASSISTANT && !message->unlearnt && message->bytes == 0) return true;
  }
  return false;
}

static bool add_dialogue(Encoder *encoder, const Record *record, RecordPlace place, Error *error) {
  const DatasetOptions *options = encoder->options;
  Encoded *encoded = &encoder->first;
  if (!encode_talk(encoder, &record->talk, false, place, encoded, error)) return false;
  uint64_t group = hash_bytes(encoded->ids.data, first_loss(encoded) * sizeof(int));
  if (options->train_on_inputs) set_all_loss(encoded);
  trim_tail(encoded);
  size_t count = encoded->ids.size;
  Verdict verdict = judge_length(encoder, count, place, error);
  if (verdict == SKIP_IT || verdict == FAILED) return verdict == SKIP_IT;
  if (verdict == CUT_IT) {
    encoder->counts.truncated++;
    encoded->ids.size = encoded->loss.size = (size_t)options->max_length;
    trim_tail(encoded); /* the cut may fall into a later user turn */
    count = encoded->ids.size;
  }
  encoder->counts.empty += has_empty_answer(&record->talk);
  return add_masked(encoder, encoded, 0, count, group, place.line, error);
}

/* Where the last run of loss tokens begins: the answer that is compared. */
static size_t answer_begin(const Encoded *encoded) {
  size_t at = encoded->loss.size;
  while (at > 0 && encoded->loss.data[at - 1]) at--;
  return at;
}

static size_t shared_prompt(const Encoded *a, const Encoded *b) {
  size_t limit = answer_begin(a), other = answer_begin(b), at = 0;
  if (other < limit) limit = other;
  while (at < limit && a->ids.data[at] == b->ids.data[at]) at++;
  return at;
}

static bool add_preference(Encoder *encoder, const Record *record, RecordPlace place, Error *error) {
  Encoded *chosen = &encoder->first, *rejected = &encoder->second;
  if (!encode_talk(encoder, &record->talk, false, place, chosen, error)) return false;
  if (!encode_talk(encoder, &record->rejected, false, place, rejected, error)) return false;
  trim_tail(chosen);
  trim_tail(rejected);
  size_t prompt = shared_prompt(chosen, rejected);
  uint64_t group = hash_bytes(chosen->ids.data, prompt * sizeof(int));
  size_t chosen_size = chosen->ids.size, rejected_size = rejected->ids.size;
  bool empty = chosen_size == 0 || rejected_size == 0;
  bool equal = !empty && chosen_size == rejected_size &&
               memcmp(chosen->ids.data, rejected->ids.data, chosen_size * sizeof(int)) == 0;
  if (empty || equal) { /* nothing to compare */
    encoder->counts.no_loss++;
    return true;
  }
  size_t longer = chosen_size > rejected_size ? chosen_size : rejected_size;
  Verdict verdict = judge_length(encoder, longer, place, error);
  if (verdict == SKIP_IT || verdict == FAILED) return verdict == SKIP_IT;
  if (verdict == CUT_IT) {
    int bos = tokenizer_bos(encoder->options->tokenizer);
    size_t excess = longer - (size_t)encoder->options->max_length;
    size_t kept = bos >= 0 && chosen->ids.data[0] == bos;
    if (prompt < kept + excess) { /* the answers alone are too long, and cutting those would falsify them */
      encoder->counts.too_long++;
      return true;
    }
    cut_front(chosen, excess, bos);
    cut_front(rejected, excess, bos);
    prompt -= excess;
    encoder->counts.truncated++;
  }
  encoder->counts.empty += has_empty_answer(&record->talk) || has_empty_answer(&record->rejected);
  CacheItem item = {.fixed = {.count = (int32_t)chosen->ids.size,
                              .rejected_count = (int32_t)rejected->ids.size,
                              .prompt_count = (int32_t)prompt,
                              .margin = (float)record->margin,
                              .line = place.line,
                              .group = group},
                    .ids = chosen->ids.data,
                    .rejected = rejected->ids.data};
  return add_item(encoder, &item, error);
}

/* The text to show: the one message as it is, else what the template makes of all. */
static bool prompt_text(Encoder *encoder, const Conversation *talk, CacheItem *item, Error *error) {
  const ChatMessage *only = &talk->items[0];
  const char *text = only->text;
  size_t bytes = only->bytes;
  if (talk->count > 1 || only->input) {
    encoder->rendered.text.size = 0;
    encoder->rendered.segment_count = 0;
    if (!chat_render(encoder->options->chat, talk->items, talk->count, true, &encoder->rendered, error)) {
      return false;
    }
    text = encoder->rendered.text.data;
    bytes = encoder->rendered.text.size;
  }
  item->prompt = text;
  item->fixed.prompt_bytes = (uint32_t)bytes;
  return true;
}

static bool add_prompt(Encoder *encoder, const Record *record, RecordPlace place, Error *error) {
  const DatasetOptions *options = encoder->options;
  Encoded *encoded = &encoder->first;
  if (!encode_talk(encoder, &record->talk, true, place, encoded, error)) return false;
  uint64_t group = hash_bytes(encoded->ids.data, encoded->ids.size * sizeof(int));
  if (encoded->ids.size == 0) { /* an empty text without marks around it: nothing to continue */
    encoder->counts.no_loss++;
    return true;
  }
  Verdict verdict = judge_length(encoder, encoded->ids.size, place, error);
  if (verdict == SKIP_IT || verdict == FAILED) return verdict == SKIP_IT;
  if (verdict == CUT_IT) {
    encoder->counts.truncated++;
    size_t excess = encoded->ids.size - (size_t)options->max_length;
    cut_front(encoded, excess, tokenizer_bos(options->tokenizer));
  }
  encoder->counts.empty += record->talk.items[record->talk.count - 1].bytes == 0;
  CacheItem item = {.fixed = {.count = (int32_t)encoded->ids.size,
                              .prompt_count = (int32_t)encoded->ids.size,
                              .reference_bytes = (uint32_t)record->reference_bytes,
                              .line = place.line,
                              .group = group},
                    .ids = encoded->ids.data,
                    .reference = record->reference};
  return prompt_text(encoder, &record->talk, &item, error) && add_item(encoder, &item, error);
}

bool encoder_add(Encoder *encoder, const Record *record, DatasetFormat format, RecordPlace place,
                 Error *error) {
  bool ok = false;
  if (format == FORMAT_TEXT) {
    ok = add_text(encoder, record, place, error);
  } else {
    switch (encoder->options->kind) {
      case DATASET_SFT:
      case DATASET_TEXT:
        ok = add_dialogue(encoder, record, place, error);
        break;
      case DATASET_PREFERENCE:
        ok = add_preference(encoder, record, place, error);
        break;
      case DATASET_PROMPT:
        ok = add_prompt(encoder, record, place, error);
        break;
    }
  }
  return ok;
}
