#include "tools/bench/bench.h"

#include "base/file.h"
#include "tools/bench/data.h"
#include "train/ask.h"
#include "train/runlog.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A path in scratch; a new string, or NULL with the error. */
static char *in_scratch(const Bench *bench, const char *name, Error *error) {
  char *path = path_join(bench->scratch, name);
  if (!path) error_out_of_memory(error, "path", strlen(name));
  return path;
}

/* Runs a program with a configuration, which is taken over. */
static bool run_program(const Bench *bench, const char *name, json_t *config, Answer *answer, Error *error) {
  char *path = in_scratch(bench, "config.json", error);
  const char *const arguments[] = {"--config", path, NULL};
  bool ok = path && (config || error_out_of_memory(error, "configuration", 0));
  ok = ok && json_file_write(path, config, error) && ask(answer, name, arguments, error);
  if (ok && answer->status != 0) {
    ok = answer_refused(answer, error);
    error_context(error, "%s", name);
  }
  memory_free(path);
  json_decref(config);
  return ok;
}

/* -- a model for those who name none ---------------------------------------------------------------------- */

bool ours_make_model(Bench *bench, Error *error) {
  char *shape = in_scratch(bench, "shape.json", error), *text = in_scratch(bench, "text.jsonl", error);
  char *tokenizer = in_scratch(bench, "tokenizer", error);
  bench->model = in_scratch(bench, "tiny", error);
  Answer answer = {0};
  bool ok = shape && text && tokenizer && bench->model && data_texts(text, error) &&
            file_write_text(
                shape,
                "{\"model_type\": \"llama\", \"hidden_size\": 64, \"intermediate_size\": 128, "
                "\"num_hidden_layers\": 2, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, "
                "\"max_position_embeddings\": 512, \"rms_norm_eps\": 1e-5, \"tie_word_embeddings\": true}",
                error);
  ok = ok &&
       run_program(bench, "train_tokenizer",
                   json_pack("{s:s,s:s,s:i}", "text", text, "out", tokenizer, "vocab", 512), &answer, error);
  const char *const arguments[] = {"--config", shape, "--tokenizer", tokenizer, "--out", bench->model, NULL};
  ok = ok && ask(&answer, "init", arguments, error) && (answer.status == 0 || answer_refused(&answer, error));
  answer_free(&answer);
  memory_free(shape);
  memory_free(text);
  memory_free(tokenizer);
  return ok;
}

/* -- training ------------------------------------------------------------------------------------------- */

/* What all stages have: `run` is the directory, `updates` how many are made. */
static json_t *stage_config(const Bench *bench, const Workload *work, const char *run) {
  return json_pack(
      "{s:{s:s,s:s}, s:{s:b,s:i,s:f}, s:{s:I,s:s,s:s}, s:{s:f,s:I}, s:{s:s,s:b,s:i,s:i}, s:{s:s,s:i}}",
      "model", "path", bench->model, "dtype", work->weights, "lora", "enabled", (int)work->lora, "r", 8,
      "dropout", 0.0, "data", "max_length", (json_int_t)work->length, "template", "plain", "truncation",
      "truncate", "optim", "lr", 1e-6, "micro_batch_tokens",
      (json_int_t)(work->batch * (work->length + work->answer) * (work->kind == WORK_REWARD ? 2 : 1)), "run",
      "dir", run, "resume", 0, "save_every", 0, "save_minutes", 0, "device", "backend", "cpu", "threads",
      bench->threads);
}

/* Files of the data: what is in them does not matter, only lengths. */
static const char *data_name(const Workload *work) {
  return work->kind == WORK_SFT ? "text.jsonl" : work->kind == WORK_REWARD ? "pairs.jsonl" : "prompts.jsonl";
}

static json_t *training_config(const Bench *bench, const Workload *work, const char *run, const char *data,
                               Error *error) {
  const int64_t updates = work->times + 1;
  json_t *config = stage_config(bench, work, run);
  bool ok = config || error_out_of_memory(error, "configuration", 0);
  if (ok && work->kind == WORK_PPO) {
    ok = json_put_take(config, "data.prompts", json_string(data), error) &&
         json_put_take(config, "reward.path", json_string(bench->judge), error) &&
         json_put_take(config, "rollout.max_new_tokens", json_integer(work->answer), error) &&
         json_put_take(config, "rollout.min_new_tokens", json_integer(work->answer), error) &&
         json_put_take(config, "rollout.batch", json_integer(work->batch), error) &&
         json_put_take(config, "ppo.batch_size", json_integer(work->batch), error) &&
         json_put_take(config, "ppo.total_episodes", json_integer(work->batch * updates), error) &&
         json_put_take(config, "ppo.minibatches", json_integer(1), error) &&
         json_put_take(config, "ppo.epochs", json_integer(1), error);
  } else if (ok) {
    ok = json_put_take(config, "data.train", json_string(data), error) &&
         json_put_take(config, "optim.batch_size", json_integer(work->batch), error) &&
         json_put_take(config, "optim.max_steps", json_integer(updates), error);
  }
  if (ok) return config;
  json_decref(config);
  return NULL;
}

static const char *stage_name(const Workload *work) {
  return work->kind == WORK_SFT ? "sft" : work->kind == WORK_REWARD ? "reward" : "ppo";
}

/* The median of what the run logged of its updates, but for the first. */
static bool read_rate(const char *run, const Workload *work, double *rate, Error *error) {
  double values[64];
  int64_t count;
  char *path = path_join(run, "run.db");
  bool ok = path || error_out_of_memory(error, "path", strlen(run));
  ok = ok && runlog_read(path, "train/tokens_per_second", values, 64, &count, error);
  if (ok && count != work->times + 1) {
    ok = error_set(error, ERROR_DATA, "%s: expected %" PRId64 " updates, found %" PRId64, path,
                   work->times + 1, count);
  }
  if (ok) *rate = median(values + 1, (int)count - 1);
  memory_free(path);
  return ok;
}

static bool measure_training(const Bench *bench, const Workload *work, double *rate, size_t *peak,
                             Error *error) {
  char *run = in_scratch(bench, "run", error), *data = in_scratch(bench, data_name(work), error);
  json_t *config = run && data ? training_config(bench, work, run, data, error) : NULL;
  Answer answer = {0};
  const bool ok = config && run_program(bench, stage_name(work), config, &answer, error) &&
                  read_rate(run, work, rate, error) && directory_remove_all(run, error);
  *peak = answer.peak_bytes;
  answer_free(&answer);
  memory_free(run);
  memory_free(data);
  return ok;
}

/* A reward model: one update of all weights, of next to nothing. */
static bool make_judge(Bench *bench, Error *error) {
  const Workload work = {
      .name = "judge", .kind = WORK_REWARD, .weights = "f32", .batch = 1, .length = 128, .times = 0};
  if (bench->judge) return true;
  char *run = in_scratch(bench, "judge", error), *data = in_scratch(bench, data_name(&work), error);
  json_t *config = run && data && data_pairs(data, 1, work.length, error)
                       ? training_config(bench, &work, run, data, error)
                       : NULL;
  Answer answer = {0};
  bool ok = config && run_program(bench, "reward", config, &answer, error);
  if (ok) {
    bench->judge = path_join(run, "model");
    ok = bench->judge || error_out_of_memory(error, "path", strlen(run));
  }
  answer_free(&answer);
  memory_free(run);
  memory_free(data);
  return ok;
}

/* -- generation ------------------------------------------------------------------------------------------- */

/* "prompts: 512 tokens, 1234.5 tokens/s; answers: 8 tokens, 56.7 tokens/s": the second rate is of the steps that ran no prompts. */
static bool read_generation(const Answer *answer, const Workload *work, double *rate, Error *error) {
  const int64_t samples = work->batch * work->times;
  const char *at = strstr(answer->log.data, "prompts: ");
  double prompts = 0, prompt_rate = 0, answers = 0, answer_rate = 0;
  const int found = at ? sscanf(at, "prompts: %lf tokens, %lf tokens/s; answers: %lf tokens, %lf tokens/s",
                                &prompts, &prompt_rate, &answers, &answer_rate)
                       : 0;
  if (found < (work->answer > 1 ? 4 : 3) || prompts != (double)(samples * work->length) ||
      answers != (double)(samples * work->answer)) {
    return error_set(error, ERROR_DATA, "generate did not what was asked for: %.200s",
                     at ? at : answer->log.data);
  }
  if (work->kind == WORK_DECODE) *rate = answer_rate;
  if (work->kind == WORK_PREFILL) *rate = prompt_rate;
  /* The step that ran the prompts gave the first token of each answer. */
  if (work->kind == WORK_ROLLOUT)
    *rate = answers / (prompts / prompt_rate + (answers - (double)samples) / answer_rate);
  return true;
}

static json_t *generation_config(const Bench *bench, const Workload *work, const char *prompts) {
  const ModelQuantize quantize = weights_quantize(work->weights);
  return json_pack("{s:s,s:s,s:f,s:b,s:I,s:I,s:I,s:s,s:s,s:s,s:i,s:s}", "model", bench->model, "prompts",
                   prompts, "temperature", work->kind == WORK_ROLLOUT ? 1.0 : 0.0, "ignore-eos", 1, "batch",
                   (json_int_t)work->batch, "max-new-tokens", (json_int_t)work->answer, "prefill-chunk",
                   (json_int_t)(work->batch * work->length), "dtype", quantize ? "f32" : work->weights,
                   "quantize", model_quantize_choices[quantize], "quantize-tables",
                   quantize ? "int8" : "none", "threads", bench->threads, "device", "cpu");
}

static bool measure_generation(const Bench *bench, const Workload *work, double *rate, size_t *peak,
                               Error *error) {
  char *prompts = in_scratch(bench, "prompts.jsonl", error);
  Answer answer = {0};
  const bool ok = prompts &&
                  run_program(bench, "generate", generation_config(bench, work, prompts), &answer, error) &&
                  read_generation(&answer, work, rate, error);
  *peak = answer.peak_bytes;
  answer_free(&answer);
  memory_free(prompts);
  return ok;
}

/* -- */

static bool is_training(const Workload *work) {
  return work->kind == WORK_SFT || work->kind == WORK_REWARD || work->kind == WORK_PPO;
}

bool ours_prepare(Bench *bench, const Workload *work, Error *error) {
  if (work->kind == WORK_PPO && !make_judge(bench, error)) return false;
  char *path = in_scratch(bench, data_name(work), error);
  const int64_t samples = work->batch * work->times;
  const bool ok =
      path && (work->kind == WORK_SFT      ? data_texts(path, error)
               : work->kind == WORK_REWARD ? data_pairs(path, work->batch, work->length, error)
               : work->kind == WORK_PPO ? data_prompts(bench->model, path, work->batch, work->length, error)
                                        : data_prompts(bench->model, path, samples, work->length, error));
  memory_free(path);
  return ok;
}

bool ours_measure(Bench *bench, const Workload *work, double *rate, size_t *peak, Error *error) {
  return is_training(work) ? measure_training(bench, work, rate, peak, error)
                           : measure_generation(bench, work, rate, peak, error);
}
