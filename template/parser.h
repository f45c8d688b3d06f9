/* Tokens to a tree, as jinja2's parser does. parser.c has what all of it stands on, and statements; expression.c operands and operators; postfix.c what follows an operand. */
#ifndef TEMPLATE_PARSER_H
#define TEMPLATE_PARSER_H

#include "template/lexer.h"
#include "template/template.h"
#include "template/tree.h"

typedef struct Parser {
  Template *template;
  Lexer lexer;
  Token current, ahead;
  bool has_ahead;
  int depth;            /* of the recursion, at most MAX_TREE_DEPTH */
  int loops;            /* around, that break and continue may mean */
  Error *error;         /* set once anything has failed */
  size_t special[4];    /* how often `loop`, `caller`, `kwargs`, `varargs` were read so far */
  const char *open_tag; /* the innermost block that is not closed */
} Parser;

enum { SPECIAL_LOOP, SPECIAL_CALLER, SPECIAL_KWARGS, SPECIAL_VARARGS };

/* parser.c. What returns a node returns NULL after an error; parse_statements may return NULL for an empty body, so it says by itself. */
bool parser_fail(Parser *parser, const Token *at, const char *format, ...) PRINTF_LIKE(3, 4);
Node *parser_fail_null(Parser *parser, const Token *at, const char *what);
Node *parser_unexpected(Parser *parser, const char *before); /* the current token */
NODISCARD bool parser_advance(Parser *parser);
NODISCARD bool parser_look(Parser *parser, const Token **ahead); /* the token behind the current one */
NODISCARD bool parser_expect(Parser *parser, TokenKind kind);
bool parser_at(const Parser *parser, TokenKind kind);
bool parser_at_name(const Parser *parser, const char *name);
NODISCARD bool parser_skip(Parser *parser, TokenKind kind, bool *skipped);
NODISCARD bool parser_skip_name(Parser *parser, const char *name, bool *skipped);
NODISCARD bool parser_enter(Parser *parser); /* one level deeper */
void parser_leave(Parser *parser);
Node *parser_node(Parser *parser, NodeKind kind, const Token *at);
/* After its children are set: how deep the tree is. */
NODISCARD bool parser_deepen(Parser *parser, Node *node, const Node *child);
NODISCARD bool parser_name_number(Parser *parser, const Token *name, int *number);
NODISCARD bool parser_token_text(Parser *parser, const Token *token, Value *out);

/* expression.c */
Node *parse_expression(Parser *parser);
Node *parse_plain_expression(Parser *parser); /* without inline if */
typedef enum TupleEnd { TUPLE_AT_END, TUPLE_AT_IN, TUPLE_AT_RECURSIVE } TupleEnd;
Node *parse_tuple(Parser *parser, bool inline_if, TupleEnd end);
Node *parse_target(Parser *parser, bool fields, TupleEnd end); /* of an assignment */
Node *parse_name_target(Parser *parser);
Node *parse_primary(Parser *parser);
Node *parser_constant(Parser *parser, const Token *token, Value value);

/* postfix.c */
Node *parse_postfix(Parser *parser, Node *node);                /* calls, attributes, items */
Node *parse_filters_and_tests(Parser *parser, Node *node);      /* after those */
Node *parse_filters(Parser *parser, Node *operand, bool begun); /* begun: the first | is not written */

#endif
