#include "tokenizer/charsmap.h"

#include "base/memory.h"

#include <utf8proc.h>

typedef struct Replacement {
  const char *text; /* NULL: none */
  size_t bytes;
} Replacement;

struct Charsmap {
  uint32_t *units;
  size_t unit_count;
  char *texts; /* NUL behind the last */
  size_t text_bytes;
  Replacement ascii[128]; /* of single characters */
};

enum { WHOLE_GRAPHEME = 6 }; /* bytes from which on a grapheme is read by its characters */

/* ---- the trie ---- */

static size_t unit_offset(uint32_t unit) {
  return (size_t)(unit >> 10) << ((unit & 1u << 9) >> 6);
}

/* The replacement of the shortest (or the longest) string that the key begins with, and its bytes. A trie that leads outside has
 * none. */
static Replacement search(const Charsmap *map, const char *key, size_t bytes, bool longest, size_t *taken) {
  Replacement found = {0};
  size_t node = unit_offset(map->units[0]);
  for (size_t i = 0; i < bytes; i++) {
    uint32_t byte = (unsigned char)key[i];
    node ^= byte;
    if (byte == 0 || node >= map->unit_count) return found;
    uint32_t unit = map->units[node];
    if ((unit & (1u << 31 | 0xff)) != byte) return found;
    node ^= unit_offset(unit);
    if (!(unit & 1u << 8)) continue;
    size_t place = node < map->unit_count ? map->units[node] & 0x7fffffffu : SIZE_MAX;
    if (place > map->text_bytes || ((unsigned char)map->texts[place] & 0xc0) == 0x80) return found;
    found = (Replacement){map->texts + place, strlen(map->texts + place)};
    *taken = i + 1;
    if (!longest) return found;
  }
  return found;
}

static Replacement find(const Charsmap *map, const char *key, size_t bytes) {
  size_t taken;
  return search(map, key, bytes, false, &taken);
}

size_t charsmap_longest(const Charsmap *map, const char *text, size_t bytes, const char **out,
                        size_t *out_bytes) {
  size_t taken = 0;
  const Replacement found = search(map, text, bytes, true, &taken);
  *out = found.text;
  *out_bytes = found.bytes;
  return found.text ? taken : 0;
}

/* ---- opening ---- */

static uint32_t read_u32(const char *bytes) {
  const unsigned char *p = (const unsigned char *)bytes;
  return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static bool read_map(Charsmap *map, const char *bytes, size_t count, Error *error) {
  size_t skip, trie = count >= 4 ? read_u32(bytes) : 0;
  if (trie < 4 || trie > count - 4)
    return error_set(error, ERROR_MODEL, "the trie of the charsmap has %zu bytes, of %zu that there are",
                     trie, count);
  map->unit_count = trie / 4;
  map->units = memory_alloc(map->unit_count * sizeof *map->units);
  bytes += 4;
  count -= 4;
  /* as the library, which passes over what is left of a trie whose length is no multiple of 4 */
  map->text_bytes = count - map->unit_count * 4;
  map->texts = memory_alloc(map->text_bytes + 1);
  if (!map->units || !map->texts) return error_out_of_memory(error, "charsmap", count);
  for (size_t i = 0; i < map->unit_count; i++) map->units[i] = read_u32(bytes + 4 * i);
  memcpy(map->texts, bytes + map->unit_count * 4, map->text_bytes);
  map->texts[map->text_bytes] = '\0';
  if (utf8_valid_prefix(map->texts, map->text_bytes, &skip) != map->text_bytes)
    return error_set(error, ERROR_MODEL, "a replacement of the charsmap is not UTF-8");
  return true;
}

Charsmap *charsmap_open(const char *bytes, size_t count, Error *error) {
  Charsmap *map = memory_zeroed(1, sizeof *map);
  if (!map) {
    error_out_of_memory(error, "charsmap", sizeof *map);
    return NULL;
  }
  if (!read_map(map, bytes, count, error)) {
    charsmap_free(map);
    return NULL;
  }
  for (int c = 0; c < 128; c++) map->ascii[c] = find(map, &(char){(char)c}, 1);
  return map;
}

void charsmap_free(Charsmap *map) {
  if (!map) return;
  memory_free(map->units);
  memory_free(map->texts);
  memory_free(map);
}

/* ---- applying ---- */

static bool append_replaced(const Text *in, size_t begin, size_t end, Replacement replacement, Text *out,
                            Error *error) {
  if (!replacement.text) return text_append_part(out, in, begin, end, error);
  return text_append(out, replacement.text, replacement.bytes, text_span(in, begin, end), error);
}

/* Where the grapheme that begins at `begin` ends (Unicode, annex 29). */
static size_t grapheme_end(const Text *in, size_t begin) {
  utf8proc_int32_t state = 0;
  size_t at = begin;
  utf8proc_int32_t left = (utf8proc_int32_t)utf8_next(in->data, &at);
  while (at < in->size) {
    size_t next = at;
    utf8proc_int32_t right = (utf8proc_int32_t)utf8_next(in->data, &next);
    if (utf8proc_grapheme_break_stateful(left, right, &state)) break;
    left = right;
    at = next;
  }
  return at;
}

static bool append_grapheme(const Charsmap *map, const Text *in, size_t begin, size_t end, Text *out,
                            Error *error) {
  if (end - begin < WHOLE_GRAPHEME) {
    Replacement whole = find(map, in->data + begin, end - begin);
    if (whole.text) return append_replaced(in, begin, end, whole, out, error);
  }
  while (begin < end) {
    size_t at = begin;
    (void)utf8_next(in->data, &at);
    if (!append_replaced(in, begin, at, find(map, in->data + begin, at - begin), out, error)) return false;
    begin = at;
  }
  return true;
}

/* A character of ASCII is a grapheme where another follows, but for CR LF. */
static bool stands_alone(const Text *in, size_t at) {
  const unsigned char *p = (const unsigned char *)in->data;
  return p[at] < 0x80 && p[at] != '\r' && (at + 1 == in->size || p[at + 1] < 0x80);
}

bool charsmap_append(const Charsmap *map, const Text *in, Text *out, Error *error) {
  for (size_t at = 0; at < in->size;) {
    size_t end = at;
    while (end < in->size && stands_alone(in, end) && !map->ascii[(unsigned char)in->data[end]].text) end++;
    if (!text_append_part(out, in, at, end, error)) return false;
    if (end == in->size) break;
    at = end;
    end = grapheme_end(in, at);
    if (!append_grapheme(map, in, at, end, out, error)) return false;
    at = end;
  }
  return true;
}
