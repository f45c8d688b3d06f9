/* The syntax tree of a template, on the template's own heap. */
#ifndef TEMPLATE_TREE_H
#define TEMPLATE_TREE_H

#include "template/values.h"

typedef struct Node Node;
typedef struct Builtin Builtin; /* builtin.h */

typedef enum NodeKind {
  /* statements */
  NODE_TEXT,
  NODE_PRINT,
  NODE_SET,
  NODE_SET_BLOCK,
  NODE_IF,
  NODE_FOR,
  NODE_MACRO,
  NODE_CALL_BLOCK,
  NODE_FILTER_BLOCK,
  NODE_WITH,
  NODE_GENERATION,
  NODE_BREAK,
  NODE_CONTINUE,
  /* expressions */
  NODE_CONST,
  NODE_NAME,
  NODE_FIELD, /* a namespace's, to be set */
  NODE_LIST,
  NODE_TUPLE,
  NODE_DICT,
  NODE_ATTRIBUTE,
  NODE_ITEM,
  NODE_SLICE,
  NODE_CALL,
  NODE_FILTER,
  NODE_TEST,
  NODE_NOT,
  NODE_NEGATE,
  NODE_PLUS,
  NODE_AND,
  NODE_OR,
  NODE_ARITHMETIC,
  NODE_COMPARE,
  NODE_CONCAT,
  NODE_CONDITION
} NodeKind;

typedef enum Operator {
  OP_ADD,
  OP_SUB,
  OP_MUL,
  OP_DIV,
  OP_FLOORDIV,
  OP_MOD,
  OP_POW,
  OP_EQ,
  OP_NE,
  OP_LT,
  OP_LTEQ,
  OP_GT,
  OP_GTEQ,
  OP_IN,
  OP_NOT_IN
} Operator;

/* Where a variable is: so many functions (macros) outwards, in that slot. */
typedef struct Place {
  int hops, slot;
} Place;

/* What a scope does with one of its variables when it is entered (scope.h). */
typedef enum LoadAction { LOAD_RESOLVE, LOAD_ALIAS, LOAD_MISSING } LoadAction;

typedef struct Load {
  LoadAction action;
  int slot;
  int name;    /* LOAD_RESOLVE: number of the name */
  Place outer; /* LOAD_ALIAS */
} Load;

typedef struct Loads {
  Load *items;
  size_t count;
} Loads;

/* A macro, the body of a {% call %}, a recursive loop, or the template itself: what has slots of its own. */
typedef struct Function {
  Value name; /* none: of a {% call %} */
  int slot_count;
  Node *parameters; /* names, with defaults: parameter->as.name.fallback */
  size_t parameter_count;
  int caller_slot, kwargs_slot, varargs_slot; /* -1: not asked for */
  Node *body;
  Loads loads;
} Function;

typedef struct Keyword {
  Value name;
  Node *value;
  struct Keyword *next;
} Keyword;

typedef struct Arguments {
  Node *positional;
  size_t count;
  Keyword *keywords;
  size_t keyword_count;
  Node *spread, *spread_keywords; /* *x, **x */
} Arguments;

/* Lists of nodes are chained by `next`. depth: of the tree below, at least 1. */
struct Node {
  NodeKind kind;
  int line, column, depth;
  Node *next;
  union {
    Value value; /* NODE_TEXT, NODE_CONST */
    struct {
      Node *expression; /* NODE_PRINT, NODE_NOT, NODE_NEGATE, NODE_PLUS */
    } one;
    struct {
      Node *left, *right; /* NODE_AND, NODE_OR, NODE_ARITHMETIC */
      Operator op;
    } two;
    struct {
      int number; /* of the name in the template */
      Place place;
      Value undefined; /* what it is when nothing has this name */
      Node *fallback;  /* a parameter's default, or NULL */
    } name;
    struct {
      Node *name;
      Value field;
    } field;
    struct {
      Node *first; /* NODE_LIST, NODE_TUPLE, NODE_CONCAT; NODE_DICT: keys and values in turn */
      size_t count;
    } items;
    struct {
      Node *object;
      Value name;
    } attribute;
    struct {
      Node *object, *index;
    } item;
    struct {
      Node *object, *start, *stop, *step; /* each may be NULL but the object */
    } slice;
    struct {
      Node *callee;
      Arguments arguments;
    } call;
    struct {
      Node *operand; /* NULL: what a block wrote */
      const Builtin *builtin;
      Arguments arguments;
    } apply; /* NODE_FILTER, NODE_TEST */
    struct {
      Node *first;
      struct Comparison *rest;
    } compare;
    struct {
      Node *test, *then, *otherwise; /* otherwise: may be NULL */
      const char *hint;              /* of the undefined that stands for it then */
    } condition;
    struct {
      Node *target, *value; /* NODE_SET */
    } set;
    struct {
      Node *target, *filter, *body; /* NODE_SET_BLOCK, NODE_FILTER_BLOCK (no target) */
      Loads loads;
    } block;
    struct {
      struct Branch *branches;
      Node *otherwise;
    } branch;
    struct {
      Node *target, *iterable, *body, *otherwise;
      Node *test, *test_target; /* for ... if */
      bool extended;            /* `loop` is asked for */
      int loop_slot;
      Loads body_loads, test_loads, else_loads;
      Function *function; /* of a recursive loop */
    } loop;
    struct {
      Function *function;
      Node *call; /* NODE_MACRO: the variable that holds it; NODE_CALL_BLOCK: what is called */
    } macro;
    struct {
      Node *targets, *values, *body; /* NODE_WITH; NODE_GENERATION: a body alone */
      Loads loads;
    } with;
  } as;
};

typedef struct Comparison {
  Operator op;
  Node *right;
  struct Comparison *next;
} Comparison;

typedef struct Branch {
  Node *test, *body;
  struct Branch *next;
} Branch;

/* Both for templates that strangers wrote: beyond them is an error with its place. */
enum { MAX_TREE_DEPTH = 200, MAX_TEMPLATE_BYTES = 4 << 20 };

struct Template {
  char *name;
  ValueHeap *heap; /* of the tree and its constants */
  Function root;
  ValueDict *names; /* name -> its number */
  int name_count;
  bool *context;   /* by number: whether it is read from the caller's variables */
  bool generation; /* has {% generation %} */
};

#endif
