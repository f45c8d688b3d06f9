#include "tokenizer/regex.h"

#include "base/memory.h"

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
};

static const char word_class[] = "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}";

/* Appends what the escape \c means. */
static bool translate_escape(char c, bool in_class, Buffer *out, Error *error) {
  switch (c) {
    case 's':
      return buffer_text(out, "\\p{White_Space}", error);
    case 'S':
      return buffer_text(out, "\\P{White_Space}", error);
    case 'w':
      return buffer_format(out, error, in_class ? "%s" : "[%s]", word_class);
    case 'W':
      if (!in_class) return buffer_format(out, error, "[^%s]", word_class);
      return error_set(error, ERROR_MODEL, "\\W inside a class is not supported");
    case 'b':
    case 'B':
    case 'h':
    case 'H':
    case 'y':
    case 'Y':
    case 'O':
    case 'K':
    case 'G':
      return error_set(error, ERROR_MODEL, "\\%c is not supported", c);
    default: {
      char escape[2] = {'\\', c};
      return buffer_append(out, escape, 2, error);
    }
  }
}

/* Appends the pattern in PCRE2's spelling. */
static bool translate(const char *pattern, size_t bytes, Buffer *out, Error *error) {
  bool in_class = false;
  for (size_t i = 0; i < bytes; i++) {
    char c = pattern[i];
    if (c == '\\' && i + 1 < bytes) {
      if (!translate_escape(pattern[++i], in_class, out, error)) return false;
      continue;
    }
    if (in_class) {
      if (c == '[') return error_set(error, ERROR_MODEL, "a class inside a class is not supported");
      if (c == '&' && i + 1 < bytes && pattern[i + 1] == '&')
        return error_set(error, ERROR_MODEL, "the intersection of classes is not supported");
      if (c == ']') in_class = false;
    } else if (c == '[') {
      in_class = true;
      /* ] right after the opening stands for itself, in both engines */
      size_t open = i + 1 < bytes && pattern[i + 1] == '^' ? 2 : 1;
      if (i + open < bytes && pattern[i + open] == ']') {
        if (!buffer_append(out, pattern + i, open, error) || !buffer_text(out, "\\]", error)) return false;
        i += open;
        continue;
      }
    }
    if (!buffer_append(out, &c, 1, error)) return false;
  }
  return true;
}

static pcre2_code *compile(const Buffer *pattern, Error *error) {
  pcre2_compile_context *context = pcre2_compile_context_create(NULL);
  if (!context) {
    error_out_of_memory(error, "regular expression", 0);
    return NULL;
  }
  pcre2_set_newline(context, PCRE2_NEWLINE_LF);
  int code = 0;
  PCRE2_SIZE offset = 0;
  pcre2_code *result = pcre2_compile((PCRE2_SPTR)(pattern->data ? pattern->data : ""), pattern->size,
                                     PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, &code,
                                     &offset, context);
  pcre2_compile_context_free(context);
  if (!result) {
    char message[128];
    pcre2_get_error_message(code, (PCRE2_UCHAR *)message, sizeof message);
    error_set(error, ERROR_MODEL, "%s at byte %zu of %s", message, (size_t)offset,
              pattern->data ? pattern->data : "");
    return NULL;
  }
  (void)pcre2_jit_compile(result, PCRE2_JIT_COMPLETE); /* without it matching is only slower */
  return result;
}

Regex *regex_compile(const char *pattern, size_t bytes, bool literal, Error *error) {
  Regex *regex = memory_zeroed(1, sizeof *regex);
  if (!regex) {
    error_out_of_memory(error, "regular expression", sizeof *regex);
    return NULL;
  }
  if (literal) {
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
  if (translate(pattern, bytes, &translated, error)) regex->code = compile(&translated, error);
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
  if (scratch) scratch->data = pcre2_match_data_create(1, NULL);
  if (!scratch || !scratch->data) {
    regex_scratch_free(scratch);
    error_out_of_memory(error, "regular expression", sizeof *scratch);
    return NULL;
  }
  return scratch;
}

void regex_scratch_free(RegexScratch *scratch) {
  if (!scratch) return;
  pcre2_match_data_free(scratch->data);
  memory_free(scratch);
}

static bool find_literal(const Regex *regex, const char *text, size_t bytes, size_t from, RegexMatch *match) {
  if (regex->literal_bytes == 0) return false;
  const char *at = memmem(text + from, bytes - from, regex->literal, regex->literal_bytes);
  if (!at) return false;
  *match = (RegexMatch){(size_t)(at - text), (size_t)(at - text) + regex->literal_bytes};
  return true;
}

static bool find(const Regex *regex, RegexScratch *scratch, const char *text, size_t bytes, size_t from,
                 RegexMatch *match, bool *found, Error *error) {
  *found = false;
  if (!regex->code) {
    *found = find_literal(regex, text, bytes, from, match);
    return true;
  }
  int code = pcre2_match(regex->code, (PCRE2_SPTR)text, bytes, from, PCRE2_NO_UTF_CHECK, scratch->data, NULL);
  if (code == PCRE2_ERROR_JIT_STACKLIMIT) /* the interpreter keeps its state on the heap */
    code = pcre2_match(regex->code, (PCRE2_SPTR)text, bytes, from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT,
                       scratch->data, NULL);
  if (code == PCRE2_ERROR_NOMATCH) return true;
  if (code < 0) {
    char message[128];
    pcre2_get_error_message(code, (PCRE2_UCHAR *)message, sizeof message);
    return error_set(error, ERROR_DATA, "tokenizer pattern: %s", message);
  }
  const PCRE2_SIZE *bounds = pcre2_get_ovector_pointer(scratch->data);
  *match = (RegexMatch){bounds[0], bounds[1]};
  *found = true;
  return true;
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
