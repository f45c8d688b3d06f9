/* new: a configuration with the values that fit a model and data, as commented YAML. */
#include "base/file.h"
#include "base/process.h"
#include "base/yaml_write.h"
#include "tools/new/new.h"
#include "train/program.h"

#include <stdio.h>
#include <string.h>

/* Models are written down as they are named here: whoever reads them looks them up. */
/* clang-format off */
static const Option options[] = {
    ROW_STRING_REQUIRED("kind", NewConfig, kind, "sft, reward, dpo, ppo or pipeline; may stand first, without --kind"),
    ROW_STRING("model", NewConfig, model, NULL,
        "the model: a directory, a GGUF file or a name; without it the file has a place for one", .names = OPTION_NAMES_PATH),
    ROW_STRING("adapter", NewConfig, adapter, NULL, "adapter of it to go on from", .names = OPTION_NAMES_PATH),
    ROW_SOURCES("data", NewConfig, data, NULL, "what is learnt from; of ppo: prompts; of pipeline: the data of sft"),
    ROW_SOURCES("preferences", NewConfig, preferences, NULL, "of pipeline: what the reward model learns from"),
    ROW_SOURCES("prompts", NewConfig, prompts, NULL, "of pipeline: what ppo answers"),
    ROW_STRING("reward", NewConfig, reward, NULL, "of ppo: the reward model, or the model under its adapter",
        .names = OPTION_NAMES_PATH),
    ROW_STRING("reward-adapter", NewConfig, reward_adapter, NULL, "of ppo: the adapter of the reward model",
        .names = OPTION_NAMES_PATH),
    ROW_BOOL("full", NewConfig, full, "false", "train all weights instead of a LoRA adapter"),
    ROW_BYTES("memory-limit", NewConfig, memory_limit, "0", "memory to plan for, which the file then names; 0 = what is free"),
    ROW_STRING("run-dir", NewConfig, run_dir, NULL, "directory of the run (default: runs/KIND, or runs/KIND-2 ... where there is a run)", .names = OPTION_NAMES_PATH),
    ROW_STRING("out", NewConfig, out, NULL, "file to write, which must not exist (default: standard output)",
        .names = OPTION_NAMES_PATH),
};
/* clang-format on */

/* What there is to make, what `inspect data` calls its data, and what it is for. */
static const struct {
  const char *stage, *data, *purpose;
} stages[] = {{"sft", "text", "Supervised fine-tuning"},
              {"reward", "preference", "A reward model"},
              {"dpo", "preference", "DPO: learning from preferences without a reward model"},
              {"ppo", "prompt", "PPO: better answers by the scores of a reward model"}};
enum { STAGES = sizeof stages / sizeof *stages };

static size_t stage_of(const char *name) {
  size_t i = 0;
  while (i < STAGES && strcmp(stages[i].stage, name) != 0) i++;
  return i;
}

static bool check_options(const NewConfig *config, Error *error) {
  const bool pipeline = strcmp(config->kind, "pipeline") == 0, ppo = strcmp(config->kind, "ppo") == 0;
  if (!pipeline && stage_of(config->kind) == STAGES)
    return error_set(error, ERROR_USAGE, "expected sft, reward, dpo, ppo or pipeline, found '%s'",
                     config->kind);
  if (!ppo && (config->reward || config->reward_adapter))
    return error_set(error, ERROR_USAGE, "--reward and --reward-adapter are for ppo");
  if (!pipeline && (config->preferences.count || config->prompts.count))
    return error_set(error, ERROR_USAGE,
                     "--preferences and --prompts are for a pipeline: give the data of %s as --data",
                     config->kind);
  if (pipeline && config->adapter)
    return error_set(error, ERROR_USAGE, "--adapter: a pipeline begins with a model");
  if (config->out && (file_exists(config->out) || directory_exists(config->out)))
    return error_set(error, ERROR_USAGE, "--out: %s exists", config->out);
  return true;
}

/* Looks, decides and plans. */
static bool make_draught(New *new, size_t stage, const OptionSources *files, Draught *draught, Error *error) {
  *draught = (Draught){.stage = stages[stage].stage};
  return look_at_data(new, &draught->data, files, stages[stage].data, error) &&
         draught_decide(draught, new, files, error) && draught_plan(draught, new, error);
}

static bool write_stage(New *new, Buffer *out, Error *error) {
  const NewConfig *config = new->config;
  const char *file = config->out ? config->out : "FILE", *kind = config->kind;
  const size_t stage = stage_of(kind);
  Draught draught;
  const bool ok =
      make_draught(new, stage, &config->data, &draught, error) &&
      buffer_format(out, error,
                    "# %s, %s.\n"
                    "#   drover %s --config %s --check   looks at all of it, plans the memory, and stops\n"
                    "#   drover %s --config %s           runs, or goes on\n"
                    "# Every option: drover help %s all\n",
                    stages[stage].purpose, config->full ? "all weights" : "a LoRA adapter", kind, file, kind,
                    file, kind) &&
      draught_show(&draught, new, true, 0, out, error);
  draught_free(&draught);
  return ok;
}

/* The model of a pipeline, and of its stages. */
static bool write_pipeline_stage(New *new, const char *name, const OptionSources *files, Buffer *out,
                                 Error *error) {
  Draught draught;
  json_t *model = NULL;
  bool ok = make_draught(new, stage_of(name), files, &draught, error);
  if (ok)
    model = strcmp(name, "sft") == 0 ? json_incref(json_at(draught.own, "model.path")) : json_string("sft");
  ok = ok && buffer_format(out, error, "  - stage: %s\n    model: ", name) &&
       yaml_append_value(out, model, error) &&
       buffer_text(out, strcmp(name, "ppo") == 0 ? "\n    reward: reward\n    config:\n" : "\n    config:\n",
                   error) &&
       draught_show(&draught, new, false, 6, out, error);
  json_decref(model);
  draught_free(&draught);
  return ok;
}

static bool write_pipeline(New *new, Buffer *out, Error *error) {
  const NewConfig *config = new->config;
  const char *file = config->out ? config->out : "FILE";
  json_t *directory = json_string(config->run_dir ? config->run_dir : "runs/pipeline");
  const bool ok = buffer_format(out, error,
                                "# SFT, a reward model, PPO, and one model of it all.\n"
                                "#   drover run %s --check   looks at all stages, and stops\n"
                                "#   drover run %s           runs, or goes on\n"
                                "# Every option of a stage: drover help STAGE all\ndir: ",
                                file, file) &&
                  yaml_append_value(out, directory, error) && buffer_text(out, "\nstages:\n", error) &&
                  write_pipeline_stage(new, "sft", &config->data, out, error) &&
                  write_pipeline_stage(new, "reward", &config->preferences, out, error) &&
                  write_pipeline_stage(new, "ppo", &config->prompts, out, error) &&
                  buffer_text(out, "  - name: final\n    stage: merge\n    model: ppo\n", error);
  json_decref(directory);
  return ok;
}

static bool make(New *new, bool check, ProgramResult *result, Error *error) {
  const NewConfig *config = new->config;
  Buffer text = {0};
  bool ok = look_at_model(new, error) &&
            (strcmp(config->kind, "pipeline") == 0 ? write_pipeline : write_stage)(new, &text, error);
  if (ok && config->out && !check) {
    ok = file_write_text(config->out, text.data, error) && buffer_text(&result->text, config->out, error) &&
         buffer_text(&result->json, "{\"out\":", error) && result_string(&result->json, config->out, error) &&
         buffer_text(&result->json, "}", error);
  } else if (ok && !check) {
    text.data[--text.size] = '\0'; /* the last newline is printed */
    ok = buffer_text(&result->text, text.data, error) && result_string(&result->json, text.data, error);
  }
  buffer_free(&text);
  return ok;
}

static bool new_run(const ProgramCall *call, ProgramResult *result, Error *error) {
  New new = {.config = call->config, .log = call->log};
  Error left = {0};
  if (!check_options(new.config, error)) return false;
  new.scratch = directory_temporary("new", error);
  if (!new.scratch) return false;
  const bool ok = make(&new, call->check, result, error);
  if (!directory_remove_all(new.scratch, &left)) log_warning(call->log, "%s", left.message);
  memory_free(new.scratch);
  return ok;
}

int main(int argc, char **argv) {
  process_begin(argv);
  const Program program = {.name = "new",
                           .summary = "A configuration with the values that fit a model and data.",
                           .options = options,
                           .option_count = sizeof options / sizeof *options,
                           .config_size = sizeof(NewConfig),
                           .run = new_run,
                           .example =
                               "drover new sft --model Qwen/Qwen2.5-0.5B --data sft.jsonl --out sft.yaml\n"
                               "drover sft --config sft.yaml --check"};
  char kind[] = "--kind", *spelled[64] = {argv[0], kind};
  const bool bare = argc > 1 && argv[1][0] != '-' && argc < 62;
  if (bare) memcpy(spelled + 2, argv + 1, (size_t)(argc - 1) * sizeof *argv);
  return program_run(&program, bare ? argc + 1 : argc, bare ? spelled : argv, stdout, stderr);
}
