#include "tokenizer/spaces.h"

#include "base/memory.h"
#include "tokenizer/trie.h"

#include <string.h>

#define SPACE_MARK "\xe2\x96\x81"

struct Spaces {
  Charsmap *map; /* NULL: none */
  Trie defined;  /* user-defined pieces */
  bool has_defined, prefix, remove, escape;
};

static bool read_defined(Spaces *spaces, const Reader *reader, Error *error) {
  Reader list, item;
  if (!reader_array(reader, "user_defined", &list, error)) return false;
  const size_t count = json_array_size(list.value);
  if (count == 0) return true;
  TrieKey *keys = memory_alloc(count * sizeof *keys);
  bool done = keys || error_out_of_memory(error, "pieces", count * sizeof *keys);
  for (size_t i = 0; done && i < count; i++) {
    const char *text;
    size_t bytes;
    done = reader_item(&list, i, &item, error) && reader_as_text(&item, &text, &bytes, error);
    if (done && bytes == 0) done = reader_fail(&item, error, "a piece without text");
    if (done) keys[i] = (TrieKey){text, (uint32_t)bytes, (int)i};
  }
  done = done && trie_init(&spaces->defined, keys, count, error);
  spaces->has_defined = done;
  memory_free(keys);
  return done;
}

Spaces *spaces_open(const Reader *reader, Charsmap *map, Error *error) {
  Spaces *spaces = memory_zeroed(1, sizeof *spaces);
  if (!spaces) {
    error_out_of_memory(error, "normalizer", sizeof *spaces);
    return NULL;
  }
  if (reader_bool_required(reader, "add_dummy_prefix", &spaces->prefix, error) &&
      reader_bool_required(reader, "remove_extra_whitespaces", &spaces->remove, error) &&
      reader_bool_required(reader, "escape_whitespaces", &spaces->escape, error) &&
      read_defined(spaces, reader, error)) {
    spaces->map = map;
    return spaces;
  }
  spaces_free(spaces);
  return NULL;
}

void spaces_free(Spaces *spaces) {
  if (!spaces) return;
  charsmap_free(spaces->map);
  if (spaces->has_defined) trie_free(&spaces->defined);
  memory_free(spaces);
}

/* What the text at `at` begins with: `taken` bytes of it, and what they become. */
typedef struct Part {
  const char *text;
  size_t bytes, taken;
} Part;

static size_t defined_at(const Spaces *spaces, const char *text, size_t bytes) {
  size_t longest = 0;
  uint32_t node = 0;
  for (size_t i = 0; spaces->has_defined && i < bytes; i++) {
    node = trie_child(&spaces->defined, node, (uint8_t)text[i]);
    if (node == 0) break;
    if (spaces->defined.nodes[node].value >= 0) longest = i + 1;
  }
  return longest;
}

static Part part_at(const Spaces *spaces, const Text *in, size_t at) {
  const char *text = in->data + at;
  Part part = {.text = text, .taken = defined_at(spaces, text, in->size - at)};
  if (part.taken == 0 && spaces->map) {
    part.taken = charsmap_longest(spaces->map, text, in->size - at, &part.text, &part.bytes);
    if (part.taken > 0) return part;
    part.text = text;
  }
  if (part.taken == 0) {
    size_t end = at;
    (void)utf8_next(in->data, &end);
    part.taken = end - at;
  }
  part.bytes = part.taken;
  return part;
}

static bool append_part(const Spaces *spaces, Part part, TokenSpan span, Text *out, Error *error) {
  for (size_t i = 0; i < part.bytes; i++) {
    const bool mark = spaces->escape && part.text[i] == ' ';
    if (!text_append(out, mark ? SPACE_MARK : part.text + i, mark ? 3 : 1, span, error)) return false;
  }
  return true;
}

static void drop_spaces_behind(const Spaces *spaces, Text *out, size_t begin) {
  const char *space = spaces->escape ? SPACE_MARK : " ";
  const size_t bytes = strlen(space);
  while (out->size >= begin + bytes && memcmp(out->data + out->size - bytes, space, bytes) == 0)
    out->size -= bytes;
}

bool spaces_append(const Spaces *spaces, const Text *in, Text *out, Error *error) {
  const size_t begin = out->size;
  size_t at = 0;
  while (spaces->remove && at < in->size) {
    const Part part = part_at(spaces, in, at);
    if (part.bytes != 1 || part.text[0] != ' ') break;
    at += part.taken;
  }
  if (at == in->size) return true;
  const TokenSpan first = text_span(in, at, at + 1), place = {first.begin, first.begin};
  if (spaces->prefix && !append_part(spaces, (Part){" ", 1, 0}, place, out, error)) return false;
  for (bool space = spaces->remove; at < in->size;) {
    Part part = part_at(spaces, in, at);
    while (space && part.bytes > 0 && part.text[0] == ' ') {
      part.text++;
      part.bytes--;
    }
    if (!append_part(spaces, part, text_span(in, at, at + part.taken), out, error)) return false;
    if (part.bytes > 0) space = spaces->remove && part.text[part.bytes - 1] == ' ';
    at += part.taken;
  }
  if (spaces->remove) drop_spaces_behind(spaces, out, begin);
  return true;
}
