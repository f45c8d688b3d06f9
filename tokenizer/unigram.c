#include "tokenizer/unigram.h"

#include "base/memory.h"
#include "tokenizer/text.h"
#include "tokenizer/trie.h"

#include <math.h>

typedef struct Unigram {
  TokenModel base;
  double *scores; /* by id */
  double unknown; /* of a character that is no token */
  bool byte_fallback;
  int byte_ids[256]; /* of <0x00> ...; -1 when absent */
  Trie trie;
} Unigram;

/* The best way to the end of a prefix: its last token. */
typedef struct Step {
  double score;
  uint32_t begin; /* UINT32_MAX: no way was found yet */
  int id;
} Step;

typedef struct UnigramWork {
  Step *steps; /* by the prefix's length */
  size_t capacity;
} UnigramWork;

static void unigram_work_free(void *own) {
  UnigramWork *work = own;
  memory_free(work->steps);
  memory_free(work);
}

/* ---- encoding ---- */

static void offer(Step *step, double score, uint32_t begin, int id) {
  if (step->begin == UINT32_MAX || score > step->score) *step = (Step){score, begin, id};
}

/* Fills steps[1..bytes]. */
static bool find_steps(const Unigram *unigram, Step *steps, const char *piece, size_t bytes, Error *error) {
  steps[0].score = 0;
  for (size_t i = 1; i <= bytes; i++) steps[i].begin = UINT32_MAX;
  for (size_t at = 0, next = 0; at < bytes; at = next) {
    double score = steps[at].score;
    bool single = false;
    (void)utf8_next(piece, &next);
    uint32_t node = 0;
    for (size_t end = at; end < bytes;) {
      node = trie_child(&unigram->trie, node, (uint8_t)piece[end++]);
      if (node == 0) break;
      int id = unigram->trie.nodes[node].value;
      if (id < 0) continue;
      offer(&steps[end], score + unigram->scores[id], (uint32_t)at, id);
      single = single || end == next;
    }
    if (single) continue;
    if (unigram->base.unk < 0)
      return error_set(error, ERROR_MODEL,
                       "the tokenizer's model has no unk_id, and no token for a character of the text");
    offer(&steps[next], score + unigram->unknown, (uint32_t)at, unigram->base.unk);
  }
  return true;
}

static bool push_bytes(const Unigram *unigram, ModelWork *result, const char *piece, uint32_t begin,
                       uint32_t end, Error *error) {
  for (uint32_t i = begin; i < end; i++) {
    ModelToken token = {unigram->byte_ids[(unsigned char)piece[i]], begin, end};
    if (!model_work_push(result, token, error)) return false;
  }
  return true;
}

/* Unknown characters in a row: their text may be a token all the same, when scores are odd. */
static bool push_unknown(const Unigram *unigram, ModelWork *result, const char *piece, uint32_t begin,
                         uint32_t end, Error *error) {
  int id = vocabulary_id(&unigram->base.vocabulary, piece + begin, end - begin);
  bool fallback = id < 0 && unigram->byte_fallback;
  for (uint32_t i = begin; fallback && i < end; i++)
    fallback = unigram->byte_ids[(unsigned char)piece[i]] >= 0;
  if (fallback) return push_bytes(unigram, result, piece, begin, end, error);
  return model_work_push(result, (ModelToken){id >= 0 ? id : unigram->base.unk, begin, end}, error);
}

static bool unigram_encode(const TokenModel *model, ModelWork *result, const char *piece, size_t bytes,
                           Error *error) {
  const Unigram *unigram = (const Unigram *)model;
  if (!result->own) result->own = memory_zeroed(1, sizeof(UnigramWork));
  UnigramWork *work = result->own;
  if (!work) return error_out_of_memory(error, "encoding", sizeof *work);
  Step *steps = model_work_grown(work->steps, &work->capacity, bytes + 1, sizeof *steps, error);
  if (!steps) return false;
  work->steps = steps;
  if (!find_steps(unigram, steps, piece, bytes, error)) return false;
  /* the links lead from the end to the beginning: turned round, each step says where its token ends */
  uint32_t end = (uint32_t)bytes, next = end;
  int id = -1;
  for (uint32_t at = end;; at = end) {
    Step step = steps[at];
    steps[at].begin = next;
    steps[at].id = id;
    if (at == 0) break;
    id = step.id;
    next = at;
    end = step.begin;
  }
  for (uint32_t at = 0; at < bytes;) {
    uint32_t stop = steps[at].begin;
    id = steps[at].id;
    if (id != model->unk) {
      if (!model_work_push(result, (ModelToken){id, at, stop}, error)) return false;
    } else {
      while (stop < bytes && steps[stop].id == model->unk) stop = steps[stop].begin;
      if (!push_unknown(unigram, result, piece, at, stop, error)) return false;
    }
    at = stop;
  }
  return true;
}

/* ---- opening ---- */

static bool unigram_digest(const TokenModel *model, Digest *digest, Error *error) {
  (void)error;
  const Unigram *unigram = (const Unigram *)model;
  digest_add(digest, unigram->scores, (size_t)model->vocabulary.size * sizeof *unigram->scores);
  digest_add(digest, &model->unk, sizeof model->unk);
  return true;
}

static void unigram_free(TokenModel *model) {
  Unigram *unigram = (Unigram *)model;
  memory_free(unigram->scores);
  trie_free(&unigram->trie);
  memory_free(unigram);
}

/* [["token", score], ...]: an id is a place in the list. */
static bool read_vocab(Unigram *unigram, const Reader *list, Error *error) {
  Vocabulary *vocabulary = &unigram->base.vocabulary;
  size_t count = json_array_size(list->value);
  if (count > VOCABULARY_MAX_ID) return reader_fail(list, error, "more than %d tokens", VOCABULARY_MAX_ID);
  if (!vocabulary_reserve(vocabulary, (int)count, error)) return false;
  unigram->scores = memory_alloc((count + 1) * sizeof *unigram->scores);
  if (!unigram->scores) return error_out_of_memory(error, "vocabulary", count * sizeof *unigram->scores);
  double least = INFINITY;
  for (size_t i = 0; i < count; i++) {
    const json_t *pair = json_array_get(list->value, i);
    const json_t *token = json_array_get(pair, 0), *score = json_array_get(pair, 1);
    const char *third = json_string_value(json_array_get(pair, 2));
    const bool never = json_array_size(pair) == 3 && third && strcmp(third, "never") == 0;
    if ((json_array_size(pair) != 2 && !never) || !json_is_string(token) || !json_is_number(score)) {
      Reader item;
      return reader_item(list, i, &item, error) && reader_fail(&item, error, "expected [\"token\", score]");
    }
    if (!vocabulary_put(vocabulary, (int)i, json_string_value(token), json_string_length(token), error))
      return false;
    unigram->scores[i] = never ? INFINITY : json_number_value(score);
    if (unigram->scores[i] < least) least = unigram->scores[i];
  }
  unigram->unknown = least - 10;
  return true;
}

static bool read_unknown(Unigram *unigram, const Reader *model, Error *error) {
  Reader member;
  long long id;
  if (!reader_member(model, "unk_id", &member, error)) return false;
  if (!member.value) return true;
  if (!reader_as_int(&member, 0, unigram->base.vocabulary.size - 1, &id, error)) return false;
  unigram->base.unk = (int)id;
  return true;
}

static bool build_trie(Unigram *unigram, Error *error) {
  const Vocabulary *vocabulary = &unigram->base.vocabulary;
  TrieKey *keys = memory_alloc(((size_t)vocabulary->size + 1) * sizeof *keys);
  if (!keys) return error_out_of_memory(error, "vocabulary", (size_t)vocabulary->size * sizeof *keys);
  size_t count = 0;
  for (int id = 0; id < vocabulary->size; id++)
    if (vocabulary->lengths[id] > 0 && unigram->scores[id] < INFINITY)
      keys[count++] = (TrieKey){vocabulary->texts[id], vocabulary->lengths[id], id};
  bool done = trie_init(&unigram->trie, keys, count, error);
  memory_free(keys);
  return done;
}

TokenModel *unigram_open(const Reader *model, Error *error) {
  static const ModelKind kind = {"Unigram", unigram_encode, unigram_digest, unigram_free, unigram_work_free};
  Unigram *unigram = memory_zeroed(1, sizeof *unigram);
  if (!unigram) {
    error_out_of_memory(error, "tokenizer", sizeof *unigram);
    return NULL;
  }
  unigram->base = (TokenModel){.kind = &kind, .unk = -1};
  Reader list;
  if (reader_array(model, "vocab", &list, error) && read_vocab(unigram, &list, error) &&
      read_unknown(unigram, model, error) &&
      reader_bool(model, "byte_fallback", false, &unigram->byte_fallback, error) &&
      build_trie(unigram, error)) {
    vocabulary_byte_ids(&unigram->base.vocabulary, unigram->byte_ids);
    return &unigram->base;
  }
  token_model_free(&unigram->base);
  return NULL;
}
