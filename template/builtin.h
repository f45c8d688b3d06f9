/* Filters, tests, methods and functions: what they are called, what they take, and what runs. */
#ifndef TEMPLATE_BUILTIN_H
#define TEMPLATE_BUILTIN_H

#include "template/run.h"

/* An argument that was not given is value_missing(). */
typedef bool BuiltinFunction(Run *run, Value self, const Value *arguments, Value *out);
/* For what takes any arguments. */
typedef bool VariadicFunction(Run *run, Value self, const CallArguments *arguments, Value *out);

enum { MAX_PARAMETERS = 6 };

struct Builtin {
  const char *name;
  const char
      *parameters; /* names with spaces between; "?name" may be left out, "/name" may not be given by name */
  BuiltinFunction *function;
  VariadicFunction *variadic; /* instead of function; neither: known to jinja2, refused here */
};

typedef struct BuiltinTable {
  const Builtin *items;
  size_t count;
} BuiltinTable;

extern const BuiltinTable filters_table, tests_table; /* filters.c, tests.c */

const Builtin *builtin_find(BuiltinTable table, const char *name, size_t size);
NODISCARD bool builtin_call(Run *run, const Builtin *builtin, Value self, const CallArguments *arguments,
                            Value *out);

#endif
