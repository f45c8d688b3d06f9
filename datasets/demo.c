#include "datasets/demo.h"

#include "base/digest.h"
#include "base/file.h"
#include "base/memory.h"
#include "datasets/demo_answer.h"

#include <jansson.h>
#include <string.h>

DemoOptions demo_options_default(void) {
  return (DemoOptions){.directory = "demo",
                       .seed = 1,
                       .pretrain = 12000,
                       .sft = 6000,
                       .sft_eval = 200,
                       .preferences = 6000,
                       .preferences_eval = 500,
                       .prompts = 4000,
                       .heldout = 200};
}

/* ---- Prompts that are reserved for one file -------------------------------------------------------- */

/* A set of 64-bit hashes; a chance collision only means that a question is drawn again. */
typedef struct PromptSet {
  uint64_t *slots; /* 0 = free */
  size_t mask;
} PromptSet;

static bool prompt_set_init(PromptSet *set, size_t count, Error *error) {
  size_t size = 16;
  while (size < 2 * count) size *= 2;
  set->mask = size - 1;
  set->slots = memory_zeroed(size, sizeof *set->slots);
  return set->slots || error_out_of_memory(error, "reserved prompts", size * sizeof *set->slots);
}

static uint64_t *prompt_slot(const PromptSet *set, const char *text, uint64_t *hash) {
  *hash = bytes_hash(text, strlen(text)) | 1;
  size_t at = (size_t)(*hash >> 16) & set->mask;
  while (set->slots[at] && set->slots[at] != *hash) at = (at + 1) & set->mask;
  return &set->slots[at];
}

/* ---- Records --------------------------------------------------------------------------------------- */

typedef enum DemoFile { HELDOUT, SFT_EVAL, PREFERENCES_EVAL, SFT, PREFERENCES, PROMPTS, PRETRAIN } DemoFile;

typedef struct Generator {
  const DemoOptions *options;
  PromptSet reserved;
  DemoFile file;
  int count;
  uint32_t *ranks; /* a permutation of the file's records: ranks below 5% have flipped labels */
} Generator;

/* A question that no reserving file has; a reserving file takes it for itself. */
static void draw_question(Generator *generator, Dice *dice, DemoQuestion *question) {
  uint64_t hash, *slot;
  do {
    demo_question(dice, question);
    slot = prompt_slot(&generator->reserved, question->text, &hash);
  } while (*slot);
  if (generator->file <= PREFERENCES_EVAL) *slot = hash;
}

static DemoFlaw draw_flaw(Dice *dice) {
  return (DemoFlaw)(1 + dice_throw(dice, DEMO_FLAW_COUNT - 1));
}

static json_t *sft_record(Generator *generator, Dice *dice, int number) {
  DemoQuestion question;
  DemoAnswer answer;
  draw_question(generator, dice, &question);
  demo_answer(dice, &question, number % 2 ? draw_flaw(dice) : DEMO_GOOD, &answer);
  return json_pack("{s:s, s:s}", "prompt", question.text, "completion", answer.text);
}

static json_t *preference_record(Generator *generator, Dice *dice, int number) {
  DemoQuestion question;
  DemoAnswer sides[2];
  draw_question(generator, dice, &question);
  double difference;
  do {
    for (int i = 0; i < 2; i++) {
      demo_answer(dice, &question, dice_throw(dice, 5) < 2 ? DEMO_GOOD : draw_flaw(dice), &sides[i]);
    }
    difference = sides[0].utility - sides[1].utility;
  } while (difference < 0.5 && difference > -0.5);
  int better = difference > 0 ? 0 : 1;
  bool flip = generator->ranks[number] < (uint32_t)(generator->count / 20);
  if (generator->file == PREFERENCES && generator->options->shuffle_preferences) flip = dice_throw(dice, 2);
  int chosen = flip ? 1 - better : better;
  return json_pack("{s:s, s:s, s:s}", "prompt", question.text, "chosen", sides[chosen].text, "rejected",
                   sides[1 - chosen].text);
}

/* With what the rule checker has to know of a good answer. */
static json_t *question_record(Generator *generator, Dice *dice) {
  DemoQuestion question;
  const char *steps[3];
  draw_question(generator, dice, &question);
  json_t *list = json_array();
  int count = demo_problem_steps(question.problem, steps);
  for (int i = 0; i < count; i++) json_array_append_new(list, json_string(steps[i]));
  return json_pack("{s:s, s:s, s:s, s:o}", "prompt", question.text, "product",
                   demo_product_name(question.product), "problem", demo_problem_name(question.problem),
                   "steps", list);
}

static json_t *make_record(Generator *generator, int number) {
  uint64_t sample = (uint64_t)generator->file << 32 | (uint32_t)number;
  Dice dice = {.key = random_key(generator->options->seed, RANDOM_DEMO), .sample = sample};
  DemoQuestion question;
  char text[2048];
  switch (generator->file) {
    case HELDOUT:
    case PROMPTS:
      return question_record(generator, &dice);
    case SFT:
    case SFT_EVAL:
      return sft_record(generator, &dice, number);
    case PREFERENCES:
    case PREFERENCES_EVAL:
      return preference_record(generator, &dice, number);
    case PRETRAIN:
      draw_question(generator, &dice, &question);
      demo_text(&dice, &question, text, sizeof text);
      return json_pack("{s:s}", "text", text);
  }
  return NULL;
}

/* ---- Files ----------------------------------------------------------------------------------------- */

static bool write_record(FileWriter *writer, json_t *record, Error *error) {
  char *text = record ? json_dumps(record, JSON_COMPACT | JSON_PRESERVE_ORDER) : NULL;
  json_decref(record);
  if (!text) return error_out_of_memory(error, "demo record", 1024);
  bool ok = file_writer_write(writer, text, strlen(text), error) && file_writer_write(writer, "\n", 1, error);
  free(text); /* jansson's own allocation */
  return ok;
}

static bool write_records(Generator *generator, const char *path, Error *error) {
  FileWriter writer;
  bool ok = file_writer_open(&writer, path, error);
  for (int i = 0; ok && i < generator->count; i++) {
    ok = write_record(&writer, make_record(generator, i), error);
  }
  ok = ok && file_writer_commit(&writer, error);
  file_writer_close(&writer);
  return ok;
}

static bool write_file(Generator *generator, DemoFile file, const char *name, int count, Error *error) {
  const DemoOptions *options = generator->options;
  generator->file = file;
  generator->count = count;
  generator->ranks = memory_alloc((size_t)(count + 1) * sizeof *generator->ranks);
  char *path = path_join(options->directory, name);
  bool ok = generator->ranks && path;
  if (ok) {
    uint64_t stream = (uint64_t)1 << 63 | (uint64_t)file; /* beside the streams of records */
    random_permutation(random_key(options->seed, RANDOM_DEMO), stream, generator->ranks, (uint32_t)count);
    ok = write_records(generator, path, error);
  } else {
    error_out_of_memory(error, "demo data", (unsigned long long)count * sizeof *generator->ranks);
  }
  memory_free(path);
  memory_free(generator->ranks);
  return ok;
}

/* Questions differ in some hundred thousand ways; asking for more reserved ones than that would never end. */
static bool check_options(const DemoOptions *options, Error *error) {
  const int counts[] = {options->pretrain,         options->sft,     options->sft_eval, options->preferences,
                        options->preferences_eval, options->prompts, options->heldout};
  for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
    if (counts[i] < 0) return error_set(error, ERROR_USAGE, "a demo file cannot have %d records", counts[i]);
  }
  if (options->sft_eval > 10000 || options->preferences_eval > 10000 || options->heldout > 10000) {
    return error_set(error, ERROR_USAGE,
                     "evaluation and held-out files of the demo: at most 10000 records each");
  }
  return true;
}

bool demo_write(const DemoOptions *options, Error *error) {
  Generator generator = {.options = options};
  if (!check_options(options, error)) return false;
  if (!directory_create(options->directory, error)) return false;
  size_t reserved = (size_t)options->heldout + (size_t)options->sft_eval + (size_t)options->preferences_eval;
  if (!prompt_set_init(&generator.reserved, reserved, error)) return false;
  /* Files that reserve their prompts come first. */
  bool ok =
      write_file(&generator, HELDOUT, "heldout.jsonl", options->heldout, error) &&
      write_file(&generator, SFT_EVAL, "sft_eval.jsonl", options->sft_eval, error) &&
      write_file(&generator, PREFERENCES_EVAL, "preferences_eval.jsonl", options->preferences_eval, error) &&
      write_file(&generator, SFT, "sft.jsonl", options->sft, error) &&
      write_file(&generator, PREFERENCES, "preferences.jsonl", options->preferences, error) &&
      write_file(&generator, PROMPTS, "prompts.jsonl", options->prompts, error) &&
      write_file(&generator, PRETRAIN, "pretrain.jsonl", options->pretrain, error);
  memory_free(generator.reserved.slots);
  return ok;
}
