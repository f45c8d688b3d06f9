#include "template/lexer.h"

#include "template/literal.h"
#include "template/unicode.h"

#include <stdio.h>
#include <string.h>

/* ---- places ---- */

bool lexer_fail_at(const char *name, int line, int column, Error *error, const char *format, ...) {
  char text[600];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  return error_set(error, ERROR_MODEL, "%s:%d:%d: %s", name, line, column, text);
}

/* Places are asked for in ascending order. */
static void place(Lexer *lexer, size_t at, int *line, int *column) {
  ASSERT(lexer->counted <= at);
  for (const char *end; (end = memchr(lexer->text + lexer->counted, '\n', at - lexer->counted));) {
    lexer->line++;
    lexer->column = 0;
    lexer->counted = (size_t)(end - lexer->text) + 1;
  }
  lexer->column += (int)unicode_count(lexer->text + lexer->counted, at - lexer->counted);
  lexer->counted = at;
  *line = lexer->line;
  *column = lexer->column + 1;
}

static bool fail(Lexer *lexer, size_t at, Error *error, const char *what) {
  int line, column;
  place(lexer, at, &line, &column);
  return lexer_fail_at(lexer->name, line, column, error, "%s", what);
}

/* ---- the source ---- */

bool lexer_open(Lexer *lexer, ValueHeap *heap, const char *name, const char *text, size_t size,
                Error *error) {
  char *copy = heap_alloc(heap, size + 1, error);
  if (!copy) return false;
  size_t used = 0;
  for (size_t i = 0; i < size; i++) {
    if (text[i] == '\r' && i + 1 < size && text[i + 1] == '\n') continue;
    copy[used++] = text[i] == '\r' ? '\n' : text[i];
  }
  if (used && copy[used - 1] == '\n') used--;
  copy[used] = '\0';
  *lexer = (Lexer){.heap = heap, .name = name, .text = copy, .size = used, .line = 1, .line_starting = true};
  return true;
}

static bool starts(const Lexer *lexer, size_t at, const char *word) {
  size_t size = strlen(word);
  return lexer->size - at >= size && memcmp(lexer->text + at, word, size) == 0;
}

static size_t skip_space(const Lexer *lexer, size_t at) {
  while (at < lexer->size) {
    size_t width;
    if (!unicode_is_space(unicode_read(lexer->text + at, lexer->size - at, &width))) break;
    at += width;
  }
  return at;
}

/* Goes on behind `end`, which ends a tag or text. */
static void move_to(Lexer *lexer, size_t end) {
  lexer->line_starting = end > 0 && lexer->text[end - 1] == '\n';
  lexer->at = end;
}

/* ---- outside of tags ---- */

/* The end of the tag's end at `at` ("%}" with its sign, and what is trimmed behind it), 0 if there is none. trims: a newline
 * behind it belongs to it; plus: "+%}" is an end too. */
static size_t tag_end(const Lexer *lexer, size_t at, const char *end, bool trims, bool plus) {
  size_t length = strlen(end);
  if (at < lexer->size && lexer->text[at] == '-' && starts(lexer, at + 1, end))
    return skip_space(lexer, at + 1 + length);
  if (plus && at < lexer->size && lexer->text[at] == '+' && starts(lexer, at + 1, end))
    return at + 1 + length;
  if (!starts(lexer, at, end)) return 0;
  at += length;
  return trims && at < lexer->size && lexer->text[at] == '\n' ? at + 1 : at;
}

/* What is left of the text [begin, end) before a tag with this sign. */
static size_t stripped_end(const Lexer *lexer, size_t begin, size_t end, char sign, bool variable) {
  if (sign == '-') {
    while (end > begin) {
      size_t width;
      if (!unicode_is_space(unicode_read_back(lexer->text + begin, end - begin, &width))) break;
      end -= width;
    }
    return end;
  }
  if (sign == '+' || variable) return end;
  size_t line = end;
  while (line > begin && lexer->text[line - 1] != '\n') line--;
  if (line == begin && !lexer->line_starting) return end;
  return skip_space(lexer, line) >= end ? line : end;
}

static char sign_at(const Lexer *lexer, size_t at) {
  return at < lexer->size && (lexer->text[at] == '-' || lexer->text[at] == '+') ? lexer->text[at] : '\0';
}

/* The end of "{% raw %}" at `at`, 0 if it is something else. */
static size_t raw_begin_end(const Lexer *lexer, size_t at) {
  if (!starts(lexer, at, "{%")) return 0;
  at = skip_space(lexer, at + 2 + (sign_at(lexer, at + 2) != '\0'));
  if (!starts(lexer, at, "raw")) return 0;
  return tag_end(lexer, skip_space(lexer, at + 3), "%}", false, false);
}

static void give_data(Lexer *lexer, size_t begin, size_t end, Token *token) {
  *token = (Token){.kind = TOKEN_DATA, .text = lexer->text + begin, .size = end - begin};
  place(lexer, begin, &token->line, &token->column);
}

/* The text of a raw block from lexer->at on, up to and with {% endraw %}. */
static bool read_raw(Lexer *lexer, Token *token, Error *error) {
  size_t begin = lexer->at;
  for (size_t at = begin; at + 1 < lexer->size; at++) {
    if (!starts(lexer, at, "{%")) continue;
    char sign = sign_at(lexer, at + 2);
    size_t word = skip_space(lexer, at + 2 + (sign != '\0'));
    size_t end =
        starts(lexer, word, "endraw") ? tag_end(lexer, skip_space(lexer, word + 6), "%}", true, true) : 0;
    if (!end) continue;
    give_data(lexer, begin, stripped_end(lexer, begin, at, sign, false), token);
    move_to(lexer, end);
    return true;
  }
  return fail(lexer, begin, error, "Missing end of raw directive");
}

static bool skip_comment(Lexer *lexer, size_t begin, Error *error) {
  for (size_t at = begin; at + 1 < lexer->size; at++) {
    size_t end = tag_end(lexer, at, "#}", true, true);
    if (!end) continue;
    move_to(lexer, end);
    return true;
  }
  return fail(lexer, begin, error, "Missing end of comment tag");
}

/* Enters the tag that begins at `at`, whose text before is dealt with. *raw: it is {% raw %}. */
static bool enter_tag(Lexer *lexer, size_t at, bool *raw, Error *error) {
  size_t raw_end = raw_begin_end(lexer, at);
  *raw = raw_end != 0;
  if (raw_end) {
    move_to(lexer, raw_end);
    return true;
  }
  size_t end = at + 2 + (sign_at(lexer, at + 2) != '\0');
  if (lexer->text[at + 1] == '#') return skip_comment(lexer, end, error);
  lexer->state = lexer->text[at + 1] == '%' ? LEX_BLOCK : LEX_VARIABLE;
  lexer->bracket_count = 0;
  lexer->line_starting = false;
  lexer->at = end;
  return true;
}

static size_t find_tag(const Lexer *lexer, size_t at) {
  for (; at + 1 < lexer->size; at++)
    if (lexer->text[at] == '{' &&
        (lexer->text[at + 1] == '{' || lexer->text[at + 1] == '%' || lexer->text[at + 1] == '#'))
      return at;
  return lexer->size;
}

/* Text up to the next tag, or that tag's beginning. *done: a token was given, or there is nothing more. */
static bool read_root(Lexer *lexer, Token *token, bool *done, Error *error) {
  *done = true;
  size_t begin = lexer->at, tag = lexer->at_tag ? begin : find_tag(lexer, begin);
  if (tag == lexer->size) {
    give_data(lexer, begin, tag, token);
    lexer->at = tag;
    if (begin == tag) token->kind = TOKEN_END;
    return true;
  }
  if (!lexer->at_tag) {
    size_t end = stripped_end(lexer, begin, tag, sign_at(lexer, tag + 2), lexer->text[tag + 1] == '{');
    lexer->at_tag = true;
    lexer->at = tag;
    if (end > begin) {
      give_data(lexer, begin, end, token);
      return true;
    }
  }
  lexer->at_tag = false;
  tag = lexer->at;
  bool raw;
  if (!enter_tag(lexer, tag, &raw, error)) return false;
  if (raw) {
    if (!read_raw(lexer, token, error)) return false;
    *done = token->size > 0;
    return true;
  }
  *done = lexer->state != LEX_ROOT;
  if (!*done) return true;
  *token = (Token){.kind = lexer->state == LEX_BLOCK ? TOKEN_BLOCK_BEGIN : TOKEN_VARIABLE_BEGIN,
                   .text = lexer->text + tag,
                   .size = lexer->at - tag};
  place(lexer, tag, &token->line, &token->column);
  return true;
}

/* ---- within tags ---- */

static const struct {
  const char *text;
  TokenKind kind;
} operators[] = {
    /* longer ones first */
    {"//", TOKEN_FLOORDIV}, {"**", TOKEN_POW},      {"==", TOKEN_EQ},    {"!=", TOKEN_NE},
    {">=", TOKEN_GTEQ},     {"<=", TOKEN_LTEQ},     {"+", TOKEN_ADD},    {"-", TOKEN_SUB},
    {"/", TOKEN_DIV},       {"*", TOKEN_MUL},       {"%", TOKEN_MOD},    {"~", TOKEN_TILDE},
    {"[", TOKEN_LBRACKET},  {"]", TOKEN_RBRACKET},  {"(", TOKEN_LPAREN}, {")", TOKEN_RPAREN},
    {"{", TOKEN_LBRACE},    {"}", TOKEN_RBRACE},    {">", TOKEN_GT},     {"<", TOKEN_LT},
    {"=", TOKEN_ASSIGN},    {".", TOKEN_DOT},       {":", TOKEN_COLON},  {"|", TOKEN_PIPE},
    {",", TOKEN_COMMA},     {";", TOKEN_SEMICOLON},
};

const char *token_kind_name(TokenKind kind) {
  for (size_t i = 0; i < sizeof operators / sizeof *operators; i++)
    if (operators[i].kind == kind) return operators[i].text;
  switch (kind) {
    case TOKEN_DATA:
      return "template data / text";
    case TOKEN_VARIABLE_BEGIN:
      return "begin of print statement";
    case TOKEN_VARIABLE_END:
      return "end of print statement";
    case TOKEN_BLOCK_BEGIN:
      return "begin of statement block";
    case TOKEN_BLOCK_END:
      return "end of statement block";
    case TOKEN_NAME:
      return "name";
    case TOKEN_STRING:
      return "string";
    case TOKEN_INTEGER:
      return "integer";
    case TOKEN_FLOAT:
      return "float";
    default:
      return "end of template";
  }
}

/* Opening brackets are noted, and closing ones must fit the last that is open. */
static bool balance(Lexer *lexer, char c, Error *error) {
  if (strchr("([{", c)) {
    if (lexer->bracket_count == MAX_BRACKETS)
      return fail(lexer, lexer->at, error, "more than 200 brackets within each other");
    lexer->brackets[lexer->bracket_count++] = c == '(' ? ')' : c == '[' ? ']' : '}';
  } else if (strchr(")]}", c)) {
    char message[40];
    if (lexer->bracket_count == 0) {
      snprintf(message, sizeof message, "unexpected '%c'", c);
      return fail(lexer, lexer->at, error, message);
    }
    char expected = lexer->brackets[--lexer->bracket_count];
    snprintf(message, sizeof message, "unexpected '%c', expected '%c'", c, expected);
    if (expected != c) return fail(lexer, lexer->at, error, message);
  }
  return true;
}

static bool read_operator(Lexer *lexer, Token *token, Error *error) {
  for (size_t i = 0; i < sizeof operators / sizeof *operators; i++) {
    if (!starts(lexer, lexer->at, operators[i].text)) continue;
    token->kind = operators[i].kind;
    token->size = strlen(operators[i].text);
    return balance(lexer, operators[i].text[0], error);
  }
  char message[60];
  snprintf(message, sizeof message, "unexpected char '%.*s'",
           (int)unicode_width(lexer->text + lexer->at, lexer->size - lexer->at), lexer->text + lexer->at);
  return fail(lexer, lexer->at, error, message);
}

static size_t name_size(const char *text, size_t size) {
  size_t at = 0, width;
  while (at < size && unicode_is_name(unicode_read(text + at, size - at, &width), at == 0)) at += width;
  return at;
}

static size_t string_size(const char *text, size_t size) {
  for (size_t i = 1; i < size; i++) {
    if (text[i] == '\\')
      i++;
    else if (text[i] == *text)
      return i + 1;
  }
  return 0;
}

static bool read_word(Lexer *lexer, Token *token, Error *error) {
  const char *text = lexer->text + lexer->at;
  size_t left = lexer->size - lexer->at;
  bool after_dot = lexer->at > 0 && text[-1] == '.';
  const char *problem = NULL;
  if ((token->size = literal_number_size(text, left, after_dot, &token->kind))) {
    problem = literal_number(text, token->size, token->kind, &token->value);
  } else if ((token->size = name_size(text, left))) {
    token->kind = TOKEN_NAME;
  } else if ((*text == '"' || *text == '\'') && (token->size = string_size(text, left))) {
    token->kind = TOKEN_STRING;
    if (!literal_string(lexer->heap, text + 1, token->size - 2, &token->value, &problem, error)) return false;
  } else if (!read_operator(lexer, token, error)) {
    return false;
  }
  return problem ? fail(lexer, lexer->at, error, problem) : true;
}

static bool read_tag(Lexer *lexer, Token *token, Error *error) {
  bool block = lexer->state == LEX_BLOCK;
  size_t end = lexer->bracket_count ? 0 : tag_end(lexer, lexer->at, block ? "%}" : "}}", block, block);
  if (!end) {
    lexer->at = skip_space(lexer, lexer->at);
    if (!lexer->bracket_count) end = tag_end(lexer, lexer->at, block ? "%}" : "}}", block, block);
  }
  *token = (Token){.text = lexer->text + lexer->at};
  place(lexer, lexer->at, &token->line, &token->column);
  if (end) {
    token->kind = block ? TOKEN_BLOCK_END : TOKEN_VARIABLE_END;
    token->size = end - lexer->at;
    lexer->state = LEX_ROOT;
    move_to(lexer, end);
    return true;
  }
  if (lexer->at == lexer->size) {
    token->kind = TOKEN_END;
    return true;
  }
  if (!read_word(lexer, token, error)) return false;
  lexer->at += token->size;
  return true;
}

bool lexer_next(Lexer *lexer, Token *token, Error *error) {
  if (lexer->state != LEX_ROOT) return read_tag(lexer, token, error);
  for (bool done = false; !done;)
    if (!read_root(lexer, token, &done, error)) return false;
  return true;
}
