#include "train/identity.h"

#include "base/file.h"
#include "base/json.h"
#include "lora/lora.h"
#include "model/card.h"
#include "model/source.h"
#include "model/twin.h"
#include "train/hub.h"

#include <stdlib.h>
#include <string.h>

/* -- the file ------------------------------------------------------------------------------------------- */

/* A text member of an object that may not be there; longer ones are none of ours. */
static bool read_text(const json_t *object, const char *key, char *out, size_t size, Error *error) {
  const json_t *value = json_object_get(object, key);
  const char *text = json_string_value(value);
  if (!value || json_is_null(value)) return true;
  if (!text || strlen(text) >= size)
    return error_set(error, ERROR_MODEL, "\"%s\": expected a string of fewer than %zu bytes", key, size);
  strcpy(out, text);
  return true;
}

/* Of how a base was quantised; what a later version may know is none that this one could follow. */
static bool read_flag(const json_t *base, const char *key, const char *word, bool *out, Error *error) {
  char text[8] = "";
  if (!read_text(base, key, text, sizeof text, error)) return false;
  *out = strcmp(text, word) == 0;
  return *out || !*text ||
         error_set(error, ERROR_MODEL, "\"%s\": expected \"%s\", found \"%s\"", key, word, text);
}

static bool read_quantize(const json_t *base, ModelQuantize *out, Error *error) {
  char text[8] = "";
  if (!read_text(base, "quantize", text, sizeof text, error)) return false;
  *out = strcmp(text, "nf4") == 0    ? MODEL_QUANTIZE_NF4
         : strcmp(text, "int8") == 0 ? MODEL_QUANTIZE_INT8
                                     : MODEL_QUANTIZE_NONE;
  return *out || !*text ||
         error_set(error, ERROR_MODEL, "\"quantize\": expected \"nf4\" or \"int8\", found \"%s\"", text);
}

static bool read_members(Identity *identity, const json_t *root, Error *error) {
  const json_t *base = json_object_get(root, "base"), *template = json_object_get(root, "template");
  WeightsDigest *weights = &identity->base;
  TextIdentity *text = &identity->text;
  if (!json_is_object(root)) return error_set(error, ERROR_MODEL, "expected an object");
  return read_text(base, "weights", weights->exact, sizeof weights->exact, error) &&
         read_text(base, "rounded", weights->rounded, sizeof weights->rounded, error) &&
         read_quantize(base, &identity->quantize, error) &&
         read_flag(base, "tables", "int8", &identity->int8_tables, error) &&
         read_text(root, "vocabulary", text->vocabulary, sizeof text->vocabulary, error) &&
         read_text(template, "name", text->template, sizeof text->template, error) &&
         read_text(template, "rendering", text->rendering, sizeof text->rendering, error);
}

bool identity_read(Identity *identity, const char *directory, Error *error) {
  *identity = (Identity){0};
  char *path = path_join(directory, IDENTITY_FILE);
  if (!path) return error_out_of_memory(error, "path", strlen(directory));
  bool ok = true;
  if (file_exists(path)) {
    json_t *root = json_file_read(path, error);
    ok = root && (read_members(identity, root, error) || error_context(error, "%s", path));
    json_decref(root);
  }
  memory_free(path);
  return ok;
}

bool identity_read_text(const char *model, const char *adapter, TextIdentity *text, const char **from,
                        Error *error) {
  Identity own, adapted = {0};
  if (!identity_read(&own, model, error) || (adapter && !identity_read(&adapted, adapter, error)))
    return false;
  const bool later = *adapted.text.template || *adapted.text.vocabulary;
  *text = later ? adapted.text : own.text;
  *from = later ? adapter : model;
  return true;
}

static const char *quantize_word(ModelQuantize quantize) {
  return quantize == MODEL_QUANTIZE_NF4 ? "nf4" : quantize == MODEL_QUANTIZE_INT8 ? "int8" : NULL;
}

bool identity_write(const Identity *identity, const char *directory, Error *error) {
  const TextIdentity *text = &identity->text;
  char *path = path_join(directory, IDENTITY_FILE);
  json_t *root = json_object();
  bool ok = (path && root) || error_out_of_memory(error, "identity", strlen(directory));
  if (ok && *identity->base.exact) {
    json_object_set_new(root, "base",
                        json_pack("{s:s, s:s, s:s*, s:s*}", "weights", identity->base.exact, "rounded",
                                  identity->base.rounded, "quantize", quantize_word(identity->quantize),
                                  "tables", identity->int8_tables ? "int8" : NULL));
  }
  if (ok && *text->vocabulary) json_object_set_new(root, "vocabulary", json_string(text->vocabulary));
  if (ok && *text->template) {
    json_object_set_new(root, "template",
                        json_pack("{s:s, s:s}", "name", text->template, "rendering", text->rendering));
  }
  ok = ok && json_file_write(path, root, error);
  json_decref(root);
  memory_free(path);
  return ok;
}

/* -- templates ------------------------------------------------------------------------------------------ */

bool template_save(const ChatTemplate *chat, const char *directory, Error *error) {
  if (!chat->source) return true;
  char *path = path_join(directory, TEMPLATE_FILE);
  const bool ok = path ? file_write_text(path, chat->source, error)
                       : error_out_of_memory(error, "path", strlen(directory));
  memory_free(path);
  return ok;
}

bool template_copy(const char *from, const char *to, Error *error) {
  char *source = path_join(from, TEMPLATE_FILE), *target = path_join(to, TEMPLATE_FILE);
  bool ok = (source && target) || error_out_of_memory(error, "path", strlen(from));
  if (ok && file_exists(source)) ok = file_copy(source, target, error);
  memory_free(source);
  memory_free(target);
  return ok;
}

#define TURN(who, said) \
  { .role = CHAT_##who, .text = said, .bytes = sizeof said - 1 }

bool rendering_digest(const ChatTemplate *chat, char out[33], Error *error) {
  static ChatMessage talk[] = {TURN(SYSTEM, "Be kind."), TURN(USER, " Hello? "), TURN(ASSISTANT, " Yes.\n"),
                               TURN(USER, "Good.")};
  enum { TURNS = sizeof talk / sizeof *talk };
  Digest *digest = digest_open(error);
  ChatReading reading = {0};
  bool ok = digest != NULL;
  for (size_t first = 0; ok && first < 2; first++) { /* with the system turn, and without it */
    Error why = {0};
    const Conversation turns = {.items = talk + first, .count = TURNS - first};
    if (chat_read(chat, &turns, turns.count, CHAT_ASK, 0, &reading, &why)) {
      digest_add(digest, reading.text.text.data, reading.text.text.size + 1);
    } else if (why.code == ERROR_MEMORY) {
      ok = error_set(error, why.code, "%s", why.message);
    } else {
      digest_add(digest, "", 1);
    }
  }
  const char *end = tokenizer_token(chat->tokenizer, chat->end_id);
  if (ok && end) digest_add(digest, end, strlen(end));
  if (ok) digest_text(digest, out);
  chat_reading_free(&reading);
  digest_close(digest);
  return ok;
}

/* -- an adapter and its base ---------------------------------------------------------------------------- */

typedef enum Likeness { SAME, ROUNDED, OTHER } Likeness;

static Likeness compare(const WeightsDigest *a, const WeightsDigest *b) {
  if (strcmp(a->exact, b->exact) == 0) return SAME;
  return strcmp(a->rounded, b->rounded) == 0 ? ROUNDED : OTHER;
}

/* Whether `base` lies where the Hugging Face cache keeps "owner/name": .../models--owner--name/snapshots/... */
static bool lies_in_cache(const char *real, const char *name) {
  const char *slash = strchr(name, '/');
  char *folder = slash ? memory_format("/models--%.*s--%s/", (int)(slash - name), name, slash + 1) : NULL;
  const bool lies = folder && strstr(real, folder);
  memory_free(folder);
  return lies;
}

/* "meta-llama/Llama-2-7b-hf" for a directory of that last name, for the cache's, or for one whose config.json says so. */
static bool sounds_like(const char *name, const char *base, Error *error) {
  ModelCard card;
  char *real = realpath(base, NULL);
  bool like = real && (strcmp(path_name(name), path_name(real)) == 0 || lies_in_cache(real, name));
  if (!like && model_card_read(&card, base, error)) {
    like = card.name && strcmp(card.name, name) == 0;
    model_card_free(&card);
  }
  free(real);
  return like;
}

/* Whether one of two directories has the weights of the other in 4 or 8 bits, which is worth a warning. */
static bool check_twins(const char *adapter, const char *base, const char *trained, bool *twins, Log *log,
                        Error *error) {
  if (!weights_are_twins(base, trained, twins, error)) return false;
  if (*twins && log)
    log_warning(
        log,
        "%s: this adapter was trained over %s; %s has the same weights, and one of the two is quantised: it "
        "says something else here, by an amount that drover merge --into prints",
        adapter, trained, base);
  return true;
}

static bool tell(Likeness likeness, const char *adapter, const char *base, const char *origin,
                 const char *hint, Log *log, Error *error) {
  if (likeness == ROUNDED && log) {
    log_warning(log, "%s: this adapter was trained over the weights of %s in another precision", adapter,
                base);
  }
  if (likeness != OTHER) return true;
  return error_set(
      error, ERROR_MODEL,
      "%s: this adapter was trained over other weights than those in %s%s%s: give the model that it was "
      "trained over%s",
      adapter, base, *origin ? ", by its base_model_name_or_path over those in " : "", origin, hint);
}

/* What an adapter says of its base, and where that lies on this machine: in a directory, or in the hub's cache. */
typedef struct NamedBase {
  char *name, *place; /* each NULL where there is none */
} NamedBase;

static bool named_base_read(NamedBase *base, const char *adapter, Error *error) {
  Error ignored = {0};
  HubModel hub = {0};
  bool is_name;
  *base = (NamedBase){0};
  if (!lora_base_name(adapter, &base->name, error)) return false;
  if (!base->name) return true;
  if (model_config_exists(base->name)) {
    base->place = memory_copy_string(base->name);
  } else if (hub_find(base->name, &hub, &is_name, &ignored) && hub.snapshot) {
    base->place = memory_copy_string(hub.snapshot);
  }
  hub_model_free(&hub);
  return true;
}

static void named_base_free(NamedBase *base) {
  memory_free(base->name);
  memory_free(base->place);
}

static bool check_by_name(const char *adapter, const char *base, const NamedBase *named, Log *log,
                          Error *error) {
  WeightsDigest here, there;
  const char *place = named->place;
  if (place && path_same(place, base)) return true;
  if (place) {
    if (!weights_digest(&here, base, error) || !weights_digest(&there, place, error)) return false;
    const Likeness likeness = compare(&here, &there);
    bool twins = false;
    if (likeness == OTHER && !check_twins(adapter, base, place, &twins, log, error)) return false;
    return twins || tell(likeness, adapter, base, named->name, "", log, error);
  }
  Error why = {0};
  const bool like = sounds_like(named->name, base, &why);
  if (why.code) return error_set(error, why.code, "%s", why.message);
  if (!like && log) {
    log_warning(
        log,
        "%s: this adapter names %s as its base, and is used over %s: nothing tells whether that is the same",
        adapter, named->name, base);
  }
  return true;
}

/* By the digests that are kept with it. What it was trained over is asked for more where it is still there. */
static bool check_by_digest(const char *adapter, const char *base, const WeightsDigest *kept, Log *log,
                            Error *error) {
  WeightsDigest here, there = {0};
  NamedBase named = {0};
  bool twins = false;
  Error ignored = {0}; /* what is wrong there is not asked for */
  if (!weights_digest(&here, base, error)) return false;
  const Likeness likeness = compare(kept, &here);
  bool ok = likeness != OTHER || named_base_read(&named, adapter, error);
  const char *place = named.place;
  if (ok && place && model_weights_exist(place) && weights_digest(&there, place, &ignored) &&
      compare(kept, &there) != OTHER)
    ok = check_twins(adapter, base, place, &twins, log, error);
  named_base_free(&named);
  if (!ok || twins) return ok;
  return tell(likeness, adapter, base, "",
              ", or, if the two are meant to go together, remove the adapter's " IDENTITY_FILE, log, error);
}

bool identity_check_adapter(const char *adapter, const char *base, Log *log, Error *error) {
  Identity identity;
  if (!model_weights_exist(base)) return true; /* planned by its config.json alone */
  if (!identity_read(&identity, adapter, error)) return false;
  if (*identity.base.exact) return check_by_digest(adapter, base, &identity.base, log, error);
  NamedBase named;
  if (!named_base_read(&named, adapter, error)) return false;
  const bool ok = !named.name || check_by_name(adapter, base, &named, log, error);
  named_base_free(&named);
  return ok;
}

/* -- two tokenizers ------------------------------------------------------------------------------------- */

/* How two tokenizers differ where nothing tells whether it matters. */
typedef struct TokenDifferences {
  int alone; /* tokens that one of them lacks */
  int renamed,
      first; /* ids that are added tokens of another name, as where reserved ones were put to use; the first */
} TokenDifferences;

/* Compares them id by id; false where one id means something else. */
static bool compare_tokens(const Tokenizer *writer, const Tokenizer *reader, int64_t rows,
                           TokenDifferences *out, Error *difference) {
  *out = (TokenDifferences){0};
  for (int id = 0; id < rows; id++) {
    const char *a = tokenizer_token(writer, id), *b = tokenizer_token(reader, id);
    out->alone += !a != !b;
    if (!a || !b || strcmp(a, b) == 0) continue;
    if (tokenizer_is_added(writer, id) && tokenizer_is_added(reader, id)) {
      if (out->renamed++ == 0) out->first = id;
      continue;
    }
    return error_set(
        difference, ERROR_MODEL,
        "%s: its tokenizer is another than that of %s: the id %d is \"%.60s\" in it, and \"%.60s\" there",
        tokenizer_directory(reader), tokenizer_directory(writer), id, b, a);
  }
  return true;
}

static void tell_differences(const Tokenizer *writer, const Tokenizer *reader, const TokenDifferences *found,
                             bool same_digest, Log *log) {
  const char *here = tokenizer_directory(writer), *there = tokenizer_directory(reader);
  if (found->renamed > 0) {
    log_warning(log, "%d added tokens have other names in %s and %s: the id %d is \"%.60s\" and \"%.60s\"",
                found->renamed, here, there, found->first, tokenizer_token(writer, found->first),
                tokenizer_token(reader, found->first));
  }
  if (found->alone > 0) {
    log_warning(log, "%d tokens are in the tokenizer of one of %s and %s alone", found->alone, here, there);
  } else if (found->renamed == 0 && !same_digest) {
    log_warning(log,
                "the tokenizers of %s and %s have the same tokens and cut texts into them by other merges",
                here, there);
  }
}

static bool has_tokenizer(const char *directory) {
  char *path = path_join(directory, "tokenizer.json");
  const bool has = path && file_exists(path);
  memory_free(path);
  return has;
}

void identity_tell_own(const char *adapter, const Tokenizer *used, Log *log) {
  Error why = {0};
  char own_digest[33], used_digest[33];
  if (!has_tokenizer(adapter)) return;
  Tokenizer *own = tokenizer_open(adapter, &why);
  const bool compared = own && tokenizer_vocabulary_digest(own, own_digest, &why) &&
                        tokenizer_vocabulary_digest(used, used_digest, &why);
  const char *own_template = own ? tokenizer_chat_template(own, "default") : NULL;
  const char *used_template = tokenizer_chat_template(used, "default");
  if (!compared) {
    log_warning(log, "the tokenizer beside the adapter is not used, that of %s is: %s",
                tokenizer_directory(used), why.message);
  } else if (strcmp(own_digest, used_digest) != 0) {
    log_warning(log, "%s has a tokenizer of its own, which differs: that of %s is used", adapter,
                tokenizer_directory(used));
  }
  if (own_template && (!used_template || strcmp(own_template, used_template) != 0)) {
    log_warning(
        log,
        "%s has a chat template of its own, which differs: that of %s, or the one that is given, is used",
        adapter, tokenizer_directory(used));
  }
  tokenizer_free(own);
}

bool identity_compare_tokens(const Tokenizer *writer, const char *reader, int64_t rows, Log *log, bool *same,
                             Error *difference, Error *error) {
  const char *directory = tokenizer_directory(writer);
  *same = true;
  if (path_same(directory, reader)) return true;
  if (!has_tokenizer(reader)) {
    if (log) {
      log_warning(log, "%s has no tokenizer.json: nothing tells whether it was made for the ids of %s",
                  reader, directory);
    }
    return true;
  }
  Tokenizer *other = tokenizer_open(reader, error);
  if (!other) return false;
  char a[33], b[33];
  TokenDifferences found;
  const bool ok =
      tokenizer_vocabulary_digest(writer, a, error) && tokenizer_vocabulary_digest(other, b, error);
  *same = ok && compare_tokens(writer, other, rows, &found, difference);
  if (*same && log) tell_differences(writer, other, &found, strcmp(a, b) == 0, log);
  tokenizer_free(other);
  return ok;
}
