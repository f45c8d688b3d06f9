/* Pickles of plain values: Python's protocols 2 to 5 without anything that runs.
 *
 * A pickle is a program for a stack machine, and Python's own reader calls whatever it names. This one knows the opcodes that lists,
 * dictionaries, numbers and text need; names of Python (globals), calls and persistent ids are the reader's to judge (PickleRules), and
 * everything else is refused: ERROR_MODEL "PATH: ... at byte N ...", with the opcode or the global by name. Nothing is recursive, and memory is
 * at most `limit`, so nesting, cycles and counts of any size end as any other error.
 *
 * Reference: Lib/pickletools.py, the list of opcodes. */
#ifndef FORMATS_PICKLE_H
#define FORMATS_PICKLE_H

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

typedef enum PickleKind {
  PICKLE_NONE,
  PICKLE_BOOL,
  PICKLE_INT,
  PICKLE_FLOAT,
  PICKLE_TEXT,
  PICKLE_TUPLE,
  PICKLE_LIST,
  PICKLE_DICT,
  PICKLE_GLOBAL,
  PICKLE_OBJECT /* made by a rule */
} PickleKind;

typedef struct PickleValue PickleValue;
struct PickleValue {
  PickleKind kind;
  union {
    int64_t integer; /* BOOL, INT; of a GLOBAL its number, of an OBJECT what it is */
    double number;
    size_t count; /* TEXT: bytes; TUPLE, LIST: items; DICT: keys and values, 2 each */
  };
  union {
    const char *text;    /* in the pickle, without a NUL at its end */
    PickleValue **items; /* DICT: key, value, key, value ... in the order of the file */
    void *object;
  };
  size_t capacity;
};

const char *pickle_kind_name(const PickleValue *value); /* "a tuple" */
bool pickle_text_is(const PickleValue *value, const char *text);
/* The value of a key in a dictionary; NULL when there is none, or it is no dictionary. */
const PickleValue *pickle_member(const PickleValue *dict, const char *key);

/* Memory of values, given back at once. */
typedef struct PicklePool {
  struct PickleBlock *blocks;
  size_t used, limit; /* bytes of all blocks */
} PicklePool;

/* Zeroed, aligned for anything; NULL with an error when the limit or memory is reached. */
void *pickle_alloc(PicklePool *pool, size_t bytes, Error *error);
void pickle_pool_free(PicklePool *pool);

typedef struct PickleRules {
  /* The number (>= 0) of a global, or -1: it is refused by name. Neither text ends with a NUL. */
  int (*global)(const char *module, size_t module_bytes, const char *name, size_t name_bytes);
  /* What calling it gives; NULL with an error, before which the place is put. */
  PickleValue *(*call)(void *context, int global, const PickleValue *arguments, Error *error);
  PickleValue *(*persistent)(void *context, const PickleValue *id, Error *error);
  void *context;
} PickleRules;

/* One pickle at the beginning of `data`; `used` becomes its length. The value lives in the pool, its texts in `data`. `path` is for
 * messages. NULL after an error. */
PickleValue *pickle_read(PicklePool *pool, const PickleRules *rules, const char *path, const uint8_t *data,
                         size_t size, size_t *used, Error *error);

#endif
