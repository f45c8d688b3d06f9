#include "base/process.h"
#include "ppo/stage.h"

int main(int argc, char **argv) {
  process_begin(argv);
  const Program program = {.name = "ppo",
                           .summary = "Improves a policy by PPO against a reward model.",
                           .example =
                               "drover ppo --model.path my-model --model.adapter runs/sft/adapter \\\n"
                               "  --reward.path my-model --reward.adapter runs/reward/adapter \\\n"
                               "  --lora.enabled --data.prompts prompts.jsonl --run.dir runs/ppo",
                           .options = ppo_options,
                           .option_count = ppo_option_count,
                           .config_size = sizeof(PpoConfig),
                           .ranks = true,
                           .rules = ppo_rules,
                           .run = ppo_stage_run};
  return program_run(&program, argc, argv, stdout, stderr);
}
