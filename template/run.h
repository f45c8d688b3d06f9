/* One rendering: what it may still use, what it has written, and the operations of the language on values. Each may fail with an error
 * of the form "NAME:LINE: ...", its words those of Python or jinja2, or with one that names a limit. */
#ifndef TEMPLATE_RUN_H
#define TEMPLATE_RUN_H

#include "template/template.h"
#include "template/tree.h"

/* The variables of one call of a function; `outer` is where the function was made. */
typedef struct Frame {
  struct Frame *outer;
  Value slots[];
} Frame;

typedef struct Run {
  const Template *template;
  ValueHeap *heap;
  Error *error;
  TemplateLimits limits;
  int64_t steps; /* that are left */
  int depth;     /* of evaluations within each other */
  int calls;     /* of macros within each other */
  int64_t now;
  Buffer *text; /* what is written, and behind it what is being put together (text.h) */
  SpanArray *spans;
  size_t barrier; /* the last mark in the text, across which no span reaches */
  Frame *frame;
  const Value *context; /* by number of the name: what the caller, or else the language, calls so */
  int line;             /* that is being run, for messages */
} Run;

typedef struct KeywordValue {
  Value name, value;
} KeywordValue;

typedef struct CallArguments {
  const Value *positional;
  size_t count;
  const KeywordValue *keywords;
  size_t keyword_count;
} CallArguments;

/* run.c. Always false, as the compiler can see. */
#define run_fail(...) (run_set_error(__VA_ARGS__), false)
void run_set_error(Run *run, const char *format, ...) PRINTF_LIKE(2, 3);
/* With the reason why an undefined value is none. */
bool run_fail_undefined(Run *run, Value undefined);
bool run_fail_steps(Run *run);
NODISCARD bool run_deepen(Run *run); /* run->depth one more */
static inline bool run_step(Run *run) {
  return --run->steps >= 0 || run_fail_steps(run);
}
/* Work on so many bytes or items. */
static inline bool run_charge(Run *run, size_t bytes) {
  run->steps -= (int64_t)(bytes / 64);
  return run->steps >= 0 || run_fail_steps(run);
}
NODISCARD bool run_undefined(Run *run, const char *hint, Value object, Value name, Value *out);
void *run_alloc(Run *run, size_t bytes);

/* compare.c */
bool value_is_true(Value value);
NODISCARD bool values_equal(Run *run, Value left, Value right, bool *out);
/* left < right, as Python's sorting asks. op names the operator in messages. */
NODISCARD bool values_order(Run *run, Operator op, Value left, Value right, bool *out);
NODISCARD bool value_contains(Run *run, Value container, Value item, bool *out);
NODISCARD bool values_compare(Run *run, Operator op, Value left, Value right, bool *out);
NODISCARD bool value_key(Run *run, Value key); /* that it can be one: "unhashable type: 'list'" */

/* arithmetic.c */
NODISCARD bool values_operate(Run *run, Operator op, Value left, Value right, Value *out);
NODISCARD bool value_negate(Run *run, Value value, Value *out);
NODISCARD bool value_plus(Run *run, Value value, Value *out);

/* print.c: str() and repr(), appended to the text that is being put together. */
NODISCARD bool print_value(Run *run, Value value);
NODISCARD bool print_repr(Run *run, Value value);
NODISCARD bool value_to_string(Run *run, Value value, Value *out); /* str(); a string is itself */

/* attribute.c */
NODISCARD bool value_attribute(Run *run, Value object, Value name, Value *out);     /* object.name */
NODISCARD bool value_own_attribute(Run *run, Value object, Value name, Value *out); /* object|attr(name) */
NODISCARD bool value_item(Run *run, Value object, Value index, Value *out);         /* object[index] */
NODISCARD bool value_slice(Run *run, Value object, Value start, Value stop, Value step, Value *out);
NODISCARD bool value_length(Run *run, Value value, size_t *out); /* "object of type 'int' has no len()" */
bool value_has_length(Value value, size_t *out);

/* call.c */
Frame *frame_new(Run *run, const Function *function, Frame *outer); /* NULL: out of memory */
NODISCARD bool run_enter_call(Run *run);                            /* run->calls one more */
NODISCARD bool value_call(Run *run, Value callee, const CallArguments *arguments, Value *out);
NODISCARD bool function_call(Run *run, const Function *function, Frame *outer, const CallArguments *arguments,
                             Value *out);

/* evaluate.c */
NODISCARD bool evaluate(Run *run, const Node *node, Value *out);
/* operand: what a filter of a block is applied to. */
NODISCARD bool evaluate_block_filter(Run *run, const Node *filter, Value operand, Value *out);

NODISCARD bool evaluate_call_block(Run *run, const Node *call, Value caller, Value *out);

/* execute.c */
typedef enum Flow { FLOW_FAILED, FLOW_ON, FLOW_BREAK, FLOW_CONTINUE } Flow;
Flow execute(Run *run, const Node *body);
void frame_load(Run *run, const Loads *loads);
/* loop.c */
Flow execute_loop(Run *run, const Node *node);
NODISCARD bool loop_recurse(Run *run, const Node *node, Frame *outer, Value iterable, int depth, Value *out);
NODISCARD bool assign(Run *run, const Node *target, Value value);

#endif
