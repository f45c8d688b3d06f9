/* The vocabulary in a GGUF file's metadata, as llama.cpp reads it (src/llama-vocab.cpp):
 *
 *   tokenizer.ggml.model       "llama": SentencePiece's BPE by scores; "gpt2": byte-level BPE with merges
 *   tokenizer.ggml.pre         by which patterns "gpt2" cuts a text
 *   tokenizer.ggml.tokens, scores, token_type, merges
 *   tokenizer.ggml.bos_token_id, eos_token_id, unknown_token_id, padding_token_id
 *   tokenizer.ggml.add_bos_token, add_eos_token, add_space_prefix; tokenizer.chat_template */
#include "formats/gguf.h"
#include "formats/sentencepiece.h"
#include "tokenizer/merges.h"
#include "tokenizer/source.h"

#include <string.h>

#define SPACE_MARK "\xe2\x96\x81"

typedef struct Making {
  const GgufFile *file;
  const GgufValue *tokens, *scores, *types, *merges;
  bool pieces;     /* "llama"; else "gpt2" with */
  size_t patterns; /* index into known */
  json_t *top, *config;
} Making;

/* ---- patterns by name ---- */

#define GPT2_PATTERN  "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
#define LLAMA3_SUFFIX " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define LLAMA3_PREFIX "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|"
#define CASED_WORDS                                                                                     \
  "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+" CASED_END \
  "|"                                                                                                   \
  "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*" CASED_END "|"

static const char gpt2[] = GPT2_PATTERN;
static const char llama3[] = LLAMA3_PREFIX "\\p{N}{1,3}|" LLAMA3_SUFFIX;
static const char qwen2[] = LLAMA3_PREFIX "\\p{N}|" LLAMA3_SUFFIX;
static const char digit[] = "\\p{N}";
static const char bloom[] =
    " ?[^(\\s|.,!?\xe2\x80\xa6\xe3\x80\x82\xef\xbc\x8c\xe3\x80\x81\xe0\xa5\xa4\xdb\x94\xd8\x8c)]+";
static const char signs[] = "[\\p{P}\\$\\+<=>\\^~\\|`]+";
static const char three_digits[] = "[0-9][0-9][0-9]";
#define CASED_END ""
static const char tekken[] =
    CASED_WORDS "\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
#undef CASED_END
#define CASED_END "(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
static const char gpt4o[] =
    CASED_WORDS "\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

/* One after the other cuts what the one before left whole. `whole`: a word of the vocabulary is not merged, and
 * BOS is put in front unless the file says otherwise. */
static const struct {
  const char *name;
  const char *patterns[4]; /* NULL behind the last */
  bool whole;
} known[] = {{"gpt-2", {gpt2}, false},
             {"mpt", {gpt2}, false},
             {"olmo", {gpt2}, false},
             {"jais", {gpt2}, false},
             {"phi-2", {gpt2}, false},
             {"gpt-neox", {gpt2}, false},
             {"llama-bpe", {llama3}, true},
             {"llama3", {llama3}, true},
             {"llama-v3", {llama3}, true},
             {"falcon3", {llama3}, true},
             {"pixtral", {llama3}, true},
             {"smaug-bpe", {llama3}, false},
             {"dbrx", {llama3}, false},
             {"glm4", {llama3}, false},
             {"chatglm-bpe", {llama3}, false},
             {"qwen2", {qwen2}, false},
             {"stablelm2", {qwen2}, false},
             {"deepseek-r1-qwen", {qwen2}, false},
             {"megrez", {qwen2}, false},
             {"smollm", {digit, gpt2}, false},
             {"starcoder", {digit, gpt2}, false},
             {"refact", {digit, gpt2}, false},
             {"command-r", {digit, gpt2}, false},
             {"codeshell", {digit, gpt2}, false},
             {"exaone", {digit, gpt2}, false},
             {"minerva-7b", {digit, gpt2}, false},
             {"falcon", {signs, gpt2, three_digits}, false},
             {"bloom", {bloom}, false},
             {"tekken", {tekken}, true},
             {"gpt-4o", {gpt4o}, false}};
enum { KNOWN = sizeof known / sizeof *known };

static bool unknown_pre(const Making *making, GgufText name, Error *error) {
  char names[512] = "";
  size_t used = 0;
  for (size_t i = 0; i < KNOWN && used < sizeof names; i++)
    used += (size_t)snprintf(names + used, sizeof names - used, "%s%s", i ? ", " : "", known[i].name);
  return gguf_fail(
      making->file, "tokenizer.ggml.pre", error,
      "the patterns of '%.*s' are not known, and without them a text would be cut otherwise than in training "
      "(known: %s); take the tokenizer.json of the model",
      (int)(name.size > 60 ? 60 : name.size), name.data ? name.data : "", names);
}

static bool find_patterns(const Making *making, size_t *which, Error *error) {
  GgufText name = {0};
  if (!gguf_text(making->file, "tokenizer.ggml.pre", &name, error)) return false;
  for (*which = 0; *which < KNOWN; ++*which)
    if (name.data && gguf_text_is(name, known[*which].name)) return true;
  return unknown_pre(making, name, error);
}

static bool put_patterns(const Making *making, Error *error) {
  const size_t which = making->patterns;
  json_t *steps = json_array();
  json_t *all = json_pack("{s:s, s:o}", "type", "Sequence", "pretokenizers", steps);
  if (!json_put(making->top, "pre_tokenizer", all, error)) return false;
  for (size_t i = 0; known[which].patterns[i]; i++) {
    json_t *step = json_pack("{s:s, s:{s:s}, s:s, s:b}", "type", "Split", "pattern", "Regex",
                             known[which].patterns[i], "behavior", "Isolated", "invert", 0);
    if (!json_push(steps, step, error)) return false;
  }
  json_t *bytes = json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", 0,
                            "trim_offsets", 1, "use_regex", 0);
  return json_push(steps, bytes, error) &&
         json_put(json_object_get(making->top, "model"), "ignore_merges", json_boolean(known[which].whole),
                  error) &&
         json_put(making->top, "decoder",
                  json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", 1,
                            "trim_offsets", 1, "use_regex", 1),
                  error);
}

/* ---- vocabulary ---- */

static bool put_vocab(const Making *making, json_t *model, Error *error) {
  json_t *vocab = json_object();
  if (!json_put(model, "vocab", vocab, error)) return false;
  const void *at = NULL;
  for (uint64_t id = 0; id < making->tokens->count; id++) {
    const GgufText text = gguf_value_text(making->tokens, &at);
    size_t skip;
    if (text.size == 0 || memchr(text.data, 0, text.size) ||
        utf8_valid_prefix(text.data, text.size, &skip) < text.size)
      return gguf_fail(making->file, "tokenizer.ggml.tokens", error, "token %llu is empty or no UTF-8 text",
                       (unsigned long long)id);
    if (json_object_getn(vocab, text.data, text.size))
      return gguf_fail(making->file, "tokenizer.ggml.tokens", error, "token %llu has the text of token %lld",
                       (unsigned long long)id,
                       json_integer_value(json_object_getn(vocab, text.data, text.size)));
    if (json_object_setn_new(vocab, text.data, text.size, json_integer((json_int_t)id)) != 0)
      return error_out_of_memory(error, "vocabulary", text.size);
  }
  return true;
}

static bool put_given_merges(const Making *making, json_t *model, Error *error) {
  json_t *merges = json_array();
  const void *at = NULL;
  if (!json_put(model, "merges", merges, error)) return false;
  if (!making->merges)
    return gguf_fail(making->file, "tokenizer.ggml.merges", error,
                     "missing: a byte-level vocabulary has merges");
  for (uint64_t i = 0; i < making->merges->count; i++) {
    const GgufText text = gguf_value_text(making->merges, &at);
    json_t *merge = json_stringn(text.data ? text.data : "", text.size);
    if (!merge)
      return gguf_fail(making->file, "tokenizer.ggml.merges", error, "merge %llu is no UTF-8 text",
                       (unsigned long long)i);
    if (!json_push(merges, merge, error)) return false;
  }
  return true;
}

static bool put_scored_merges(const Making *making, json_t *model, Error *error) {
  const size_t count = (size_t)making->tokens->count;
  MergePiece *pieces = memory_alloc((count + 1) * sizeof *pieces);
  json_t *ranks;
  const void *at = NULL;
  if (!pieces) return error_out_of_memory(error, "merges", count * sizeof *pieces);
  for (size_t i = 0; i < count; i++) {
    const GgufText text = gguf_value_text(making->tokens, &at);
    pieces[i] = (MergePiece){text.data, text.size, -gguf_value_number(making->scores, i)};
  }
  json_t *merges = merges_derive(pieces, count, &ranks, error);
  memory_free(pieces);
  return merges && json_put(model, "merges", merges, error) && json_put(model, "merge_ranks", ranks, error);
}

static json_int_t type_of(const Making *making, uint64_t id) {
  return making->types ? gguf_value_int(making->types, id) : PIECE_NORMAL;
}

/* A new value, or NULL where memory is out. */
static json_t *token_text(const Making *making, int64_t id) {
  const void *at = NULL;
  GgufText text = {0};
  for (int64_t i = 0; i <= id; i++) text = gguf_value_text(making->tokens, &at);
  return json_stringn(text.data, text.size);
}

/* Control tokens are special, user-defined ones are found in every text as well. */
static bool put_added(const Making *making, Error *error) {
  json_t *list = json_array();
  const void *at = NULL;
  if (!json_put(making->top, "added_tokens", list, error)) return false;
  for (uint64_t id = 0; id < making->tokens->count; id++) {
    const GgufText text = gguf_value_text(making->tokens, &at);
    const json_int_t type = type_of(making, id);
    const bool special = type == PIECE_CONTROL || type == PIECE_UNKNOWN;
    if (!special && type != PIECE_USER_DEFINED) continue;
    if (!json_push(list, source_added_token((json_int_t)id, text.data, text.size, special), error))
      return false;
  }
  return true;
}

/* ---- steps of "llama" ---- */

static bool put_piece_steps(const Making *making, Error *error) {
  bool prefix = true;
  if (!gguf_bool(making->file, "tokenizer.ggml.add_space_prefix", &prefix, error)) return false;
  json_t *steps = json_array(), *decoders = json_array();
  json_t *all = json_pack("{s:s, s:o}", "type", "Sequence", "normalizers", steps);
  json_t *decoder = json_pack("{s:s, s:o}", "type", "Sequence", "decoders", decoders);
  json_t *replace =
      json_pack("{s:s, s:{s:s}, s:s}", "type", "Replace", "pattern", "String", " ", "content", SPACE_MARK);
  json_t *back =
      json_pack("{s:s, s:{s:s}, s:s}", "type", "Replace", "pattern", "String", SPACE_MARK, "content", " ");
  json_t *strip = json_pack("{s:s, s:s, s:i, s:i}", "type", "Strip", "content", " ", "start", 1, "stop", 0);
  bool done = json_put(making->top, "normalizer", all, error);
  done = json_put(making->top, "decoder", decoder, error) && done;
  if (done && prefix)
    done = json_push(steps, json_pack("{s:s, s:s}", "type", "Prepend", "prepend", SPACE_MARK), error);
  done = done && json_push(steps, json_incref(replace), error) &&
         json_push(decoders, json_incref(back), error) &&
         json_push(decoders, json_pack("{s:s}", "type", "ByteFallback"), error) &&
         json_push(decoders, json_pack("{s:s}", "type", "Fuse"), error) &&
         (!prefix || json_push(decoders, json_incref(strip), error));
  json_decref(replace);
  json_decref(back);
  json_decref(strip);
  return done;
}

/* ---- what tokenizer_config.json would say ---- */

static bool put_special(const Making *making, const char *key, const char *from, Error *error) {
  int64_t id = -1;
  if (!gguf_int(making->file, from, 0, (int64_t)making->tokens->count - 1, &id, error)) return false;
  return id < 0 || json_put(making->config, key, token_text(making, id), error);
}

static bool put_config(const Making *making, Error *error) {
  bool bos = making->pieces || known[making->patterns].whole, eos = false;
  GgufText template = {0};
  if (!put_special(making, "bos_token", "tokenizer.ggml.bos_token_id", error) ||
      !put_special(making, "eos_token", "tokenizer.ggml.eos_token_id", error) ||
      !put_special(making, "unk_token", "tokenizer.ggml.unknown_token_id", error) ||
      !put_special(making, "pad_token", "tokenizer.ggml.padding_token_id", error) ||
      !gguf_bool(making->file, "tokenizer.ggml.add_bos_token", &bos, error) ||
      !gguf_bool(making->file, "tokenizer.ggml.add_eos_token", &eos, error) ||
      !gguf_text(making->file, "tokenizer.chat_template", &template, error))
    return false;
  size_t skip;
  if (template.data && utf8_valid_prefix(template.data, template.size, &skip) < template.size)
    return gguf_fail(making->file, "tokenizer.chat_template", error, "no UTF-8 text");
  if (template.data &&
      !json_put(making->config, "chat_template", json_stringn(template.data, template.size), error))
    return false;
  return json_put(making->config, "add_bos_token", json_boolean(bos), error) &&
         json_put(making->config, "add_eos_token", json_boolean(eos), error) &&
         json_put(making->config, "tokenizer_class", json_string("PreTrainedTokenizerFast"), error);
}

static bool check(Making *making, Error *error) {
  GgufText kind = {0};
  if (!gguf_text(making->file, "tokenizer.ggml.model", &kind, error) ||
      !gguf_array(making->file, "tokenizer.ggml.tokens", GGUF_STRING, &making->tokens, error) ||
      !gguf_array(making->file, "tokenizer.ggml.scores", GGUF_F32, &making->scores, error) ||
      !gguf_array(making->file, "tokenizer.ggml.token_type", GGUF_I32, &making->types, error) ||
      !gguf_array(making->file, "tokenizer.ggml.merges", GGUF_STRING, &making->merges, error))
    return false;
  if (!kind.data)
    return gguf_fail(making->file, "tokenizer.ggml.model", error, "missing: the file has no vocabulary");
  making->pieces = gguf_text_is(kind, "llama");
  if (!making->pieces && !gguf_text_is(kind, "gpt2"))
    return gguf_fail(making->file, "tokenizer.ggml.model", error,
                     "'%.*s' is not supported (known: llama, gpt2)", (int)(kind.size > 60 ? 60 : kind.size),
                     kind.data);
  if (!making->tokens || making->tokens->count == 0)
    return gguf_fail(making->file, "tokenizer.ggml.tokens", error, "missing");
  const uint64_t count = making->tokens->count;
  if (!making->pieces && !find_patterns(making, &making->patterns, error)) return false;
  if (making->pieces && !making->scores)
    return gguf_fail(making->file, "tokenizer.ggml.scores", error, "missing");
  if ((making->scores && making->scores->count != count) || (making->types && making->types->count != count))
    return gguf_fail(making->file, "tokenizer.ggml.tokens", error,
                     "%llu tokens, but another number of scores or types", (unsigned long long)count);
  return true;
}

static bool make(Making *making, Error *error) {
  if (!check(making, error)) return false;
  json_t *model = json_object();
  if (!json_put(making->top, "model", model, error)) return false;
  if (!json_put(model, "type", json_string("BPE"), error) || !put_vocab(making, model, error) ||
      !put_config(making, error) || !put_added(making, error) ||
      !json_put(model, "fuse_unk", json_boolean(making->pieces), error) ||
      !json_put(model, "byte_fallback", json_boolean(making->pieces), error))
    return false;
  if (!making->pieces) return put_given_merges(making, model, error) && put_patterns(making, error);
  json_t *unk = json_object_get(making->config, "unk_token");
  return put_scored_merges(making, model, error) && put_piece_steps(making, error) &&
         (!unk || json_put(model, "unk_token", json_incref(unk), error));
}

bool source_gguf(const char *path, TokenizerSource *source, Error *error) {
  GgufFile file;
  *source = (TokenizerSource){.top = json_object(), .config = json_object()};
  if (!source->top || !source->config) {
    tokenizer_source_free(source);
    return error_out_of_memory(error, "tokenizer", 0);
  }
  bool done = gguf_file_open(&file, path, error);
  if (done) {
    Making making = {.file = &file, .top = source->top, .config = source->config};
    done = make(&making, error);
    gguf_file_close(&file);
  }
  if (!done) tokenizer_source_free(source);
  return done;
}
