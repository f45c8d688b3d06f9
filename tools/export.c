/* export: a model or adapter directory of any checkpoint of a run, with the bytes that the stage itself would have saved
 * after that update.
 *
 * Of the weights in the run's base only an adapter's zero point needs any: everything that was trained stands in the
 * checkpoint. No gradients, no optimiser, and no lock: a run that goes on meanwhile is not disturbed. */
#include "base/file.h"
#include "base/process.h"
#include "base/json.h"
#include "base/room.h"
#include "scoring/config.h"
#include "train/model_path.h"
#include "train/program.h"
#include "train/zero_point.h"

#include <inttypes.h>
#include <string.h>

typedef enum Part { PART_RESULT, PART_CRITIC, PART_COST_CRITIC, PART_EMA } Part;
static const char *const parts[] = {"result", "critic", "cost_critic", "ema", NULL};

static bool is_critic(Part part) {
  return part == PART_CRITIC || part == PART_COST_CRITIC;
}

typedef struct ExportConfig {
  char *run, *out;
  int64_t step;
  int part;
} ExportConfig;

/* clang-format off */
static const Option options[] = {
  ROW_STRING_REQUIRED("run", ExportConfig, run, "directory of the run; may stand first, without --run", .names = OPTION_NAMES_PATH),
  ROW_INT("step", ExportConfig, step, "0", 0, INFINITY, "N of its checkpoints/step-N; 0 = the newest"),
  ROW_CHOICE("part", ExportConfig, part, "result", parts,
      "result = what the stage saves; critic, cost_critic, ema = those of a PPO run"),
  ROW_STRING("out", ExportConfig, out, NULL, "directory to write (default: RUN/exports/step-N, or step-N-PART)", .names = OPTION_NAMES_PATH),
};

/* What of a run's configuration matters here, of whatever stage it is. */
typedef struct RunSettings {
  SupervisedConfig common;
  /* of a PPO run, what its critic began as: */
  RewardConfig reward, cost;
  ModelPlace critic;
  char *advantage; /* only gae has one */
} RunSettings;

static const Option run_options[] = {
  ROW_STRING("model.path", RunSettings, common.model.path, NULL, ""),
  ROW_STRING("model.adapter", RunSettings, common.model.adapter, NULL, ""),
  ROW_CHOICE("model.dtype", RunSettings, common.model.dtype, "auto", model_dtype_choices, ""),
  ROW_STRING("reward.path", RunSettings, reward.model.path, NULL, ""),
  ROW_STRING("reward.adapter", RunSettings, reward.model.adapter, NULL, ""),
  ROW_OBJECTS("reward.sources", RunSettings, reward.sources, ""),
  ROW_STRING("cost.path", RunSettings, cost.model.path, NULL, ""),
  ROW_STRING("cost.adapter", RunSettings, cost.model.adapter, NULL, ""),
  ROW_OBJECTS("cost.sources", RunSettings, cost.sources, ""),
  ROW_STRING("critic.path", RunSettings, critic.path, NULL, ""),
  ROW_STRING("critic.adapter", RunSettings, critic.adapter, NULL, ""),
  ROW_STRING("ppo.advantage", RunSettings, advantage, "gae", ""),
  ROW_BOOL("lora.enabled", RunSettings, common.lora.enabled, "false", ""),
  ROW_INT("lora.r", RunSettings, common.lora.r, "8", 0, 0, ""),
  ROW_FLOAT("lora.alpha", RunSettings, common.lora.alpha, "16", 0, 0, ""),
  ROW_FLOAT("lora.dropout", RunSettings, common.lora.dropout, "0", 0, 0, ""),
  ROW_STRINGS("lora.targets", RunSettings, common.lora.targets, "all-linear", ""),
  ROW_STRINGS("lora.modules_to_save", RunSettings, common.lora.modules_to_save, NULL, ""),
  ROW_BOOL("lora.ensure_weight_tying", RunSettings, common.lora.ensure_weight_tying, "false", ""),
  ROW_BOOL("lora.rslora", RunSettings, common.lora.rslora, "false", ""),
  DATA_COMMON_OPTIONS(RunSettings, common.data, "1024")
  DATA_PACKING_OPTIONS(RunSettings, common.data)
  ROW_SOURCES("data.reference", RunSettings, common.data.reference, NULL, ""),
  ROW_INT("optim.batch_size", RunSettings, common.optim.batch_size, "1", 0, 0, ""),
  ROW_INT("optim.micro_batch_tokens", RunSettings, common.optim.micro_batch_tokens, "1", 0, 0, ""),
  ROW_INT("run.seed", RunSettings, common.run.seed, "1", 0, 0, ""),
  DEVICE_OPTIONS(RunSettings, common.device)
};
/* clang-format on */
enum { RUN_OPTION_COUNT = sizeof run_options / sizeof *run_options };

/* The stages, by what they call the model that they save. */
typedef struct Trained {
  const char *stage, *name;
  bool score_head;
} Trained;

static const Trained trained[] = {
    {"sft", "policy", false}, {"reward", "reward", true}, {"ppo", "actor", false}, {"dpo", "policy", false}};

typedef struct Export {
  const ExportConfig *config;
  Checkpoint checkpoint;
  RunSettings settings;
  ScoringConfig rewards;
  ModelPlace critic; /* what it began as; owned */
  TraineeSpec spec;
  const char *base; /* the model under it */
  bool
      needs_scores; /* the zero point is not known yet: all weights of the base are needed, and the reference answers */
  float shift; /* ... else it is this, when has_shift */
  bool has_shift;
  Supervised s; /* models, memory and data, as in the stage; nothing of it trains */
} Export;

/* ---- what there is to export ---- */

static bool read_settings(Export *e, Error *error) {
  char *text = checkpoint_config(&e->checkpoint, error);
  const bool ok =
      text && options_recall(run_options, RUN_OPTION_COUNT, &e->settings, text, e->checkpoint.path, error);
  memory_free(text);
  return ok;
}

/* Where a model or adapter of the run lies today; NULL is none. What the chosen part does without need not be there. */
static bool locate(Export *e, const char *key, OptionNames names, char **text, Error *error) {
  ModelPath place;
  if (!*text) return true;
  if (!model_path_open(&place, key, names, *text, e->s.log, error))
    return error_context(error, "%s", e->checkpoint.path);
  memory_free(*text);
  *text = place.path;
  place.path = NULL;
  model_path_close(&place);
  return true;
}

/* What the critic began as. */
static bool locate_critic(Export *e, bool of_costs, Error *error) {
  const ModelConfig *model = &e->settings.common.model;
  const ModelPlace policy = {model->path, model->adapter};
  if (!scoring_config_read(&e->rewards, &e->settings.reward, &e->settings.cost, error)) return false;
  if (of_costs && e->rewards.count == e->rewards.rewards)
    return error_set(error, ERROR_USAGE, "--part cost_critic: %s has none, it has no costs", e->config->run);
  const CriticStart start = critic_start(&e->rewards, of_costs, &e->settings.critic, &policy);
  const char *adapter = start.place.adapter;
  e->critic.path = memory_copy_string(start.place.path);
  e->critic.adapter = adapter ? memory_copy_string(adapter) : NULL;
  if (!e->critic.path || (adapter && !e->critic.adapter)) return error_out_of_memory(error, "path", 0);
  return locate(e, "the model of the critic", OPTION_NAMES_MODEL, &e->critic.path, error) &&
         locate(e, "the adapter of the critic", OPTION_NAMES_ADAPTER, &e->critic.adapter, error);
}

static bool locate_all(Export *e, Part part, Error *error) {
  ModelConfig *model = &e->settings.common.model;
  return locate(e, "model.path", OPTION_NAMES_MODEL, &model->path, error) &&
         locate(e, "model.adapter", OPTION_NAMES_ADAPTER, &model->adapter, error) &&
         (!is_critic(part) || locate_critic(e, part == PART_COST_CRITIC, error));
}

static bool choose(Export *e, Error *error) {
  const char *stage = checkpoint_stage(&e->checkpoint);
  const SupervisedConfig *common = &e->settings.common;
  const Part part = (Part)e->config->part;
  const Trained *found = NULL;
  for (size_t i = 0; i < sizeof trained / sizeof *trained; i++) {
    if (stage && strcmp(stage, trained[i].stage) == 0) found = &trained[i];
  }
  if (!found) {
    return error_set(error, ERROR_MODEL, "%s: expected a checkpoint of sft, reward, ppo or dpo, found '%s'",
                     e->checkpoint.path, stage ? stage : "?");
  }
  if (part != PART_RESULT && strcmp(stage, "ppo") != 0) {
    return error_set(error, ERROR_USAGE, "--part %s: only runs of ppo have one, and %s is of %s", parts[part],
                     e->config->run, stage);
  }
  if (is_critic(part) && strcmp(e->settings.advantage, "gae") != 0) {
    return error_set(error, ERROR_USAGE, "--part %s: %s has none, its ppo.advantage is %s", parts[part],
                     e->config->run, e->settings.advantage);
  }
  if (!locate_all(e, part, error)) return false;
  e->base = common->model.path;
  e->spec = trainee_spec_of(found->name, &common->model, &common->lora, &e->s.lora, &common->optim,
                            (uint64_t)common->run.seed);
  e->spec.recalled = true;
  e->spec.text = &e->s.corpus.text.identity;
  e->spec.predictor.score_head = found->score_head;
  if (is_critic(part)) {
    e->base = e->critic.path;
    e->spec.predictor.name = parts[part];
    e->spec.predictor.adapter = e->critic.adapter;
    e->spec.predictor.score_head = true;
  }
  if (e->spec.predictor.score_head) e->spec.predictor.head_from = e->base;
  return true;
}

/* A run that is finished says in done.json what it found after its last update. */
static bool read_shift(Export *e, Error *error) {
  char *path = path_join(e->config->run, "done.json");
  if (!path) return error_out_of_memory(error, "path", 0);
  json_t *done = file_exists(path) ? json_file_read(path, error) : json_null();
  memory_free(path);
  if (!done) return false;
  const json_t *result = json_object_get(done, "result"), *shift = json_object_get(result, "shift");
  e->has_shift =
      json_is_number(shift) && json_integer_value(json_object_get(result, "steps")) == e->checkpoint.step;
  e->shift = (float)json_number_value(shift);
  json_decref(done);
  return true;
}

/* ---- models and memory ---- */

static bool open_model(Export *e, Error *error) {
  Supervised *s = &e->s;
  const SupervisedConfig *common = &e->settings.common;
  const WeightFormat format = model_config_format(&common->model);
  Arena nowhere;
  arena_init_dry(&nowhere, "base");
  const bool adapter = e->spec.predictor.adapted;
  bool ok = adapter && e->needs_scores
                ? base_open(&s->base, e->base, NULL, format, &s->compute, &s->memory, error)
                : model_open(&s->base, e->base, format, &s->compute, adapter ? &nowhere : &s->memory.weights,
                             error);
  ok = ok && trainee_open(&s->trainee, &e->spec, &s->base, &s->compute, &s->memory, error) &&
       pass_init(&s->pass, &s->base, error);
  return ok && (!e->needs_scores || microbatches_init(&s->micro, common->optim.batch_size, 1,
                                                      common->optim.micro_batch_tokens, scores_pack, error));
}

static void close_model(Supervised *s) {
  pass_free(&s->pass);
  trainee_close(&s->trainee);
  base_close(&s->base);
  microbatches_free(&s->micro);
}

/* With `check` it is only looked whether there is room, in memory and on the disk. */
static bool allocate(Export *e, const char *out, bool check, Error *error) {
  Supervised *s = &e->s;
  MemoryPlan plan = {0};
  plan_begin(&s->memory, &s->compute);
  bool ok = open_model(e, error);
  if (ok && e->needs_scores) {
    packer_dry(&s->micro.packer);
    supervised_judge(s);
  }
  ok = ok && directory_check_room(out, trainee_result_bytes(&s->trainee), error);
  close_model(s);
  ok = plan_end(&plan, &s->memory, &s->compute, error) && ok;
  ok = ok && plan_fits(&plan, device_limit(&s->compute), NULL, s->log, error);
  if (!ok || check) return ok;
  return train_memory_allocate(&s->memory, &s->compute, s->log, error) && open_model(e, error);
}

/* ---- values ---- */

static bool recall(Export *e, Error *error) {
  Supervised *s = &e->s;
  e->checkpoint.compute = &s->compute;
  char group[32];
  snprintf(group, sizeof group, "%s.value", e->spec.predictor.name);
  /* "ema": ppo/ema.h */
  if (!trainee_recall(&s->trainee, &e->checkpoint, e->config->part == PART_EMA ? "ema" : group, error))
    return false;
  double mean = e->shift;
  /* The zero of a reward model that the run began with is none of its result. */
  if (e->config->part == PART_RESULT) s->trainee.predictor.head.zero = (ScoreZero){0};
  if (e->needs_scores && !zero_point(s, &mean, error)) return false;
  if (e->needs_scores || e->has_shift)
    s->trainee.predictor.head.zero = (ScoreZero){.shift = (float)mean, .known = true};
  return true;
}

/* ---- the result ---- */

static char *default_out(const Export *e) {
  const char *part = parts[e->config->part];
  const bool plain = e->config->part == PART_RESULT;
  return memory_format("%s/exports/step-%" PRId64 "%s%s", e->config->run, e->checkpoint.step,
                       plain ? "" : "-", plain ? "" : part);
}

static bool check_out(const char *out, Error *error) {
  StringList names = {0};
  if (!directory_exists(out) && !file_exists(out)) return true;
  bool ok = directory_list(out, &names, error);
  if (ok && names.count)
    ok = error_set(error, ERROR_USAGE, "--out %s: expected a new directory, found %s in it", out,
                   names.items[0]);
  string_list_free(&names);
  return ok;
}

static bool report(const Export *e, const char *out, ProgramResult *result, Error *error) {
  const bool adapter = e->spec.predictor.adapted;
  return buffer_format(&result->text, error, "%s: %s of step %" PRId64, out, adapter ? "adapter" : "model",
                       e->checkpoint.step) &&
         buffer_text(&result->json, "{\"out\":", error) && result_string(&result->json, out, error) &&
         buffer_format(&result->json, error, ",\"kind\":\"%s\",\"step\":%" PRId64 "}",
                       adapter ? "adapter" : "model", e->checkpoint.step);
}

static bool prepare(Export *e, Error *error) {
  Supervised *s = &e->s;
  SupervisedConfig *common = &e->settings.common;
  const int64_t step = e->config->step > 0 ? e->config->step : -1;
  if (!checkpoint_open(&e->checkpoint, e->config->run, step, s->log, error) || !read_settings(e, error) ||
      !choose(e, error) || !lora_spec_of(&s->lora, &common->lora, error) ||
      !text_tools_open(&s->corpus.text, &common->model, &common->data, NULL, error) ||
      !device_open(&s->compute, &common->device, NULL, error)) {
    return false;
  }
  const bool shifted =
      common->data.reference.count > 0 && e->config->part == PART_RESULT && e->spec.predictor.score_head;
  if (!shifted) return true;
  if (!read_shift(e, error)) return false;
  e->needs_scores = !e->has_shift;
  if (!e->needs_scores) return true;
  const RunConfig here = {.dir = e->config->run, .seed = common->run.seed};
  return data_open(&s->corpus.reference, "data.reference", &common->data.reference, DATASET_SFT, DATASET_ALL,
                   &common->data, &here, &s->corpus.text, s->log, error);
}

static bool export_part(Export *e, ProgramResult *result, bool check, Error *error) {
  Supervised *s = &e->s;
  char *chosen = NULL;
  bool ok = prepare(e, error);
  const char *out = e->config->out;
  if (ok && !out) {
    out = chosen = default_out(e);
    ok = out || error_out_of_memory(error, "path", 0);
  }
  ok = ok && check_out(out, error) && allocate(e, out, check, error);
  if (ok && !check) {
    ok = recall(e, error) &&
         trainee_save_as(&s->trainee, e->base, &s->corpus.text, out, NULL, &s->compute, error) &&
         report(e, out, result, error);
  }
  memory_free(chosen);
  return ok;
}

static bool export_run(const ProgramCall *call, ProgramResult *result, Error *error) {
  static const SupervisedStage scoring = {.judge = scores_judge};
  Export e = {.config = call->config};
  e.s = (Supervised){.stage = &scoring, .config = &e.settings.common, .log = call->log};
  const bool ok = export_part(&e, result, call->check, error);
  close_model(&e.s);
  if (e.s.compute.backend) {
    train_memory_free(&e.s.memory, &e.s.compute);
    compute_close(&e.s.compute);
  }
  lora_spec_free(&e.s.lora);
  scoring_config_free(&e.rewards);
  memory_free(e.critic.path);
  memory_free(e.critic.adapter);
  corpus_close(&e.s.corpus);
  options_free(run_options, RUN_OPTION_COUNT, &e.settings);
  checkpoint_close(&e.checkpoint);
  return ok;
}

int main(int argc, char **argv) {
  process_begin(argv);
  const Program program = {
      .name = "export",
      .summary = "A model or adapter directory of a run's checkpoint: export RUN --step N.",
      .example = "drover export runs/ppo --step 40",
      .options = options,
      .option_count = sizeof options / sizeof *options,
      .config_size = sizeof(ExportConfig),
      .run = export_run};
  char run[] = "--run", *spelled[64] = {argv[0], run};
  const bool bare = argc > 1 && argv[1][0] != '-' && argc < 62;
  if (bare) memcpy(spelled + 2, argv + 1, (size_t)(argc - 1) * sizeof *argv);
  return program_run(&program, bare ? argc + 1 : argc, bare ? spelled : argv, stdout, stderr);
}
