/* What follows an operand: calls, attributes, items, slices, filters and tests. */
#include "template/parser.h"

#include "template/builtin.h"

#include <stdio.h>
#include <string.h>

/* ---- calls, attributes, items ---- */

static bool parse_keyword(Parser *parser, Arguments *arguments, Keyword ***end) {
  Keyword *keyword = heap_alloc(parser->template->heap, sizeof *keyword, parser->error);
  if (!keyword) return false;
  *keyword = (Keyword){0};
  Token name = parser->current;
  for (const Keyword *other = arguments->keywords; other; other = other->next)
    if (other->name.as.string->size == name.size &&
        memcmp(other->name.as.string->bytes, name.text, name.size) == 0)
      return parser_fail(parser, &name, "keyword argument repeated: %.*s",
                         (int)(name.size < 100 ? name.size : 100), name.text);
  if (!parser_token_text(parser, &name, &keyword->name) || !parser_advance(parser) ||
      !parser_advance(parser) || !(keyword->value = parse_expression(parser)))
    return false;
  **end = keyword;
  *end = &keyword->next;
  arguments->keyword_count++;
  return true;
}

static bool parse_argument(Parser *parser, Arguments *arguments, Node ***end, Keyword ***keywords_end) {
  static const char wrong[] = "invalid syntax for function call expression";
  const Token *ahead;
  if (parser_at(parser, TOKEN_MUL) || parser_at(parser, TOKEN_POW)) {
    bool keywords = parser_at(parser, TOKEN_POW);
    if (arguments->spread_keywords || (!keywords && arguments->spread))
      return parser_fail(parser, &parser->current, wrong);
    if (!parser_advance(parser)) return false;
    Node *value = parse_expression(parser);
    *(keywords ? &arguments->spread_keywords : &arguments->spread) = value;
    return value != NULL;
  }
  if (!parser_look(parser, &ahead)) return false;
  if (arguments->spread_keywords) return parser_fail(parser, &parser->current, wrong);
  if (parser_at(parser, TOKEN_NAME) && ahead->kind == TOKEN_ASSIGN)
    return parse_keyword(parser, arguments, keywords_end);
  if (arguments->spread || arguments->keywords) return parser_fail(parser, &parser->current, wrong);
  Node *value = parse_expression(parser);
  if (!value) return false;
  **end = value;
  *end = &value->next;
  arguments->count++;
  return true;
}

static bool parse_arguments(Parser *parser, Node *node, Arguments *arguments) {
  Node **end = &arguments->positional;
  Keyword **keywords_end = &arguments->keywords;
  if (!parser_advance(parser)) return false;
  for (bool first = true; !parser_at(parser, TOKEN_RPAREN); first = false) {
    if (!first && !parser_expect(parser, TOKEN_COMMA)) return false;
    if (!first && parser_at(parser, TOKEN_RPAREN)) break;
    if (!parse_argument(parser, arguments, &end, &keywords_end)) return false;
  }
  for (const Keyword *keyword = arguments->keywords; keyword; keyword = keyword->next)
    if (!parser_deepen(parser, node, keyword->value)) return false;
  return parser_deepen(parser, node, arguments->positional) &&
         parser_deepen(parser, node, arguments->spread) &&
         parser_deepen(parser, node, arguments->spread_keywords) && parser_advance(parser);
}

static Node *parse_call(Parser *parser, Node *callee) {
  Node *node = parser_node(parser, NODE_CALL, &parser->current);
  if (!node) return NULL;
  node->as.call.callee = callee;
  return parse_arguments(parser, node, &node->as.call.arguments) && parser_deepen(parser, node, callee)
             ? node
             : NULL;
}

static Node *parse_attribute(Parser *parser, Node *object) {
  Token dot = parser->current;
  if (!parser_advance(parser)) return NULL;
  Token token = parser->current;
  Node *node = parser_node(parser, token.kind == TOKEN_NAME ? NODE_ATTRIBUTE : NODE_ITEM, &dot);
  if (!node) return NULL;
  if (token.kind == TOKEN_NAME) {
    node->as.attribute.object = object;
    if (!parser_token_text(parser, &token, &node->as.attribute.name)) return NULL;
  } else if (token.kind == TOKEN_INTEGER) {
    node->as.item.object = object;
    node->as.item.index = parser_constant(parser, &token, token.value);
    if (!node->as.item.index) return NULL;
  } else {
    return parser_fail_null(parser, &token, "expected name or number");
  }
  return parser_advance(parser) && parser_deepen(parser, node, object) ? node : NULL;
}

static bool at_slice_end(const Parser *parser) {
  return parser_at(parser, TOKEN_COLON) || parser_at(parser, TOKEN_RBRACKET) ||
         parser_at(parser, TOKEN_COMMA);
}

/* Behind the first ":" of a slice. */
static Node *parse_slice(Parser *parser, Node *object, Node *start, const Token *at) {
  Node *node = parser_node(parser, NODE_SLICE, at);
  if (!node || !parser_advance(parser)) return NULL;
  node->as.slice.object = object;
  node->as.slice.start = start;
  if (!at_slice_end(parser) && !(node->as.slice.stop = parse_expression(parser))) return NULL;
  if (parser_at(parser, TOKEN_COLON)) {
    if (!parser_advance(parser)) return NULL;
    if (!at_slice_end(parser) && !(node->as.slice.step = parse_expression(parser))) return NULL;
  }
  if (!parser_deepen(parser, node, object) || !parser_deepen(parser, node, start) ||
      !parser_deepen(parser, node, node->as.slice.stop) || !parser_deepen(parser, node, node->as.slice.step))
    return NULL;
  return parser_expect(parser, TOKEN_RBRACKET) ? node : NULL;
}

static Node *parse_subscript(Parser *parser, Node *object) {
  Token bracket = parser->current;
  if (!parser_advance(parser)) return NULL;
  Node *index = NULL;
  if (!parser_at(parser, TOKEN_COLON) && !(index = parse_expression(parser))) return NULL;
  if (parser_at(parser, TOKEN_COLON)) return parse_slice(parser, object, index, &bracket);
  if (parser_at(parser, TOKEN_COMMA)) { /* x[1, 2]: a tuple */
    Node *tuple = parser_node(parser, NODE_TUPLE, &bracket);
    if (!tuple) return NULL;
    tuple->as.items.first = index;
    tuple->as.items.count = 1;
    for (Node **end = &index->next; parser_at(parser, TOKEN_COMMA); end = &(*end)->next) {
      if (!parser_advance(parser) || !(*end = parse_expression(parser))) return NULL;
      tuple->as.items.count++;
    }
    if (!parser_deepen(parser, tuple, tuple->as.items.first)) return NULL;
    index = tuple;
  }
  Node *node = parser_node(parser, NODE_ITEM, &bracket);
  if (!node) return NULL;
  node->as.item.object = object;
  node->as.item.index = index;
  return parser_expect(parser, TOKEN_RBRACKET) && parser_deepen(parser, node, object) &&
                 parser_deepen(parser, node, index)
             ? node
             : NULL;
}

Node *parse_postfix(Parser *parser, Node *node) {
  while (node) {
    if (parser_at(parser, TOKEN_DOT))
      node = parse_attribute(parser, node);
    else if (parser_at(parser, TOKEN_LBRACKET))
      node = parse_subscript(parser, node);
    else if (parser_at(parser, TOKEN_LPAREN))
      node = parse_call(parser, node);
    else
      break;
  }
  return node;
}

/* ---- filters and tests ---- */

/* The name at the current token, with dots, looked up in the table. */
static const Builtin *parse_builtin(Parser *parser, BuiltinTable table, const char *kind) {
  Token token = parser->current;
  if (token.kind != TOKEN_NAME) {
    (void)parser_unexpected(parser, "expected token 'name', got ");
    return NULL;
  }
  const Builtin *builtin = builtin_find(table, token.text, token.size);
  const char *what = !builtin ? "No %s named '%.*s'." : "the %s '%.*s' is not supported";
  if (!builtin || (!builtin->function && !builtin->variadic)) {
    char message[160];
    int size = (int)(token.size < 100 ? token.size : 100);
    snprintf(message, sizeof message, builtin ? "the %s '%.*s' is not supported" : "No %s named '%.*s'.",
             kind, size, token.text);
    (void)what;
    parser_fail(parser, &token, "%s", message);
    return NULL;
  }
  return parser_advance(parser) ? builtin : NULL;
}

Node *parse_filters(Parser *parser, Node *operand, bool begun) {
  while (begun || parser_at(parser, TOKEN_PIPE)) {
    if (!begun && !parser_advance(parser)) return NULL;
    begun = false;
    Node *node = parser_node(parser, NODE_FILTER, &parser->current);
    if (!node) return NULL;
    node->as.apply.operand = operand;
    node->as.apply.builtin = parse_builtin(parser, filters_table, "filter");
    if (!node->as.apply.builtin || !parser_deepen(parser, node, operand)) return NULL;
    if (parser_at(parser, TOKEN_LPAREN) && !parse_arguments(parser, node, &node->as.apply.arguments))
      return NULL;
    operand = node;
  }
  return operand;
}

static bool at_test_argument(const Parser *parser) {
  static const TokenKind kinds[] = {TOKEN_NAME,  TOKEN_STRING,   TOKEN_INTEGER,
                                    TOKEN_FLOAT, TOKEN_LBRACKET, TOKEN_LBRACE};
  if (parser_at_name(parser, "else") || parser_at_name(parser, "or") || parser_at_name(parser, "and"))
    return false;
  for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
    if (parser_at(parser, kinds[i])) return true;
  return false;
}

static Node *parse_test(Parser *parser, Node *operand) {
  Token is = parser->current;
  bool negated;
  if (!parser_advance(parser) || !parser_skip_name(parser, "not", &negated)) return NULL;
  Node *node = parser_node(parser, NODE_TEST, &is);
  if (!node) return NULL;
  node->as.apply.operand = operand;
  node->as.apply.builtin = parse_builtin(parser, tests_table, "test");
  if (!node->as.apply.builtin || !parser_deepen(parser, node, operand)) return NULL;
  Arguments *arguments = &node->as.apply.arguments;
  if (parser_at(parser, TOKEN_LPAREN)) {
    if (!parse_arguments(parser, node, arguments)) return NULL;
  } else if (at_test_argument(parser)) {
    if (parser_at_name(parser, "is"))
      return parser_fail_null(parser, &parser->current, "You cannot chain multiple tests with is");
    Node *argument = parse_primary(parser);
    arguments->positional = argument ? parse_postfix(parser, argument) : NULL;
    if (!arguments->positional || !parser_deepen(parser, node, arguments->positional)) return NULL;
    arguments->count = 1;
  }
  if (!negated) return node;
  Node *not = parser_node(parser, NODE_NOT, &is);
  if (!not ) return NULL;
  not ->as.one.expression = node;
  return parser_deepen(parser, not, node) ? not : NULL;
}

Node *parse_filters_and_tests(Parser *parser, Node *node) {
  while (node) {
    if (parser_at(parser, TOKEN_PIPE))
      node = parse_filters(parser, node, false);
    else if (parser_at_name(parser, "is"))
      node = parse_test(parser, node);
    else if (parser_at(parser, TOKEN_LPAREN))
      node = parse_call(parser, node);
    else
      break;
  }
  return node;
}
