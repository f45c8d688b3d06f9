/* Statements. */
#include "template/parser.h"

#include "template/builtin.h"
#include "template/object.h"
#include "template/scope.h"

#include <stdio.h>
#include <string.h>

/* ---- tokens ---- */

bool parser_fail(Parser *parser, const Token *at, const char *format, ...) {
  char text[600];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  return lexer_fail_at(parser->lexer.name, at->line, at->column, parser->error, "%s", text);
}

Node *parser_fail_null(Parser *parser, const Token *at, const char *what) {
  parser_fail(parser, at, "%s", what);
  return NULL;
}

Node *parser_unexpected(Parser *parser, const char *before) {
  const Token *token = &parser->current;
  if (token->kind == TOKEN_NAME)
    parser_fail(parser, token, "%s'%.*s'", before, (int)(token->size < 100 ? token->size : 100), token->text);
  else
    parser_fail(parser, token, "%s'%s'", before, token_kind_name(token->kind));
  return NULL;
}

bool parser_advance(Parser *parser) {
  if (parser->has_ahead) {
    parser->current = parser->ahead;
    parser->has_ahead = false;
    return true;
  }
  return lexer_next(&parser->lexer, &parser->current, parser->error);
}

bool parser_look(Parser *parser, const Token **ahead) {
  if (!parser->has_ahead && !lexer_next(&parser->lexer, &parser->ahead, parser->error)) return false;
  parser->has_ahead = true;
  *ahead = &parser->ahead;
  return true;
}

bool parser_at(const Parser *parser, TokenKind kind) {
  return parser->current.kind == kind;
}

static bool token_is(const Token *token, const char *name) {
  return token->kind == TOKEN_NAME && token->size == strlen(name) &&
         memcmp(token->text, name, token->size) == 0;
}

bool parser_at_name(const Parser *parser, const char *name) {
  return token_is(&parser->current, name);
}

static bool unexpected(Parser *parser, const char *expected) {
  const Token *token = &parser->current;
  if (token->kind == TOKEN_END)
    return parser_fail(parser, token, "unexpected end of template, expected '%s'", expected);
  if (token->kind == TOKEN_NAME)
    return parser_fail(parser, token, "expected token '%s', got '%.*s'", expected,
                       (int)(token->size < 100 ? token->size : 100), token->text);
  return parser_fail(parser, token, "expected token '%s', got '%s'", expected, token_kind_name(token->kind));
}

bool parser_expect(Parser *parser, TokenKind kind) {
  return parser_at(parser, kind) ? parser_advance(parser) : unexpected(parser, token_kind_name(kind));
}

static bool expect_name(Parser *parser, const char *name) {
  return parser_at_name(parser, name) ? parser_advance(parser) : unexpected(parser, name);
}

bool parser_skip(Parser *parser, TokenKind kind, bool *skipped) {
  *skipped = parser_at(parser, kind);
  return !*skipped || parser_advance(parser);
}

bool parser_skip_name(Parser *parser, const char *name, bool *skipped) {
  *skipped = parser_at_name(parser, name);
  return !*skipped || parser_advance(parser);
}

/* ---- nodes ---- */

bool parser_enter(Parser *parser) {
  if (parser->depth == MAX_TREE_DEPTH)
    return parser_fail(parser, &parser->current, "nested more than %d deep", MAX_TREE_DEPTH);
  parser->depth++;
  return true;
}

void parser_leave(Parser *parser) {
  parser->depth--;
}

Node *parser_node(Parser *parser, NodeKind kind, const Token *at) {
  Node *node = heap_alloc(parser->template->heap, sizeof *node, parser->error);
  if (node) *node = (Node){.kind = kind, .line = at->line, .column = at->column, .depth = 1};
  return node;
}

bool parser_deepen(Parser *parser, Node *node, const Node *child) {
  for (; child; child = child->next)
    if (child->depth >= node->depth) node->depth = child->depth + 1;
  if (node->depth <= MAX_TREE_DEPTH) return true;
  return lexer_fail_at(parser->lexer.name, node->line, node->column, parser->error,
                       "nested more than %d deep", MAX_TREE_DEPTH);
}

bool parser_token_text(Parser *parser, const Token *token, Value *out) {
  if (!value_text(parser->template->heap, token->text, token->size, false, out, parser->error)) return false;
  (void)string_length(out->as.string); /* counted here, since renderings in several threads share it */
  return true;
}

bool parser_name_number(Parser *parser, const Token *name, int *number) {
  Template *template = parser->template;
  const Value *known = dict_get_text(template->names, name->text, name->size);
  *number = known ? (int)known->as.integer : template->name_count;
  if (known) return true;
  Value text;
  if (!parser_token_text(parser, name, &text) ||
      !dict_set(template->heap, template->names, text, value_int(*number), parser->error))
    return false;
  template->name_count++;
  return true;
}

/* ---- bodies ---- */

static Node *parse_statement(Parser *parser);

/* A list of nodes as it grows. */
typedef struct Chain {
  Node *first, **end;
} Chain;

static void chain_add(Chain *chain, Node *node) {
  *chain->end = node;
  while (*chain->end) chain->end = &(*chain->end)->next;
}

static bool at_any(const Parser *parser, const char *const ends[]) {
  for (size_t i = 0; ends && ends[i]; i++)
    if (parser_at_name(parser, ends[i])) return true;
  return false;
}

static bool parse_piece(Parser *parser, Chain *chain, const char *const ends[], bool *ended) {
  Token token = parser->current;
  Node *node;
  *ended = token.kind == TOKEN_END;
  if (*ended) return true;
  if (token.kind == TOKEN_DATA) {
    node = parser_node(parser, NODE_TEXT, &token);
    if (!node || !parser_token_text(parser, &token, &node->as.value) || !parser_advance(parser)) return false;
  } else if (token.kind == TOKEN_VARIABLE_BEGIN) {
    node = parser_node(parser, NODE_PRINT, &token);
    if (!node || !parser_advance(parser)) return false;
    node->as.one.expression = parse_tuple(parser, true, TUPLE_AT_END);
    if (!node->as.one.expression || !parser_deepen(parser, node, node->as.one.expression) ||
        !parser_expect(parser, TOKEN_VARIABLE_END))
      return false;
  } else {
    if (!parser_advance(parser)) return false;
    *ended = at_any(parser, ends);
    if (*ended) return true;
    if (!parser_enter(parser)) return false;
    node = parse_statement(parser);
    parser_leave(parser);
    if (!node || !parser_expect(parser, TOKEN_BLOCK_END)) return false;
  }
  chain_add(chain, node);
  return true;
}

/* Up to a tag of one of these names (NULL-terminated), which becomes the current token, or to the end of the template. */
static bool parse_pieces(Parser *parser, const char *const ends[], Node **body) {
  Chain chain = {.end = &chain.first};
  for (bool ended = false; !ended;)
    if (!parse_piece(parser, &chain, ends, &ended)) return false;
  *body = chain.first;
  return true;
}

/* The rest of a tag, and what follows it up to one of these tags. */
static bool parse_body(Parser *parser, const char *tag, const char *const ends[], Node **body) {
  bool colon;
  if (!parser_skip(parser, TOKEN_COLON, &colon) || !parser_expect(parser, TOKEN_BLOCK_END)) return false;
  const char *outer = parser->open_tag;
  parser->open_tag = tag;
  if (!parse_pieces(parser, ends, body)) return false;
  if (parser_at(parser, TOKEN_END))
    return parser_fail(parser, &parser->current,
                       "Unexpected end of template. The innermost block that needs to be closed is '%s'.",
                       tag);
  parser->open_tag = outer;
  return true;
}

static bool parse_closed_body(Parser *parser, const char *tag, const char *end, Node **body) {
  const char *const ends[] = {end, NULL};
  return parse_body(parser, tag, ends, body) && parser_advance(parser);
}

/* ---- set, with ---- */

static Node *parse_set(Parser *parser, const Token *tag) {
  bool assign;
  Node *target = parse_target(parser, true, TUPLE_AT_END);
  if (!target || !parser_skip(parser, TOKEN_ASSIGN, &assign)) return NULL;
  Node *node = parser_node(parser, assign ? NODE_SET : NODE_SET_BLOCK, tag);
  if (!node) return NULL;
  if (assign) {
    node->as.set.target = target;
    node->as.set.value = parse_tuple(parser, true, TUPLE_AT_END);
    if (!node->as.set.value || !parser_deepen(parser, node, node->as.set.value)) return NULL;
    return parser_deepen(parser, node, target) ? node : NULL;
  }
  node->as.block.target = target;
  if (parser_at(parser, TOKEN_PIPE) && !(node->as.block.filter = parse_filters(parser, NULL, false)))
    return NULL;
  return parse_closed_body(parser, "set", "endset", &node->as.block.body) ? node : NULL;
}

static Node *parse_with(Parser *parser, const Token *tag) {
  Node *node = parser_node(parser, NODE_WITH, tag);
  if (!node) return NULL;
  Chain targets = {.end = &node->as.with.targets}, values = {.end = &node->as.with.values};
  while (!parser_at(parser, TOKEN_BLOCK_END)) {
    if (node->as.with.targets && !parser_expect(parser, TOKEN_COMMA)) return NULL;
    Node *target = parse_target(parser, false, TUPLE_AT_END);
    if (!target || !parser_expect(parser, TOKEN_ASSIGN)) return NULL;
    Node *value = parse_expression(parser);
    if (!value) return NULL;
    chain_add(&targets, target);
    chain_add(&values, value);
  }
  return parse_closed_body(parser, "with", "endwith", &node->as.with.body) ? node : NULL;
}

/* ---- if, for ---- */

static Node *parse_if(Parser *parser, const Token *tag) {
  static const char *const ends[] = {"elif", "else", "endif", NULL};
  Node *node = parser_node(parser, NODE_IF, tag);
  if (!node) return NULL;
  struct Branch **end = &node->as.branch.branches;
  for (bool more = true; more;) {
    struct Branch *branch = heap_alloc(parser->template->heap, sizeof *branch, parser->error);
    if (!branch) return NULL;
    *branch = (struct Branch){.test = parse_tuple(parser, false, TUPLE_AT_END)};
    if (!branch->test || !parse_body(parser, "if", ends, &branch->body)) return NULL;
    *end = branch;
    end = &branch->next;
    if (!parser_skip_name(parser, "elif", &more)) return NULL;
  }
  bool otherwise;
  if (!parser_skip_name(parser, "else", &otherwise)) return NULL;
  if (otherwise) return parse_closed_body(parser, "if", "endif", &node->as.branch.otherwise) ? node : NULL;
  return parser_advance(parser) ? node : NULL;
}

/* "for x in a" has two targets when it has a test: the test's own, which looks ahead of the body. */
static Node *copy_target(Parser *parser, const Node *target) {
  Node *copy = heap_alloc(parser->template->heap, sizeof *copy, parser->error);
  if (!copy) return NULL;
  *copy = *target;
  if (target->kind != NODE_TUPLE) return copy;
  Node **end = &copy->as.items.first;
  for (const Node *item = target->as.items.first; item; item = item->next) {
    Node *part = copy_target(parser, item);
    if (!part) return NULL;
    part->next = NULL;
    *end = part;
    end = &part->next;
  }
  return copy;
}

static bool parse_for_head(Parser *parser, Node *node, bool *recursive) {
  bool test;
  node->as.loop.target = parse_target(parser, false, TUPLE_AT_IN);
  if (!node->as.loop.target || !expect_name(parser, "in")) return false;
  node->as.loop.iterable = parse_tuple(parser, false, TUPLE_AT_RECURSIVE);
  if (!node->as.loop.iterable || !parser_skip_name(parser, "if", &test)) return false;
  if (test) {
    node->as.loop.test = parse_expression(parser);
    if (!node->as.loop.test) return false;
    node->as.loop.test_target = copy_target(parser, node->as.loop.target);
    if (!node->as.loop.test_target) return false;
  }
  return parser_skip_name(parser, "recursive", recursive);
}

static Node *parse_for(Parser *parser, const Token *tag) {
  static const char *const ends[] = {"endfor", "else", NULL};
  Node *node = parser_node(parser, NODE_FOR, tag);
  bool recursive = false, otherwise;
  if (!node || !parse_for_head(parser, node, &recursive)) return NULL;
  if (recursive) {
    node->as.loop.function = heap_alloc(parser->template->heap, sizeof(Function), parser->error);
    if (!node->as.loop.function) return NULL;
    *node->as.loop.function = (Function){.name = value_none()};
  }
  size_t reads = parser->special[SPECIAL_LOOP];
  parser->loops++;
  bool parsed = parse_body(parser, "for", ends, &node->as.loop.body);
  parser->loops--;
  if (!parsed) return NULL;
  node->as.loop.extended = parser->special[SPECIAL_LOOP] > reads;
  if (!parser_skip_name(parser, "else", &otherwise)) return NULL;
  if (!otherwise) return parser_advance(parser) ? node : NULL;
  int outer = parser->loops;
  if (recursive) parser->loops = 0; /* its body is a function, as that of a macro */
  parsed = parse_closed_body(parser, "for", "endfor", &node->as.loop.otherwise);
  parser->loops = outer;
  return parsed ? node : NULL;
}

static Node *parse_loop_control(Parser *parser, const Token *tag, NodeKind kind) {
  if (parser->loops > 0) return parser_node(parser, kind, tag);
  parser_fail(parser, tag, "'%s' outside loop", kind == NODE_BREAK ? "break" : "continue");
  return NULL;
}

/* ---- macros and blocks ---- */

static bool parse_parameters(Parser *parser, Function *function) {
  if (!parser_expect(parser, TOKEN_LPAREN)) return false;
  Chain chain = {.end = &function->parameters};
  for (bool defaults = false, assign; !parser_at(parser, TOKEN_RPAREN);) {
    if (function->parameters && !parser_expect(parser, TOKEN_COMMA)) return false;
    Node *parameter = parse_name_target(parser);
    if (!parameter || !parser_skip(parser, TOKEN_ASSIGN, &assign)) return false;
    if (assign && !(parameter->as.name.fallback = parse_expression(parser))) return false;
    if (!assign && defaults)
      return parser_fail(parser, &parser->current, "non-default argument follows default argument");
    defaults = defaults || assign;
    function->parameter_count++;
    chain_add(&chain, parameter);
  }
  return parser_advance(parser);
}

/* The body of a macro or call: `function` knows afterwards which of the special variables it asks for. */
static bool parse_function_body(Parser *parser, const char *tag, const char *end, Function *function) {
  size_t reads[4];
  memcpy(reads, parser->special, sizeof reads);
  int loops = parser->loops;
  parser->loops = 0;
  if (!parse_closed_body(parser, tag, end, &function->body)) return false;
  parser->loops = loops;
  const size_t *now = parser->special;
  function->caller_slot = now[SPECIAL_CALLER] > reads[SPECIAL_CALLER] ? 0 : -1; /* scope.c knows where */
  function->kwargs_slot = now[SPECIAL_KWARGS] > reads[SPECIAL_KWARGS] ? 0 : -1;
  function->varargs_slot = now[SPECIAL_VARARGS] > reads[SPECIAL_VARARGS] ? 0 : -1;
  return true;
}

static Node *function_node(Parser *parser, NodeKind kind, const Token *tag) {
  Node *node = parser_node(parser, kind, tag);
  Function *function = node ? heap_alloc(parser->template->heap, sizeof *function, parser->error) : NULL;
  if (!function) return NULL;
  *function = (Function){.name = value_none()};
  node->as.macro.function = function;
  return node;
}

static Node *parse_macro(Parser *parser, const Token *tag) {
  Node *node = function_node(parser, NODE_MACRO, tag);
  if (!node) return NULL;
  Token name = parser->current;
  node->as.macro.call = parse_name_target(parser); /* the variable that holds it */
  Function *function = node->as.macro.function;
  if (!node->as.macro.call || !parser_token_text(parser, &name, &function->name) ||
      !parse_parameters(parser, function))
    return NULL;
  return parse_function_body(parser, "macro", "endmacro", function) ? node : NULL;
}

static Node *parse_call_block(Parser *parser, const Token *tag) {
  Node *node = function_node(parser, NODE_CALL_BLOCK, tag);
  if (!node) return NULL;
  Function *function = node->as.macro.function;
  if (parser_at(parser, TOKEN_LPAREN) && !parse_parameters(parser, function)) return NULL;
  node->as.macro.call = parse_expression(parser);
  if (!node->as.macro.call) return NULL;
  if (node->as.macro.call->kind != NODE_CALL) {
    parser_fail(parser, tag, "expected call");
    return NULL;
  }
  return parse_function_body(parser, "call", "endcall", function) ? node : NULL;
}

static Node *parse_filter_block(Parser *parser, const Token *tag) {
  Node *node = parser_node(parser, NODE_FILTER_BLOCK, tag);
  if (!node || !(node->as.block.filter = parse_filters(parser, NULL, true))) return NULL;
  return parse_closed_body(parser, "filter", "endfilter", &node->as.block.body) ? node : NULL;
}

/* Its body is a function's in Transformers: with a scope of its own, and no way out of it by break. */
static Node *parse_generation(Parser *parser, const Token *tag) {
  Node *node = parser_node(parser, NODE_GENERATION, tag);
  if (!node) return NULL;
  int loops = parser->loops;
  parser->loops = 0;
  bool parsed = parse_closed_body(parser, "generation", "endgeneration", &node->as.with.body);
  parser->loops = loops;
  parser->template->generation = true;
  return parsed ? node : NULL;
}

/* {% print a, b %} */
static Node *parse_print(Parser *parser, const Token *tag) {
  Chain chain = {0};
  chain.end = &chain.first;
  while (!parser_at(parser, TOKEN_BLOCK_END)) {
    if (chain.first && !parser_expect(parser, TOKEN_COMMA)) return NULL;
    Node *node = parser_node(parser, NODE_PRINT, tag);
    if (!node || !(node->as.one.expression = parse_expression(parser)) ||
        !parser_deepen(parser, node, node->as.one.expression))
      return NULL;
    chain_add(&chain, node);
  }
  if (chain.first) return chain.first;
  Node *nothing = parser_node(parser, NODE_TEXT, tag);
  if (!nothing || !string_literal(parser->template->heap, "", &nothing->as.value, parser->error)) return NULL;
  return nothing;
}

/* ---- tags ---- */

static bool fail_tag(Parser *parser, const Token *tag) {
  static const char *const refused[] = {"block", "extends", "include", "import", "from", "autoescape"};
  for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
    if (token_is(tag, refused[i]))
      return parser_fail(parser, tag, "the tag '%s' is not supported", refused[i]);
  char name[64];
  snprintf(name, sizeof name, "%.*s", (int)tag->size, tag->text);
  if (parser->open_tag)
    return parser_fail(parser, tag,
                       "Encountered unknown tag '%s'. The innermost block that needs to be closed is '%s'.",
                       name, parser->open_tag);
  return parser_fail(parser, tag, "Encountered unknown tag '%s'.", name);
}

static Node *parse_statement(Parser *parser) {
  static const struct {
    const char *name;
    Node *(*parse)(Parser *, const Token *);
  } tags[] = {{"set", parse_set},
              {"if", parse_if},
              {"for", parse_for},
              {"macro", parse_macro},
              {"with", parse_with},
              {"call", parse_call_block},
              {"print", parse_print},
              {"generation", parse_generation},
              {"filter", parse_filter_block}};
  Token tag = parser->current;
  if (tag.kind != TOKEN_NAME) {
    parser_fail(parser, &tag, "tag name expected");
    return NULL;
  }
  if (!parser_advance(parser)) return NULL;
  for (size_t i = 0; i < sizeof tags / sizeof *tags; i++)
    if (token_is(&tag, tags[i].name)) return tags[i].parse(parser, &tag);
  if (token_is(&tag, "break")) return parse_loop_control(parser, &tag, NODE_BREAK);
  if (token_is(&tag, "continue")) return parse_loop_control(parser, &tag, NODE_CONTINUE);
  (void)fail_tag(parser, &tag);
  return NULL;
}

/* ---- templates ---- */

static bool parse_all(Template *template, const char *text, size_t bytes, Error *error) {
  Parser parser = {.template = template, .error = error};
  Value names;
  if (!value_dict(template->heap, &names, error)) return false;
  template->names = names.as.dict;
  template->root = (Function){.name = value_none(), .caller_slot = -1, .kwargs_slot = -1, .varargs_slot = -1};
  if (!lexer_open(&parser.lexer, template->heap, template->name, text, bytes, error) ||
      !parser_advance(&parser) || !parse_pieces(&parser, NULL, &template->root.body))
    return false;
  return scope_bind(template, error);
}

Template *template_parse(const char *text, size_t bytes, const char *name, Error *error) {
  if (bytes > MAX_TEMPLATE_BYTES) {
    error_set(error, ERROR_MODEL, "%s: a chat template of %zu bytes; at most %d are read", name, bytes,
              MAX_TEMPLATE_BYTES);
    return NULL;
  }
  Template *template = memory_zeroed(1, sizeof *template);
  if (template) {
    template->name = memory_copy_string(name);
    template->heap = value_heap_open(SIZE_MAX / 2, error);
  }
  if (template && template->name && template->heap && parse_all(template, text, bytes, error))
    return template;
  if (!error->code) error_out_of_memory(error, "a chat template", sizeof *template);
  template_free(template);
  return NULL;
}

void template_free(Template *template) {
  if (!template) return;
  value_heap_close(template->heap);
  memory_free(template->name);
  memory_free(template);
}

bool template_has_generation(const Template *template) {
  return template->generation;
}

bool template_reads(const Template *template, const char *name) {
  const Value *number = dict_get_text(template->names, name, strlen(name));
  return number && template->context[number->as.integer];
}

static bool is_one_of(const ValueString *name, const char *const *names) {
  while (*names && (strlen(*names) != name->size || memcmp(*names, name->bytes, name->size) != 0)) names++;
  return *names != NULL;
}

bool template_reads_other(const Template *template, const char *const *names, char out[64]) {
  for (size_t i = 0; i < template->names->count; i++) {
    const DictEntry *entry = &template->names->entries[i];
    const ValueString *name = entry->key.as.string;
    if (!template->context[entry->value.as.integer] || is_one_of(name, names) || global_exists(name))
      continue;
    snprintf(out, 64, "%.*s", (int)name->size, name->bytes);
    return true;
  }
  return false;
}
