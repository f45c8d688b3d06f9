#include "template/scope.h"

#include "template/lexer.h"

#include <string.h>

typedef struct Scope Scope;

/* A variable of a scope. */
typedef struct Variable {
  int name, slot;
  bool parameter; /* given a value before the scope is entered */
  bool stored;
  LoadAction action;
  Scope *scope;
  struct Variable *outer;    /* what the name means outside, NULL: nothing */
  struct Variable *previous; /* of the same scope */
  struct Variable *previous_stored;
} Variable;

struct Scope {
  Scope *parent;
  Function *function;
  int level; /* of the function: how many are around it */
  Variable *variables, *stored;
  size_t count;
};

typedef struct Binder {
  Template *template;
  Variable **innermost; /* by name */
  Scope *scope;
  int loops; /* for loops around, in which `loop` is not to be set */
  Error *error;
} Binder;

static bool fail(Binder *binder, const Node *at, const char *what) {
  return lexer_fail_at(binder->template->name, at->line, at->column, binder->error, "%s", what);
}

/* ---- variables of a scope ---- */

static bool define(Binder *binder, int name, Variable **out) {
  Scope *scope = binder->scope;
  Variable *variable = binder->innermost[name];
  if (!variable || variable->scope != scope) {
    Variable *outer = variable;
    variable = heap_alloc(binder->template->heap, sizeof *variable, binder->error);
    if (!variable) return false;
    *variable = (Variable){.name = name,
                           .slot = scope->function->slot_count++,
                           .scope = scope,
                           .outer = outer,
                           .previous = scope->variables};
    scope->variables = variable;
    scope->count++;
    binder->innermost[name] = variable;
  }
  *out = variable;
  return true;
}

static void mark_stored(Binder *binder, Variable *variable) {
  if (variable->stored) return;
  variable->stored = true;
  variable->previous_stored = binder->scope->stored;
  binder->scope->stored = variable;
}

static bool declare(Binder *binder, int name, int *slot) {
  Variable *variable;
  if (!define(binder, name, &variable)) return false;
  variable->parameter = true;
  mark_stored(binder, variable);
  if (slot) *slot = variable->slot;
  return true;
}

static bool load(Binder *binder, Node *name) {
  Variable *variable = binder->innermost[name->as.name.number];
  if (variable) return true;
  if (!define(binder, name->as.name.number, &variable)) return false;
  variable->action = LOAD_RESOLVE;
  binder->template->context[variable->name] = true;
  return true;
}

static bool is_loop(const Node *name) {
  return string_equals(name->as.name.undefined.as.undefined->name.as.string, "loop");
}

static bool store(Binder *binder, Node *name) {
  if (binder->loops && is_loop(name))
    return fail(binder, name, "Can't assign to special loop variable in for-loop target");
  Variable *variable, *known = binder->innermost[name->as.name.number];
  if (!define(binder, name->as.name.number, &variable)) return false;
  if (variable != known) variable->action = variable->outer ? LOAD_ALIAS : LOAD_MISSING;
  mark_stored(binder, variable);
  return true;
}

/* What was first set in the branches of an if since `before` may stay what it was. */
static void soften(Binder *binder, const Variable *before) {
  for (Variable *variable = binder->scope->stored; variable != before; variable = variable->previous_stored) {
    if (variable->parameter) continue;
    variable->action = variable->outer ? LOAD_ALIAS : LOAD_RESOLVE;
    if (!variable->outer) binder->template->context[variable->name] = true;
  }
}

/* ---- names in expressions ---- */

typedef bool Visit(Binder *binder, Node *name);

static bool walk(Binder *binder, Node *node, Visit *visit);

static bool walk_all(Binder *binder, Node *node, Visit *visit) {
  for (; node; node = node->next)
    if (!walk(binder, node, visit)) return false;
  return true;
}

static bool walk_arguments(Binder *binder, const Arguments *arguments, Visit *visit) {
  if (!walk_all(binder, arguments->positional, visit)) return false;
  for (Keyword *keyword = arguments->keywords; keyword; keyword = keyword->next)
    if (!walk(binder, keyword->value, visit)) return false;
  return walk(binder, arguments->spread, visit) && walk(binder, arguments->spread_keywords, visit);
}

static bool walk(Binder *binder, Node *node, Visit *visit) {
  if (!node) return true;
  switch (node->kind) {
    case NODE_NAME:
      return visit(binder, node);
    case NODE_FIELD:
      return visit(binder, node->as.field.name);
    case NODE_LIST:
    case NODE_TUPLE:
    case NODE_DICT:
    case NODE_CONCAT:
      return walk_all(binder, node->as.items.first, visit);
    case NODE_ATTRIBUTE:
      return walk(binder, node->as.attribute.object, visit);
    case NODE_ITEM:
      return walk(binder, node->as.item.object, visit) && walk(binder, node->as.item.index, visit);
    case NODE_SLICE:
      return walk(binder, node->as.slice.object, visit) && walk(binder, node->as.slice.start, visit) &&
             walk(binder, node->as.slice.stop, visit) && walk(binder, node->as.slice.step, visit);
    case NODE_CALL:
      return walk(binder, node->as.call.callee, visit) &&
             walk_arguments(binder, &node->as.call.arguments, visit);
    case NODE_FILTER:
    case NODE_TEST:
      return walk(binder, node->as.apply.operand, visit) &&
             walk_arguments(binder, &node->as.apply.arguments, visit);
    case NODE_NOT:
    case NODE_NEGATE:
    case NODE_PLUS:
      return walk(binder, node->as.one.expression, visit);
    case NODE_AND:
    case NODE_OR:
    case NODE_ARITHMETIC:
      return walk(binder, node->as.two.left, visit) && walk(binder, node->as.two.right, visit);
    case NODE_COMPARE: {
      bool walked = walk(binder, node->as.compare.first, visit);
      for (const Comparison *rest = node->as.compare.rest; walked && rest; rest = rest->next)
        walked = walk(binder, rest->right, visit);
      return walked;
    }
    case NODE_CONDITION:
      return walk(binder, node->as.condition.test, visit) && walk(binder, node->as.condition.then, visit) &&
             walk(binder, node->as.condition.otherwise, visit);
    default:
      return true;
  }
}

/* The names that a target sets; a namespace whose field is set is only read. */
static bool walk_target(Binder *binder, Node *target, Visit *visit) {
  if (target->kind == NODE_FIELD) return load(binder, target->as.field.name);
  if (target->kind == NODE_NAME) return visit(binder, target);
  for (Node *item = target->as.items.first; item; item = item->next)
    if (!walk_target(binder, item, visit)) return false;
  return true;
}

static bool declare_name(Binder *binder, Node *name) {
  return declare(binder, name->as.name.number, NULL);
}

static bool declare_target(Binder *binder, Node *name) {
  if (is_loop(name)) return fail(binder, name, "Can't assign to special loop variable in for-loop target");
  return declare_name(binder, name);
}

/* Its place, once all variables of the scope are known. */
static bool bind_name(Binder *binder, Node *name) {
  if (!load(binder, name)) return false;
  const Variable *variable = binder->innermost[name->as.name.number];
  name->as.name.place =
      (Place){.hops = binder->scope->level - variable->scope->level, .slot = variable->slot};
  return true;
}

/* ---- first pass: the variables of one scope ---- */

static bool analyse(Binder *binder, Node *body) {
  for (Node *node = body; node; node = node->next) {
    bool done = true;
    switch (node->kind) {
      case NODE_PRINT:
        done = walk(binder, node->as.one.expression, load);
        break;
      case NODE_SET:
        done = walk(binder, node->as.set.value, load) && walk_target(binder, node->as.set.target, store);
        break;
      case NODE_SET_BLOCK:
        done = walk_target(binder, node->as.block.target, store);
        break;
      case NODE_IF: {
        const Branch *branch = node->as.branch.branches;
        done = walk(binder, branch->test, load);
        const Variable *before = binder->scope->stored;
        for (; done && branch; branch = branch->next)
          done = walk(binder, branch->test, load) && analyse(binder, branch->body);
        done = done && analyse(binder, node->as.branch.otherwise);
        soften(binder, before);
        break;
      }
      case NODE_FOR:
        done = walk(binder, node->as.loop.iterable, load);
        break;
      case NODE_MACRO:
        done = store(binder, node->as.macro.call);
        break;
      case NODE_CALL_BLOCK:
        done = walk(binder, node->as.macro.call, load);
        break;
      case NODE_FILTER_BLOCK:
        done = walk(binder, node->as.block.filter, load);
        break;
      case NODE_WITH:
        done = walk_all(binder, node->as.with.values, load);
        break;
      default:
        break;
    }
    if (!done) return false;
  }
  return true;
}

/* ---- second pass: places of names, and the scopes within ---- */

static bool bind_body(Binder *binder, Node *body);

static bool open_scope(Binder *binder, Function *function) {
  Scope *parent = binder->scope, *scope = heap_alloc(binder->template->heap, sizeof *scope, binder->error);
  if (!scope) return false;
  *scope = (Scope){.parent = parent,
                   .function = function ? function : parent->function,
                   .level = !parent ? 0 : parent->level + (function != NULL)};
  binder->scope = scope;
  return true;
}

static bool close_scope(Binder *binder, Loads *loads) {
  Scope *scope = binder->scope;
  *loads = (Loads){0};
  Load *items = heap_alloc(binder->template->heap, (scope->count + 1) * sizeof *items, binder->error);
  if (!items) return false;
  loads->items = items;
  for (const Variable *variable = scope->variables; variable; variable = variable->previous) {
    binder->innermost[variable->name] = variable->outer;
    if (variable->parameter) continue;
    Load *item = &loads->items[loads->count++];
    *item = (Load){.action = variable->action, .slot = variable->slot, .name = variable->name};
    if (variable->outer)
      item->outer =
          (Place){.hops = scope->level - variable->outer->scope->level, .slot = variable->outer->slot};
  }
  binder->scope = scope->parent;
  return true;
}

static int name_number(const Binder *binder, const char *name) {
  return (int)dict_get_text(binder->template->names, name, strlen(name))->as.integer;
}

static bool bind_for_parts(Binder *binder, Node *node) {
  if (node->as.loop.test) {
    if (!open_scope(binder, NULL) || !walk_target(binder, node->as.loop.test_target, declare_target) ||
        !walk(binder, node->as.loop.test, load) ||
        !walk_target(binder, node->as.loop.test_target, bind_name) ||
        !walk(binder, node->as.loop.test, bind_name) || !close_scope(binder, &node->as.loop.test_loads))
      return false;
  }
  if (!open_scope(binder, NULL)) return false;
  if (node->as.loop.extended && !declare(binder, name_number(binder, "loop"), &node->as.loop.loop_slot))
    return false;
  if (!walk_target(binder, node->as.loop.target, declare_target) || !analyse(binder, node->as.loop.body) ||
      !walk_target(binder, node->as.loop.target, bind_name) || !bind_body(binder, node->as.loop.body) ||
      !close_scope(binder, &node->as.loop.body_loads))
    return false;
  return open_scope(binder, NULL) && analyse(binder, node->as.loop.otherwise) &&
         bind_body(binder, node->as.loop.otherwise) && close_scope(binder, &node->as.loop.else_loads);
}

static bool bind_for(Binder *binder, Node *node) {
  if (!walk(binder, node->as.loop.iterable, bind_name)) return false;
  binder->loops++;
  bool done;
  if (node->as.loop.function) {
    Loads none;
    done = open_scope(binder, node->as.loop.function) && bind_for_parts(binder, node) &&
           close_scope(binder, &none);
  } else {
    done = bind_for_parts(binder, node);
  }
  binder->loops--;
  return done;
}

/* `caller`, `kwargs` or `varargs`: a variable of the function if its body asks for it and it is no parameter anyway. */
static bool declare_special(Binder *binder, Node *node, const char *name, int *slot) {
  Function *function = node->as.macro.function;
  if (*slot < 0) return true;
  int number = name_number(binder, name);
  *slot = -1;
  for (Node *parameter = function->parameters; parameter; parameter = parameter->next) {
    if (parameter->as.name.number != number) continue;
    if (strcmp(name, "caller") != 0 || parameter->as.name.fallback) return true;
    return fail(binder, node,
                "When defining macros or call blocks the special \"caller\" argument must be omitted or be "
                "given a default.");
  }
  return declare(binder, number, slot);
}

static bool bind_function(Binder *binder, Node *node) {
  Function *function = node->as.macro.function;
  if (!open_scope(binder, function)) return false;
  for (Node *parameter = function->parameters; parameter; parameter = parameter->next)
    if (!declare_name(binder, parameter)) return false;
  for (Node *parameter = function->parameters; parameter; parameter = parameter->next)
    if (!walk(binder, parameter->as.name.fallback, load)) return false;
  if (!analyse(binder, function->body) || !declare_special(binder, node, "caller", &function->caller_slot) ||
      !declare_special(binder, node, "kwargs", &function->kwargs_slot) ||
      !declare_special(binder, node, "varargs", &function->varargs_slot))
    return false;
  for (Node *parameter = function->parameters; parameter; parameter = parameter->next)
    if (!bind_name(binder, parameter) || !walk(binder, parameter->as.name.fallback, bind_name)) return false;
  return bind_body(binder, function->body) && close_scope(binder, &function->loads);
}

/* What a filter is applied to, and the filter's arguments, in a scope of their own. */
static bool bind_block(Binder *binder, Node *node) {
  return open_scope(binder, NULL) && analyse(binder, node->as.block.body) &&
         walk(binder, node->as.block.filter, load) && bind_body(binder, node->as.block.body) &&
         walk(binder, node->as.block.filter, bind_name) && close_scope(binder, &node->as.block.loads);
}

static bool bind_with(Binder *binder, Node *node) {
  if (!walk_all(binder, node->as.with.values, bind_name) || !open_scope(binder, NULL)) return false;
  for (Node *target = node->as.with.targets; target; target = target->next)
    if (!walk_target(binder, target, declare_name)) return false;
  if (!analyse(binder, node->as.with.body)) return false;
  for (Node *target = node->as.with.targets; target; target = target->next)
    if (!walk_target(binder, target, bind_name)) return false;
  return bind_body(binder, node->as.with.body) && close_scope(binder, &node->as.with.loads);
}

static bool bind_if(Binder *binder, Node *node) {
  for (const Branch *branch = node->as.branch.branches; branch; branch = branch->next)
    if (!walk(binder, branch->test, bind_name) || !bind_body(binder, branch->body)) return false;
  return bind_body(binder, node->as.branch.otherwise);
}

static bool bind_target(Binder *binder, Node *target) {
  if (target->kind == NODE_NAME) return bind_name(binder, target);
  if (target->kind == NODE_FIELD) return bind_name(binder, target->as.field.name);
  for (Node *item = target->as.items.first; item; item = item->next)
    if (!bind_target(binder, item)) return false;
  return true;
}

static bool bind_statement(Binder *binder, Node *node) {
  switch (node->kind) {
    case NODE_PRINT:
      return walk(binder, node->as.one.expression, bind_name);
    case NODE_SET:
      return walk(binder, node->as.set.value, bind_name) && bind_target(binder, node->as.set.target);
    case NODE_SET_BLOCK:
      return bind_block(binder, node) && bind_target(binder, node->as.block.target);
    case NODE_IF:
      return bind_if(binder, node);
    case NODE_FOR:
      return bind_for(binder, node);
    case NODE_MACRO:
      return bind_function(binder, node) && bind_name(binder, node->as.macro.call);
    case NODE_CALL_BLOCK:
      return bind_function(binder, node) && walk(binder, node->as.macro.call, bind_name);
    case NODE_FILTER_BLOCK:
      return bind_block(binder, node);
    case NODE_WITH:
    case NODE_GENERATION:
      return bind_with(binder, node);
    default:
      return true;
  }
}

static bool bind_body(Binder *binder, Node *body) {
  for (Node *node = body; node; node = node->next)
    if (!bind_statement(binder, node)) return false;
  return true;
}

bool scope_bind(Template *template, Error *error) {
  size_t names = (size_t) template->name_count + 1;
  Binder binder = {.template = template, .error = error};
  binder.innermost = heap_alloc(template->heap, names * sizeof *binder.innermost, error);
  template->context = heap_alloc(template->heap, names * sizeof *template->context, error);
  if (!binder.innermost || !template->context) return false;
  memset(binder.innermost, 0, names * sizeof *binder.innermost);
  memset(template->context, 0, names * sizeof *template->context);
  return open_scope(&binder, &template->root) && analyse(&binder, template->root.body) &&
         bind_body(&binder, template->root.body) && close_scope(&binder, &template->root.loads);
}
