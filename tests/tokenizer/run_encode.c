/* What Drover makes of many texts with one tokenizer: tokenizer_encode DIRECTORY [KIND] < TEXTS > RESULTS; for compare.py.
 *
 * Numbers are u32 of the machine. In: per text its bytes and their number in front. Out, per text: the ids with special tokens (their number, then
 * each), the text of those (bytes, then it), the ids without special tokens, and for each of these two numbers, its span of whole characters. */
#include "tests/support/tokens.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void fail(const char *message) {
  fprintf(stderr, "tokenizer_encode: %s\n", message);
  exit(1);
}

static void put(const void *data, size_t count, size_t size) {
  uint32_t number = (uint32_t)count;
  fwrite(&number, sizeof number, 1, stdout);
  fwrite(data ? data : "", size, count, stdout);
}

static void run(const Tokenizer *tokenizer, const char *text, size_t bytes) {
  Error error = {0};
  IntArray ids = {0}, plain = {0};
  TokenSpans spans = {0};
  Buffer decoded = {0};
  if (!tokenizer_encode(tokenizer, text, bytes, true, &ids, &error) ||
      !tokenizer_decode(tokenizer, ids.data, ids.size, false, &decoded, &error) ||
      !tokenizer_encode_spans(tokenizer, text, bytes, false, &plain, &spans, &error))
    fail(error.message);
  put(ids.data, ids.size, sizeof *ids.data);
  put(decoded.data, decoded.size, 1);
  put(plain.data, plain.size, sizeof *plain.data);
  for (size_t i = 0; i < spans.size; i++) {
    TokenSpan span = whole_characters(text, bytes, spans.data[i]);
    fwrite(&span, sizeof span, 1, stdout);
  }
  int_array_free(&ids);
  int_array_free(&plain);
  token_spans_free(&spans);
  buffer_free(&decoded);
}

int main(int argc, char **argv) {
  Error error = {0};
  if (argc != 2 && argc != 3) fail("a directory is wanted");
  const TokenizerKind kind = argc == 2 || strcmp(argv[2], "auto") == 0 ? TOKENIZER_AUTO
                             : strcmp(argv[2], "file") == 0            ? TOKENIZER_FILE
                                                                       : TOKENIZER_SENTENCEPIECE;
  Tokenizer *tokenizer = tokenizer_open_kind(argv[1], kind, &error);
  if (!tokenizer) fail(error.message);
  uint32_t bytes;
  while (fread(&bytes, sizeof bytes, 1, stdin) == 1) {
    char *text = malloc((size_t)bytes + 1);
    if (!text || fread(text, 1, bytes, stdin) != bytes) fail("the texts end early");
    run(tokenizer, text, bytes);
    free(text);
  }
  tokenizer_free(tokenizer);
  if (fflush(stdout) != 0) fail("the results cannot be written");
  return 0;
}
