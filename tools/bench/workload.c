#include "tools/bench/bench.h"

#include <string.h>

const char *const peer_names[] = {"torch", "transformers", "peft", "trl", "llama.cpp", NULL};

/* clang-format off */
#define DECODE(name, weights, batch, about) \
  {name, WORK_DECODE, false, weights, NULL, batch, 64, 64, 1, {"llama.cpp"}, about}
const Workload workloads[] = {
    {"sft_lora", WORK_SFT, true, "f32", NULL, 4, 256, 0, 2, {"peft"}, "SFT, LoRA r 8 on all linears, updates of 4 texts of 256 tokens"},
    {"sft_full", WORK_SFT, false, "f32", NULL, 4, 256, 0, 2, {"torch", "llama.cpp"}, "SFT of all weights, updates of 4 texts of 256 tokens"},
    {"sft_full_bf16", WORK_SFT, false, "bf16", "amx_bf16", 4, 256, 0, 2, {"torch"}, "SFT of all weights in bf16 (PyTorch: autocast), updates of 4 texts of 256 tokens"},
    {"reward", WORK_REWARD, true, "f32", NULL, 4, 128, 0, 2, {"trl"}, "reward model, LoRA r 8, updates of 4 pairs of 2 x 128 tokens"},
    DECODE("decode_1", "f32", 1, "greedy decoding after prompts of 64 tokens, F32 (llama.cpp: F32), one sequence"),
    DECODE("decode_8", "f32", 8, "greedy decoding after prompts of 64 tokens, F32 (llama.cpp: F32), 8 sequences"),
    DECODE("decode_32", "f32", 32, "greedy decoding after prompts of 64 tokens, F32 (llama.cpp: F32), 32 sequences"),
    DECODE("decode_1_bf16", "bf16", 1, "greedy decoding after prompts of 64 tokens, BF16 (llama.cpp: BF16), one sequence"),
    DECODE("decode_8_bf16", "bf16", 8, "greedy decoding after prompts of 64 tokens, BF16 (llama.cpp: BF16), 8 sequences"),
    DECODE("decode_32_bf16", "bf16", 32, "greedy decoding after prompts of 64 tokens, BF16 (llama.cpp: BF16), 32 sequences"),
    DECODE("decode_1_int8", "int8", 1, "greedy decoding after prompts of 64 tokens, 8 bits, tables too (llama.cpp: Q8_0), one sequence"),
    DECODE("decode_8_int8", "int8", 8, "greedy decoding after prompts of 64 tokens, 8 bits, tables too (llama.cpp: Q8_0), 8 sequences"),
    DECODE("decode_32_int8", "int8", 32, "greedy decoding after prompts of 64 tokens, 8 bits, tables too (llama.cpp: Q8_0), 32 sequences"),
    DECODE("decode_1_nf4", "nf4", 1, "greedy decoding after prompts of 64 tokens, NF4 with 8-bit tables (llama.cpp: Q4_0), one sequence"),
    DECODE("decode_8_nf4", "nf4", 8, "greedy decoding after prompts of 64 tokens, NF4 with 8-bit tables (llama.cpp: Q4_0), 8 sequences"),
    DECODE("decode_32_nf4", "nf4", 32, "greedy decoding after prompts of 64 tokens, NF4 with 8-bit tables (llama.cpp: Q4_0), 32 sequences"),
    {"prefill_256", WORK_PREFILL, false, "f32", NULL, 1, 256, 1, 8, {"llama.cpp"}, "prompts of 256 tokens, one after the other, F32"},
    {"prefill_64x32", WORK_PREFILL, false, "f32", NULL, 64, 32, 1, 2, {"llama.cpp"}, "64 prompts of 32 tokens at once, F32"},
    {"rollout", WORK_ROLLOUT, false, "f32", NULL, 64, 32, 64, 1, {"transformers", "llama.cpp"}, "64 prompts of 32 tokens, 64 sampled tokens each, F32"},
    {"ppo", WORK_PPO, false, "f32", NULL, 16, 32, 32, 1, {"trl"}, "PPO iterations: 16 prompts of 32 tokens, 32 sampled tokens each, all weights of policy and critic, one epoch"},
};
/* clang-format on */
const size_t workload_count = sizeof workloads / sizeof *workloads;

bool names_check(const OptionStrings *list, const char *const *known, size_t count, const char *key,
                 Error *error) {
  for (size_t i = 0; i < list->count; i++) {
    size_t k = 0;
    while (k < count && strcmp(known[k], list->items[i]) != 0) k++;
    if (k < count) continue;
    const char *near = nearest_name(list->items[i], known, count);
    Buffer all = {0};
    bool ok = true;
    for (k = 0; ok && k < count; k++) ok = buffer_format(&all, error, "%s%s", k ? ", " : "", known[k]);
    if (ok && near)
      ok = error_set(error, ERROR_USAGE, "%s: there is no '%s'; did you mean '%s'?", key, list->items[i],
                     near);
    else if (ok)
      ok = error_set(error, ERROR_USAGE, "%s: there is no '%s'; known are %s", key, list->items[i], all.data);
    buffer_free(&all);
    return ok;
  }
  return true;
}

bool names_have(const OptionStrings *list, const char *name) {
  for (size_t i = 0; i < list->count; i++) {
    if (strcmp(list->items[i], name) == 0) return true;
  }
  return false;
}

ModelQuantize weights_quantize(const char *weights) {
  for (int i = 0; model_quantize_choices[i]; i++)
    if (strcmp(model_quantize_choices[i], weights) == 0) return (ModelQuantize)i;
  return MODEL_QUANTIZE_NONE;
}
