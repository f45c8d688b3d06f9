/* demo_check: scores answers of the demo's help desk against written rules.
 *
 * The judge of the demo, and no part of it: it shares no code and no table with the generator (datasets/demo.h)
 * and its utility, nothing is ever learnt from it, and it reads what an answer needs from the extra keys of the
 * prompts.
 *
 * Rules and weights; an answer's score is the sum, between 0 and 1:
 *   opening  0.15  the first sentence thanks, greets or is sorry
 *   closing  0.15  the last sentence is courteous
 *   product  0.15  the customer's product is named, and no other
 *   steps    0.30  (needed steps given - steps that do not belong) / steps needed, not below 0
 *   friendly 0.15  nothing rude anywhere
 *   ending   0.10  ends with a sentence, by itself, within 42 words, and says nothing twice
 * `perfect` is the share of answers that keep every rule in full.
 *
 * Answers: JSONL as `generate --json` writes it: "response" (or "completion"), the "prompt" as it stands in the
 * held-out file, and optionally "finished": "eos" or "stop", or "length" (or false) for one that was cut off.
 *
 * With --judge it is a source of rewards (docs/rewards.md, `command`), meant for weight 0: a judge that is watched
 * during a run and not learnt from. */
#include "base/terminal.h"
#include "datasets/lines.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define COUNT(table) (sizeof(table) / sizeof *(table))

static const char usage[] =
    "usage: demo_check --heldout FILE --answers FILE [--by-order] [--each] [--json]\n"
    "       demo_check --judge\n"
    "\n"
    "Scores the demo's answers against the rules at the head of tools/demo_check.c.\n"
    "\n"
    "  --heldout FILE  heldout.jsonl of demo_data: prompts with product and steps\n"
    "  --answers FILE  JSONL with prompt and response\n"
    "  --by-order      answer N belongs to prompt N; prompts in the answers are passed over\n"
    "  --each          a JSON line for each answer before the summary\n"
    "  --json          the summary as JSON\n"
    "  --judge         as a command of reward.sources: questions in, scores out\n";

/* ---- Rules ----------------------------------------------------------------------------------------- */

enum { OPENING, CLOSING, PRODUCT, STEPS, FRIENDLY, ENDING, RULE_COUNT };
static const char *const rule_names[RULE_COUNT] = {"opening", "closing",  "product",
                                                   "steps",   "friendly", "ending"};
static const double rule_weights[RULE_COUNT] = {0.15, 0.15, 0.15, 0.30, 0.15, 0.10};

static const char *const opening_words[] = {"thank you", "sorry", "hello", "dear"};
static const char *const closing_words[] = {"have a nice day", "happy to help", "please write again",
                                            "best wishes"};
static const char *const product_words[] = {"camera", "fan",     "heater", "kettle",
                                            "lamp",   "printer", "radio",  "toaster"};
static const char *const step_words[] = {
    "call the service line",     "check the plug",      "clean the filter", "fill in the refund form",
    "hold the power key",        "install the update",  "keep the box",     "let it cool down",
    "look at the tracking page", "look under the foam", "open the window",  "press the reset button",
    "print the return form",     "send us a photo",     "switch it off",    "take it to the post office",
    "tighten the screws",        "wait two more days"};
static const char *const rude_words[] = {
    "not you again", "what do you want", "your own fault", "you should read the manual",
    "do not write",  "wasting our time", "all you get",    "find out the rest"};
enum { MOST_WORDS = 42 };

/* Whole words only: "fan" is not in "fancy". */
static bool contains(const char *text, const char *words) {
  size_t length = strlen(words);
  for (const char *at = strstr(text, words); at; at = strstr(at + 1, words)) {
    bool begins = at == text || !isalpha((unsigned char)at[-1]);
    if (begins && !isalpha((unsigned char)at[length])) return true;
  }
  return false;
}

static bool contains_any(const char *text, const char *const *list, size_t count) {
  for (size_t i = 0; i < count; i++) {
    if (contains(text, list[i])) return true;
  }
  return false;
}

/* Lower case, one space between words, none at the ends. */
static bool simplify(const char *text, Buffer *out, Error *error) {
  buffer_clear(out);
  if (!buffer_append(out, "", 0, error)) return false;
  for (; *text; text++) {
    char c = (char)tolower((unsigned char)*text);
    if (isspace((unsigned char)c)) c = ' ';
    if (c == ' ' && (out->size == 0 || out->data[out->size - 1] == ' ')) continue;
    if (!buffer_append(out, &c, 1, error)) return false;
  }
  if (out->size && out->data[out->size - 1] == ' ') out->data[--out->size] = '\0';
  return true;
}

enum { MOST_SENTENCES = 32 };
typedef struct Sentences {
  char *items[MOST_SENTENCES];
  int count;
} Sentences;

/* Cuts the text in place. */
static Sentences split_sentences(char *text) {
  Sentences result = {.count = 0};
  char *save = NULL;
  for (char *part = strtok_r(text, ".!?", &save); part; part = strtok_r(NULL, ".!?", &save)) {
    while (*part == ' ') part++;
    if (*part && result.count < MOST_SENTENCES) result.items[result.count++] = part;
  }
  return result;
}

static bool says_twice(const Sentences *sentences) {
  for (int i = 0; i < sentences->count; i++) {
    for (int j = 0; j < i; j++) {
      if (strcmp(sentences->items[i], sentences->items[j]) == 0) return true;
    }
  }
  return false;
}

static bool ends_well(const char *text, bool finished) {
  size_t size = strlen(text), words = size > 0;
  for (const char *at = text; *at; at++) words += *at == ' ';
  return finished && size > 0 && strchr(".!?", text[size - 1]) && words <= MOST_WORDS;
}

static double score_product(const char *text, const char *product) {
  if (!contains(text, product)) return 0;
  for (size_t i = 0; i < COUNT(product_words); i++) {
    if (strcmp(product_words[i], product) != 0 && contains(text, product_words[i])) return 0;
  }
  return 1;
}

static double score_steps(const char *text, const json_t *needed) {
  int right = 0, foreign = 0, count = (int)json_array_size(needed);
  for (int i = 0; i < count; i++) {
    const char *step = json_string_value(json_array_get(needed, (size_t)i));
    right += step && contains(text, step);
  }
  for (size_t s = 0; s < COUNT(step_words); s++) {
    bool wanted = false;
    for (int i = 0; i < count; i++) {
      const char *step = json_string_value(json_array_get(needed, (size_t)i));
      wanted = wanted || (step && strcmp(step, step_words[s]) == 0);
    }
    foreign += !wanted && contains(text, step_words[s]);
  }
  return count > 0 && right > foreign ? (double)(right - foreign) / count : 0;
}

/* text: simplified; it is cut into sentences on the way. */
static void score_answer(char *text, bool finished, const json_t *prompt, double scores[RULE_COUNT]) {
  const char *product = json_string_value(json_object_get(prompt, "product"));
  bool ends = ends_well(text, finished);
  scores[PRODUCT] = score_product(text, product ? product : "");
  scores[STEPS] = score_steps(text, json_object_get(prompt, "steps"));
  scores[FRIENDLY] = *text && !contains_any(text, rude_words, COUNT(rude_words));
  Sentences sentences = split_sentences(text);
  const char *first = sentences.count ? sentences.items[0] : "";
  const char *last = sentences.count ? sentences.items[sentences.count - 1] : "";
  scores[OPENING] = contains_any(first, opening_words, COUNT(opening_words));
  scores[CLOSING] = contains_any(last, closing_words, COUNT(closing_words));
  scores[ENDING] = ends && !says_twice(&sentences);
}

static double total(const double scores[RULE_COUNT]) {
  double sum = 0;
  for (int r = 0; r < RULE_COUNT; r++) sum += rule_weights[r] * scores[r];
  return sum;
}

static bool is_prompt(const json_t *record) {
  return json_is_string(json_object_get(record, "product")) &&
         json_is_array(json_object_get(record, "steps"));
}

/* ---- Files ----------------------------------------------------------------------------------------- */

typedef struct Check {
  const char *heldout, *answers;
  bool by_order, each, json, judge;
  json_t *list;      /* the held-out records in order */
  json_t *by_prompt; /* the same by their prompt */
  int count, perfect;
  double sums[RULE_COUNT], sum, sum_squares;
} Check;

static bool read_heldout(Check *check, Error *error) {
  LineReader reader;
  if (!line_reader_open(&reader, check->heldout, error)) return false;
  json_t *record = NULL;
  bool ok = true;
  while (ok && (ok = line_reader_record(&reader, &record, error)) && record) {
    const char *prompt = json_string_value(json_object_get(record, "prompt"));
    ok = prompt && is_prompt(record);
    if (ok) {
      json_object_set(check->by_prompt, prompt, record);
      json_array_append(check->list, record);
    } else {
      error_set(error, ERROR_DATA, "%s:%llu: expected prompt, product and steps", check->heldout,
                (unsigned long long)reader.number);
    }
    json_decref(record);
  }
  line_reader_close(&reader);
  return ok;
}

static const json_t *find_prompt(const Check *check, const json_t *answer, unsigned long long line,
                                 Error *error) {
  const json_t *found;
  const char *prompt = json_string_value(json_object_get(answer, "prompt"));
  if (check->by_order) {
    found = json_array_get(check->list, (size_t)check->count);
  } else {
    found = prompt ? json_object_get(check->by_prompt, prompt) : NULL;
  }
  if (!found) {
    error_set(error, ERROR_DATA, "%s:%llu: no held-out prompt belongs to this answer: %.80s", check->answers,
              line, prompt ? prompt : "(no prompt)");
  }
  return found;
}

/* As tools/generate.c writes it ("eos", "stop", "length"), or a boolean; an answer that says nothing has ended. */
static bool ended_by_itself(const json_t *finished) {
  const char *how = json_string_value(finished);
  return how ? strcmp(how, "eos") == 0 || strcmp(how, "stop") == 0 : !json_is_false(finished);
}

static bool check_answer(Check *check, const json_t *answer, unsigned long long line, Buffer *text,
                         Error *error) {
  const json_t *response = json_object_get(answer, "response");
  if (!response) response = json_object_get(answer, "completion");
  if (!json_is_string(response)) {
    return error_set(error, ERROR_DATA, "%s:%llu: key 'response': expected string, found %s", check->answers,
                     line, json_kind(response));
  }
  const json_t *prompt = find_prompt(check, answer, line, error);
  if (!prompt || !simplify(json_string_value(response), text, error)) return false;
  double scores[RULE_COUNT];
  score_answer(text->data, ended_by_itself(json_object_get(answer, "finished")), prompt, scores);
  const double score = total(scores);
  bool perfect = true;
  if (check->each) printf("{");
  for (int r = 0; r < RULE_COUNT; r++) {
    check->sums[r] += scores[r];
    perfect = perfect && scores[r] >= 1;
    if (check->each) printf("\"%s\":%.4g,", rule_names[r], scores[r]);
  }
  if (check->each) printf("\"score\":%.4f}\n", score);
  check->sum += score;
  check->sum_squares += score * score;
  check->perfect += perfect;
  check->count++;
  return true;
}

static bool read_answers(Check *check, Error *error) {
  LineReader reader;
  if (!line_reader_open(&reader, check->answers, error)) return false;
  Buffer text = {0};
  json_t *answer = NULL;
  bool ok = true;
  while (ok && (ok = line_reader_record(&reader, &answer, error)) && answer) {
    ok = check_answer(check, answer, (unsigned long long)reader.number, &text, error);
    json_decref(answer);
  }
  if (ok && check->count == 0) ok = error_set(error, ERROR_DATA, "%s: no answers", check->answers);
  buffer_free(&text);
  line_reader_close(&reader);
  return ok;
}

static void print_summary(const Check *check) {
  double n = check->count, mean = check->sum / n;
  double variance = check->sum_squares / n - mean * mean;
  double deviation = sqrt((variance > 0 ? variance : 0) / n);
  if (check->json) {
    printf("{\"answers\":%d,\"score\":%.4f,\"standard_error\":%.4f,\"perfect\":%.4f", check->count, mean,
           deviation, check->perfect / n);
    for (int r = 0; r < RULE_COUNT; r++) printf(",\"%s\":%.4f", rule_names[r], check->sums[r] / n);
    printf("}\n");
    return;
  }
  printf("answers   %d\nscore     %.3f (standard error %.3f)\nperfect   %.3f\n", check->count, mean,
         deviation, check->perfect / n);
  for (int r = 0; r < RULE_COUNT; r++) printf("%-9s %.3f\n", rule_names[r], check->sums[r] / n);
}

/* ---- A source of rewards ---------------------------------------------------------------------------- */

static bool judge_answer(const json_t *question, Buffer *text, Error *error) {
  const char *answer = json_string_value(json_object_get(question, "answer"));
  const json_t *prompt = json_object_get(question, "record");
  if (!answer || !is_prompt(prompt))
    return error_set(error, ERROR_DATA, "expected an answer, and product and steps in the record");
  if (!simplify(answer, text, error)) return false;
  double scores[RULE_COUNT];
  score_answer(text->data, ended_by_itself(json_object_get(question, "finished")), prompt, scores);
  printf("{\"score\":%.4f,\"parts\":{", total(scores));
  for (int r = 0; r < RULE_COUNT; r++) printf("%s\"%s\":%.4g", r ? "," : "", rule_names[r], scores[r]);
  printf("}}\n");
  return fflush(stdout) == 0 || error_set(error, ERROR_FILE, "standard output: cannot be written");
}

static bool judge(Error *error) {
  LineReader reader;
  if (!line_reader_open(&reader, "-", error)) return false;
  Buffer text = {0};
  json_t *question = NULL;
  bool ok = true;
  while (ok && (ok = line_reader_record(&reader, &question, error)) && question) {
    ok = judge_answer(question, &text, error);
    json_decref(question);
  }
  buffer_free(&text);
  line_reader_close(&reader);
  return ok;
}

/* ---- The program ------------------------------------------------------------------------------------ */

static bool parse(int argc, char **argv, Check *check, bool *help, Error *error) {
  for (int i = 1; i < argc; i++) {
    const char **path = NULL;
    if (strcmp(argv[i], "--help") == 0) {
      *help = true;
      return true;
    } else if (strcmp(argv[i], "--json") == 0) {
      check->json = true;
    } else if (strcmp(argv[i], "--each") == 0) {
      check->each = true;
    } else if (strcmp(argv[i], "--judge") == 0) {
      check->judge = true;
    } else if (strcmp(argv[i], "--by-order") == 0) {
      check->by_order = true;
    } else if (strcmp(argv[i], "--heldout") == 0) {
      path = &check->heldout;
    } else if (strcmp(argv[i], "--answers") == 0) {
      path = &check->answers;
    } else {
      return error_set(error, ERROR_USAGE, "unknown option %s", argv[i]);
    }
    if (path && i + 1 == argc) return error_set(error, ERROR_USAGE, "%s: expected a file", argv[i]);
    if (path) *path = argv[++i];
  }
  if (check->judge) {
    return argc == 2 || error_set(error, ERROR_USAGE, "--judge: no other option goes with it");
  }
  if (!check->heldout || !check->answers) {
    return error_set(error, ERROR_USAGE, "--heldout FILE and --answers FILE are needed");
  }
  return true;
}

int main(int argc, char **argv) {
  Check check = {.list = json_array(), .by_prompt = json_object()};
  Error error = {0};
  bool help = false;
  bool ok = parse(argc, argv, &check, &help, &error);
  if (ok && help) {
    fputs(usage, stdout);
  } else if (ok && check.judge) {
    ok = judge(&error);
  } else if (ok && (ok = read_heldout(&check, &error) && read_answers(&check, &error))) {
    print_summary(&check);
  }
  if (!ok) {
    fputs("demo_check: ", stderr);
    terminal_write(stderr, error.message, strlen(error.message));
    fputc('\n', stderr);
  }
  if (error.code == ERROR_USAGE) fputs(usage, stderr);
  json_decref(check.list);
  json_decref(check.by_prompt);
  return (int)error.code;
}
