#include "base/companions.h"

#include "base/file.h"

#include <fnmatch.h>
#include <string.h>

/* As Transformers names them: its tokenizer base classes, and the vocabulary files of single ones; and code, which names itself. */
static const char *const patterns[] = {"tokenizer.json",
                                       "tokenizer_config.json",
                                       "special_tokens_map.json",
                                       "added_tokens.json",
                                       "vocab.json",
                                       "vocab.txt",
                                       "merges.txt",
                                       "tokenizer.model",
                                       "tokenizer.model.v*",
                                       "sentencepiece.bpe.model",
                                       "spiece.model",
                                       "tekken.json",
                                       "*.tiktoken",
                                       "tiktoken.model",
                                       "*.py",
                                       "chat_template.jinja",
                                       "chat_template.json",
                                       "additional_chat_templates"};

static bool is_companion(const char *name) {
  for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++) {
    if (fnmatch(patterns[i], name, 0) == 0) return true;
  }
  return false;
}

static bool copy_all(const char *from, const char *to, bool (*chosen)(const char *name), Error *error);

static bool copy_one(const char *from, const char *to, Error *error) {
  if (!directory_exists(from)) return file_copy(from, to, error);
  return directory_create(to, error) && copy_all(from, to, NULL, error);
}

/* `chosen` NULL: all of them. */
static bool copy_all(const char *from, const char *to, bool (*chosen)(const char *name), Error *error) {
  StringList names = {0};
  bool ok = directory_list(from, &names, error);
  for (size_t i = 0; ok && i < names.count; i++) {
    if (chosen && !chosen(names.items[i])) continue;
    char *source = path_join(from, names.items[i]), *target = path_join(to, names.items[i]);
    ok =
        source && target ? copy_one(source, target, error) : error_out_of_memory(error, "path", strlen(from));
    memory_free(source);
    memory_free(target);
  }
  string_list_free(&names);
  return ok;
}

bool companions_copy(const char *from, const char *to, Error *error) {
  return !directory_exists(from) || path_same(from, to) || copy_all(from, to, is_companion, error);
}
