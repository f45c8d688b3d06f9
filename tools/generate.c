/* generate: answers of a model, from prompts on the command line or in a file. The engine is the one of
 * PPO's rollouts (rollout/engine.h), so what it says here is what it says there.
 *
 *   one prompt                  the text streams to standard output
 *   --json, --prompts, --n > 1  one JSON object per answer and line, in the order of the prompts:
 *                               {"prompt", "response", "ids", "finished": "eos" | "stop" | "length",
 *                                "sample"?, "logprobs"?}
 * A record of --prompts keeps its other keys. "sample" tells the answers of one prompt apart.
 *
 * Answer k of prompt i draws its random numbers as sample i * n + k: the same whatever else is in the
 * file. */
#include "base/process.h"
#include "base/progress.h"
#include "base/file.h"
#include "base/log.h"
#include "base/option.h"
#include "base/terminal.h"
#include "compute/comm.h"
#include "tools/generate/exact.h"
#include "tools/generate/prompts.h"
#include "train/data.h"
#include "train/model_path.h"
#include "train/plan.h"

#include <stdlib.h>
#include <string.h>

typedef struct GenerateConfig {
  char *model, *adapter, *prompt, *prompts, *ids, *system;
  int tokenizer; /* TokenizerKind */
  ChatConfig template;
  bool chat, logprobs, ignore_eos;
  int64_t max_new_tokens, min_new_tokens, top_k, seed, n, batch, cache, prefill_chunk, kl, threads,
      memory_limit;
  double temperature, top_p, repetition_penalty;
  OptionStrings stop;
  int dtype, quantize, tables, cache_dtype, backend;
} GenerateConfig;

/* clang-format off */
static const Option options[] = {
  ROW_STRING_REQUIRED("model", GenerateConfig, model, "Hugging Face model directory", .names = OPTION_NAMES_MODEL, .first = true),
  ROW_STRING("adapter", GenerateConfig, adapter, NULL, "PEFT adapter directory", .names = OPTION_NAMES_ADAPTER, .first = true),
  TOKENIZER_OPTION("tokenizer", GenerateConfig, tokenizer),
  ROW_STRING("prompt", GenerateConfig, prompt, NULL, "the prompt's text", .first = true),
  ROW_STRING("prompts", GenerateConfig, prompts, NULL,
      "JSONL or JSON file, packed or not, or -; \"prompt\" of each record is a text, or with --chat also a list of messages", .names = OPTION_NAMES_PATH, .first = true),
  ROW_STRING("ids", GenerateConfig, ids, NULL, "the prompt as token ids: 1,2,3"),
  ROW_BOOL("chat", GenerateConfig, chat, "false", "prompts are user turns: apply the chat template", .first = true),
  CHAT_OPTIONS("", "-", GenerateConfig, template, .when = "chat"),
  ROW_STRING("system", GenerateConfig, system, NULL, "system turn before each conversation, with --chat"),
  ROW_INT("max-new-tokens", GenerateConfig, max_new_tokens, "128", 1, 1 << 24, "longest answer, tokens", .first = true),
  ROW_FLOAT("temperature", GenerateConfig, temperature, "1", 0, 100, "sampling temperature; 0 = greedy", .first = true),
  ROW_INT("top-k", GenerateConfig, top_k, "0", 0, 1 << 24,
      "sample from the k likeliest tokens only; 0 = all", .when = "temperature > 0"),
  ROW_FLOAT("top-p", GenerateConfig, top_p, "1", 0.000001, 1,
      "sample from the likeliest tokens that together have this probability; 1 = all",
      .when = "temperature > 0"),
  ROW_INT("seed", GenerateConfig, seed, "1", 0, INFINITY, "of the sampling", .when = "temperature > 0"),
  ROW_INT("n", GenerateConfig, n, "1", 1, 1 << 20, "answers per prompt"),
  SAMPLING_OPTIONS("", "-", GenerateConfig, min_new_tokens, repetition_penalty, stop),
  ROW_BOOL("ignore-eos", GenerateConfig, ignore_eos, "false", "go on after the end-of-text token"),
  ROW_BOOL("logprobs", GenerateConfig, logprobs, "false",
      "JSON: the log-probability of each id, nats: before top-k and top-p"),
  ROW_CHOICE("dtype", GenerateConfig, dtype, "auto", model_dtype_choices,
      "type of the weights in memory; auto: bf16 on a GPU when the model is in 16 bits, else f32"),
  QUANTIZE_OPTIONS("", "-", GenerateConfig, quantize, tables),
  ROW_INT("batch", GenerateConfig, batch, "32", 1, 1 << 20, "answers generated at once"),
  ROW_BYTES("cache", GenerateConfig, cache, "0",
      "memory for keys and values, e.g. 2GiB; 0 = as much as the batch can use"),
  CACHE_DTYPE_OPTION("cache-dtype", GenerateConfig, cache_dtype),
  ROW_INT("prefill-chunk", GenerateConfig, prefill_chunk, "256", 1, 1 << 20,
      "prompt tokens in a step, at most"),
  ROW_INT("kl", GenerateConfig, kl, "0", 0, 1 << 20,
      "after the answers load the exact weights in place of quantised ones, and print how far the policy that sampled is from theirs: the KL divergence, at so many tokens at most; 0 = do not"),
  ROW_CHOICE("device", GenerateConfig, backend, "auto", device_choices, "where to compute"),
  ROW_INT("threads", GenerateConfig, threads, "0", 0, 4096, "CPU threads; 0 = all cores"),
  ROW_BYTES("memory-limit", GenerateConfig, memory_limit, "0", "0 = what the machine has free"),
};
/* clang-format on */
enum { OPTION_COUNT = sizeof options / sizeof *options };

typedef struct Answer {
  Buffer text;
  struct Generate *generate;
} Answer;

typedef struct Generate {
  const GenerateConfig *config;
  Log *log;
  bool json, check;
  Error *error; /* for what fails inside on_token */

  TextTools text; /* without tokenizer: the directory has none, and ids are all there is */
  IntArray ends;  /* ids that end an answer */

  Prompts prompts;

  Compute compute;
  Policy policy; /* whose answers they are */
  Engine engine;
  Exact exact; /* with --kl */

  RolloutSample *samples; /* [prompt_count * n], answers[] beside them */
  Answer *answers;
  int32_t *responses;
  float *logprobs;
  size_t printed; /* samples whose line is out */
  int64_t ended;
  Progress progress;
} Generate;

/* As a stage has it. */
static RolloutConfig rollout_of(const GenerateConfig *config) {
  return (RolloutConfig){.max_new_tokens = config->max_new_tokens,
                         .min_new_tokens = config->min_new_tokens,
                         .repetition_penalty = config->repetition_penalty,
                         .stop = config->stop};
}

/* -- tokenizer and ends -------------------------------------------------------------------------------- */

static bool open_text(Generate *g, Error *error) {
  const GenerateConfig *config = g->config;
  const RolloutConfig rollout = rollout_of(config);
  if (!rollout_config_check(&rollout, "--", "-", error)) return false;
  const int sources = !!config->prompt + !!config->prompts + !!config->ids;
  if (sources != 1) return error_set(error, ERROR_USAGE, "give one of --prompt, --prompts and --ids");
  if (config->system && !config->chat) return error_set(error, ERROR_USAGE, "--system needs --chat");
  if (config->chat && config->ids)
    return error_set(error, ERROR_USAGE, "--ids and --chat exclude each other");
  char *path = path_join(config->model, "tokenizer.json");
  if (!path) return error_out_of_memory(error, "path", strlen(config->model));
  const bool exists = file_exists(path);
  memory_free(path);
  if (!exists && config->ids && config->stop.count == 0)
    return !config->adapter || identity_check_adapter(config->adapter, config->model, g->log, error);
  const ModelConfig model = {
      .path = config->model, .adapter = config->adapter, .tokenizer = config->tokenizer};
  const DataConfig data = {.chat = config->template};
  const ChatTemplate *chat = &g->text.chat;
  if (!text_tools_open(&g->text, &model, &data, g->log, error)) return false;
  if (config->chat && !g->text.has_chat)
    return error_set(error, g->text.chat_error.code, "%s", g->text.chat_error.message);
  if (config->ignore_eos) return true;
  size_t count;
  const int *ids = tokenizer_eos_ids(g->text.tokenizer, &count);
  if (!int_array_append(&g->ends, ids, count, error)) return false;
  return !config->chat || chat->end_id < 0 || int_array_push(&g->ends, chat->end_id, error);
}

/* Without a tokenizer, the ends are those that config.json names. */
static bool ends_of_config(Generate *g, Error *error) {
  if (g->text.tokenizer || g->config->ignore_eos) return true;
  const json_t *eos = json_object_get(g->policy.model.config, "eos_token_id");
  if (json_is_integer(eos)) return int_array_push(&g->ends, (int)json_integer_value(eos), error);
  for (size_t i = 0; i < json_array_size(eos); i++) {
    if (!int_array_push(&g->ends, (int)json_integer_value(json_array_get(eos, i)), error)) return false;
  }
  return true;
}

/* -- model and memory ---------------------------------------------------------------------------------- */

/* Of prompt and answer. */
static int64_t longest(const Generate *g) {
  return prompts_longest(&g->prompts) + g->config->max_new_tokens;
}

static EngineConfig engine_settings(const Generate *g) {
  const GenerateConfig *config = g->config;
  EngineConfig settings = engine_config_default(&g->compute, g->policy.model.dtype);
  const int64_t samples = (int64_t)g->prompts.count * config->n,
                prompt_rows = samples * prompts_longest(&g->prompts);
  settings.batch = samples < config->batch ? samples : config->batch;
  settings.max_length = longest(g);
  const RolloutConfig rollout = rollout_of(config);
  settings.edits = rollout_edits(&rollout);
  settings.cache_bytes = config->cache;
  settings.cache_dtype = cache_dtype(config->cache_dtype, settings.cache_dtype);
  settings.prefill_chunk = config->prefill_chunk < prompt_rows ? config->prefill_chunk : prompt_rows;
  if (settings.prefill_chunk < 1) settings.prefill_chunk = 1;
  return settings;
}

static void close_model(Generate *g) {
  engine_free(&g->engine);
  policy_close(&g->policy);
}

static bool open_model(Generate *g, Error *error) {
  const GenerateConfig *config = g->config;
  Policy *p = &g->policy;
  const WeightFormat format = weight_format(config->dtype, config->quantize, config->tables);
  return policy_open(p, config->model, config->adapter, format, longest(g), &g->compute, error) &&
         engine_init(&g->engine, engine_settings(g), &p->model, policy_adapter(p), &g->compute,
                     &p->memory.cache, error);
}

/* What would be compared, of the sampler that is open. The exact weights are those of --dtype auto, or f32 where that is asked for. */
static ExactAsked exact_asked(const Generate *g) {
  const GenerateConfig *config = g->config;
  const Model *model = &g->policy.model;
  const int64_t tokens = (int64_t)g->prompts.count * config->n * config->max_new_tokens;
  const int dtype = config->dtype == MODEL_DTYPE_F32 ? MODEL_DTYPE_F32 : MODEL_DTYPE_AUTO;
  return (ExactAsked){.model = config->model,
                      .adapter = config->adapter,
                      .format = weight_format(dtype, MODEL_QUANTIZE_NONE, MODEL_TABLES_NONE),
                      .quantized = model_is_quantized(model),
                      .dtype = model->dtype,
                      .cache = g->engine.config.cache_dtype,
                      .vocab = model->spec.vocab,
                      .most = config->kl < tokens ? config->kl : tokens,
                      .longest = g->engine.config.max_length};
}

/* Dry, for the plan; then, if it fits, for real. */
static bool plan_and_open(Generate *g, Error *error) {
  MemoryPlan plan = {0};
  TrainMemory *memory = &g->policy.memory;
  const bool compares = g->config->kl > 0;
  ExactAsked asked = {0};
  plan_begin(memory, &g->compute);
  const bool opened = open_model(g, error);
  if (opened && compares) asked = exact_asked(g);
  close_model(g);
  if (!plan_end(&plan, memory, &g->compute, error) || !opened) return false;
  if (compares) exact_plan_kept(&plan, &asked, &g->compute);
  static const char advice[] =
      "less is needed with --dtype bf16, --quantize int8 or nf4, a smaller --batch or --max-new-tokens, or a "
      "limit on the --cache";
  return plan_fits(&plan, device_limit(&g->compute), advice, g->log, error) &&
         (!compares || exact_plan(&g->exact, &asked, &g->compute, g->log, error)) &&
         train_memory_allocate(memory, &g->compute, g->log, error) && open_model(g, error);
}

/* -- answers ------------------------------------------------------------------------------------------- */

static bool streams(const Generate *g) {
  return !g->json && !g->config->prompts && g->config->n == 1;
}

static json_t *number_list(const RolloutSample *sample, bool logprobs) {
  json_t *list = json_array();
  for (int64_t i = 0; list && i < sample->length; i++) {
    json_array_append_new(
        list, logprobs ? json_real((double)sample->logprobs[i]) : json_integer(sample->response[i]));
  }
  return list;
}

static bool print_answer(const Generate *g, const RolloutSample *sample, size_t index, Error *error) {
  const size_t n = (size_t)g->config->n;
  const Buffer *text = &g->answers[index].text;
  json_t *line = json_copy(g->prompts.items[index / n].record);
  bool ok = line != NULL;
  if (g->text.tokenizer)
    ok = ok && !json_object_set_new(line, "response", json_stringn(text->size ? text->data : "", text->size));
  ok = ok && !json_object_set_new(line, "ids", number_list(sample, false)) &&
       !json_object_set_new(line, "finished", json_string(rollout_finish_name(sample->finished)));
  if (n > 1) ok = ok && !json_object_set_new(line, "sample", json_integer((json_int_t)(index % n)));
  if (g->config->logprobs) ok = ok && !json_object_set_new(line, "logprobs", number_list(sample, true));
  char *shown = ok ? json_dumps(line, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
  json_decref(line);
  if (!shown) return error_out_of_memory(error, "an answer", text->size);
  log_clear_bar(g->log); /* which may be on the same screen */
  terminal_write(stdout, shown, strlen(shown));
  free(shown);
  return (putchar('\n') != EOF && !fflush(stdout) && !ferror(stdout)) ||
         error_set(error, ERROR_FILE, "cannot write to standard output");
}

static void on_token(void *context, const RolloutSample *sample, const char *text, size_t bytes) {
  Generate *g = context;
  Answer *answer = sample->user;
  if (g->error->code) return;
  if (streams(g)) {
    terminal_write(stdout, text, bytes);
    fflush(stdout);
    return;
  }
  if (!buffer_append(&answer->text, text, bytes, g->error)) return;
  g->ended += sample->finished != ROLLOUT_UNFINISHED;
  progress_update(&g->progress, g->ended, NULL);
  /* In the order of the prompts, each as soon as those before it are out. */
  const size_t count = g->prompts.count * (size_t)g->config->n;
  while (g->printed < count && g->samples[g->printed].finished != ROLLOUT_UNFINISHED) {
    if (!print_answer(g, &g->samples[g->printed], g->printed, g->error)) return;
    buffer_free(&g->answers[g->printed].text);
    g->printed++;
  }
}

static bool make_samples(Generate *g, Error *error) {
  const size_t n = (size_t)g->config->n, count = g->prompts.count * n,
               most = (size_t)g->config->max_new_tokens;
  g->samples = memory_zeroed(count, sizeof *g->samples);
  g->answers = memory_zeroed(count, sizeof *g->answers);
  g->responses = memory_zeroed(count * most, sizeof *g->responses);
  g->logprobs = memory_zeroed(count * most, sizeof *g->logprobs);
  if (!g->samples || !g->answers || !g->responses || !g->logprobs) {
    return error_out_of_memory(error, "answers", count * most * sizeof *g->responses);
  }
  for (size_t i = 0; i < count; i++) {
    const Prompt *prompt = &g->prompts.items[i / n];
    g->samples[i] = (RolloutSample){.prompt = prompt->ids.data,
                                    .prompt_length = (int64_t)prompt->ids.size,
                                    .max_new_tokens = g->config->max_new_tokens,
                                    .number = i,
                                    .user = &g->answers[i],
                                    .response = g->responses + i * most,
                                    .logprobs = g->logprobs + i * most};
  }
  return true;
}

/* Streamed text ends its line; without a tokenizer the ids stand for it. */
static void end_stream(const Generate *g) {
  if (!streams(g)) return;
  for (int64_t i = 0; !g->text.tokenizer && i < g->samples->length; i++) {
    printf("%s%d", i ? "," : "", (int)g->samples->response[i]);
  }
  putchar('\n');
  fflush(stdout);
}

static void report(const Generate *g) {
  const EngineStats *s = &g->engine.stats;
  char prefill[64] = "", decode[64] = "";
  if (s->prefill_seconds > 0) {
    snprintf(prefill, sizeof prefill, ", %.1f tokens/s", (double)s->prompt_rows / s->prefill_seconds);
  }
  if (s->decode_seconds > 0) {
    snprintf(decode, sizeof decode, ", %.1f tokens/s", (double)s->decode_tokens / s->decode_seconds);
  }
  log_info(g->log, "prompts: %lld tokens%s; answers: %lld tokens%s", (long long)s->prompt_rows, prefill,
           (long long)s->sampled_tokens, decode);
  engine_tell_preemptions(&g->engine, g->log);
}

static float *place_logits(void *context, const RolloutSample *sample) {
  Generate *g = context;
  return exact_place(&g->exact, sample);
}

/* The exact weights have the memory of the others. */
static bool compare(Generate *g, Error *error) {
  close_model(g);
  train_memory_free(&g->policy.memory, &g->compute);
  if (!exact_compare(&g->exact, g->samples, &g->compute, g->log, error)) return false;
  exact_say(&g->exact, g->log);
  return true;
}

static bool generate(Generate *g, Error *error) {
  const GenerateConfig *config = g->config;
  g->error = error;
  if (config->threads > 0) compute_limit_threads((int)config->threads); /* of all that is done */
  const PromptsAsked asked = {.text = config->prompt,
                              .file = config->prompts,
                              .ids = config->ids,
                              .chat = config->chat,
                              .system = config->system};
  if (!open_text(g, error) || !prompts_read(&g->prompts, &asked, &g->text, g->log, error)) return false;
  const DeviceConfig device = {
      .backend = config->backend, .threads = config->threads, .memory_limit = config->memory_limit};
  if (!device_open(&g->compute, &device, g->log, error) || !plan_and_open(g, error) ||
      !ends_of_config(g, error) || !prompts_fit(&g->prompts, g->engine.config.max_length, error) ||
      !make_samples(g, error)) {
    return false;
  }
  base_say(&g->policy.model, g->log);
  if (g->check) return true;
  const RolloutSpec spec = {.seed = (uint64_t)config->seed,
                            .temperature = (float)config->temperature,
                            .top_p = (float)config->top_p,
                            .top_k = (int)config->top_k,
                            .repetition_penalty = (float)config->repetition_penalty,
                            .min_new_tokens = config->min_new_tokens,
                            .eos_ids = g->ends.data,
                            .eos_count = g->ends.size,
                            .tokenizer = g->text.tokenizer,
                            .stops = (const char *const *)config->stop.items,
                            .stop_count = config->stop.count,
                            .on_token = on_token,
                            .place_logits = config->kl > 0 ? place_logits : NULL,
                            .context = g};
  const int64_t count = (int64_t)g->prompts.count * config->n;
  if (config->kl > 0 && !exact_begin(&g->exact, &spec, error)) return false;
  if (!engine_begin(&g->engine, &spec, g->samples, count, error)) return false;
  if (!streams(g)) progress_start_brief(&g->progress, g->log, "generating", "answer", count);
  while (engine_busy(&g->engine) && !error->code) {
    if (!engine_step(&g->engine, error)) return false;
  }
  progress_finish(&g->progress);
  if (error->code) return false;
  end_stream(g);
  report(g);
  if (ferror(stdout)) return error_set(error, ERROR_FILE, "cannot write to standard output");
  return config->kl == 0 || compare(g, error);
}

static void generate_free(Generate *g) {
  const size_t count = g->prompts.count * (size_t)g->config->n;
  for (size_t i = 0; g->answers && i < count; i++) buffer_free(&g->answers[i].text);
  memory_free(g->answers);
  memory_free(g->samples);
  memory_free(g->responses);
  memory_free(g->logprobs);
  prompts_free(&g->prompts);
  int_array_free(&g->ends);
  text_tools_close(&g->text);
  close_model(g);
  train_memory_free(&g->policy.memory, &g->compute);
  exact_free(&g->exact, &g->compute);
  compute_close(&g->compute);
}

static bool print_options(const GenerateConfig *config, const OptionRequest *request, Error *error) {
  static const OptionHelp about = {
      "generate", "Answers of a model to prompts.",
      "drover generate --model runs/sft/model --chat --prompt \"Name a colour.\" \\\n"
      "  --max-new-tokens 60 --temperature 0.7"};
  Buffer text = {0};
  const bool ok = request->help
                      ? options_help(options, OPTION_COUNT, &about, request->help_topic, &text, error)
                      : options_json(options, OPTION_COUNT, config, &text, error);
  if (ok) fputs(text.data, stdout);
  buffer_free(&text);
  return ok;
}

int main(int argc, char **argv) {
  process_begin(argv);
  Log log;
  log_init(&log, stderr, LOG_INFO);
  Error error = {0};
  OptionRequest request;
  GenerateConfig config = {0};
  CommLaunch launch;
  bool ok = comm_launch(&launch, &error) && comm_one_rank(&launch, "generate", &error) &&
            options_parse(options, OPTION_COUNT, &config, argc, argv, &request, &error);
  if (ok && (request.help || request.print_config)) {
    ok = print_options(&config, &request, &error);
  } else if (ok && request.version) {
    printf("drover generate %s\n", DROVER_VERSION);
  } else if (ok) {
    ok = model_paths_open(options, OPTION_COUNT, &config, NULL, &log, &error);
    Generate g = {.config = &config, .log = &log, .json = request.json, .check = request.check};
    options_warn(&request.given, &config, &log);
    ok = ok && generate(&g, &error);
    if (ok && g.check) puts(g.json ? "{\"ok\": true}" : "the check found nothing wrong");
    generate_free(&g);
  }
  if (!ok) log_error(&log, "%s", error.message);
  options_free(options, OPTION_COUNT, &config);
  return (int)error.code;
}
