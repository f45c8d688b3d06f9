/* convert: a configuration of axolotl, LLaMA-Factory or TRL as one of ours. */
#include "base/process.h"
#include "tools/convert/convert.h"
#include "train/ask.h"
#include "train/program.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const char *const from_names[] = {"auto", "axolotl", "llamafactory", "trl", NULL};
static const char *const stages[] = {"auto", "sft", "reward", "dpo", "ppo", NULL};

/* clang-format off */
static const Option options[] = {
    ROW_STRING_REQUIRED("file", ConvertConfig, file, "their YAML; may stand first, without --file", .names = OPTION_NAMES_PATH),
    ROW_STRING("out", ConvertConfig, out, NULL, "file to write, which must not exist (default: standard output)", .names = OPTION_NAMES_PATH),
    ROW_CHOICE("from", ConvertConfig, from, "auto", from_names, "whose file it is; auto: by its keys"),
    ROW_CHOICE("stage", ConvertConfig, stage, "auto", stages, "what it is for; auto: as the file says, which TRL's do not"),
    ROW_INT("devices", ConvertConfig, devices, "1", 1, 1 << 20, "how many devices it was run on: their batches are counted for each"),
    ROW_INT("batch-size", ConvertConfig, batch_size, "0", 0, 1 << 24, "examples an update, where the file counts packed rows; 0 = by the file"),
    ROW_SOURCES("data", ConvertConfig, data, NULL, "files in the place of the datasets that it names"),
    ROW_SOURCES("eval-data", ConvertConfig, eval_data, NULL, "the same for evaluation"),
    ROW_BOOL("force", ConvertConfig, force, "false", "write the file although something is not taken over; it is named there"),
};
/* clang-format on */

static bool convert(Conversion *c, Error *error) {
  c->made = json_object();
  if (!c->made) return error_out_of_memory(error, "configuration", 0);
  return find_dialect(c, error) && find_stage(c, error) && take_data(c, error) && take_template(c, error) &&
         take_model(c, error) && take_updates(c, error) && take_rewards(c, error) && take_rest(c, error) &&
         take_defaults(c, error);
}

/* The stage itself has the last word about what it will take. */
static bool check(const Conversion *c, const Buffer *text, Error *error) {
  char *scratch = directory_temporary("convert", error),
       *file = scratch ? path_join(scratch, "config.yaml") : NULL;
  const bool rewarded = strcmp(c->stage, "ppo") == 0 && !is_made(c, "reward.path");
  const char *const arguments[] = {
      "--config", file, "--check", "--print-config", rewarded ? "--reward.path" : NULL, "any", NULL};
  Answer answer = {0};
  Error ignored = {0};
  bool ok = file && file_write_text(file, text->data, error) && ask(&answer, c->stage, arguments, error) &&
            (answer.status == 0 || answer_refused(&answer, error));
  answer_free(&answer);
  if (scratch && !directory_remove_all(scratch, &ignored)) ok = false;
  memory_free(file);
  memory_free(scratch);
  return ok;
}

static bool refuse(const Conversion *c, Log *log, Error *error) {
  for (size_t i = 0; i < c->problems.count; i++) log_warning(log, "%s", c->problems.items[i]);
  return error_set(error, ERROR_USAGE,
                   "%zu of the keys of %s cannot be taken over; --force writes the file all the same",
                   c->problems.count, c->file.path);
}

static bool give(const Conversion *c, const Buffer *text, ProgramResult *result, Error *error) {
  const char *out = c->config->out;
  if (out)
    return file_write_text(out, text->data, error) && buffer_text(&result->text, out, error) &&
           buffer_text(&result->json, "{\"out\":", error) && result_string(&result->json, out, error) &&
           buffer_format(&result->json, error, ",\"stage\":\"%s\",\"problems\":%zu}", c->stage,
                         c->problems.count);
  return buffer_append(&result->text, text->data, text->size - 1, error) && /* the last newline is printed */
         result_string(&result->json, text->data, error);
}

static bool convert_run(const ProgramCall *call, ProgramResult *result, Error *error) {
  Conversion c = {.config = call->config};
  Buffer text = {0};
  if (c.config->out && file_exists(c.config->out))
    return error_set(error, ERROR_USAGE, "--out: %s exists", c.config->out);
  bool ok = config_file_open(&c.file, c.config->file, error) && convert(&c, error);
  if (ok && c.problems.count && !c.config->force) ok = refuse(&c, call->log, error);
  ok = ok && write_converted(&c, &text, error) && (c.problems.count || check(&c, &text, error)) &&
       (call->check || give(&c, &text, result, error));
  for (size_t i = 0; ok && i < c.problems.count; i++) log_warning(call->log, "%s", c.problems.items[i]);
  buffer_free(&text);
  conversion_free(&c);
  return ok;
}

int main(int argc, char **argv) {
  process_begin(argv);
  const Program program = {
      .name = "convert",
      .summary = "A configuration of axolotl, LLaMA-Factory or TRL as one of ours.",
      .options = options,
      .option_count = sizeof options / sizeof *options,
      .config_size = sizeof(ConvertConfig),
      .run = convert_run,
      .example = "drover convert qlora.yaml --out sft.yaml\ndrover sft --config sft.yaml --check"};
  char file[] = "--file", *spelled[64] = {argv[0], file};
  const bool bare = argc > 1 && argv[1][0] != '-' && argc < 62;
  if (bare) memcpy(spelled + 2, argv + 1, (size_t)(argc - 1) * sizeof *argv);
  return program_run(&program, bare ? argc + 1 : argc, bare ? spelled : argv, stdout, stderr);
}
