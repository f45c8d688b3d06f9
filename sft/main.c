#include "base/process.h"
#include "sft/stage.h"

int main(int argc, char **argv) {
  process_begin(argv);
  const Program program = {.name = "sft",
                           .summary = "Supervised fine-tuning of a language model on conversations or text.",
                           .example =
                               "drover sft --model.path my-model --lora.enabled --data.train sft.jsonl \\\n"
                               "  --run.dir runs/sft",
                           .options = sft_options,
                           .option_count = sft_option_count,
                           .config_size = sizeof(SupervisedConfig),
                           .ranks = true,
                           .rules = sft_rules,
                           .run = sft_run};
  return program_run(&program, argc, argv, stdout, stderr);
}
