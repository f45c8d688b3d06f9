/* A preference: some answers to one prompt and which of them are better, as one example; and single answers with a verdict.
 *
 * An answer that cannot be compared is left out of the record: one without a token, one of equal ones (all of them when
 * their ranks differ), one that is too long. The record stays while two ranks are left. Of a pair that is both or none. */
#include "base/digest.h"
#include "datasets/chat_parts.h"
#include "datasets/encode.h"

#include <string.h>

/* An answer while its record is worked on. */
typedef struct Candidate {
  const Conversation *talk;
  Encoded *encoded;
  double worth; /* the larger, the better */
  double score; /* what the data say of it */
} Candidate;

/* The answers of a record, from the best to the worst. */
typedef struct Field {
  Candidate items[MOST_ANSWERS];
  size_t count;
  int32_t best_rank; /* of the first */
} Field;

/* Behind those of equal worth: the order of the record decides among them. */
static void field_insert(Field *field, Candidate candidate) {
  size_t at = field->count++;
  for (; at > 0 && field->items[at - 1].worth < candidate.worth; at--)
    field->items[at] = field->items[at - 1];
  field->items[at] = candidate;
}

static bool field_has_two_ranks(const Field *field) {
  return field->count > 1 && field->items[0].worth > field->items[field->count - 1].worth;
}

/* Takes out those that are marked; returns how many. */
static size_t field_take_out(Field *field, const bool *marked) {
  size_t left = 0, before = field->count;
  for (size_t i = 0; i < before; i++) {
    if (!marked[i]) field->items[left++] = field->items[i];
  }
  field->count = left;
  return before - left;
}

static bool gather_one(Encoder *encoder, Candidate answer, RecordPlace place, Field *field,
                       ChatFindings *found, Error *error) {
  answer.encoded = &encoder->answers[field->count];
  if (!encoder_talk(encoder, answer.talk, answer.talk->count, CHAT_LAST_TURN, place, answer.encoded, found,
                    error)) {
    return false;
  }
  chat_trim(&answer.encoded->ids, &answer.encoded->loss);
  field_insert(field, answer);
  return true;
}

static bool gather(Encoder *encoder, const Record *record, DatasetFormat format, RecordPlace place,
                   Field *field, ChatFindings *found, Error *error) {
  if (format != FORMAT_RANKING) {
    const Candidate chosen = {
        .talk = &record->talk, .worth = 1, .score = record->scored ? record->chosen_score : record->margin};
    const Candidate rejected = {.talk = &record->rejected, .score = record->rejected_score};
    return gather_one(encoder, chosen, place, field, found, error) &&
           gather_one(encoder, rejected, place, field, found, error);
  }
  if (record->answer_count > MOST_ANSWERS) {
    return error_set(error, ERROR_DATA, "%s:%llu: %zu answers to one prompt, expected at most %d", place.file,
                     (unsigned long long)place.line, record->answer_count, MOST_ANSWERS);
  }
  for (size_t k = 0; k < record->answer_count; k++) {
    const RankedAnswer *of = &record->answers[k];
    const Candidate answer = {.talk = &of->talk, .worth = of->score, .score = of->score};
    if (!gather_one(encoder, answer, place, field, found, error)) return false;
  }
  return true;
}

/* -- what is left out ------------------------------------------------------------------------------------- */

static bool same_ids(const Encoded *a, const Encoded *b) {
  return a->ids.size == b->ids.size && memcmp(a->ids.data, b->ids.data, a->ids.size * sizeof(int)) == 0;
}

/* Equal answers of equal worth are one. If their worth differs nothing can be learnt from either. */
static bool is_repeated(const Field *field, size_t i) {
  for (size_t j = 0; j < field->count; j++) {
    if (j == i || !same_ids(field->items[i].encoded, field->items[j].encoded)) continue;
    if (j < i || field->items[i].worth != field->items[j].worth) return true;
  }
  return false;
}

static size_t leave_out_incomparable(Field *field) {
  bool out[MOST_ANSWERS];
  for (size_t i = 0; i < field->count; i++) out[i] = field->items[i].encoded->ids.size == 0;
  field_take_out(field, out);
  for (size_t i = 0; i < field->count; i++) out[i] = is_repeated(field, i);
  return field_take_out(field, out);
}

/* Where the last run of loss tokens begins: the answer that is compared. */
static size_t answer_begin(const Encoded *encoded) {
  size_t at = encoded->loss.size;
  while (at > 0 && encoded->loss.data[at - 1]) at--;
  return at;
}

/* How many ids all answers begin with, none of them of an answer. */
static size_t shared_prompt(const Field *field) {
  const Encoded *first = field->items[0].encoded;
  size_t shared = answer_begin(first);
  for (size_t k = 1; k < field->count; k++) {
    const Encoded *other = field->items[k].encoded;
    const size_t limit = answer_begin(other) < shared ? answer_begin(other) : shared;
    size_t at = 0;
    while (at < limit && first->ids.data[at] == other->ids.data[at]) at++;
    shared = at;
  }
  return shared;
}

/* Whether an answer is to another prompt than the others. */
static bool prompts_differ(const Field *field) {
  const size_t shared = shared_prompt(field);
  bool differ = false;
  for (size_t k = 0; k < field->count; k++) differ |= answer_begin(field->items[k].encoded) != shared;
  return differ;
}

/* Leaves out what is too long. *excess: how many ids of the prompt the rest is to lose, the same ones of each. */
static bool leave_out_long(const Encoder *encoder, Field *field, RecordPlace place, size_t *count,
                           size_t *excess, Error *error) {
  const int bos = tokenizer_bos(encoder->options->tokenizer);
  const size_t prompt = shared_prompt(field), limit = (size_t)encoder->options->max_length;
  const size_t kept = bos >= 0 && field->items[0].encoded->ids.data[0] == bos;
  bool out[MOST_ANSWERS];
  *excess = 0;
  for (size_t i = 0; i < field->count; i++) {
    const size_t tokens = field->items[i].encoded->ids.size;
    const Verdict verdict = encoder_verdict(encoder, tokens, place, error);
    if (verdict == FAILED) return false;
    out[i] = verdict == SKIP_IT;
    if (verdict != CUT_IT) continue;
    out[i] = prompt < kept + tokens - limit; /* alone too long, and cutting an answer would falsify it */
    if (!out[i] && tokens - limit > *excess) *excess = tokens - limit;
  }
  *count = field_take_out(field, out);
  return true;
}

/* -- the example ------------------------------------------------------------------------------------------ */

/* Puts the ids of the prompt, once, and those of the answers into encoder->ids, and fills the table. */
static bool lay_out(Encoder *encoder, const Field *field, size_t prompt, ExampleAnswer *table, Error *error) {
  encoder->ids.size = 0;
  if (!int_array_append(&encoder->ids, field->items[0].encoded->ids.data, prompt, error)) return false;
  for (size_t k = 0; k < field->count; k++) {
    const Candidate *answer = &field->items[k];
    const IntArray *ids = &answer->encoded->ids;
    const bool next = k > 0 && answer->worth < field->items[k - 1].worth;
    table[k] = (ExampleAnswer){.begin = (int32_t)encoder->ids.size,
                               .count = (int32_t)(ids->size - prompt),
                               .rank = k > 0 ? table[k - 1].rank + next : field->best_rank,
                               .score = (float)answer->score};
    if (!int_array_append(&encoder->ids, ids->data + prompt, ids->size - prompt, error)) return false;
  }
  return true;
}

static bool put(Encoder *encoder, const Field *field, size_t excess, const Record *record, RecordPlace place,
                Error *error) {
  const size_t prompt = shared_prompt(field) - excess;
  const uint64_t group = bytes_hash(field->items[0].encoded->ids.data, (prompt + excess) * sizeof(int));
  ExampleAnswer table[MOST_ANSWERS];
  bool empty = false;
  for (size_t k = 0; k < field->count; k++) {
    Encoded *encoded = field->items[k].encoded;
    if (excess) chat_cut_front(encoder->options->tokenizer, &encoded->ids, &encoded->loss, excess);
    empty |= conversation_empty_answer(field->items[k].talk);
  }
  encoder->counts.truncated += excess > 0;
  encoder->counts.empty += empty;
  if (!lay_out(encoder, field, prompt, table, error)) return false;
  const CacheItem item = {.fixed = {.count = (int32_t)prompt,
                                    .prompt_count = (int32_t)prompt,
                                    .answer_count = (int32_t)field->count,
                                    .margin = (float)record->margin,
                                    .labels = record->labels,
                                    .line = place.line,
                                    .group = group},
                          .answers = table,
                          .ids = encoder->ids.data};
  return encoder_put(encoder, &item, error);
}

bool encoder_add_preference(Encoder *encoder, const Record *record, DatasetFormat format, RecordPlace place,
                            Error *error) {
  DatasetCounts *counts = &encoder->counts;
  Field field = {0};
  size_t too_long, excess;
  ChatFindings found = CHAT_FOUND_NOTHING;
  if (!gather(encoder, record, format, place, &field, &found, error)) return false;
  encoder_note(encoder, &found, place);
  const size_t answers = field.count;
  leave_out_incomparable(&field);
  const size_t no_loss = answers - field.count;
  if (!field_has_two_ranks(&field)) {
    encoder_note_no_loss(encoder, place.line);
    return true;
  }
  if (!leave_out_long(encoder, &field, place, &too_long, &excess, error)) return false;
  if (!field_has_two_ranks(&field)) {
    counts->too_long++;
    return true;
  }
  if (prompts_differ(&field)) dataset_note(&counts->unequal, place);
  counts->answers_no_loss += no_loss;
  counts->answers_too_long += too_long;
  return put(encoder, &field, excess, record, place, error);
}

/* -- single answers --------------------------------------------------------------------------------------- */

static bool add_single(Encoder *encoder, const Record *record, const Conversation *talk, bool good,
                       RecordPlace place, ChatFindings *found, Error *error) {
  Field field = {.best_rank = good ? 0 : 1};
  size_t too_long, excess;
  if (!gather_one(encoder, (Candidate){.talk = talk}, place, &field, found, error)) return false;
  if (field.items[0].encoded->ids.size == 0) {
    encoder_note_no_loss(encoder, place.line);
    return true;
  }
  if (!leave_out_long(encoder, &field, place, &too_long, &excess, error)) return false;
  encoder->counts.too_long += too_long;
  return too_long > 0 || put(encoder, &field, excess, record, place, error);
}

bool encoder_add_unpaired(Encoder *encoder, const Record *record, DatasetFormat format, RecordPlace place,
                          Error *error) {
  const bool pair = format != FORMAT_UNPAIRED;
  ChatFindings found = CHAT_FOUND_NOTHING;
  const bool ok =
      add_single(encoder, record, &record->talk, pair || record->desirable, place, &found, error) &&
      (!pair || add_single(encoder, record, &record->rejected, false, place, &found, error));
  encoder_note(encoder, &found, place);
  return ok;
}
