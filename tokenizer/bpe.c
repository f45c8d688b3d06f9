#include "tokenizer/bpe.h"

#include "tokenizer/table.h"
#include "tokenizer/text.h"
#include "tokenizer/wordcache.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_ID = (1 << 24) - 1, DIRECT = 0x250 };

struct Bpe {
  const char **texts; /* by id; NULL = unused */
  uint32_t *lengths;
  int vocab_size;
  StringPool pool;
  StringTable ids;
  PairTable merges;
  int direct[DIRECT]; /* ids of one-character tokens */
  int byte_ids[256];  /* of <0x00> ...; -1 when absent */
  int unk;
  char *unk_missing; /* a named unknown token that the vocabulary lacks: an error only when it is needed */
  bool fuse_unk, byte_fallback, ignore_merges;
  char *prefix, *suffix; /* continuing_subword_prefix, end_of_word_suffix; NULL when empty */
  WordCache *cache;
};

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

static bool read_vocab(Bpe *bpe, const Reader *vocab, Error *error) {
  const char *text;
  json_t *value;
  long long max = -1;
  if (!reader_as_object(vocab, error)) return false;
  json_object_foreach(vocab->value, text, value) {
    long long id = json_is_integer(value) ? json_integer_value(value) : -1;
    if (id < 0 || id > MAX_ID)
      return reader_fail(vocab, error, "token \"%.60s\": expected an id from 0 to %d", text, MAX_ID);
    if (id > max) max = id;
  }
  size_t rows = (size_t)(max + 1);
  bpe->vocab_size = (int)rows;
  bpe->texts = memory_zeroed(rows + 1, sizeof *bpe->texts);
  bpe->lengths = memory_zeroed(rows + 1, sizeof *bpe->lengths);
  if (!bpe->texts || !bpe->lengths)
    return error_out_of_memory(error, "vocabulary", rows * sizeof *bpe->texts);
  size_t bytes;
  json_object_keylen_foreach(vocab->value, text, bytes, value) {
    size_t id = (size_t)json_integer_value(value);
    if (bpe->texts[id])
      return reader_fail(vocab, error, "tokens \"%.60s\" and \"%.60s\" have the same id %zu", bpe->texts[id],
                         text, id);
    const char *kept = string_pool_add(&bpe->pool, text, bytes, error);
    if (!kept || !string_table_put(&bpe->ids, kept, bytes, (int)id, error)) return false;
    bpe->texts[id] = kept;
    bpe->lengths[id] = (uint32_t)bytes;
  }
  return true;
}

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
    id[side] = string_table_get(&bpe->ids, part[side], bytes[side]);
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
  int result = string_table_get(&bpe->ids, joined->data, joined->size);
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
  bool done = pair_table_reserve(&bpe->merges, json_array_size(list.value), error);
  uint32_t rank = 0;
  for (size_t i = 0; done && i < json_array_size(list.value); i++) {
    done = reader_item(&list, i, &item, error);
    const char *line = done ? json_string_value(item.value) : NULL;
    if (line && strncmp(line, "#version", 8) == 0) continue; /* first line of a merges.txt */
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
  bpe->unk = unk ? string_table_get(&bpe->ids, unk, bytes) : -1;
  if (bytes == 0 || bpe->unk >= 0) return true;
  bpe->unk_missing = memory_copy_string(unk);
  return bpe->unk_missing || error_out_of_memory(error, "unk_token", bytes);
}

static void index_characters(Bpe *bpe) {
  char utf8[8];
  for (uint32_t c = 0; c < DIRECT; c++) bpe->direct[c] = string_table_get(&bpe->ids, utf8, utf8_put(c, utf8));
  for (unsigned byte = 0; byte < 256; byte++) {
    snprintf(utf8, sizeof utf8, "<0x%02X>", byte);
    bpe->byte_ids[byte] = string_table_get(&bpe->ids, utf8, 6);
  }
}

Bpe *bpe_open(const Reader *model, Error *error) {
  Bpe *bpe = memory_zeroed(1, sizeof *bpe);
  if (!bpe) {
    error_out_of_memory(error, "tokenizer", sizeof *bpe);
    return NULL;
  }
  Reader vocab;
  bool done = reader_member(model, "vocab", &vocab, error) && read_vocab(bpe, &vocab, error) &&
              read_options(bpe, model, error) && read_merges(bpe, model, error);
  if (done) {
    index_characters(bpe);
    bpe->cache = word_cache_new(error);
    if (bpe->cache) return bpe;
  }
  bpe_free(bpe);
  return NULL;
}

void bpe_free(Bpe *bpe) {
  if (!bpe) return;
  memory_free(bpe->texts);
  memory_free(bpe->lengths);
  string_table_free(&bpe->ids);
  string_pool_free(&bpe->pool);
  pair_table_free(&bpe->merges);
  memory_free(bpe->prefix);
  memory_free(bpe->suffix);
  memory_free(bpe->unk_missing);
  word_cache_free(bpe->cache);
  memory_free(bpe);
}

int bpe_count(const Bpe *bpe) {
  return (int)bpe->ids.count;
}

int bpe_vocab_size(const Bpe *bpe) {
  return bpe->vocab_size;
}

const char *bpe_token(const Bpe *bpe, int id, size_t *bytes) {
  if (id < 0 || id >= bpe->vocab_size || !bpe->texts[id]) return NULL;
  *bytes = bpe->lengths[id];
  return bpe->texts[id];
}

int bpe_id(const Bpe *bpe, const char *token, size_t bytes) {
  return string_table_get(&bpe->ids, token, bytes);
}

static int compare_ranks(const void *a, const void *b) {
  const PairSlot *x = a, *y = b;
  return x->rank < y->rank ? -1 : x->rank > y->rank;
}

bool bpe_digest_merges(const Bpe *bpe, Digest *digest, Error *error) {
  const PairTable *table = &bpe->merges;
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

int bpe_unk(const Bpe *bpe) {
  return bpe->unk;
}

/* ---- encoding ---- */

void bpe_work_free(BpeWork *work) {
  memory_free(work->tokens);
  memory_free(work->symbols);
  memory_free(work->heap);
  buffer_free(&work->character);
  *work = (BpeWork){0};
}

/* `data` with room for `count` items, which may have moved; NULL when memory is out (data is still valid then). */
static void *grown(void *data, size_t *capacity, size_t count, size_t size, Error *error) {
  if (data && count <= *capacity) return data;
  size_t bigger = count + *capacity / 2 + 32;
  void *moved = memory_resize(data, bigger * size);
  if (!moved) {
    error_out_of_memory(error, "encoding", bigger * size);
    return NULL;
  }
  *capacity = bigger;
  return moved;
}

static bool reserve_tokens(BpeWork *work, size_t count, Error *error) {
  BpeToken *tokens = grown(work->tokens, &work->token_capacity, count, sizeof *tokens, error);
  if (tokens) work->tokens = tokens;
  return tokens != NULL;
}

static bool reserve_symbols(BpeWork *work, size_t count, Error *error) {
  BpeSymbol *symbols = grown(work->symbols, &work->symbol_capacity, count, sizeof *symbols, error);
  if (symbols) work->symbols = symbols;
  return symbols != NULL;
}

static bool reserve_heap(BpeWork *work, size_t count, Error *error) {
  BpeCandidate *heap = grown(work->heap, &work->heap_capacity, count, sizeof *heap, error);
  if (heap) work->heap = heap;
  return heap != NULL;
}

static bool push_token(BpeWork *work, BpeToken token, Error *error) {
  if (!reserve_tokens(work, work->count + 1, error)) return false;
  work->tokens[work->count++] = token;
  return true;
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
  *id = string_table_get(&bpe->ids, *text, *bytes);
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
      if (waiting) push_symbol(work, bpe->unk, unk_begin, unk_end);
      waiting = false;
      push_symbol(work, id, (uint32_t)begin, (uint32_t)at);
    } else if (!push_bytes(bpe, work, text, bytes, (uint32_t)begin, (uint32_t)at)) {
      if (bpe->unk_missing)
        return error_set(error, ERROR_MODEL, "unk_token %s is not in the tokenizer's vocabulary",
                         bpe->unk_missing);
      if (bpe->unk < 0) continue; /* nothing stands for it */
      if (waiting && !bpe->fuse_unk) push_symbol(work, bpe->unk, unk_begin, unk_end);
      if (!waiting || !bpe->fuse_unk) unk_begin = (uint32_t)begin;
      unk_end = (uint32_t)at;
      waiting = true;
    }
  }
  if (waiting) push_symbol(work, bpe->unk, unk_begin, unk_end);
  return true;
}

bool bpe_encode(const Bpe *bpe, BpeWork *work, const char *piece, size_t bytes, Error *error) {
  ASSERT(bytes > 0 && bytes <= UINT32_MAX / 2);
  work->count = 0;
  uint64_t hash = 0;
  bool cached = bytes <= WORD_CACHE_BYTES;
  if (cached) {
    BpeToken found[WORD_CACHE_TOKENS];
    hash = hash_bytes(piece, bytes);
    size_t count = word_cache_get(bpe->cache, hash, piece, bytes, found);
    if (count > 0) {
      if (!reserve_tokens(work, count, error)) return false;
      memcpy(work->tokens, found, count * sizeof *found);
      work->count = count;
      return true;
    }
  }
  if (bpe->ignore_merges) {
    int id = string_table_get(&bpe->ids, piece, bytes);
    if (id >= 0) return push_token(work, (BpeToken){id, 0, (uint32_t)bytes}, error);
  }
  if (!make_symbols(bpe, work, piece, bytes, error) || !merge_symbols(bpe, work, error)) return false;
  for (size_t i = 0; i < work->symbol_count; i++) {
    const BpeSymbol *symbol = &work->symbols[i];
    if (!symbol->gone && !push_token(work, (BpeToken){symbol->id, symbol->begin, symbol->end}, error))
      return false;
  }
  if (cached) word_cache_put(bpe->cache, hash, piece, bytes, work->tokens, work->count);
  return true;
}
