/* Records that compare answers: preferences, rankings, safe-rlhf pairs. */
#include "datasets/record_formats.h"

#include "base/json.h"

#include <string.h>

/* ---- preferences ---- */

static bool says(const json_t *value) {
  return value && !json_is_null(value);
}

/* The key under which the question stands, NULL when there is none: "prompt", or ColossalChat's "context". */
static const char *question_key(const json_t *root) {
  if (says(json_object_get(root, "prompt"))) return "prompt";
  return says(json_object_get(root, "context")) ? "context" : NULL;
}

/* One side: a whole conversation, or the question and what continues it (see dataset.h). */
static bool parse_side(Conversation *talk, json_t *root, const char *key, const char *question,
                       RecordPlace place, KeyNames *passed, Error *error) {
  json_t *side = json_object_get(root, key);
  if (is_transcript(side)) {
    const bool whole = strncmp(json_string_value(side), "\n\nH", 3) == 0 || !question;
    if (!whole && !push_prompt(talk, json_object_get(root, question), question, place, passed, error))
      return false;
    if (!push_transcript(talk, side, error)) return false;
  } else if (json_is_string(side) && !question) {
    return fail_text(place, key,
                     "a string without a 'prompt' beside it; expected \"\\n\\nHuman: ...\" in it, a list of "
                     "messages, or the key 'prompt'",
                     error);
  } else {
    if (!push_any(talk, side, key, CHAT_ASSISTANT, place, passed, error)) return false;
    const bool whole = talk->items[0].role != CHAT_ASSISTANT;
    if (!whole && !question) return fail_type(place, "prompt", "string or list of messages", NULL, error);
    if (!whole) {
      talk->count = 0;
      if (!push_prompt(talk, json_object_get(root, question), question, place, passed, error)) return false;
      if (!push_any(talk, side, key, CHAT_ASSISTANT, place, passed, error)) return false;
    }
  }
  if (talk->items[talk->count - 1].role != CHAT_ASSISTANT) {
    return fail_text(place, key, "expected to end with an assistant turn", error);
  }
  return true;
}

bool parse_preference(Record *record, json_t *root, RecordPlace place, Error *error) {
  bool margin, chosen, rejected;
  const char *question = question_key(root);
  if (question && says(json_object_get(root, "prompt")) && says(json_object_get(root, "context"))) {
    return fail_text(place, "context", "stands beside 'prompt'; expected one of them", error);
  }
  if (!get_number(json_object_get(root, "margin"), "margin", place, &margin, &record->margin, error) ||
      !get_number(json_object_get(root, "score_chosen"), "score_chosen", place, &chosen,
                  &record->chosen_score, error) ||
      !get_number(json_object_get(root, "score_rejected"), "score_rejected", place, &rejected,
                  &record->rejected_score, error)) {
    return false;
  }
  record->scored = chosen && rejected;
  if (!record->scored) record->chosen_score = record->rejected_score = 0;
  if (record->scored && record->chosen_score < record->rejected_score) {
    return fail_text(place, "score_chosen", "is less than score_rejected: which side is the better one?",
                     error);
  }
  return parse_side(&record->talk, root, "chosen", question, place, &record->passed, error) &&
         parse_side(&record->rejected, root, "rejected", question, place, &record->passed, error);
}

/* ---- rankings ---- */

static RankedAnswer *push_answer(Record *record, Error *error) {
  if (record->answer_count == record->answer_capacity) {
    const size_t capacity = record->answer_capacity ? 2 * record->answer_capacity : 8;
    RankedAnswer *answers = memory_resize(record->answers, capacity * sizeof *answers);
    if (!answers) {
      error_out_of_memory(error, "answers", capacity * sizeof *answers);
      return NULL;
    }
    memset(answers + record->answer_capacity, 0, (capacity - record->answer_capacity) * sizeof *answers);
    record->answers = answers;
    record->answer_capacity = capacity;
  }
  RankedAnswer *answer = &record->answers[record->answer_count++];
  answer->talk.count = 0;
  return answer;
}

/* Where the worth of answers stands. */
typedef struct Judgement {
  const json_t *scores, *ranks, *order; /* at most one is not NULL; all NULL: in the answers themselves */
  size_t count;
} Judgement;

/* The list under `key`, which has an item for each answer; *list stays NULL when there is none. */
static bool get_list(const json_t *root, const char *key, size_t count, RecordPlace place,
                     const json_t **list, Error *error) {
  char message[96];
  *list = NULL;
  const json_t *value = json_object_get(root, key);
  if (!says(value)) return true;
  if (!json_is_array(value)) return fail_type(place, key, "list", value, error);
  *list = value;
  if (json_array_size(value) == count) return true;
  snprintf(message, sizeof message, "expected %zu items, one for each answer, found %zu", count,
           json_array_size(value));
  return fail_text(place, key, message, error);
}

static bool find_judgement(Judgement *judgement, const json_t *root, RecordPlace place, Error *error) {
  if (!get_list(root, "scores", judgement->count, place, &judgement->scores, error) ||
      !get_list(root, "rank", judgement->count, place, &judgement->ranks, error) ||
      !get_list(root, "ranking", judgement->count, place, &judgement->order, error)) {
    return false;
  }
  if (!judgement->scores + !judgement->ranks + !judgement->order >= 2) return true;
  return error_set(error, ERROR_DATA,
                   "%s:%llu: more than one of 'scores', 'rank' and 'ranking'; expected one", place.file,
                   (unsigned long long)place.line);
}

/* Places by "ranking": the numbers of the answers, the best first. */
static bool place_in_order(const Judgement *judgement, size_t k, RecordPlace place, double *score,
                           Error *error) {
  size_t found = 0;
  for (size_t i = 0; i < judgement->count; i++) {
    const json_t *item = json_array_get(judgement->order, i);
    if (!json_is_integer(item) || json_integer_value(item) != (json_int_t)k) continue;
    *score = -(double)(i + 1);
    found++;
  }
  if (found == 1) return true;
  char message[96];
  snprintf(message, sizeof message, "expected each of the numbers 0 to %zu once, the best first",
           judgement->count - 1);
  return fail_text(place, "ranking", message, error);
}

static bool item_number(const json_t *list, const char *name, size_t k, RecordPlace place, double *number,
                        Error *error) {
  char key[64];
  bool there;
  snprintf(key, sizeof key, "%s[%zu]", name, k);
  const json_t *value = json_array_get(list, k);
  if (!get_number(value, key, place, &there, number, error)) return false;
  return there || fail_type(place, key, "number", value, error);
}

/* The worth that an answer itself has: {"response", "score"} or {"response", "rank"}. */
static bool own_worth(const json_t *item, const char *key, RecordPlace place, double *score, bool *ordered,
                      Error *error) {
  bool scored, ranked;
  double rank;
  if (!get_number(json_object_get(item, "score"), key, place, &scored, score, error) ||
      !get_number(json_object_get(item, "rank"), key, place, &ranked, &rank, error)) {
    return false;
  }
  if (ranked && !scored) *score = -rank;
  *ordered = ranked && !scored;
  return scored != ranked ||
         fail_text(place, key,
                   scored ? "has both 'score' and 'rank'; expected one"
                          : "expected 'scores', 'rank' or 'ranking' beside the answers, or "
                            "'score' or 'rank' in each of them",
                   error);
}

static bool judge(Record *record, const Judgement *judgement, const json_t *item, const char *key, size_t k,
                  RecordPlace place, double *score, Error *error) {
  if (judgement->scores) return item_number(judgement->scores, "scores", k, place, score, error);
  if (judgement->order || judgement->ranks) record->ordered = true;
  if (judgement->order) return place_in_order(judgement, k, place, score, error);
  if (judgement->ranks) {
    if (!item_number(judgement->ranks, "rank", k, place, score, error)) return false;
    *score = -*score;
    return true;
  }
  bool ordered;
  if (!own_worth(item, key, place, score, &ordered, error)) return false;
  if (k > 0 && ordered != record->ordered) {
    return fail_text(place, key, "some answers have a 'score' and others a 'rank'", error);
  }
  record->ordered = ordered;
  return true;
}

/* What is said in an item: the item itself, or its "response" or "answer". */
static json_t *answer_of(json_t *item) {
  json_t *said = json_object_get(item, "response");
  if (!said) said = json_object_get(item, "answer");
  return said ? said : item;
}

/* What was asked, and the answer. */
static bool parse_answer(Conversation *talk, json_t *root, json_t *item, const char *key, RecordPlace place,
                         KeyNames *passed, Error *error) {
  if (!push_prompt(talk, json_object_get(root, "prompt"), "prompt", place, passed, error) ||
      !push_any(talk, answer_of(item), key, CHAT_ASSISTANT, place, passed, error)) {
    return false;
  }
  return talk->items[talk->count - 1].role == CHAT_ASSISTANT ||
         fail_text(place, key, "expected to end with an assistant turn", error);
}

bool parse_ranking(Record *record, json_t *root, DatasetKind kind, RecordPlace place, Error *error) {
  json_t *responses = json_object_get(root, "responses");
  size_t best = 0;
  char key[64];
  if (!json_is_array(responses)) return fail_type(place, "responses", "list of answers", responses, error);
  Judgement judgement = {.count = json_array_size(responses)};
  if (judgement.count < 2) return fail_text(place, "responses", "expected at least two answers", error);
  if (!find_judgement(&judgement, root, place, error)) return false;
  for (size_t k = 0; k < judgement.count; k++) {
    json_t *item = json_array_get(responses, k);
    snprintf(key, sizeof key, "responses[%zu]", k);
    RankedAnswer *answer = push_answer(record, error);
    if (!answer || !judge(record, &judgement, item, key, k, place, &answer->score, error) ||
        !parse_answer(&answer->talk, root, item, key, place, &record->passed, error)) {
      return false;
    }
    if (answer->score > record->answers[best].score) best = k;
  }
  if (kind != DATASET_PROMPT) return true;
  snprintf(key, sizeof key, "responses[%zu]", best);
  return parse_answer(&record->talk, root, json_array_get(responses, best), key, place, &record->passed,
                      error);
}

/* ---- safe-rlhf pairs ---- */

/* 1 or -1 for the side that is named 0 or 1 and for the other one; 0 when the record does not say. */
static bool get_verdict(const json_t *root, const char *key, RecordPlace place, int8_t *of_first,
                        Error *error) {
  const json_t *value = json_object_get(root, key);
  *of_first = 0;
  if (!says(value)) return true;
  const json_int_t side = json_is_integer(value) ? json_integer_value(value) : -1;
  if (side != 0 && side != 1) return fail_type(place, key, "0 or 1", value, error);
  *of_first = side == 0 ? 1 : -1;
  return true;
}

static bool get_safety(const json_t *root, const char *key, RecordPlace place, int8_t *safe, Error *error) {
  const json_t *value = json_object_get(root, key);
  *safe = 0;
  if (!says(value)) return true;
  if (!json_is_boolean(value)) return fail_type(place, key, "true or false", value, error);
  *safe = json_is_true(value) ? 1 : -1;
  return true;
}

bool parse_safe_pair(Record *record, json_t *root, RecordPlace place, Error *error) {
  static const char *const responses[] = {"response_0", "response_1"};
  PairLabels *labels = &record->labels;
  int8_t better, safer, safe[2];
  if (!get_verdict(root, "better_response_id", place, &better, error) ||
      !get_verdict(root, "safer_response_id", place, &safer, error) ||
      !get_safety(root, "is_response_0_safe", place, &safe[0], error) ||
      !get_safety(root, "is_response_1_safe", place, &safe[1], error)) {
    return false;
  }
  const int8_t verdict = record->by_safety ? safer : better;
  if (verdict == 0) {
    return fail_type(place, record->by_safety ? "safer_response_id" : "better_response_id",
                     "0 or 1 (data.pair_label says which verdict decides)", NULL, error);
  }
  const int chosen = verdict == 1 ? 0 : 1;
  *labels = (PairLabels){.better = (int8_t)(better * verdict),
                         .safer = (int8_t)(safer * verdict),
                         .chosen_safe = safe[chosen],
                         .rejected_safe = safe[!chosen]};
  Conversation *sides[] = {&record->talk, &record->rejected};
  for (int i = 0; i < 2; i++) {
    const char *key = responses[i ? !chosen : chosen];
    if (!push_prompt(sides[i], json_object_get(root, "prompt"), "prompt", place, &record->passed, error) ||
        !push_string(sides[i], CHAT_ASSISTANT, json_object_get(root, key), key, place, error)) {
      return false;
    }
  }
  return true;
}
