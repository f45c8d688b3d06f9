#include "tokenizer/learn.h"

#include "base/memory.h"
#include "tokenizer/text.h"

#include <stdlib.h>
#include <string.h>

/* A pair of neighbours and the words it was ever seen in (some perhaps no more, none twice in a row). */
typedef struct Pair {
  uint32_t left, right;
  int64_t count;
  uint32_t *words;
  uint32_t word_count, word_capacity;
  bool merged;
  uint32_t pushed; /* step in which a candidate was made last */
} Pair;

typedef struct Candidate {
  int64_t count;
  uint32_t pair;
} Candidate;

typedef struct Learner {
  Learned *learned;
  StringTable ids; /* token text -> id */
  const int64_t *counts;
  uint32_t *symbols; /* of all words, end to end */
  size_t *begin;     /* of a word's symbols; word_count + 1 of them */
  uint32_t *length;  /* symbols a word has left */
  PairTable index;   /* (left, right) -> slot.rank = index into pairs */
  Pair *pairs;
  size_t pair_count, pair_capacity;
  Candidate *heap;
  size_t heap_count, heap_capacity;
  uint32_t *fresh; /* pairs whose count rose in this step */
  size_t fresh_count, fresh_capacity;
  uint32_t step;
  Buffer joined;
} Learner;

void learned_free(Learned *learned) {
  memory_free(learned->tokens);
  memory_free(learned->merges);
  string_pool_free(&learned->pool);
  *learned = (Learned){0};
}

static void learner_free(Learner *learner) {
  for (size_t i = 0; i < learner->pair_count; i++) memory_free(learner->pairs[i].words);
  string_table_free(&learner->ids);
  memory_free(learner->symbols);
  memory_free(learner->begin);
  memory_free(learner->length);
  pair_table_free(&learner->index);
  memory_free(learner->pairs);
  memory_free(learner->heap);
  memory_free(learner->fresh);
  buffer_free(&learner->joined);
}

/* data with room for count + 1 items, NULL when memory is out. */
static void *room(void *data, size_t *capacity, size_t count, size_t size, Error *error) {
  if (count < *capacity) return data;
  size_t bigger = *capacity * 2 + 64;
  void *moved = memory_resize(data, bigger * size);
  if (!moved) {
    error_out_of_memory(error, "tokenizer trainer", bigger * size);
    return NULL;
  }
  *capacity = bigger;
  return moved;
}

/* The id of a token text, given the next one when it is new. */
static bool token_id(Learner *learner, const char *text, size_t bytes, uint32_t *id, Error *error) {
  Learned *learned = learner->learned;
  int known = string_table_get(&learner->ids, text, bytes);
  if (known >= 0) {
    *id = (uint32_t)known;
    return true;
  }
  LearnedText *tokens =
      room(learned->tokens, &learned->token_capacity, learned->token_count, sizeof *tokens, error);
  if (!tokens) return false;
  learned->tokens = tokens;
  const char *kept = string_pool_add(&learned->pool, text, bytes, error);
  if (!kept || !string_table_put(&learner->ids, kept, bytes, (int)learned->token_count, error)) return false;
  *id = (uint32_t)learned->token_count;
  tokens[learned->token_count++] = (LearnedText){kept, bytes};
  return true;
}

/* ---- heap: the largest count first, then the smallest pair ---- */

static bool comes_first(const Learner *learner, Candidate a, Candidate b) {
  if (a.count != b.count) return a.count > b.count;
  const Pair *x = &learner->pairs[a.pair], *y = &learner->pairs[b.pair];
  return x->left != y->left ? x->left < y->left : x->right < y->right;
}

static bool push(Learner *learner, uint32_t pair, Error *error) {
  Candidate *heap = room(learner->heap, &learner->heap_capacity, learner->heap_count, sizeof *heap, error);
  if (!heap) return false;
  learner->heap = heap;
  Candidate candidate = {learner->pairs[pair].count, pair};
  size_t at = learner->heap_count++;
  while (at > 0 && comes_first(learner, candidate, heap[(at - 1) / 2])) {
    heap[at] = heap[(at - 1) / 2];
    at = (at - 1) / 2;
  }
  heap[at] = candidate;
  return true;
}

static Candidate pop(Learner *learner) {
  Candidate *heap = learner->heap, top = heap[0], last = heap[--learner->heap_count];
  size_t at = 0;
  for (;;) {
    size_t child = 2 * at + 1;
    if (child >= learner->heap_count) break;
    if (child + 1 < learner->heap_count && comes_first(learner, heap[child + 1], heap[child])) child++;
    if (!comes_first(learner, heap[child], last)) break;
    heap[at] = heap[child];
    at = child;
  }
  heap[at] = last;
  return top;
}

/* ---- pairs ---- */

static Pair *find_pair(Learner *learner, uint32_t left, uint32_t right, uint32_t *number, Error *error) {
  PairSlot *slot = pair_table_put(&learner->index, left, right, error);
  if (!slot) return NULL;
  if (slot->rank == UINT32_MAX) {
    Pair *pairs = room(learner->pairs, &learner->pair_capacity, learner->pair_count, sizeof *pairs, error);
    if (!pairs) return NULL;
    learner->pairs = pairs;
    slot->rank = (uint32_t)learner->pair_count;
    pairs[learner->pair_count++] = (Pair){.left = left, .right = right, .pushed = UINT32_MAX};
  }
  *number = slot->rank;
  return &learner->pairs[slot->rank];
}

/* One more of the pair in the word; it becomes a candidate at the end of the step. */
static bool gain(Learner *learner, uint32_t left, uint32_t right, uint32_t word, Error *error) {
  uint32_t number;
  Pair *pair = find_pair(learner, left, right, &number, error);
  if (!pair) return false;
  pair->count += learner->counts[word];
  if (pair->word_count == 0 || pair->words[pair->word_count - 1] != word) {
    size_t capacity = pair->word_capacity;
    uint32_t *words = room(pair->words, &capacity, pair->word_count, sizeof *words, error);
    if (!words) return false;
    pair->words = words;
    pair->word_capacity = (uint32_t)capacity;
    words[pair->word_count++] = word;
  }
  if (pair->pushed == learner->step) return true;
  pair->pushed = learner->step;
  uint32_t *fresh =
      room(learner->fresh, &learner->fresh_capacity, learner->fresh_count, sizeof *fresh, error);
  if (!fresh) return false;
  learner->fresh = fresh;
  fresh[learner->fresh_count++] = number;
  return true;
}

static bool lose(Learner *learner, uint32_t left, uint32_t right, uint32_t word, Error *error) {
  uint32_t number;
  Pair *pair = find_pair(learner, left, right, &number, error);
  if (pair) pair->count -= learner->counts[word];
  return pair != NULL;
}

static bool push_fresh(Learner *learner, Error *error) {
  for (size_t i = 0; i < learner->fresh_count; i++)
    if (learner->pairs[learner->fresh[i]].count > 0 && !push(learner, learner->fresh[i], error)) return false;
  learner->fresh_count = 0;
  learner->step++;
  return true;
}

/* ---- the algorithm ---- */

static bool start_vocabulary(Learner *learner, const LearnInput *input, Error *error) {
  ByteAlphabet alphabet;
  uint32_t id;
  for (size_t i = 0; i < input->special_count; i++)
    if (!token_id(learner, input->special[i], strlen(input->special[i]), &id, error)) return false;
  byte_alphabet_init(&alphabet);
  for (size_t c = 0; c < sizeof alphabet.byte_of / sizeof alphabet.byte_of[0]; c++) {
    int byte = alphabet.byte_of[c];
    if (byte >= 0 && !token_id(learner, alphabet.utf8[byte], alphabet.length[byte], &id, error)) return false;
  }
  return true;
}

static bool start_words(Learner *learner, const LearnInput *input, Error *error) {
  size_t total = 0;
  for (size_t i = 0; i < input->word_count; i++) total += input->lengths[i];
  learner->symbols = memory_alloc((total + 1) * sizeof *learner->symbols);
  learner->begin = memory_alloc((input->word_count + 1) * sizeof *learner->begin);
  learner->length = memory_alloc((input->word_count + 1) * sizeof *learner->length);
  if (!learner->symbols || !learner->begin || !learner->length)
    return error_out_of_memory(error, "words", total * sizeof *learner->symbols);
  size_t used = 0;
  for (size_t i = 0; i < input->word_count; i++) {
    learner->begin[i] = used;
    for (size_t at = 0; at < input->lengths[i];) {
      size_t start = at;
      (void)utf8_next(input->words[i], &at);
      if (!token_id(learner, input->words[i] + start, at - start, &learner->symbols[used++], error))
        return false;
    }
    learner->length[i] = (uint32_t)(used - learner->begin[i]);
    const uint32_t *word = learner->symbols + learner->begin[i];
    for (uint32_t k = 0; k + 1 < learner->length[i]; k++)
      if (!gain(learner, word[k], word[k + 1], (uint32_t)i, error)) return false;
  }
  return push_fresh(learner, error);
}

/* Merges the pair everywhere in a word. As in the reference, the counts around a place are updated before the next
 * place is looked at, with the merged token already to its left. */
static bool merge_word(Learner *learner, uint32_t word, uint32_t left, uint32_t right, uint32_t merged,
                       Error *error) {
  uint32_t *symbols = learner->symbols + learner->begin[word], length = learner->length[word], used = 0;
  for (uint32_t i = 0; i < length; i++) {
    if (symbols[i] != left || i + 1 == length || symbols[i + 1] != right) {
      symbols[used++] = symbols[i];
      continue;
    }
    if (used > 0 && (!lose(learner, symbols[used - 1], left, word, error) ||
                     !gain(learner, symbols[used - 1], merged, word, error)))
      return false;
    if (i + 2 < length && (!lose(learner, right, symbols[i + 2], word, error) ||
                           !gain(learner, merged, symbols[i + 2], word, error)))
      return false;
    symbols[used++] = merged;
    i++;
  }
  learner->length[word] = used;
  return true;
}

static bool merge_pair(Learner *learner, uint32_t number, Error *error) {
  Learned *learned = learner->learned;
  uint32_t left = learner->pairs[number].left, right = learner->pairs[number].right, merged;
  LearnedText a = learned->tokens[left], b = learned->tokens[right];
  buffer_clear(&learner->joined);
  if (!buffer_append(&learner->joined, a.text, a.bytes, error) ||
      !buffer_append(&learner->joined, b.text, b.bytes, error) ||
      !token_id(learner, learner->joined.data, learner->joined.size, &merged, error))
    return false;
  LearnedMerge *merges =
      room(learned->merges, &learned->merge_capacity, learned->merge_count, sizeof *merges, error);
  if (!merges) return false;
  learned->merges = merges;
  merges[learned->merge_count++] = (LearnedMerge){left, right};
  learner->pairs[number].merged = true;
  uint32_t *words = learner->pairs[number].words, count = learner->pairs[number].word_count;
  learner->pairs[number].words = NULL; /* gain() may move the pairs, but adds no word to this one */
  learner->pairs[number].word_count = learner->pairs[number].word_capacity = 0;
  bool done = true;
  for (uint32_t i = 0; done && i < count; i++)
    done = merge_word(learner, words[i], left, right, merged, error);
  memory_free(words);
  return done && push_fresh(learner, error);
}

static bool learn(Learner *learner, const LearnInput *input, Error *error) {
  if (!start_vocabulary(learner, input, error) || !start_words(learner, input, error)) return false;
  int64_t least = input->min_frequency > 1 ? input->min_frequency : 1;
  while (learner->learned->token_count < input->vocab_size && learner->heap_count > 0) {
    Candidate top = pop(learner);
    const Pair *pair = &learner->pairs[top.pair];
    if (pair->merged) continue;
    if (pair->count != top.count) {
      if (pair->count >= least && !push(learner, top.pair, error)) return false;
      continue;
    }
    if (top.count < least) break;
    if (!merge_pair(learner, top.pair, error)) return false;
  }
  return true;
}

bool learn_bpe(const LearnInput *input, Learned *learned, Error *error) {
  Learner learner = {.learned = learned, .counts = input->counts};
  bool done = learn(&learner, input, error);
  learner_free(&learner);
  if (!done) learned_free(learned);
  return done;
}
