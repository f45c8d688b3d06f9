#include "train/saved_tokens.h"

#include "formats/gguf.h"
#include "tokenizer/extend.h"

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

/* A file that somebody made of weights alone has none. */
static bool has_vocabulary(const char *file, bool *has, Error *error) {
  GgufFile opened;
  if (!gguf_file_open(&opened, file, error)) return false;
  *has = gguf_find(&opened, "tokenizer.ggml.tokens") != NULL;
  gguf_file_close(&opened);
  return true;
}

bool saved_tokenizer_write(const char *source, const char *directory, Error *error) {
  char *file = NULL;
  bool has = false;
  int first;
  if (source && !gguf_locate(source, &file, error)) return false;
  const bool ok = !file || (has_vocabulary(file, &has, error) &&
                            (!has || tokenizer_extend(file, directory, NULL, 0, &first, error)));
  memory_free(file);
  return ok;
}
