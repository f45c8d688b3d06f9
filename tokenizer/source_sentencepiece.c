/* tokenizer.model: as the classes of Transformers build it (convert_slow_tokenizer.py: SentencePieceExtractor and
 * build_tokenizer_from_spm_proto), and as SentencePiece itself reads it. */
#include "formats/sentencepiece.h"
#include "tokenizer/merges.h"
#include "tokenizer/source.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define SPACE_MARK "\xe2\x96\x81"

typedef struct Making {
  const char *path;
  const SentencePieceModel *model;
  const Companions *files;
  const char *
      *names; /* of the pieces by id; other names than the file's where added_tokens_decoder has some */
  TokenizerClass class;
  bool plain; /* TOKENIZER_SENTENCEPIECE */
  TokenizerSource *out;
} Making;

static bool unsupported(const Making *making, Error *error, const char *what) {
  return error_set(error, ERROR_MODEL, "%s: %s; save the tokenizer as tokenizer.json with Transformers",
                   making->path, what);
}

/* ---- names ---- */

/* Pieces are no NUL-terminated strings; names are, and live in the pool. */
static bool copy_names(const Making *making, StringPool *pool, Error *error) {
  StringTable seen = {0};
  bool done = true;
  for (size_t i = 0; done && i < making->model->count; i++) {
    const SentencePiece *piece = &making->model->pieces[i];
    size_t skip;
    if (utf8_valid_prefix(piece->text, piece->bytes, &skip) < piece->bytes)
      done = error_set(error, ERROR_MODEL, "%s: piece %zu is not UTF-8", making->path, i);
    else if (string_table_get(&seen, piece->text, piece->bytes) >= 0)
      done = error_set(error, ERROR_MODEL, "%s: pieces %d and %zu have the same text", making->path,
                       string_table_get(&seen, piece->text, piece->bytes), i);
    done = done && string_table_put(&seen, piece->text, piece->bytes, (int)i, error);
    if (done) making->names[i] = string_pool_add(pool, piece->text, piece->bytes, error);
    done = done && making->names[i];
  }
  string_table_free(&seen);
  return done;
}

/* Calls visit with each id and text of added_tokens_decoder, or, without it, of added_tokens.json. */
static bool each_added(const Companions *files,
                       bool (*visit)(void *context, long long id, const char *text, Error *error),
                       void *context, Error *error) {
  const char *key;
  json_t *value;
  const json_t *decoder = json_object_get(files->config.value, "added_tokens_decoder");
  json_object_foreach((json_t *)decoder, key, value) {
    const char *text = json_string_value(json_object_get(value, "content"));
    if (text && !visit(context, strtoll(key, NULL, 10), text, error)) return false;
  }
  if (decoder) return true;
  json_object_foreach(files->added.value, key, value) {
    if (json_is_integer(value) && !visit(context, json_integer_value(value), key, error)) return false;
  }
  return true;
}

typedef struct Renaming {
  const Making *making;
  StringPool *pool;
  StringTable kept;    /* pieces that keep their names */
  StringTable renamed; /* by text: ids */
} Renaming;

static bool note_renamed(void *context, long long id, const char *text, Error *error) {
  Renaming *renaming = context;
  const Making *making = renaming->making;
  if (id < 0 || (size_t)id >= making->model->count) return true;
  const char *kept = string_pool_add(renaming->pool, text, strlen(text), error);
  return kept && string_table_put(&renaming->renamed, kept, strlen(kept), (int)id, error);
}

/* TokenizersBackend gives a piece the name that added_tokens_decoder has for its id, unless another piece keeps it. */
static bool rename_pieces(const Making *making, StringPool *pool, Error *error) {
  Renaming renaming = {.making = making, .pool = pool};
  bool done = each_added(making->files, note_renamed, &renaming, error);
  const size_t count = making->model->count;
  bool *changes = done ? memory_zeroed(count + 1, sizeof *changes) : NULL;
  done = done && (changes || error_out_of_memory(error, "pieces", count));
  for (size_t i = 0; done && i < renaming.renamed.capacity; i++)
    if (renaming.renamed.slots[i].text) changes[renaming.renamed.slots[i].value] = true;
  for (size_t i = 0; done && i < count; i++)
    if (!changes[i])
      done = string_table_put(&renaming.kept, making->names[i], strlen(making->names[i]), (int)i, error);
  for (size_t i = 0; done && i < renaming.renamed.capacity; i++) {
    const StringSlot *slot = &renaming.renamed.slots[i];
    if (slot->text && string_table_get(&renaming.kept, slot->text, slot->bytes) < 0)
      making->names[slot->value] = slot->text;
  }
  memory_free(changes);
  string_table_free(&renaming.kept);
  string_table_free(&renaming.renamed);
  return done;
}

/* ---- the model ---- */

/* All pieces, those of Transformers' classes, in the order of ids; or the normal ones, by score. */
static json_t *make_merges(const Making *making, json_t **ranks, Error *error) {
  const bool by_id = making->class.kind != CLASS_BACKEND && !making->plain;
  const size_t count = making->model->count;
  MergePiece *pieces = memory_alloc((count + 1) * sizeof *pieces);
  if (!pieces) {
    error_out_of_memory(error, "merges", count * sizeof *pieces);
    return NULL;
  }
  size_t used = 0;
  for (size_t i = 0; i < count; i++) {
    const SentencePiece *piece = &making->model->pieces[i];
    if (!by_id && piece->type != PIECE_NORMAL) continue;
    const double key = by_id ? (double)i : -(double)piece->score;
    pieces[used++] = (MergePiece){making->names[i], strlen(making->names[i]), key};
  }
  json_t *merges = merges_derive(pieces, used, making->plain ? ranks : NULL, error);
  memory_free(pieces);
  return merges;
}

static bool has_type(const SentencePieceModel *model, PieceType type) {
  for (size_t i = 0; i < model->count; i++)
    if (model->pieces[i].type == type) return true;
  return false;
}

static bool put_user_defined(const Making *making, json_t *object, const char *key, Error *error) {
  json_t *names = json_array();
  if (!json_put(object, key, names, error)) return false;
  for (size_t i = 0; i < making->model->count; i++)
    if (making->model->pieces[i].type == PIECE_USER_DEFINED &&
        !json_push(names, json_string(making->names[i]), error))
      return false;
  return true;
}

static bool put_bpe(const Making *making, json_t *model, Error *error) {
  json_t *vocab = json_object(), *ranks = NULL;
  if (!json_put(model, "vocab", vocab, error)) return false;
  for (size_t i = 0; i < making->model->count; i++)
    if (!json_put(vocab, making->names[i], json_integer((json_int_t)i), error)) return false;
  json_t *merges = make_merges(making, &ranks, error);
  return merges && json_put(model, "merges", merges, error) &&
         (!ranks || json_put(model, "merge_ranks", ranks, error)) &&
         json_put(model, "type", json_string("BPE"), error) &&
         json_put(model, "unk_token", json_string(making->model->unk_piece), error) &&
         json_put(model, "fuse_unk", json_true(), error) &&
         (making->plain ? put_user_defined(making, model, "whole_pieces", error)
                        : json_put(model, "ignore_merges",
                                   json_boolean(has_type(making->model, PIECE_USER_DEFINED)), error));
}

static bool put_unigram(const Making *making, json_t *model, Error *error) {
  json_t *vocab = json_array();
  if (!json_put(model, "vocab", vocab, error)) return false;
  for (size_t i = 0; i < making->model->count; i++) {
    const SentencePiece *piece = &making->model->pieces[i];
    const bool never = making->plain && (piece->type == PIECE_CONTROL || piece->type == PIECE_BYTE ||
                                         piece->type == PIECE_UNKNOWN);
    json_t *pair = json_pack("[s, f]", making->names[i], (double)piece->score);
    if (!json_push(vocab, pair, error) || (never && !json_push(pair, json_string("never"), error)))
      return false;
  }
  return json_put(model, "type", json_string("Unigram"), error) &&
         json_put(model, "unk_id", json_integer(making->model->unk), error);
}

static bool put_model(const Making *making, Error *error) {
  json_t *model = json_object();
  return json_put(making->out->top, "model", model, error) &&
         json_put(model, "byte_fallback", json_boolean(making->model->byte_fallback), error) &&
         (making->model->kind == SENTENCEPIECE_BPE ? put_bpe(making, model, error)
                                                   : put_unigram(making, model, error));
}

/* ---- the other steps, where no class builds them ---- */

static json_t *replace_step(const char *kind, const char *pattern, const char *content) {
  return json_pack("{s:s, s:{s:s}, s:s}", "type", "Replace", "pattern", kind, pattern, "content", content);
}

static json_t *base64(const char *bytes, size_t count) {
  static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  char *text = memory_alloc(count / 3 * 4 + 5);
  size_t used = 0;
  for (size_t i = 0; text && i < count; i += 3) {
    uint32_t group = 0;
    for (size_t k = 0; k < 3; k++) group = group << 8 | (i + k < count ? (unsigned char)bytes[i + k] : 0u);
    for (size_t k = 0; k < 4; k++) text[used++] = i + k > count ? '=' : digits[group >> (18 - 6 * k) & 63];
  }
  json_t *value = text ? json_stringn(text, used) : NULL;
  memory_free(text);
  return value;
}

/* TOKENIZER_SENTENCEPIECE: tokenizer/spaces.h. */
static bool put_own_normalizer(const Making *making, Error *error) {
  const SentencePieceModel *model = making->model;
  json_t *step =
      json_pack("{s:s, s:b, s:b, s:b}", "type", "SentencePiece", "add_dummy_prefix",
                (int)model->add_dummy_prefix, "remove_extra_whitespaces",
                (int)model->remove_extra_whitespaces, "escape_whitespaces", (int)model->escape_whitespaces);
  if (!json_put(making->out->top, "normalizer", step, error) ||
      !put_user_defined(making, step, "user_defined", error))
    return false;
  return model->charsmap_bytes == 0 ||
         json_put(step, "precompiled_charsmap", base64(model->charsmap, model->charsmap_bytes), error);
}

static bool put_normalizer(const Making *making, Error *error) {
  if (making->plain) return put_own_normalizer(making, error);
  const SentencePieceModel *model = making->model;
  const bool legacy = !json_is_false(json_object_get(making->out->config, "legacy"));
  json_t *steps = json_array();
  json_t *all = json_pack("{s:s, s:o}", "type", "Sequence", "normalizers", steps);
  if (!json_put(making->out->top, "normalizer", all, error)) return false;
  if (model->charsmap_bytes > 0 &&
      !json_push(steps,
                 json_pack("{s:s, s:o}", "type", "Precompiled", "precompiled_charsmap",
                           base64(model->charsmap, model->charsmap_bytes)),
                 error))
    return false;
  if (model->remove_extra_whitespaces &&
      (!json_push(steps, replace_step("Regex", "\\A +| +\\z", ""), error) ||
       !json_push(steps, replace_step("Regex", " {2,}", " "), error)))
    return false;
  if (model->escape_whitespaces && !json_push(steps, replace_step("String", " ", SPACE_MARK), error))
    return false;
  return !(model->add_dummy_prefix && legacy) ||
         json_push(steps, replace_step("Regex", "\\A" SPACE_MARK, SPACE_MARK SPACE_MARK), error);
}

static int longer_first(const void *a, const void *b) {
  const char *left = *(const char *const *)a, *right = *(const char *const *)b;
  const size_t x = strlen(left), y = strlen(right);
  return x != y ? (x < y ? 1 : -1) : strcmp(left, right);
}

static bool append_escaped(Buffer *pattern, const char *text, Error *error) {
  for (; *text; text++) {
    if (strchr("\\.[]{}()*+?^$|", *text) && !buffer_text(pattern, "\\", error)) return false;
    if (!buffer_append(pattern, text, 1, error)) return false;
  }
  return true;
}

/* A pattern that finds each user-defined piece, the longer first. */
static bool user_defined_pattern(const Making *making, Buffer *pattern, Error *error) {
  const size_t count = making->model->count;
  const char **names = memory_alloc((count + 1) * sizeof *names);
  if (!names) return error_out_of_memory(error, "pieces", count * sizeof *names);
  size_t used = 0;
  for (size_t i = 0; i < count; i++)
    if (making->model->pieces[i].type == PIECE_USER_DEFINED) names[used++] = making->names[i];
  qsort(names, used, sizeof *names, longer_first);
  bool done = true;
  for (size_t i = 0; done && i < used; i++)
    done = (i == 0 || buffer_text(pattern, "|", error)) && append_escaped(pattern, names[i], error);
  memory_free(names);
  return done;
}

static bool put_pre_tokenizer(const Making *making, Error *error) {
  const bool legacy = !json_is_false(json_object_get(making->out->config, "legacy"));
  json_t *steps = json_array();
  json_t *all = json_pack("{s:s, s:o}", "type", "Sequence", "pretokenizers", steps);
  if (!json_put(making->out->top, "pre_tokenizer", all, error)) return false;
  if (making->model->add_dummy_prefix && !making->plain &&
      !json_push(steps,
                 json_pack("{s:s, s:s, s:s, s:b}", "type", "Metaspace", "replacement", SPACE_MARK,
                           "prepend_scheme", legacy ? "always" : "first", "split", 0),
                 error))
    return false;
  Buffer pattern = {0};
  bool done = user_defined_pattern(making, &pattern, error);
  if (done && pattern.size > 0)
    done = json_push(steps,
                     json_pack("{s:s, s:{s:s}, s:s, s:b}", "type", "Split", "pattern", "Regex", pattern.data,
                               "behavior", "Isolated", "invert", 0),
                     error);
  buffer_free(&pattern);
  return done;
}

static bool put_decoder(const Making *making, Error *error) {
  const SentencePieceModel *model = making->model;
  json_t *steps = json_array();
  json_t *sequence = json_pack("{s:s, s:o}", "type", "Sequence", "decoders", steps);
  if (!json_put(making->out->top, "decoder", sequence, error) ||
      !json_push(steps, replace_step("String", SPACE_MARK, " "), error) ||
      (model->byte_fallback && !json_push(steps, json_pack("{s:s}", "type", "ByteFallback"), error)))
    return false;
  if (!json_push(steps, json_pack("{s:s}", "type", "Fuse"), error)) return false;
  /* that library takes every space off the beginning */
  const bool all = making->plain && model->remove_extra_whitespaces;
  if (!model->add_dummy_prefix && !all) return true;
  return json_push(steps,
                   json_pack("{s:s, s:s, s:i, s:i}", "type", "Strip", "content", " ", "start",
                             all ? 1 << 20 : 1, "stop", 0),
                   error);
}

/* ---- special and added tokens ---- */

static bool put_name(const Making *making, const char *key, int id, const char *name, Error *error) {
  json_t *config = making->out->config;
  if (id < 0 || json_object_get(config, key)) return true;
  return json_put(config, key, json_string(name), error);
}

/* TokenizersBackend looks for added tokens in the raw text, so that each stretch between them gets its space. */
static bool unset_normalized(const Making *making, Error *error) {
  const char *key;
  json_t *value;
  if (!making->model->add_dummy_prefix) return true;
  json_object_foreach(json_object_get(making->out->config, "added_tokens_decoder"), key, value) {
    if (json_is_object(value) && !json_put(value, "normalized", json_false(), error)) return false;
  }
  return true;
}

static bool put_names(const Making *making, Error *error) {
  const SentencePieceModel *model = making->model;
  if (making->class.kind != CLASS_BACKEND) return class_names(&making->class, making->out->config, error);
  return put_name(making, "bos_token", model->bos, model->bos_piece, error) &&
         put_name(making, "eos_token", model->eos, model->eos_piece, error) &&
         put_name(making, "unk_token", model->unk, model->unk_piece, error) &&
         unset_normalized(making, error);
}

static bool is_named(const Making *making, const char *text) {
  const char *key;
  json_t *value;
  json_object_foreach(making->out->config, key, value) {
    const size_t length = strlen(key);
    const char *name = json_string_value(json_is_object(value) ? json_object_get(value, "content") : value);
    if (name && length > 6 && strcmp(key + length - 6, "_token") == 0 && strcmp(name, text) == 0) return true;
  }
  return false;
}

/* A piece that was renamed is a new token by its old name. */
static bool put_extra(const Making *making, json_t *token, Error *error) {
  json_t *config = making->out->config, *extra = json_object_get(config, "extra_special_tokens");
  if (extra) return json_push(extra, token, error);
  return json_put(config, "extra_special_tokens", json_pack("[o]", token), error);
}

/* Control pieces are special tokens; user-defined ones are added tokens where the class has no step that finds them. A
 * list of special tokens in tokenizer_config.json is there instead, as in Transformers. */
static bool put_added(const Making *making, Error *error) {
  json_t *list = json_array();
  const json_t *config = making->files->config.value;
  if (!json_put(making->out->top, "added_tokens", list, error)) return false;
  if (!making->plain && (json_object_get(config, "additional_special_tokens") ||
                         json_is_array(json_object_get(config, "extra_special_tokens"))))
    return true;
  for (size_t i = 0; i < making->model->count; i++) {
    const SentencePiece *piece = &making->model->pieces[i];
    const bool own_step = making->class.kind == CLASS_BACKEND || making->plain;
    const bool wanted = piece->type == PIECE_CONTROL || (piece->type == PIECE_USER_DEFINED && !own_step);
    if (!wanted || is_named(making, making->names[i])) continue;
    const bool renamed =
        strlen(making->names[i]) != piece->bytes || memcmp(making->names[i], piece->text, piece->bytes) != 0;
    json_t *token =
        source_added_token((json_int_t)i, piece->text, piece->bytes, piece->type == PIECE_CONTROL);
    if (!(renamed ? put_extra(making, token, error) : json_push(list, token, error))) return false;
  }
  return true;
}

/* ---- all of it ---- */

static bool check(const Making *making, Error *error) {
  const SentencePieceModel *model = making->model;
  if (model->kind == SENTENCEPIECE_WORD || model->kind == SENTENCEPIECE_CHAR)
    return unsupported(making, error, "model_type WORD and CHAR are not supported (known: UNIGRAM, BPE)");
  if (model->suffix) return unsupported(making, error, "treat_whitespace_as_suffix is not supported");
  if (model->kind == SENTENCEPIECE_UNIGRAM && (model->unk < 0 || (size_t)model->unk >= model->count))
    return unsupported(making, error, "unk_id names no piece");
  if (making->class.kind == CLASS_FOREIGN)
    return error_set(error, ERROR_MODEL,
                     "%s: without a tokenizer.json the class %s is not supported (known: LlamaTokenizer, "
                     "GemmaTokenizer, and "
                     "those that Transformers lacks); save the tokenizer as tokenizer.json with Transformers",
                     making->path, making->class.name);
  if (making->class.kind != CLASS_BACKEND && making->class.kind != CLASS_LLAMA &&
      making->class.kind != CLASS_GEMMA)
    return error_set(error, ERROR_MODEL, "%s: the class %s has no SentencePiece model", making->path,
                     making->class.name);
  if (making->class.kind != CLASS_BACKEND && model->kind != SENTENCEPIECE_BPE)
    return error_set(
        error, ERROR_MODEL,
        "%s: a Unigram model, of which Transformers' %s makes something else: take what it says with "
        "model.tokenizer sentencepiece, or set tokenizer_class to PreTrainedTokenizerFast",
        making->path, making->class.name);
  return true;
}

static bool make(Making *making, Error *error) {
  TokenizerSource *out = making->out;
  out->top = json_object();
  if (!out->top) return error_out_of_memory(error, "tokenizer", 0);
  if (!put_names(making, error) || !put_model(making, error) || !put_added(making, error)) return false;
  if (making->class.kind != CLASS_BACKEND)
    return class_steps(&making->class, &making->files->config, out->top, error);
  return put_normalizer(making, error) && put_pre_tokenizer(making, error) && put_decoder(making, error);
}

static bool make_named(Making *making, Error *error) {
  StringPool pool = {0};
  const size_t count = making->model->count;
  making->names = memory_zeroed(count + 1, sizeof *making->names);
  bool done = making->names || error_out_of_memory(error, "pieces", count * sizeof *making->names);
  done = done && copy_names(making, &pool, error) && source_config(making->files, making->out, error);
  if (done && making->class.kind == CLASS_BACKEND && !making->plain)
    done = rename_pieces(making, &pool, error);
  done = done && make(making, error);
  memory_free(making->names);
  string_pool_free(&pool);
  return done;
}

bool source_sentencepiece(const char *path, const Companions *files, TokenizerKind kind,
                          TokenizerSource *source, Error *error) {
  SentencePieceModel model;
  Making making = {
      .path = path, .model = &model, .files = files, .plain = kind == TOKENIZER_SENTENCEPIECE, .out = source};
  *source = (TokenizerSource){0};
  if (!class_choose(files, false, &making.class, error) || !sentencepiece_open(&model, path, error))
    return false;
  if (making.plain) making.class = (TokenizerClass){.kind = CLASS_BACKEND};
  const bool done = check(&making, error) && make_named(&making, error);
  sentencepiece_close(&model);
  if (!done) tokenizer_source_free(source);
  return done;
}
