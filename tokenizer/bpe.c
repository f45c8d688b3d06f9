#include "tokenizer/bpe.h"

#include "base/memory.h"
#include "tokenizer/text.h"

#include <stdlib.h>
#include <string.h>

enum { DIRECT = 0x250 };

typedef struct Bpe {
  TokenModel base;
  PairTable merges;
  int direct[DIRECT]; /* ids of one-character tokens */
  int byte_ids[256];  /* of <0x00> ...; -1 when absent */
  char *unk_missing;  /* a named unknown token that the vocabulary lacks: an error only when it is needed */
  bool fuse_unk, byte_fallback, ignore_merges;
  IntArray whole;        /* ids of the pieces that stand as they are; of TOKENIZER_SENTENCEPIECE */
  char *prefix, *suffix; /* continuing_subword_prefix, end_of_word_suffix; NULL when empty */
} Bpe;

typedef struct BpeSymbol {
  int id;
  int32_t previous, next; /* -1 at the ends */
  uint32_t begin, end;
  bool gone;
} BpeSymbol;

typedef struct BpeCandidate {
  uint32_t rank, position, id;
} BpeCandidate;

/* ---- reading ---- */

/* A merge is ["a", "b"] or "a b". */
static bool split_merge(const Reader *item, const char *part[2], size_t bytes[2], Error *error) {
  if (json_is_array(item->value) && json_array_size(item->value) == 2) {
    for (size_t side = 0; side < 2; side++) {
      Reader text;
      if (!reader_item(item, side, &text, error) || !reader_as_text(&text, &part[side], &bytes[side], error))
        return false;
    }
    return true;
  }
  if (!json_is_string(item->value))
    return reader_fail(item, error, "expected \"left right\" or [\"left\", \"right\"]");
  const char *text = json_string_value(item->value);
  size_t length = json_string_length(item->value);
  const char *space = memchr(text, ' ', length);
  if (!space || memchr(space + 1, ' ', length - (size_t)(space + 1 - text)))
    return reader_fail(item, error, "expected two tokens with a space between, found \"%.60s\"", text);
  part[0] = text;
  bytes[0] = (size_t)(space - text);
  part[1] = space + 1;
  bytes[1] = length - bytes[0] - 1;
  return true;
}

static bool read_merge(Bpe *bpe, const Reader *item, uint32_t rank, Buffer *joined, Error *error) {
  const char *part[2];
  size_t bytes[2];
  int id[2];
  if (!split_merge(item, part, bytes, error)) return false;
  for (size_t side = 0; side < 2; side++) {
    id[side] = vocabulary_id(&bpe->base.vocabulary, part[side], bytes[side]);
    if (id[side] < 0)
      return reader_fail(item, error, "token \"%.*s\" is not in the vocabulary",
                         (int)(bytes[side] > 60 ? 60 : bytes[side]), part[side]);
  }
  size_t cut = bpe->prefix ? strlen(bpe->prefix) : 0;
  if (bytes[1] < cut) return reader_fail(item, error, "the right token lacks continuing_subword_prefix");
  buffer_clear(joined);
  if (!buffer_append(joined, part[0], bytes[0], error) ||
      !buffer_append(joined, part[1] + cut, bytes[1] - cut, error))
    return false;
  int result = vocabulary_id(&bpe->base.vocabulary, joined->data, joined->size);
  if (result < 0)
    return reader_fail(item, error, "merged token \"%.60s\" is not in the vocabulary", joined->data);
  PairSlot *slot = pair_table_put(&bpe->merges, (uint32_t)id[0], (uint32_t)id[1], error);
  if (!slot) return false;
  slot->rank = rank;
  slot->id = (uint32_t)result;
  return true;
}

static bool read_merges(Bpe *bpe, const Reader *model, Error *error) {
  Reader list, item;
  Buffer joined = {0};
  if (!reader_array(model, "merges", &list, error)) return false;
  const json_t *ranks = json_object_get(model->value, "merge_ranks");
  bool done = pair_table_reserve(&bpe->merges, json_array_size(list.value), error);
  uint32_t rank = 0;
  for (size_t i = 0; done && i < json_array_size(list.value); i++) {
    done = reader_item(&list, i, &item, error);
    const char *line = done ? json_string_value(item.value) : NULL;
    if (line && strncmp(line, "#version", 8) == 0) continue; /* first line of a merges.txt */
    if (ranks) rank = (uint32_t)json_integer_value(json_array_get(ranks, i));
    done = done && read_merge(bpe, &item, rank++, &joined, error);
  }
  buffer_free(&joined);
  return done;
}

static bool read_affix(const Reader *model, const char *key, char **out, Error *error) {
  const char *text;
  size_t bytes;
  if (!reader_text(model, key, false, &text, &bytes, error)) return false;
  if (bytes == 0) return true;
  if (bytes > 64) { /* every character may need as many symbols */
    Reader member;
    return reader_member(model, key, &member, error) &&
           reader_fail(&member, error, "%zu bytes: at most 64 are supported", bytes);
  }
  *out = memory_copy_string(text);
  return *out || error_out_of_memory(error, key, bytes);
}

static bool read_options(Bpe *bpe, const Reader *model, Error *error) {
  const char *unk;
  size_t bytes;
  Reader dropout;
  double rate;
  if (!reader_member(model, "dropout", &dropout, error) ||
      !reader_number(model, "dropout", 0, 1, 0, &rate, error))
    return false;
  if (rate != 0) return reader_fail(&dropout, error, "BPE dropout is not supported: set it to null");
  if (!reader_bool(model, "fuse_unk", false, &bpe->fuse_unk, error) ||
      !reader_bool(model, "byte_fallback", false, &bpe->byte_fallback, error) ||
      !reader_bool(model, "ignore_merges", false, &bpe->ignore_merges, error) ||
      !read_affix(model, "continuing_subword_prefix", &bpe->prefix, error) ||
      !read_affix(model, "end_of_word_suffix", &bpe->suffix, error) ||
      !reader_text(model, "unk_token", false, &unk, &bytes, error))
    return false;
  bpe->base.unk = unk ? vocabulary_id(&bpe->base.vocabulary, unk, bytes) : -1;
  if (bytes == 0 || bpe->base.unk >= 0) return true;
  bpe->unk_missing = memory_copy_string(unk);
  return bpe->unk_missing || error_out_of_memory(error, "unk_token", bytes);
}

/* "whole_pieces", which only source_sentencepiece.c makes: where ignore_merges takes any token whole, that library takes its
 * user-defined pieces alone. */
static bool read_whole(Bpe *bpe, const Reader *model, Error *error) {
  Reader names, item;
  const char *name;
  size_t bytes;
  if (!reader_has(model, "whole_pieces")) return true;
  if (!reader_array(model, "whole_pieces", &names, error)) return false;
  for (size_t i = 0; i < json_array_size(names.value); i++) {
    if (!reader_item(&names, i, &item, error) || !reader_as_text(&item, &name, &bytes, error)) return false;
    const int id = vocabulary_id(&bpe->base.vocabulary, name, bytes);
    if (id >= 0 && !int_array_push(&bpe->whole, id, error)) return false;
  }
  return true;
}

static bool stands_whole(const Bpe *bpe, int id) {
  if (bpe->ignore_merges) return true;
  for (size_t i = 0; i < bpe->whole.size; i++)
    if (bpe->whole.data[i] == id) return true;
  return false;
}

static void index_characters(Bpe *bpe) {
  char utf8[4];
  for (uint32_t c = 0; c < DIRECT; c++)
    bpe->direct[c] = vocabulary_id(&bpe->base.vocabulary, utf8, utf8_put(c, utf8));
  vocabulary_byte_ids(&bpe->base.vocabulary, bpe->byte_ids);
}

static int compare_ranks(const void *a, const void *b) {
  const PairSlot *x = a, *y = b;
  return x->rank < y->rank ? -1 : x->rank > y->rank;
}

static bool bpe_digest(const TokenModel *model, Digest *digest, Error *error) {
  const PairTable *table = &((const Bpe *)model)->merges;
  PairSlot *merges = memory_alloc(table->count * sizeof *merges);
  if (!merges) return error_out_of_memory(error, "merges", table->count * sizeof *merges);
  size_t count = 0;
  for (size_t i = 0; i < table->capacity; i++) {
    if (table->slots[i].left != UINT32_MAX) merges[count++] = table->slots[i];
  }
  qsort(merges, count, sizeof *merges, compare_ranks);
  for (size_t i = 0; i < count; i++) {
    const uint32_t merge[] = {merges[i].left, merges[i].right, merges[i].id};
    digest_add(digest, merge, sizeof merge);
  }
  memory_free(merges);
  return true;
}

/* ---- encoding ---- */

typedef struct BpeWork {
  BpeSymbol *symbols;
  size_t symbol_count, symbol_capacity;
  BpeCandidate *heap;
  size_t heap_count, heap_capacity;
  Buffer character; /* a character with prefix or suffix */
} BpeWork;

static void bpe_work_free(void *own) {
  BpeWork *work = own;
  memory_free(work->symbols);
  memory_free(work->heap);
  buffer_free(&work->character);
  memory_free(work);
}

static bool reserve_symbols(BpeWork *work, size_t count, Error *error) {
  BpeSymbol *symbols = model_work_grown(work->symbols, &work->symbol_capacity, count, sizeof *symbols, error);
  if (symbols) work->symbols = symbols;
  return symbols != NULL;
}

static bool reserve_heap(BpeWork *work, size_t count, Error *error) {
  BpeCandidate *heap = model_work_grown(work->heap, &work->heap_capacity, count, sizeof *heap, error);
  if (heap) work->heap = heap;
  return heap != NULL;
}

static void push_symbol(BpeWork *work, int id, uint32_t begin, uint32_t end) {
  int32_t at = (int32_t)work->symbol_count++;
  work->symbols[at] = (BpeSymbol){.id = id, .previous = at - 1, .next = -1, .begin = begin, .end = end};
  if (at > 0) work->symbols[at - 1].next = at;
}

static bool before(BpeCandidate a, BpeCandidate b) {
  return a.rank != b.rank ? a.rank < b.rank : a.position < b.position;
}

/* Adds the merge of the symbol at `left` with its right neighbour, if there is one. */
static bool push_candidate(const Bpe *bpe, BpeWork *work, int32_t left, Error *error) {
  const BpeSymbol *symbol = &work->symbols[left];
  if (symbol->next < 0) return true;
  const PairSlot *merge =
      pair_table_get(&bpe->merges, (uint32_t)symbol->id, (uint32_t)work->symbols[symbol->next].id);
  if (!merge) return true;
  if (!reserve_heap(work, work->heap_count + 1, error)) return false;
  BpeCandidate candidate = {merge->rank, (uint32_t)left, merge->id};
  size_t at = work->heap_count++;
  while (at > 0 && before(candidate, work->heap[(at - 1) / 2])) {
    work->heap[at] = work->heap[(at - 1) / 2];
    at = (at - 1) / 2;
  }
  work->heap[at] = candidate;
  return true;
}

static BpeCandidate pop_candidate(BpeWork *work) {
  BpeCandidate top = work->heap[0], last = work->heap[--work->heap_count];
  size_t at = 0;
  for (;;) {
    size_t child = 2 * at + 1;
    if (child >= work->heap_count) break;
    if (child + 1 < work->heap_count && before(work->heap[child + 1], work->heap[child])) child++;
    if (!before(work->heap[child], last)) break;
    work->heap[at] = work->heap[child];
    at = child;
  }
  work->heap[at] = last;
  return top;
}

static bool merge_symbols(const Bpe *bpe, BpeWork *work, Error *error) {
  work->heap_count = 0;
  for (size_t i = 0; i < work->symbol_count; i++)
    if (!push_candidate(bpe, work, (int32_t)i, error)) return false;
  while (work->heap_count > 0) {
    BpeCandidate top = pop_candidate(work);
    BpeSymbol *left = &work->symbols[top.position];
    if (left->gone || left->next < 0) continue;
    BpeSymbol *right = &work->symbols[left->next];
    /* either symbol may have changed since the candidate was made */
    const PairSlot *merge = pair_table_get(&bpe->merges, (uint32_t)left->id, (uint32_t)right->id);
    if (!merge || merge->id != top.id) continue;
    left->id = (int)top.id;
    left->end = right->end;
    left->next = right->next;
    right->gone = true;
    if (right->next >= 0) work->symbols[right->next].previous = (int32_t)top.position;
    if (left->previous >= 0 && !push_candidate(bpe, work, left->previous, error)) return false;
    if (!push_candidate(bpe, work, (int32_t)top.position, error)) return false;
  }
  return true;
}

/* The id of a character where it stands, -1 when the vocabulary lacks it; *text is how the vocabulary would spell
 * it there. */
static bool character_id(const Bpe *bpe, BpeWork *work, const char **text, size_t *bytes, bool first,
                         bool last, int *id, Error *error) {
  if ((bpe->prefix && !first) || (bpe->suffix && last)) {
    buffer_clear(&work->character);
    if (bpe->prefix && !first && !buffer_text(&work->character, bpe->prefix, error)) return false;
    if (!buffer_append(&work->character, *text, *bytes, error)) return false;
    if (bpe->suffix && last && !buffer_text(&work->character, bpe->suffix, error)) return false;
    *text = work->character.data;
    *bytes = work->character.size;
  } else if (*bytes <= 2) {
    size_t at = 0;
    uint32_t c = utf8_next(*text, &at);
    if (c < DIRECT) {
      *id = bpe->direct[c];
      return true;
    }
  }
  *id = vocabulary_id(&bpe->base.vocabulary, *text, *bytes);
  return true;
}

static bool push_bytes(const Bpe *bpe, BpeWork *work, const char *text, size_t bytes, uint32_t begin,
                       uint32_t end) {
  if (!bpe->byte_fallback) return false;
  for (size_t i = 0; i < bytes; i++)
    if (bpe->byte_ids[(unsigned char)text[i]] < 0) return false;
  for (size_t i = 0; i < bytes; i++) {
    uint32_t from = begin + (uint32_t)i < end ? begin + (uint32_t)i : end;
    push_symbol(work, bpe->byte_ids[(unsigned char)text[i]], from,
                i + 1 == bytes ? end : from + (from < end));
  }
  return true;
}

/* The piece's characters as symbols. An unknown token waits until the next known character, so that neighbours can
 * be fused; bytes do not end the wait (the reference implementation behaves so). */
static bool make_symbols(const Bpe *bpe, BpeWork *work, const char *piece, size_t size, Error *error) {
  size_t prefix = bpe->prefix ? strlen(bpe->prefix) : 0, suffix = bpe->suffix ? strlen(bpe->suffix) : 0;
  size_t most = size * (1 + prefix) + suffix; /* every byte a token */
  if (!reserve_symbols(work, most, error)) return false;
  work->symbol_count = 0;
  bool waiting = false;
  uint32_t unk_begin = 0, unk_end = 0;
  for (size_t at = 0; at < size;) {
    size_t begin = at, bytes;
    const char *text = piece + at;
    int id;
    (void)utf8_next(piece, &at);
    bytes = at - begin;
    if (!character_id(bpe, work, &text, &bytes, begin == 0, at == size, &id, error)) return false;
    if (id >= 0) {
      if (waiting) push_symbol(work, bpe->base.unk, unk_begin, unk_end);
      waiting = false;
      push_symbol(work, id, (uint32_t)begin, (uint32_t)at);
    } else if (!push_bytes(bpe, work, text, bytes, (uint32_t)begin, (uint32_t)at)) {
      if (bpe->unk_missing)
        return error_set(error, ERROR_MODEL, "unk_token %s is not in the tokenizer's vocabulary",
                         bpe->unk_missing);
      if (bpe->base.unk < 0) continue; /* nothing stands for it */
      if (waiting && !bpe->fuse_unk) push_symbol(work, bpe->base.unk, unk_begin, unk_end);
      if (!waiting || !bpe->fuse_unk) unk_begin = (uint32_t)begin;
      unk_end = (uint32_t)at;
      waiting = true;
    }
  }
  if (waiting) push_symbol(work, bpe->base.unk, unk_begin, unk_end);
  return true;
}

static bool bpe_encode(const TokenModel *model, ModelWork *result, const char *piece, size_t bytes,
                       Error *error) {
  const Bpe *bpe = (const Bpe *)model;
  if (bpe->ignore_merges || bpe->whole.size > 0) {
    int id = vocabulary_id(&model->vocabulary, piece, bytes);
    if (id >= 0 && stands_whole(bpe, id))
      return model_work_push(result, (ModelToken){id, 0, (uint32_t)bytes}, error);
  }
  if (!result->own) result->own = memory_zeroed(1, sizeof(BpeWork));
  BpeWork *work = result->own;
  if (!work) return error_out_of_memory(error, "encoding", sizeof *work);
  if (!make_symbols(bpe, work, piece, bytes, error) || !merge_symbols(bpe, work, error)) return false;
  for (size_t i = 0; i < work->symbol_count; i++) {
    const BpeSymbol *symbol = &work->symbols[i];
    ModelToken token = {symbol->id, symbol->begin, symbol->end};
    if (!symbol->gone && !model_work_push(result, token, error)) return false;
  }
  return true;
}

/* ---- opening ---- */

static void bpe_free(TokenModel *model) {
  Bpe *bpe = (Bpe *)model;
  pair_table_free(&bpe->merges);
  int_array_free(&bpe->whole);
  memory_free(bpe->prefix);
  memory_free(bpe->suffix);
  memory_free(bpe->unk_missing);
  memory_free(bpe);
}

TokenModel *bpe_open(const Reader *model, Error *error) {
  static const ModelKind kind = {"BPE", bpe_encode, bpe_digest, bpe_free, bpe_work_free};
  Bpe *bpe = memory_zeroed(1, sizeof *bpe);
  if (!bpe) {
    error_out_of_memory(error, "tokenizer", sizeof *bpe);
    return NULL;
  }
  bpe->base = (TokenModel){.kind = &kind, .unk = -1};
  Reader vocab;
  if (reader_member(model, "vocab", &vocab, error) && vocabulary_read(&bpe->base.vocabulary, &vocab, error) &&
      read_options(bpe, model, error) && read_whole(bpe, model, error) && read_merges(bpe, model, error)) {
    index_characters(bpe);
    return &bpe->base;
  }
  token_model_free(&bpe->base);
  return NULL;
}
