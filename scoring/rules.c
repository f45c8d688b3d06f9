#include "scoring/rules.h"

#include "base/json.h"
#include "scoring/exact.h"
#include "scoring/source.h"

#include <stdlib.h>
#include <string.h>

/* -- the rules -------------------------------------------------------------------------------------------- */

double rule_length(int64_t tokens, int64_t target) {
  return -fmin(1, fabs((double)(tokens - target)) / (double)target);
}

typedef struct Runs {
  const int32_t *ids;
  size_t bytes; /* of a run */
} Runs;

static int compare_runs(const void *a, const void *b, void *context) {
  const Runs *runs = context;
  return memcmp(runs->ids + *(const int64_t *)a, runs->ids + *(const int64_t *)b, runs->bytes);
}

double rule_repetition(const int32_t *ids, int64_t count, int64_t run, int64_t *order) {
  const int64_t all = count - run + 1;
  if (all < 1) return 0;
  Runs runs = {ids, (size_t)run * sizeof *ids};
  for (int64_t i = 0; i < all; i++) order[i] = i;
  qsort_r(order, (size_t)all, sizeof *order, compare_runs, &runs);
  int64_t different = 1;
  for (int64_t i = 1; i < all; i++) different += compare_runs(&order[i - 1], &order[i], &runs) != 0;
  return -(1 - (double)different / (double)all);
}

const char *const rule_json_names[] = {"none", "any", "object", "list", NULL};

double rule_json(const char *text, size_t bytes, RuleJson kind) {
  json_error_t broken;
  json_t *value = json_parse(text, bytes, json_limit_record, JSON_DECODE_ANY | JSON_ALLOW_NUL, &broken);
  const bool is = value && (kind == RULE_JSON_OBJECT ? json_holds_object(value)
                            : kind == RULE_JSON_LIST ? json_is_array(value)
                                                     : true);
  json_decref(value);
  return is;
}

/* -- the source ------------------------------------------------------------------------------------------- */

typedef struct RulesOptions {
  SourceCommon common;
  int64_t length, repetition;
  char *format, *exact, *exact_extract, *exact_extract_reference;
  int json; /* RuleJson */
} RulesOptions;

/* clang-format off */
static const Option rules_options[] = {
    SOURCE_OPTIONS(RulesOptions, common)
    ROW_INT("length", RulesOptions, length, "0", 0, 1 << 24, "tokens that an answer should have; 0: any"),
    ROW_INT("repetition", RulesOptions, repetition, "0", 0, 1024, "N: runs of N tokens should not come twice; 0: they may"),
    ROW_STRING("format", RulesOptions, format, NULL, "regular expression (PCRE2) that should match somewhere in the answer"),
    ROW_STRING("exact", RulesOptions, exact, NULL,
               "key of the record that holds the right answer, or a list of right ones; reference: also the last assistant turn"),
    ROW_STRING("exact_extract", RulesOptions, exact_extract, NULL,
               "regular expression that finds the answer to compare: the last match, or its first group", .when = "exact"),
    ROW_STRING("exact_extract_reference", RulesOptions, exact_extract_reference, NULL,
               "the same for what the record holds", .when = "exact"),
    ROW_CHOICE("json", RulesOptions, json, "none", rule_json_names, "the answer should be JSON: any value, an object, a list")};
/* clang-format on */

typedef struct State {
  Regex *format, *extract, *extract_reference;
  RegexScratch *scratch;
  int64_t *order; /* of the longest answer so far */
  int64_t room;
} State;

static bool compile(const char *key, const char *pattern, const char *place, Regex **out, Error *error) {
  Error why = {0};
  if (!pattern) return true;
  *out = regex_compile(pattern, strlen(pattern), REGEX_PCRE2, &why);
  return *out || error_set(error, ERROR_USAGE, "%s: '%s': %s", place, key, why.message);
}

static void free_patterns(State *state) {
  regex_free(state->format);
  regex_free(state->extract);
  regex_free(state->extract_reference);
}

static bool compile_all(const RulesOptions *options, const char *place, State *state, Error *error) {
  return compile("format", options->format, place, &state->format, error) &&
         compile("exact_extract", options->exact_extract, place, &state->extract, error) &&
         compile("exact_extract_reference", options->exact_extract_reference, place,
                 &state->extract_reference, error);
}

static bool check(const void *config, const char *place, Error *error) {
  const RulesOptions *options = config;
  State probe = {0};
  const bool ok = compile_all(options, place, &probe, error);
  free_patterns(&probe);
  if (!ok) return false;
  if (!options->exact && (options->exact_extract || options->exact_extract_reference)) {
    return error_set(error, ERROR_USAGE,
                     "%s: '%s' is given without 'exact', which says what it is compared with", place,
                     options->exact_extract ? "exact_extract" : "exact_extract_reference");
  }
  return options->length || options->repetition || options->format || options->exact || options->json ||
         error_set(error, ERROR_USAGE,
                   "%s: no rule is given: expected length, repetition, format, exact or json", place);
}

/* The rules that there are, in their order, whether this rank judges anything or not. */
static bool name_parts(Source *source, Error *error) {
  const RulesOptions *options = source->options;
  const struct {
    const char *name;
    bool given;
  } rules[] = {{"length", options->length > 0},
               {"repetition", options->repetition > 0},
               {"format", options->format != NULL},
               {"exact", options->exact != NULL},
               {"json", options->json != RULE_JSON_NONE}};
  for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
    if (rules[i].given && source_part(source, rules[i].name, error) < 0) return false;
  }
  return true;
}

static bool open(Source *source, Error *error) {
  State *state = source->state = memory_zeroed(1, sizeof *state);
  if (!state) return error_out_of_memory(error, "rules", sizeof *state);
  source->scoring->wants_text = true;
  return (state->scratch = regex_scratch_new(error)) &&
         compile_all(source->options, source->common->name, state, error) && name_parts(source, error);
}

static void close(Source *source) {
  State *state = source->state;
  if (!state) return;
  free_patterns(state);
  regex_scratch_free(state->scratch);
  memory_free(state->order);
  memory_free(state);
  source->state = NULL;
}

/* -- the reference answer --------------------------------------------------------------------------------- */

/* What the record holds under the key: a new reference to a string, a number or a list; NULL where it holds none of these. */
static json_t *held(const char *key, const Example *prompt) {
  json_error_t broken;
  json_t *context =
      json_parse(prompt->record, prompt->record_bytes, json_limit_record, JSON_ALLOW_NUL, &broken);
  json_t *value = json_incref(json_object_get(json_object_get(context, "record"), key));
  json_decref(context);
  if (!value && strcmp(key, "reference") == 0 && prompt->reference_bytes)
    return json_stringn(prompt->reference, prompt->reference_bytes);
  if (json_is_string(value) || json_is_number(value) || json_array_size(value) > 0) return value;
  json_decref(value);
  return NULL;
}

static bool check_prompt(const Source *source, const Example *prompt, Error *error) {
  const RulesOptions *options = source->options;
  if (!options->exact) return true;
  json_t *value = held(options->exact, prompt);
  json_decref(value);
  return value ||
         error_set(
             error, ERROR_DATA,
             "expected '%s' with the right answer in the record (a string, a number or a list of them)%s",
             options->exact,
             strcmp(options->exact, "reference") == 0 ? ", or an assistant turn at its end" : "");
}

/* One right answer beside the part of the answer that is compared. */
static bool compare_one(const State *state, const json_t *value, const char *part, size_t bytes, bool *equal,
                        Error *error) {
  Buffer text = {0};
  const char *right;
  size_t right_bytes;
  bool found, ok = true;
  if (json_is_string(value)) {
    ok = buffer_append(&text, json_string_value(value), json_string_length(value), error);
  } else {
    ok = json_append_text(&text, value, error);
  }
  ok = ok && exact_extract(state->extract_reference, state->scratch, text.data, text.size, &right,
                           &right_bytes, &found, error);
  *equal = ok && found && exact_equal(part, bytes, right, right_bytes);
  buffer_free(&text);
  return ok;
}

static bool rule_exact(const Source *source, const Answer *answer, const Buffer *text, double *out,
                       Error *error) {
  const RulesOptions *options = source->options;
  const State *state = source->state;
  const char *part;
  size_t bytes;
  bool found, equal = false;
  *out = 0;
  if (!exact_extract(state->extract, state->scratch, text->data, text->size, &part, &bytes, &found, error))
    return false;
  if (!found) return true;
  json_t *value = held(options->exact, &answer->prompt);
  bool ok = true;
  if (json_is_array(value)) {
    for (size_t i = 0; ok && !equal && i < json_array_size(value); i++)
      ok = compare_one(state, json_array_get(value, i), part, bytes, &equal, error);
  } else {
    ok = value && compare_one(state, value, part, bytes, &equal, error);
  }
  json_decref(value);
  *out = equal;
  return ok;
}

/* -- judging ---------------------------------------------------------------------------------------------- */

static bool rule_format(const State *state, const Buffer *text, double *out, Error *error) {
  RegexCursor cursor = {0};
  RegexMatch match;
  bool found;
  if (!regex_next(state->format, state->scratch, text->data, text->size, &cursor, &match, &found, error))
    return false;
  *out = found;
  return true;
}

static bool make_room(State *state, int64_t tokens, Error *error) {
  if (tokens <= state->room) return true;
  memory_free(state->order);
  state->order = memory_zeroed((size_t)tokens, sizeof *state->order);
  state->room = state->order ? tokens : 0;
  return state->order || error_out_of_memory(error, "runs of tokens", (size_t)tokens * sizeof *state->order);
}

static bool note(Source *source, const char *rule, int64_t slot, double value, double *sum, Error *error) {
  const int part = source_part(source, rule, error);
  if (part < 0) return false;
  source->parts[part][slot] = (float)value;
  *sum += value;
  return true;
}

static bool judge_one(Source *source, int64_t slot, Error *error) {
  const RulesOptions *options = source->options;
  State *state = source->state;
  const Answer *answer = &source->scoring->answers[slot];
  const Buffer *text = &source->scoring->texts[slot];
  const int64_t tokens = answer->count - answer->ended;
  double sum = 0, value = 0;
  if (!make_room(state, tokens, error)) return false;
  const bool ok =
      (!options->length || note(source, "length", slot, rule_length(tokens, options->length), &sum, error)) &&
      (!options->repetition ||
       note(source, "repetition", slot,
            rule_repetition(answer->ids, tokens, options->repetition, state->order), &sum, error)) &&
      (!options->format ||
       (rule_format(state, text, &value, error) && note(source, "format", slot, value, &sum, error))) &&
      (!options->exact || (rule_exact(source, answer, text, &value, error) &&
                           note(source, "exact", slot, value, &sum, error))) &&
      (!options->json ||
       note(source, "json", slot, rule_json(text->data, text->size, (RuleJson)options->json), &sum, error));
  if (ok) source_judged(source, slot, sum);
  return ok;
}

static bool judge(Source *source, int64_t first, int64_t end, Error *error) {
  for (int64_t slot = first; slot < end; slot++) {
    if (!judge_one(source, slot, error)) return false;
  }
  return true;
}

const SourceKind rules_source = {
    .keys = {"rules", rules_options, sizeof rules_options / sizeof *rules_options},
    .config_size = sizeof(RulesOptions),
    .check = check,
    .open = open,
    .close = close,
    .check_prompt = check_prompt,
    .judge = judge};
