/* Templates cut into tokens, one at a time, as jinja2's lexer does with trim_blocks and lstrip_blocks. */
#ifndef TEMPLATE_LEXER_H
#define TEMPLATE_LEXER_H

#include "template/values.h"

typedef enum TokenKind {
  TOKEN_DATA, /* text outside of tags */
  TOKEN_VARIABLE_BEGIN,
  TOKEN_VARIABLE_END,
  TOKEN_BLOCK_BEGIN,
  TOKEN_BLOCK_END,
  TOKEN_NAME,
  TOKEN_STRING,
  TOKEN_INTEGER,
  TOKEN_FLOAT,
  TOKEN_ADD,
  TOKEN_SUB,
  TOKEN_DIV,
  TOKEN_FLOORDIV,
  TOKEN_MUL,
  TOKEN_MOD,
  TOKEN_POW,
  TOKEN_TILDE,
  TOKEN_LBRACKET,
  TOKEN_RBRACKET,
  TOKEN_LPAREN,
  TOKEN_RPAREN,
  TOKEN_LBRACE,
  TOKEN_RBRACE,
  TOKEN_EQ,
  TOKEN_NE,
  TOKEN_GT,
  TOKEN_GTEQ,
  TOKEN_LT,
  TOKEN_LTEQ,
  TOKEN_ASSIGN,
  TOKEN_DOT,
  TOKEN_COLON,
  TOKEN_PIPE,
  TOKEN_COMMA,
  TOKEN_SEMICOLON,
  TOKEN_END
} TokenKind;

typedef struct Token {
  TokenKind kind;
  int line, column;
  const char *text; /* as it stands in the source */
  size_t size;
  Value value; /* of strings and numbers */
} Token;

enum { MAX_BRACKETS = 200 };

typedef enum LexerState { LEX_ROOT, LEX_BLOCK, LEX_VARIABLE } LexerState;

typedef struct Lexer {
  ValueHeap *heap;
  const char *name; /* for messages */
  const char *text; /* line ends are "\n", one at the end is left off; on the heap */
  size_t size, at;
  size_t counted; /* bytes whose lines are counted: the next is in this line, behind so many characters */
  int line, column;
  LexerState state;
  bool line_starting;          /* what was read last ended a line */
  bool at_tag;                 /* the text before the tag at `at` is dealt with */
  char brackets[MAX_BRACKETS]; /* those that are open, as what closes them */
  int bracket_count;
} Lexer;

/* Copies the text to the heap. */
NODISCARD bool lexer_open(Lexer *lexer, ValueHeap *heap, const char *name, const char *text, size_t size,
                          Error *error);
NODISCARD bool lexer_next(Lexer *lexer, Token *token, Error *error);

/* ERROR_MODEL "NAME:LINE:COLUMN: ...". Always false. */
bool lexer_fail_at(const char *name, int line, int column, Error *error, const char *format, ...)
    PRINTF_LIKE(5, 6);

/* How messages name it: a name by itself, an operator, "end of statement block" ... */
const char *token_kind_name(TokenKind kind);

#endif
