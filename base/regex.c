#include "base/regex.h"

#include "base/memory.h"
#include "base/regex_translate.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <string.h>

struct Regex {
  pcre2_code *code; /* NULL for a literal */
  char *literal;
  size_t literal_bytes;
};

struct RegexScratch {
  pcre2_match_data *data;
  pcre2_match_context *limits;
  int filled; /* pairs of data that the last match set: 1 the whole, 2 its first group too; 0: all that there is room for */
};

/* Patterns come from files of strangers. No real one comes near these: the longest of the ten tokenizer families has
 * 400 bytes, and takes a few thousand steps for a word. */
enum {
  MAX_PATTERN_BYTES = 1 << 14,
  MAX_STEPS = 10 * 1000 * 1000, /* of one match */
  MAX_HEAP_KIB = 256 * 1024     /* for one match, outside the compiled matcher */
};

static pcre2_code *compile(const Buffer *pattern, RegexSyntax syntax, Error *error) {
  pcre2_compile_context *context = pcre2_compile_context_create(NULL);
  if (!context) {
    error_out_of_memory(error, "regular expression", 0);
    return NULL;
  }
  pcre2_set_newline(context, PCRE2_NEWLINE_LF);
  int code = 0;
  PCRE2_SIZE offset = 0;
  uint32_t options = PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C;
  if (syntax == REGEX_ONIGURUMA) options |= PCRE2_MULTILINE;
  pcre2_code *result = pcre2_compile((PCRE2_SPTR)(pattern->data ? pattern->data : ""), pattern->size, options,
                                     &code, &offset, context);
  pcre2_compile_context_free(context);
  if (!result) {
    char message[128];
    pcre2_get_error_message(code, (PCRE2_UCHAR *)message, sizeof message);
    error_set(error, ERROR_MODEL, "%s at byte %zu of %.200s", message, (size_t)offset,
              pattern->data ? pattern->data : "");
    return NULL;
  }
  if (syntax == REGEX_ONIGURUMA) /* for long texts; without it matching is only slower */
    (void)pcre2_jit_compile(result, PCRE2_JIT_COMPLETE);
  return result;
}

Regex *regex_compile(const char *pattern, size_t bytes, RegexSyntax syntax, Error *error) {
  Regex *regex = memory_zeroed(1, sizeof *regex);
  if (!regex) {
    error_out_of_memory(error, "regular expression", sizeof *regex);
    return NULL;
  }
  if (syntax == REGEX_LITERAL) {
    regex->literal = memory_alloc(bytes + 1);
    if (!regex->literal) {
      error_out_of_memory(error, "regular expression", bytes);
      regex_free(regex);
      return NULL;
    }
    memcpy(regex->literal, pattern, bytes);
    regex->literal_bytes = bytes;
    return regex;
  }
  Buffer translated = {0};
  if (bytes > MAX_PATTERN_BYTES)
    error_set(error, ERROR_MODEL, "a pattern of %zu bytes: at most %d are supported", bytes,
              MAX_PATTERN_BYTES);
  else if (syntax == REGEX_PCRE2 ? buffer_append(&translated, pattern, bytes, error)
                                 : regex_translate(pattern, bytes, syntax, &translated, error))
    regex->code = compile(&translated, syntax, error);
  buffer_free(&translated);
  if (!regex->code) {
    regex_free(regex);
    return NULL;
  }
  return regex;
}

void regex_free(Regex *regex) {
  if (!regex) return;
  pcre2_code_free(regex->code);
  memory_free(regex->literal);
  memory_free(regex);
}

RegexScratch *regex_scratch_new(Error *error) {
  RegexScratch *scratch = memory_zeroed(1, sizeof *scratch);
  if (scratch) {
    scratch->data = pcre2_match_data_create(2, NULL);
    scratch->limits = pcre2_match_context_create(NULL);
  }
  if (!scratch || !scratch->data || !scratch->limits) {
    regex_scratch_free(scratch);
    error_out_of_memory(error, "regular expression", sizeof *scratch);
    return NULL;
  }
  pcre2_set_match_limit(scratch->limits, MAX_STEPS);
  pcre2_set_heap_limit(scratch->limits, MAX_HEAP_KIB);
  return scratch;
}

void regex_scratch_free(RegexScratch *scratch) {
  if (!scratch) return;
  pcre2_match_data_free(scratch->data);
  pcre2_match_context_free(scratch->limits);
  memory_free(scratch);
}

static bool find_literal(const Regex *regex, const char *text, size_t bytes, size_t from, RegexMatch *match) {
  if (regex->literal_bytes == 0) return false;
  const char *at = memmem(text + from, bytes - from, regex->literal, regex->literal_bytes);
  if (!at) return false;
  *match = (RegexMatch){(size_t)(at - text), (size_t)(at - text) + regex->literal_bytes};
  return true;
}

/* Matches at or behind `from`; *found says whether, in scratch->data is where. */
static bool run(const Regex *regex, RegexScratch *scratch, const char *text, size_t bytes, size_t from,
                uint32_t options, bool *found, Error *error) {
  options |= PCRE2_NO_UTF_CHECK;
  int code = pcre2_match(regex->code, (PCRE2_SPTR)text, bytes, from, options, scratch->data, scratch->limits);
  if (code == PCRE2_ERROR_JIT_STACKLIMIT) /* the interpreter keeps its state on the heap */
    code = pcre2_match(regex->code, (PCRE2_SPTR)text, bytes, from, options | PCRE2_NO_JIT, scratch->data,
                       scratch->limits);
  *found = code >= 0;
  scratch->filled = code;
  if (code >= 0 || code == PCRE2_ERROR_NOMATCH) return true;
  char message[128];
  pcre2_get_error_message(code, (PCRE2_UCHAR *)message, sizeof message);
  return error_set(error, ERROR_DATA, "matching a pattern from byte %zu of %zu on: %s", from, bytes, message);
}

static bool find(const Regex *regex, RegexScratch *scratch, const char *text, size_t bytes, size_t from,
                 RegexMatch *match, bool *found, Error *error) {
  if (!regex->code) {
    *found = find_literal(regex, text, bytes, from, match);
    return true;
  }
  if (!run(regex, scratch, text, bytes, from, 0, found, error)) return false;
  const PCRE2_SIZE *bounds = pcre2_get_ovector_pointer(scratch->data);
  if (*found) *match = (RegexMatch){bounds[0], bounds[1]};
  return true;
}

bool regex_group(const RegexScratch *scratch, RegexMatch *group) {
  const PCRE2_SIZE *bounds = pcre2_get_ovector_pointer(scratch->data);
  /* Pairs that the pattern has no group for keep what an earlier one left there. */
  if (scratch->filled == 1 || scratch->filled < 0 || bounds[2] == PCRE2_UNSET) return false;
  *group = (RegexMatch){bounds[2], bounds[3]};
  return true;
}

bool regex_matches(const Regex *regex, RegexScratch *scratch, const char *text, size_t bytes, bool whole,
                   bool *matches, Error *error) {
  ASSERT(regex->code);
  return run(regex, scratch, text, bytes, 0, PCRE2_ANCHORED | (whole ? PCRE2_ENDANCHORED : 0), matches,
             error);
}

bool regex_next(const Regex *regex, RegexScratch *scratch, const char *text, size_t bytes,
                RegexCursor *cursor, RegexMatch *match, bool *found, Error *error) {
  *found = false;
  while (cursor->from <= bytes) {
    if (!find(regex, scratch, text, bytes, cursor->from, match, found, error)) return false;
    if (!*found) return true;
    bool empty = match->begin == match->end;
    cursor->from = match->end;
    if (empty) { /* go on after the next character, or the same place would match for ever */
      do cursor->from++;
      while (cursor->from < bytes && ((unsigned char)text[cursor->from] & 0xc0) == 0x80);
      if (cursor->started && match->begin == cursor->last_end) continue;
    }
    cursor->started = true;
    cursor->last_end = match->end;
    return true;
  }
  *found = false;
  return true;
}
