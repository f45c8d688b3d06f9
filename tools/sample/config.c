#include "tools/sample/config.h"

#include "datasets/dataset.h"

/* One option a row. */
/* clang-format off */
const Option sample_options[] = {
    ROW_STRING_REQUIRED("model.path", SampleConfig, model.path, "directory of a model in Hugging Face's layout, or a GGUF file",
        .names = OPTION_NAMES_MODEL, .first = true),
    ROW_STRING("model.adapter", SampleConfig, model.adapter, NULL, "PEFT adapter directory", .names = OPTION_NAMES_ADAPTER,
        .first = true),
    TOKENIZER_OPTION("model.tokenizer", SampleConfig, model.tokenizer),
    ROW_CHOICE("model.dtype", SampleConfig, model.dtype, "auto", model_dtype_choices,
        "type of the weights in memory; auto: bf16 on a GPU when the model is in 16 bits, else f32"),
    QUANTIZE_OPTIONS("model.", "_", SampleConfig, model.quantize, model.tables),
    REWARD_OPTIONS(SampleConfig, reward)
    ROW_SOURCES_REQUIRED("data.prompts", SampleConfig, data.prompts,
        "prompts: JSONL or JSON file, directory, -, or a list of them", .check_without = true, .first = true),
    DATA_READ_OPTIONS(SampleConfig, data, "512")
    ROLLOUT_OPTIONS(SampleConfig, rollout, "128", "1", "64")
    ROW_INT("sample.n", SampleConfig, sample.n, "8", 1, 1 << 16, "answers to each prompt", .first = true),
    ROW_CHOICE("sample.format", SampleConfig, sample.format, "sft", sample_format_names,
        "what is written: sft: the best answers; preference: pairs; ranking: all answers to a prompt with their scores; "
        "unpaired: every answer, labelled by sample.threshold; scored: every answer with its score", .first = true),
    ROW_INT("sample.keep", SampleConfig, sample.keep, "1", 0, 1 << 16,
        "the best answers to a prompt that are written, at most; 0 = all", .when = "sample.format = sft", .first = true),
    ROW_FLOAT("sample.threshold", SampleConfig, sample.threshold, "-1e30", -INFINITY, INFINITY,
        "sft: least score of an answer that is written; unpaired: least score of an answer that is labelled true",
        .when = "sample.format = sft or sample.format = unpaired"),
    ROW_CHOICE("sample.pairs", SampleConfig, sample.pairs, "best_worst", sample_pairs_names,
        "the pairs of a prompt: the best answer with the worst, or all", .when = "sample.format = preference"),
    ROW_FLOAT("sample.margin", SampleConfig, sample.margin, "0", 0, INFINITY,
        "least distance of the scores of a pair; equal ones are none", .when = "sample.format = preference"),
    ROW_CHOICE("sample.unfinished", SampleConfig, sample.unfinished, "drop", sample_care_names,
        "answers that reach rollout.max_new_tokens before they end"),
    ROW_CHOICE("sample.duplicates", SampleConfig, sample.duplicates, "drop", sample_care_names,
        "answers to a prompt that say what an earlier one says"),
    RUN_PLACE_OPTIONS(SampleConfig, run)
    DEVICE_OPTIONS(SampleConfig, device)
};
/* clang-format on */
const size_t sample_option_count = sizeof sample_options / sizeof *sample_options;

bool sample_config_check(const SampleConfig *config, Error *error) {
  for (size_t i = 0; i < config->data.prompts.count; i++) {
    const OptionSource *source = &config->data.prompts.items[i];
    if (source->weight == 1) continue;
    return error_set(
        error, ERROR_USAGE,
        "data.prompts: %s has the weight %g, but each prompt is answered sample.n times: expected "
        "no weights",
        source->path, source->weight);
  }
  return rollout_config_check(&config->rollout, "rollout.", "_", error) &&
         sample_choice_check(&config->sample, error);
}
