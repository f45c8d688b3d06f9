/* Expressions, from the weakest operator to the strongest. */
#include "template/parser.h"

#include "template/builtin.h"

#include <stdio.h>
#include <string.h>

/* ---- names and literals ---- */

static const char *const special_names[] = {"loop", "caller", "kwargs", "varargs"};

/* The current token, a name, as a variable. */
static Node *parse_variable(Parser *parser) {
  Token token = parser->current;
  Node *node = parser_node(parser, NODE_NAME, &token);
  Value name;
  if (!node || !parser_name_number(parser, &token, &node->as.name.number) ||
      !parser_token_text(parser, &token, &name) ||
      !undefined_new(parser->template->heap, NULL, value_missing(), name, &node->as.name.undefined,
                     parser->error))
    return NULL;
  return parser_advance(parser) ? node : NULL;
}

static bool is_constant_name(const Token *token, Value *out) {
  static const struct {
    const char *name;
    ValueKind kind;
    bool value;
  } constants[] = {{"true", VALUE_BOOL, true},   {"True", VALUE_BOOL, true},  {"false", VALUE_BOOL, false},
                   {"False", VALUE_BOOL, false}, {"none", VALUE_NONE, false}, {"None", VALUE_NONE, false}};
  for (size_t i = 0; i < sizeof constants / sizeof *constants; i++)
    if (strlen(constants[i].name) == token->size &&
        memcmp(constants[i].name, token->text, token->size) == 0) {
      *out = constants[i].kind == VALUE_NONE ? value_none() : value_bool(constants[i].value);
      return true;
    }
  return false;
}

Node *parse_name_target(Parser *parser) {
  Value constant;
  if (!parser_at(parser, TOKEN_NAME)) return parser_unexpected(parser, "expected token 'name', got ");
  if (is_constant_name(&parser->current, &constant))
    return parser_fail_null(parser, &parser->current, "can't assign to a constant");
  return parse_variable(parser);
}

Node *parser_constant(Parser *parser, const Token *token, Value value) {
  Node *node = parser_node(parser, NODE_CONST, token);
  if (node) node->as.value = value;
  return node;
}

/* Neighbouring strings are one. */
static Node *parse_string(Parser *parser) {
  Token token = parser->current;
  Value text = token.value;
  if (!parser_advance(parser)) return NULL;
  while (parser_at(parser, TOKEN_STRING)) {
    if (!string_add(parser->template->heap, text.as.string, parser->current.value.as.string, &text,
                    parser->error) ||
        !parser_advance(parser))
      return NULL;
  }
  return parser_constant(parser, &token, text);
}

static Node *parse_list(Parser *parser) {
  Node *node = parser_node(parser, NODE_LIST, &parser->current);
  if (!node || !parser_advance(parser)) return NULL;
  Node **end = &node->as.items.first;
  while (!parser_at(parser, TOKEN_RBRACKET)) {
    if (node->as.items.count && !parser_expect(parser, TOKEN_COMMA)) return NULL;
    if (parser_at(parser, TOKEN_RBRACKET)) break;
    Node *item = parse_expression(parser);
    if (!item) return NULL;
    *end = item;
    end = &item->next;
    node->as.items.count++;
  }
  return parser_advance(parser) && parser_deepen(parser, node, node->as.items.first) ? node : NULL;
}

static Node *parse_dict(Parser *parser) {
  Node *node = parser_node(parser, NODE_DICT, &parser->current);
  if (!node || !parser_advance(parser)) return NULL;
  Node **end = &node->as.items.first;
  while (!parser_at(parser, TOKEN_RBRACE)) {
    if (node->as.items.count && !parser_expect(parser, TOKEN_COMMA)) return NULL;
    if (parser_at(parser, TOKEN_RBRACE)) break;
    Node *key = parse_expression(parser);
    if (!key || !parser_expect(parser, TOKEN_COLON)) return NULL;
    Node *value = parse_expression(parser);
    if (!value) return NULL;
    *end = key;
    key->next = value;
    end = &value->next;
    node->as.items.count++;
  }
  return parser_advance(parser) && parser_deepen(parser, node, node->as.items.first) ? node : NULL;
}

static Node *parse_parenthesised(Parser *parser);

Node *parse_primary(Parser *parser) {
  Token token = parser->current;
  Value constant;
  switch (token.kind) {
    case TOKEN_NAME:
      if (is_constant_name(&token, &constant))
        return parser_advance(parser) ? parser_constant(parser, &token, constant) : NULL;
      for (size_t i = 0; i < 4; i++)
        if (strlen(special_names[i]) == token.size && memcmp(special_names[i], token.text, token.size) == 0)
          parser->special[i]++;
      return parse_variable(parser);
    case TOKEN_STRING:
      return parse_string(parser);
    case TOKEN_INTEGER:
    case TOKEN_FLOAT:
      return parser_advance(parser) ? parser_constant(parser, &token, token.value) : NULL;
    case TOKEN_LPAREN:
      return parse_parenthesised(parser);
    case TOKEN_LBRACKET:
      return parse_list(parser);
    case TOKEN_LBRACE:
      return parse_dict(parser);
    default:
      return parser_unexpected(parser, "unexpected ");
  }
}

/* ---- tuples and targets ---- */

static bool at_tuple_end(const Parser *parser, TupleEnd end) {
  if (parser_at(parser, TOKEN_VARIABLE_END) || parser_at(parser, TOKEN_BLOCK_END) ||
      parser_at(parser, TOKEN_RPAREN))
    return true;
  if (end == TUPLE_AT_IN) return parser_at_name(parser, "in");
  return end == TUPLE_AT_RECURSIVE && parser_at_name(parser, "recursive");
}

/* Items with commas between, by `parse`; a single one without a comma is no tuple. */
static Node *parse_items(Parser *parser, Node *(*parse)(Parser *), TupleEnd tuple_end, bool may_be_empty) {
  Token begin = parser->current;
  Node *first = NULL, **end = &first;
  size_t count = 0;
  bool comma = false;
  while (!at_tuple_end(parser, tuple_end)) {
    Node *item = parse(parser);
    if (!item) return NULL;
    *end = item;
    end = &item->next;
    count++;
    if (!parser_at(parser, TOKEN_COMMA)) break;
    comma = true;
    if (!parser_advance(parser)) return NULL;
  }
  if (!comma && first) return first;
  if (!first && !may_be_empty) return parser_unexpected(parser, "Expected an expression, got ");
  Node *node = parser_node(parser, NODE_TUPLE, &begin);
  if (!node) return NULL;
  node->as.items.first = first;
  node->as.items.count = count;
  return parser_deepen(parser, node, first) ? node : NULL;
}

Node *parse_tuple(Parser *parser, bool inline_if, TupleEnd end) {
  return parse_items(parser, inline_if ? parse_expression : parse_plain_expression, end, false);
}

static Node *parse_parenthesised(Parser *parser) {
  if (!parser_enter(parser) || !parser_advance(parser)) return NULL;
  Node *node = parse_items(parser, parse_expression, TUPLE_AT_END, true);
  parser_leave(parser);
  return node && parser_expect(parser, TOKEN_RPAREN) ? node : NULL;
}

static Node *parse_target_part(Parser *parser);

/* "(a, b)" within a target. */
static Node *parse_target_group(Parser *parser) {
  if (!parser_enter(parser) || !parser_advance(parser)) return NULL;
  Node *node = parse_items(parser, parse_target_part, TUPLE_AT_END, true);
  parser_leave(parser);
  return node && parser_expect(parser, TOKEN_RPAREN) ? node : NULL;
}

static Node *parse_target_part(Parser *parser) {
  if (parser_at(parser, TOKEN_LPAREN)) return parse_target_group(parser);
  if (!parser_at(parser, TOKEN_NAME)) return parser_unexpected(parser, "can't assign to ");
  return parse_name_target(parser);
}

static Node *parse_field_target(Parser *parser) {
  Node *node = parse_target_part(parser);
  if (!node || node->kind != NODE_NAME || !parser_at(parser, TOKEN_DOT)) return node;
  Token dot = parser->current;
  if (!parser_advance(parser)) return NULL;
  if (!parser_at(parser, TOKEN_NAME)) return parser_unexpected(parser, "expected token 'name', got ");
  Node *field = parser_node(parser, NODE_FIELD, &dot);
  if (!field || !parser_token_text(parser, &parser->current, &field->as.field.field)) return NULL;
  field->as.field.name = node;
  return parser_advance(parser) ? field : NULL;
}

Node *parse_target(Parser *parser, bool fields, TupleEnd end) {
  return parse_items(parser, fields ? parse_field_target : parse_target_part, end, false);
}

/* ---- operators ---- */

static Node *one_operand(Parser *parser, NodeKind kind, const Token *at, Node *operand) {
  Node *node = operand ? parser_node(parser, kind, at) : NULL;
  if (!node) return NULL;
  node->as.one.expression = operand;
  return parser_deepen(parser, node, operand) ? node : NULL;
}

static Node *two_operands(Parser *parser, NodeKind kind, Operator op, const Token *at, Node *left,
                          Node *right) {
  Node *node = right ? parser_node(parser, kind, at) : NULL;
  if (!node) return NULL;
  node->as.two.op = op;
  node->as.two.left = left;
  node->as.two.right = right;
  return parser_deepen(parser, node, left) && parser_deepen(parser, node, right) ? node : NULL;
}

static Node *parse_unary(Parser *parser, bool filters) {
  Token token = parser->current;
  Node *node;
  if (token.kind == TOKEN_SUB || token.kind == TOKEN_ADD) {
    if (!parser_enter(parser) || !parser_advance(parser)) return NULL;
    node = parse_unary(parser, false);
    parser_leave(parser);
    node = one_operand(parser, token.kind == TOKEN_SUB ? NODE_NEGATE : NODE_PLUS, &token, node);
  } else {
    node = parse_primary(parser);
  }
  node = node ? parse_postfix(parser, node) : NULL;
  return node && filters ? parse_filters_and_tests(parser, node) : node;
}

static bool operator_of(TokenKind kind, const TokenKind *kinds, const Operator *ops, size_t count,
                        Operator *op) {
  for (size_t i = 0; i < count; i++)
    if (kinds[i] == kind) {
      *op = ops[i];
      return true;
    }
  return false;
}

static Node *parse_power(Parser *parser) {
  Node *left = parse_unary(parser, true);
  while (left && parser_at(parser, TOKEN_POW)) {
    Token token = parser->current;
    if (!parser_advance(parser)) return NULL;
    left = two_operands(parser, NODE_ARITHMETIC, OP_POW, &token, left, parse_unary(parser, true));
  }
  return left;
}

static Node *parse_product(Parser *parser) {
  static const TokenKind kinds[] = {TOKEN_MUL, TOKEN_DIV, TOKEN_FLOORDIV, TOKEN_MOD};
  static const Operator ops[] = {OP_MUL, OP_DIV, OP_FLOORDIV, OP_MOD};
  Node *left = parse_power(parser);
  for (Operator op; left && operator_of(parser->current.kind, kinds, ops, 4, &op);) {
    Token token = parser->current;
    if (!parser_advance(parser)) return NULL;
    left = two_operands(parser, NODE_ARITHMETIC, op, &token, left, parse_power(parser));
  }
  return left;
}

static Node *parse_concat(Parser *parser) {
  Token token = parser->current;
  Node *first = parse_product(parser);
  if (!first || !parser_at(parser, TOKEN_TILDE)) return first;
  Node *node = parser_node(parser, NODE_CONCAT, &token);
  if (!node) return NULL;
  node->as.items.first = first;
  node->as.items.count = 1;
  for (Node **end = &first->next; parser_at(parser, TOKEN_TILDE); end = &(*end)->next) {
    if (!parser_advance(parser) || !(*end = parse_product(parser))) return NULL;
    node->as.items.count++;
  }
  return parser_deepen(parser, node, first) ? node : NULL;
}

static Node *parse_sum(Parser *parser) {
  Node *left = parse_concat(parser);
  while (left && (parser_at(parser, TOKEN_ADD) || parser_at(parser, TOKEN_SUB))) {
    Token token = parser->current;
    if (!parser_advance(parser)) return NULL;
    left = two_operands(parser, NODE_ARITHMETIC, token.kind == TOKEN_ADD ? OP_ADD : OP_SUB, &token, left,
                        parse_concat(parser));
  }
  return left;
}

/* The comparison at the current token, which is gone afterwards. */
static bool skip_comparison(Parser *parser, Operator *op, bool *found) {
  static const TokenKind kinds[] = {TOKEN_EQ, TOKEN_NE, TOKEN_LT, TOKEN_LTEQ, TOKEN_GT, TOKEN_GTEQ};
  static const Operator ops[] = {OP_EQ, OP_NE, OP_LT, OP_LTEQ, OP_GT, OP_GTEQ};
  *found = operator_of(parser->current.kind, kinds, ops, 6, op);
  if (*found) return parser_advance(parser);
  *op = OP_IN;
  *found = parser_at_name(parser, "in");
  if (*found) return parser_advance(parser);
  if (!parser_at_name(parser, "not")) return true;
  const Token *ahead;
  if (!parser_look(parser, &ahead)) return false;
  *found = ahead->kind == TOKEN_NAME && ahead->size == 2 && memcmp(ahead->text, "in", 2) == 0;
  if (!*found) return true;
  *op = OP_NOT_IN;
  return parser_advance(parser) && parser_advance(parser);
}

static Node *parse_compare(Parser *parser) {
  Token token = parser->current;
  Node *first = parse_sum(parser), *node = NULL;
  struct Comparison **end = NULL;
  for (bool found = true; first;) {
    Operator op;
    if (!skip_comparison(parser, &op, &found)) return NULL;
    if (!found) return node ? node : first;
    if (!node) {
      node = parser_node(parser, NODE_COMPARE, &token);
      if (!node || !parser_deepen(parser, node, first)) return NULL;
      node->as.compare.first = first;
      end = &node->as.compare.rest;
    }
    struct Comparison *comparison = heap_alloc(parser->template->heap, sizeof *comparison, parser->error);
    if (!comparison) return NULL;
    *comparison = (struct Comparison){.op = op, .right = parse_sum(parser)};
    if (!comparison->right || !parser_deepen(parser, node, comparison->right)) return NULL;
    *end = comparison;
    end = &comparison->next;
  }
  return NULL;
}

static Node *parse_not(Parser *parser) {
  if (!parser_at_name(parser, "not")) return parse_compare(parser);
  Token token = parser->current;
  if (!parser_enter(parser) || !parser_advance(parser)) return NULL;
  Node *operand = parse_not(parser);
  parser_leave(parser);
  return one_operand(parser, NODE_NOT, &token, operand);
}

static Node *parse_logic(Parser *parser, const char *word, NodeKind kind, Node *(*parse)(Parser *)) {
  Node *left = parse(parser);
  while (left && parser_at_name(parser, word)) {
    Token token = parser->current;
    if (!parser_advance(parser)) return NULL;
    left = two_operands(parser, kind, OP_ADD, &token, left, parse(parser));
  }
  return left;
}

static Node *parse_and(Parser *parser) {
  return parse_logic(parser, "and", NODE_AND, parse_not);
}

Node *parse_plain_expression(Parser *parser) {
  if (!parser_enter(parser)) return NULL;
  Node *node = parse_logic(parser, "or", NODE_OR, parse_and);
  parser_leave(parser);
  return node;
}

static const char *missing_else_hint(Parser *parser, int line) {
  char text[120];
  int size = snprintf(
      text, sizeof text,
      "the inline if-expression on line %d evaluated to false and no else section was defined.", line);
  char *hint = heap_alloc(parser->template->heap, (size_t)size + 1, parser->error);
  if (hint) memcpy(hint, text, (size_t)size + 1);
  return hint;
}

Node *parse_expression(Parser *parser) {
  if (!parser_enter(parser)) return NULL;
  Token token = parser->current;
  Node *then = parse_plain_expression(parser);
  for (bool skipped; then;) {
    if (!parser_skip_name(parser, "if", &skipped)) return NULL;
    if (!skipped) break;
    Node *node = parser_node(parser, NODE_CONDITION, &token);
    if (!node) return NULL;
    node->as.condition.then = then;
    node->as.condition.test = parse_plain_expression(parser);
    if (!node->as.condition.test || !parser_skip_name(parser, "else", &skipped)) return NULL;
    if (skipped && !(node->as.condition.otherwise = parse_expression(parser))) return NULL;
    if (!skipped && !(node->as.condition.hint = missing_else_hint(parser, token.line))) return NULL;
    if (!parser_deepen(parser, node, then) || !parser_deepen(parser, node, node->as.condition.test) ||
        !parser_deepen(parser, node, node->as.condition.otherwise))
      return NULL;
    then = node;
  }
  parser_leave(parser);
  return then;
}
