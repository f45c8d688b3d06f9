#include "train/saved_tokens.h"

static bool is_end(const SavedTokens *tokens, const Tokenizer *tokenizer, int id) {
  for (int i = 0; i < tokens->end_count; i++) {
    if (tokens->ends[i] == id) return true;
  }
  return tokenizer_is_eos(tokenizer, id);
}

void saved_tokens_find_pad(SavedTokens *tokens, const Tokenizer *tokenizer, int64_t vocab) {
  static const char *const usual[] = {
      "<pad>", "[PAD]", "<PAD>", "<|pad|>", "<|padding|>", "<|finetune_right_pad_id|>", "<|pad_token|>"};
  enum { USUAL = sizeof usual / sizeof *usual };
  int candidates[USUAL + 3];
  candidates[0] = tokenizer_pad(tokenizer);
  for (size_t i = 0; i < USUAL; i++) candidates[1 + i] = tokenizer_id(tokenizer, usual[i]);
  candidates[1 + USUAL] = tokenizer_unk(tokenizer);
  candidates[2 + USUAL] = tokenizer_vocab_size(tokenizer);
  tokens->pad = -1;
  for (size_t i = 0; tokens->pad < 0 && i < USUAL + 3; i++) {
    const int id = candidates[i];
    if (id >= 0 && id < vocab && !is_end(tokens, tokenizer, id)) tokens->pad = id;
  }
}
