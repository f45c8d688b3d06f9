/* inspect model, logprobs, score: what a model is and what it computes. */
#include "tools/inspect/inspect.h"

#include "base/progress.h"
#include "model/head.h"
#include "train/trainee.h"

#include <string.h>

#define COUNT(table) (sizeof(table) / sizeof *(table))

/* -- a model that is run ---------------------------------------------------------------------------------- */

typedef struct Machine {
  Compute compute;
  TrainMemory memory;
  Model model;
  Predictor predictor;
  Pass pass;
  Batch batch;
  bool score;
  int64_t longest; /* sequence that it will be given */
} Machine;

static void machine_close_model(Machine *m) {
  pass_free(&m->pass);
  predictor_close(&m->predictor);
  base_close(&m->model);
}

static void machine_close(Machine *m) {
  machine_close_model(m);
  train_memory_free(&m->memory, &m->compute);
  batch_free(&m->batch);
  compute_close(&m->compute);
}

static bool machine_open_model(Machine *m, const InspectConfig *config, Error *error) {
  const PredictorSpec spec = {.name = "model",
                              .adapted = config->adapter != NULL,
                              .adapter = config->adapter,
                              .score_head = m->score,
                              .head_from = config->model,
                              .head_must_exist = true};
  const WeightFormat format = weight_format(config->dtype, config->quantize, config->tables);
  if (!base_open(&m->model, config->model, NULL, format, &m->compute, &m->memory, error)) return false;
  model_set_context(&m->model, &m->compute, m->longest);
  return predictor_open(&m->predictor, &spec, &m->model, PREDICTOR_FROZEN, NULL, &m->compute, &m->memory,
                        error) &&
         pass_init(&m->pass, &m->model, error);
}

/* Forward over m->batch, then one number per row. */
static void machine_run(Machine *m, TokenRows rows, float *out) {
  size_t mark = arena_mark(&m->memory.step);
  pass_forward(&m->pass, &m->compute, &m->model, predictor_adapter(&m->predictor), &m->batch, PASS_INFERENCE,
               &m->memory.step);
  if (m->score) {
    score_values(&m->pass, &m->predictor.head, rows, out);
  } else {
    lm_logprobs(&m->pass, rows, 1, out, NULL);
  }
  arena_release(&m->memory.step, mark);
}

/* The largest batch in dry arenas, for their sizes. */
static bool machine_plan(Machine *m, const InspectConfig *config, Error *error) {
  bool ok = machine_open_model(m, config, error);
  int64_t n = m->batch.token_capacity;
  int32_t *rows = ok ? memory_zeroed((size_t)n, sizeof *rows) : NULL;
  float *values = ok ? memory_zeroed((size_t)n, sizeof *values) : NULL;
  if (ok && !(rows && values)) ok = error_out_of_memory(error, "rows", (size_t)n * 8);
  if (ok) {
    batch_plan(&m->batch);
    for (int64_t i = 0; i < n; i++) rows[i] = (int32_t)i;
    machine_run(m, token_rows(rows, rows, n), values);
    batch_clear(&m->batch);
  }
  memory_free(rows);
  memory_free(values);
  machine_close_model(m);
  return ok;
}

static bool machine_open(Machine *m, const InspectConfig *config, bool score, int64_t longest, int64_t tokens,
                         int64_t sequences, Log *log, Error *error) {
  *m = (Machine){.score = score, .longest = longest};
  if (!compute_open(&m->compute, (DeviceKind)config->backend, (int)config->threads, error)) return false;
  train_memory_dry(&m->memory);
  compute_dry_begin(&m->compute);
  bool ok = batch_init(&m->batch, tokens, sequences, error) && machine_plan(m, config, error);
  ok = compute_dry_end(&m->compute, error) && ok;
  ok = ok && train_memory_allocate(&m->memory, &m->compute, log, error) &&
       machine_open_model(m, config, error);
  if (!ok) machine_close(m);
  return ok;
}

static bool check_ids(const ModelSpec *spec, const IntArray *ids, const char *model, Error *error) {
  for (size_t i = 0; i < ids->size; i++) {
    if (ids->data[i] < spec->vocab) continue;
    return error_set(error, ERROR_USAGE, "id %d: %s knows the ids 0 to %lld", ids->data[i], model,
                     (long long)spec->vocab - 1);
  }
  if (spec->max_positions && ids->size > (size_t)spec->max_positions) {
    return error_set(error, ERROR_USAGE, "%zu tokens: %s takes %lld at most", ids->size, model,
                     (long long)spec->max_positions);
  }
  return true;
}

/* --ids, or --text as the tokenizer reads it. */
static bool given_ids(const InspectConfig *config, IntArray *ids, Log *log, Error *error) {
  if (config->ids || !config->text) {
    return inspect_ids(config->ids, ids, error) &&
           (!config->adapter || identity_check_adapter(config->adapter, config->model, log, error));
  }
  TextTools text;
  if (!inspect_text_open(config, &text, log, error)) return false;
  bool ok = tokenizer_encode(text.tokenizer, config->text, strlen(config->text), true, ids, error) &&
            text_tools_check_ids(&text, "--text", ids, error);
  text_tools_close(&text);
  return ok;
}

/* -- logprobs --------------------------------------------------------------------------------------------- */

static bool show_logprobs(const IntArray *ids, const float *values, ProgramResult *result, Error *error) {
  double sum = 0;
  bool ok = buffer_text(&result->json, "{\"logprobs\":[", error);
  for (size_t i = 1; ok && i < ids->size; i++) {
    sum += values[i - 1];
    ok = buffer_format(&result->text, error, "%7d  %.6f\n", ids->data[i], (double)values[i - 1]) &&
         (i == 1 || buffer_text(&result->json, ",", error)) &&
         json_number(&result->json, values[i - 1], error);
  }
  return ok && buffer_format(&result->text, error, "sum %.6f nats over %zu tokens", sum, ids->size - 1) &&
         buffer_text(&result->json, "]}", error);
}

static bool run_logprobs(const ProgramCall *call, ProgramResult *result, Error *error) {
  const InspectConfig *config = call->config;
  IntArray ids = {0}, rows = {0};
  Machine machine;
  bool ok = given_ids(config, &ids, call->log, error);
  if (ok && ids.size < 2)
    ok = error_set(error, ERROR_USAGE, "expected at least two ids, found %zu", ids.size);
  float *values = ok ? memory_zeroed(ids.size, sizeof *values) : NULL;
  if (ok && !values) ok = error_out_of_memory(error, "log-probabilities", ids.size * sizeof *values);
  for (size_t i = 0; ok && i + 1 < ids.size; i++) ok = int_array_push(&rows, (int)i, error);
  if (ok && (ok = machine_open(&machine, config, false, (int64_t)ids.size, (int64_t)ids.size, 1, call->log,
                               error))) {
    ok = check_ids(&machine.model.spec, &ids, config->model, error);
    if (ok) {
      int64_t first;
      bool fits = batch_add(&machine.batch, ids.data, (int64_t)ids.size, &first);
      ASSERT(fits);
      machine_run(&machine, token_rows(rows.data, ids.data + 1, (int64_t)rows.size), values);
      ok = show_logprobs(&ids, values, result, error);
    }
    machine_close(&machine);
  }
  memory_free(values);
  int_array_free(&rows);
  int_array_free(&ids);
  return ok;
}

static const Option logprobs_options[] = {
    ROW_MODEL, ROW_STRING("ids", InspectConfig, ids, NULL, "token ids, like 1,2,3"),
    ROW_STRING("text", InspectConfig, text, NULL, "text instead of ids"), ROWS_COMPUTE};

const Program inspect_logprobs = {
    "inspect logprobs",    "log-probability (natural) of each id, given those before it",
    logprobs_options,      COUNT(logprobs_options),
    sizeof(InspectConfig), .run = run_logprobs};

/* -- score ------------------------------------------------------------------------------------------------ */

typedef struct Scoring {
  Machine machine;
  int32_t *rows; /* last tokens of the sequences in the batch */
  float *values;
  int64_t count;
  Example *examples; /* [waiting] whose answers they are */
  int64_t waiting;
  double pairs, agreed; /* with half of those that have equal scores */
  ProgramResult *result;
} Scoring;

/* The ids of a prompt and then those of an answer to it; either may be none. */
static void add_sequence(Scoring *s, const int *prompt, int prompt_count, const int *ids, int count) {
  Batch *batch = &s->machine.batch;
  int64_t first;
  const bool fits = batch_add(batch, prompt, prompt_count, &first) && batch_extend(batch, ids, count);
  ASSERT(fits);
  s->rows[s->count++] = (int32_t)(first + prompt_count + count - 1);
}

static void add_example(Scoring *s, const Example *example) {
  s->examples[s->waiting++] = *example;
  for (int k = 0; k < example->answer_count; k++) {
    const ExampleAnswer *answer = &example->answers[k];
    add_sequence(s, example->ids, example->count, example->ids + answer->begin, answer->count);
  }
}

static void count_pairs(Scoring *s, const Example *example, const float *scores) {
  for (int i = 0; i < example->answer_count; i++) {
    for (int j = i + 1; j < example->answer_count; j++) {
      if (example->answers[i].rank == example->answers[j].rank) continue;
      s->pairs++;
      s->agreed += scores[i] > scores[j] ? 1 : scores[i] == scores[j] ? 0.5 : 0;
    }
  }
}

static bool show_pair(const float *scores, ProgramResult *result, Error *error) {
  Buffer *json = &result->json;
  return buffer_format(&result->text, error, "%10.4f %10.4f\n", (double)scores[0], (double)scores[1]) &&
         buffer_text(json, "{\"chosen\":", error) && json_number(json, scores[0], error) &&
         buffer_text(json, ",\"rejected\":", error) && json_number(json, scores[1], error) &&
         buffer_text(json, "}\n", error);
}

/* All scores, that of the best answer first, and the ranks of the answers. */
static bool show_ranking(const Example *example, const float *scores, ProgramResult *result, Error *error) {
  Buffer *json = &result->json, ranks = {0};
  bool ok = buffer_text(json, "{\"scores\":[", error);
  for (int k = 0; ok && k < example->answer_count; k++) {
    const int rank = example->answers[k].rank;
    const char *between = k == 0 ? "" : rank == example->answers[k - 1].rank ? " = " : " > ";
    ok = buffer_text(json, k ? "," : "", error) && json_number(json, scores[k], error) &&
         buffer_format(&result->text, error, "%s%.4f", between, (double)scores[k]) &&
         buffer_format(&ranks, error, "%s%d", k ? "," : "", rank + 1);
  }
  ok = ok && buffer_format(json, error, "],\"ranks\":[%s]}\n", ranks.data) &&
       buffer_text(&result->text, "\n", error);
  buffer_free(&ranks);
  return ok;
}

/* Scores what is in the batch and empties it. */
static bool flush_examples(Scoring *s, Error *error) {
  const float *scores = s->values;
  bool ok = true;
  if (s->count == 0) return true;
  machine_run(&s->machine, token_rows(s->rows, NULL, s->count), s->values);
  for (int64_t i = 0; ok && i < s->waiting; i++) {
    const Example *example = &s->examples[i];
    count_pairs(s, example, scores);
    ok = example->answer_count == 2 ? show_pair(scores, s->result, error)
                                    : show_ranking(example, scores, s->result, error);
    scores += example->answer_count;
  }
  batch_clear(&s->machine.batch);
  s->count = s->waiting = 0;
  return ok;
}

static bool score_examples(Scoring *s, const Dataset *dataset, Log *log, Error *error) {
  Progress progress;
  const Batch *batch = &s->machine.batch;
  progress_start(&progress, log, "scoring", "preference", 0, (int64_t)dataset->count);
  for (uint64_t i = 0; i < dataset->count; i++) {
    Example example = dataset_example(dataset, dataset_reference(dataset, i));
    bool full = batch->tokens + example_tokens(&example) > batch->token_capacity ||
                batch->sequences + example.answer_count > batch->sequence_capacity;
    if (full && !flush_examples(s, error)) return false;
    add_example(s, &example);
    progress_update(&progress, (int64_t)i + 1, NULL);
  }
  progress_finish(&progress);
  if (!flush_examples(s, error)) return false;
  const double accuracy = s->agreed / s->pairs;
  return buffer_format(&s->result->text, error, "accuracy %.4f over %.0f pairs", accuracy, s->pairs) &&
         buffer_format(&s->result->json, error, "{\"accuracy\":%.9g,\"pairs\":%.0f}", accuracy, s->pairs);
}

static void scoring_close(Scoring *s) {
  memory_free(s->rows);
  memory_free(s->values);
  memory_free(s->examples);
  machine_close(&s->machine);
}

static bool scoring_open(Scoring *s, const InspectConfig *config, int64_t longest, Log *log, Error *error) {
  enum { TOKENS = 2048, SEQUENCES = 4 * MOST_ANSWERS };
  int64_t tokens = longest > TOKENS ? longest : TOKENS;
  if (!machine_open(&s->machine, config, true, longest, tokens, SEQUENCES, log, error)) return false;
  s->rows = memory_zeroed(SEQUENCES, sizeof *s->rows);
  s->values = memory_zeroed(SEQUENCES, sizeof *s->values);
  s->examples = memory_zeroed(SEQUENCES, sizeof *s->examples);
  if (s->rows && s->values && s->examples) return true;
  scoring_close(s);
  return error_out_of_memory(error, "scores", SEQUENCES * sizeof *s->examples);
}

/* The longest sequence that the model can take, known from its config.json alone. */
static bool model_limit(const char *directory, int *limit, Error *error) {
  Compute compute;
  Model model = {0};
  Arena arena;
  if (!compute_open(&compute, DEVICE_CPU, 1, error)) return false;
  arena_init_dry(&arena, "weights");
  compute_dry_begin(&compute);
  bool ok = model_open(&model, directory, (WeightFormat){.dtype = DTYPE_F32}, &compute, &arena, error);
  if (ok) *limit = model.spec.max_positions ? (int)model.spec.max_positions : 1 << 24;
  model_free(&model);
  compute_close(&compute);
  return ok;
}

static bool score_file(const InspectConfig *config, ProgramResult *result, Log *log, Error *error) {
  TextTools text;
  Dataset dataset;
  Scoring scoring = {.result = result};
  int limit;
  if (!model_limit(config->model, &limit, error) || !inspect_text_open(config, &text, log, error))
    return false;
  bool ok = inspect_data_open(config, &text, DATASET_PREFERENCE, limit, log, &dataset, error);
  if (ok && (ok = scoring_open(&scoring, config, (int64_t)dataset.longest, log, error))) {
    ok = score_examples(&scoring, &dataset, log, error);
    scoring_close(&scoring);
  }
  dataset_close(&dataset);
  text_tools_close(&text);
  return ok;
}

static bool score_ids(const InspectConfig *config, ProgramResult *result, Log *log, Error *error) {
  IntArray ids = {0};
  Scoring scoring = {.result = result};
  bool ok = given_ids(config, &ids, log, error);
  if (ok && ids.size == 0) ok = error_set(error, ERROR_USAGE, "nothing to score: no token");
  if (ok && (ok = scoring_open(&scoring, config, (int64_t)ids.size, log, error))) {
    ok = check_ids(&scoring.machine.model.spec, &ids, config->model, error);
    if (ok) {
      add_sequence(&scoring, ids.data, 0, ids.data, (int)ids.size);
      machine_run(&scoring.machine, token_rows(scoring.rows, NULL, 1), scoring.values);
      ok = buffer_format(&result->text, error, "%.6f", (double)scoring.values[0]) &&
           buffer_text(&result->json, "{\"score\":", error) &&
           json_number(&result->json, scoring.values[0], error) && buffer_text(&result->json, "}", error);
    }
    scoring_close(&scoring);
  }
  int_array_free(&ids);
  return ok;
}

static bool run_score(const ProgramCall *call, ProgramResult *result, Error *error) {
  const InspectConfig *config = call->config;
  if (config->data) return score_file(config, result, call->log, error);
  if (!config->ids && !config->text) {
    return error_set(error, ERROR_USAGE, "expected --data FILE, --ids 1,2,3 or --text TEXT");
  }
  return score_ids(config, result, call->log, error);
}

static const Option score_options[] = {
    ROW_MODEL,
    ROW_STRING("data", InspectConfig, data, NULL,
               "JSONL file of preferences: scores of both sides, and accuracy"),
    ROW_STRING("ids", InspectConfig, ids, NULL,
               "token ids of one text, like 1,2,3: its score at the last one"),
    ROW_STRING("text", InspectConfig, text, NULL, "text instead of ids"),
    ROWS_DATA,
    ROWS_CHAT,
    ROWS_COMPUTE};

const Program inspect_score = {
    "inspect score",       "scores of a reward model: of preferences, or of one text",
    score_options,         COUNT(score_options),
    sizeof(InspectConfig), .run = run_score};

/* -- model ------------------------------------------------------------------------------------------------ */

static bool show_number(const char *name, int64_t value, ProgramResult *result, Error *error) {
  char number[32];
  return buffer_format(&result->text, error, "%-14s %s\n", name, grouped_number(value, number)) &&
         buffer_format(&result->json, error, ",\"%s\":%lld", name, (long long)value);
}

static bool show_word(const char *name, const char *value, ProgramResult *result, Error *error) {
  return buffer_format(&result->text, error, "%-14s %s\n", name, value) &&
         buffer_format(&result->json, error, ",\"%s\":", name) && result_string(&result->json, value, error);
}

static bool show_spec(const Model *model, ProgramResult *result, Error *error) {
  static const char *const norms[] = {"layer", "rms"};
  static const char *const placements[] = {"before", "after the sum", "after the branch", "before and after"};
  static const char *const positions[] = {"rotary", "learned", "alibi"};
  static const char *const layouts[] = {"separate", "fused blocks", "fused by head", "fused by group"};
  static const char *const activations[] = {"silu", "gelu", "gelu_tanh", "relu", "relu2"};
  const ModelSpec *s = &model->spec;
  int windowed = 0;
  for (int i = 0; i < s->layers; i++) windowed += s->window[i] > 0;
  bool scores = architecture_is_score(model->arch, model->config);
  return buffer_text(&result->json, "{\"model_type\":", error) &&
         result_string(&result->json, model->arch->model_type, error) &&
         buffer_format(&result->text, error, "%-14s %s\n", "model_type", model->arch->model_type) &&
         show_word("class", scores ? model->arch->score_class : model->arch->causal_class, result, error) &&
         show_number("parameters", model_parameter_count(model), result, error) &&
         show_number("vocab", s->vocab, result, error) && show_number("hidden", s->hidden, result, error) &&
         show_number("layers", s->layers, result, error) && show_number("heads", s->heads, result, error) &&
         show_number("kv_heads", s->kv_heads, result, error) &&
         show_number("head_size", s->head_size, result, error) &&
         show_number("intermediate", s->intermediate, result, error) &&
         show_number("max_positions", s->max_positions, result, error) &&
         show_word("norm", norms[s->norm.kind], result, error) &&
         show_word("norm_place", placements[s->placement], result, error) &&
         show_word("residual", s->parallel ? "parallel" : "sequential", result, error) &&
         show_word("position", positions[s->position], result, error) &&
         show_number("rotary_size", s->rotary_size, result, error) &&
         show_word("qkv", layouts[s->qkv], result, error) &&
         show_word("activation", activations[s->activation], result, error) &&
         show_word("gated", s->gated ? "yes" : "no", result, error) &&
         show_number("window_layers", windowed, result, error) &&
         show_word("tied", s->tied ? "yes" : "no", result, error);
}

static bool show_tensors(const Model *model, ProgramResult *result, Error *error) {
  bool ok = buffer_text(&result->text, "\n", error) && buffer_text(&result->json, ",\"tensors\":[", error);
  for (int i = 0; ok && i < model->tensor_count; i++) {
    const Tensor *value = &model->tensors[i].value;
    char shape[96] = "";
    for (int d = 0; d < value->rank; d++) {
      size_t used = strlen(shape);
      snprintf(shape + used, sizeof shape - used, "%s%lld", d ? "," : "", (long long)value->dim[d]);
    }
    ok = buffer_format(&result->text, error, "%-56s [%s]\n", model->tensors[i].name, shape) &&
         buffer_format(&result->json, error, "%s{\"name\":", i ? "," : "") &&
         result_string(&result->json, model->tensors[i].name, error) &&
         buffer_format(&result->json, error, ",\"shape\":[%s]}", shape);
  }
  return ok && buffer_text(&result->json, "]", error);
}

/* What an adapter changes: its rank, its modules. */
static bool show_adapter(const InspectConfig *config, const Model *model, Compute *compute, Arena *arena,
                         ProgramResult *result, Error *error) {
  LoraSpec spec = {0};
  LoraSet set = {0};
  bool ok =
      lora_spec_read(&spec, config->adapter, error) &&
      lora_open(&set, &spec, model->modules, model->module_count, model->dtype, false, compute, arena, error);
  int adapted = 0;
  for (int i = 0; ok && i < set.count; i++) adapted += lora_pair(&set, i) != NULL;
  ok = ok && show_number("adapter_r", spec.r, result, error) &&
       show_number("adapter_modules", adapted, result, error) &&
       show_number("adapter_parameters", lora_parameter_count(&set), result, error);
  if (set.pairs) lora_free(&set);
  lora_spec_free(&spec);
  return ok;
}

static bool run_model(const ProgramCall *call, ProgramResult *result, Error *error) {
  const InspectConfig *config = call->config;
  Compute compute;
  Model model = {0};
  Arena arena;
  if (!compute_open(&compute, DEVICE_CPU, 1, error)) return false;
  arena_init_dry(&arena, "weights"); /* shapes only: nothing is read */
  compute_dry_begin(&compute);
  bool ok = model_open(&model, config->model, (WeightFormat){.dtype = DTYPE_F32}, &compute, &arena, error) &&
            show_spec(&model, result, error) &&
            (!config->adapter || show_adapter(config, &model, &compute, &arena, result, error)) &&
            show_tensors(&model, result, error) && buffer_text(&result->json, "}", error);
  if (ok) result->text.data[--result->text.size] = '\0'; /* the last newline is printed */
  model_free(&model);
  compute_close(&compute);
  return ok;
}

static const Option model_options[] = {ROW_MODEL, ROW_ADAPTER};

const Program inspect_model = {"inspect model",       "a model's architecture, sizes and tensors",
                               model_options,         COUNT(model_options),
                               sizeof(InspectConfig), .run = run_model};
