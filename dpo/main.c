#include "base/process.h"
#include "dpo/stage.h"

int main(int argc, char **argv) {
  process_begin(argv);
  const Program program = {
      .name = "dpo",
      .summary = "Trains a language model on preferences, without a reward model: DPO, KTO and their kin.",
      .example =
          "drover dpo --model.path my-model --lora.enabled \\\n"
          "  --model.adapter runs/sft/adapter --data.train preferences.jsonl \\\n"
          "  --run.dir runs/dpo",
      .options = dpo_options,
      .option_count = dpo_option_count,
      .config_size = sizeof(DpoStageConfig),
      .ranks = true,
      .rules = dpo_rules,
      .run = dpo_run};
  return program_run(&program, argc, argv, stdout, stderr);
}
