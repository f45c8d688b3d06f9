#include "base/process.h"
#include "reward/stage.h"

int main(int argc, char **argv) {
  process_begin(argv);
  const Program program = {.name = "reward",
                           .summary = "Trains a model that scores answers, from pairs or rankings of them.",
                           .example =
                               "drover reward --model.path my-model --lora.enabled \\\n"
                               "  --model.adapter runs/sft/adapter --data.train preferences.jsonl \\\n"
                               "  --run.dir runs/reward",
                           .options = reward_options,
                           .option_count = reward_option_count,
                           .config_size = sizeof(RewardStageConfig),
                           .ranks = true,
                           .rules = reward_rules,
                           .run = reward_run};
  return program_run(&program, argc, argv, stdout, stderr);
}
