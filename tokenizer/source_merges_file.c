/* vocab.json and merges.txt, the files of GPT-2 and those who followed it. */
#include "base/file.h"
#include "tokenizer/source.h"

#include <string.h>

/* Each line but the first, "#version: 0.2", is a merge. */
static bool put_merges(const char *path, const Buffer *text, json_t *model, Error *error) {
  json_t *merges = json_array();
  if (!json_put(model, "merges", merges, error)) return false;
  size_t number = 0;
  for (const char *at = text->data, *end = at + text->size; at < end;) {
    const char *newline = memchr(at, '\n', (size_t)(end - at));
    size_t bytes = (size_t)((newline ? newline : end) - at);
    const char *next = newline ? newline + 1 : end;
    if (bytes > 0 && at[bytes - 1] == '\r') bytes--;
    number++;
    if (bytes < 8 || memcmp(at, "#version", 8) != 0) {
      json_t *line = json_stringn(at, bytes);
      const char *space = memchr(at, ' ', bytes);
      if (!line || !space) {
        json_decref(line);
        return error_set(error, ERROR_MODEL, "%s:%zu: expected two tokens with a space between", path,
                         number);
      }
      if (!json_push(merges, line, error)) return false;
    }
    at = next;
  }
  return true;
}

/* AutoTokenizer's class; where that is TokenizersBackend, which reads no such files, the one that is named. */
static bool choose(const char *vocab, const Companions *files, TokenizerClass *class, TokenizerSource *source,
                   Error *error) {
  if (!class_choose(files, false, class, error)) return false;
  if (class->kind == CLASS_BACKEND && files->config.value) {
    const Companions named = {.config = files->config};
    if (!class_choose(&named, false, class, error)) return false;
    source->note = memory_format(
        "%s: AutoTokenizer of Transformers 5 does not read this directory, because it has no "
        "tokenizer.json; it is read as %s",
        vocab, class->name);
    if (!source->note) return error_out_of_memory(error, "note", 0);
  }
  if (class->kind == CLASS_GPT2 || class->kind == CLASS_NEOX || class->kind == CLASS_QWEN2) return true;
  return error_set(
      error, ERROR_MODEL,
      "%s: without a tokenizer.json the class %s is not supported (known: GPT2Tokenizer, CodeGenTokenizer, "
      "GPTNeoXTokenizer, Qwen2Tokenizer); save the tokenizer as tokenizer.json with Transformers",
      vocab, class->name);
}

static bool make(const char *vocab, const char *merges, const Companions *files, TokenizerSource *source,
                 Error *error) {
  TokenizerClass class;
  Buffer text = {0};
  json_t *model = json_object();
  source->top = json_object();
  bool done = (source->top && model) || error_out_of_memory(error, "tokenizer", 0);
  done = done && json_put(source->top, "model", model, error) &&
         choose(vocab, files, &class, source, error) && source_config(files, source, error) &&
         class_names(&class, source->config, error) &&
         json_file_text(vocab, json_limit_tokenizer, &text, error);
  json_t *tokens = done ? reader_parse(vocab, &text, error) : NULL;
  buffer_clear(&text);
  done = tokens && json_put(model, "vocab", tokens, error) &&
         json_put(model, "type", json_string("BPE"), error) &&
         json_file_text(merges, json_limit_tokenizer, &text, error) &&
         put_merges(merges, &text, model, error) && class_steps(&class, &files->config, source->top, error);
  buffer_free(&text);
  return done;
}

bool source_merges_file(const char *vocab, const char *merges, const Companions *files,
                        TokenizerSource *source, Error *error) {
  *source = (TokenizerSource){0};
  if (make(vocab, merges, files, source, error)) return true;
  tokenizer_source_free(source);
  return false;
}
