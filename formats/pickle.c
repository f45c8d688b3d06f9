#include "formats/pickle.h"

#include "base/memory.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* ---- memory ---- */

typedef struct PickleBlock {
  struct PickleBlock *next;
  size_t used, size;
  max_align_t data[];
} PickleBlock;

enum { BLOCK = 1 << 16 };

void *pickle_alloc(PicklePool *pool, size_t bytes, Error *error) {
  const size_t align = sizeof(max_align_t);
  PickleBlock *block = pool->blocks;
  if (bytes <= pool->limit)
    bytes = (bytes + align - 1) / align * align; /* or it is refused, and nothing overflows */
  if (!block || bytes > block->size - block->used) {
    const size_t size = bytes > BLOCK ? bytes : BLOCK;
    if (size > pool->limit - pool->used) {
      error_set(error, ERROR_MODEL, "its values take more than %zu MB", pool->limit >> 20);
      return NULL;
    }
    block = memory_zeroed(1, sizeof *block + size);
    if (!block) {
      error_out_of_memory(error, "values of a pickle", size);
      return NULL;
    }
    block->size = size;
    block->next = pool->blocks;
    pool->blocks = block;
    pool->used += size;
  }
  void *memory = (char *)block->data + block->used;
  block->used += bytes;
  return memory;
}

void pickle_pool_free(PicklePool *pool) {
  while (pool->blocks) {
    PickleBlock *block = pool->blocks;
    pool->blocks = block->next;
    memory_free(block);
  }
  pool->used = 0;
}

/* ---- values ---- */

const char *pickle_kind_name(const PickleValue *value) {
  static const char *const names[] = {
      "None",    "a boolean", "an integer", "a number", "a text",
      "a tuple", "a list",    "a dict",     "a global", "a tensor or storage"};
  return names[value->kind];
}

bool pickle_text_is(const PickleValue *value, const char *text) {
  return value->kind == PICKLE_TEXT && value->count == strlen(text) &&
         memcmp(value->text, text, value->count) == 0;
}

const PickleValue *pickle_member(const PickleValue *dict, const char *key) {
  if (dict->kind != PICKLE_DICT) return NULL;
  for (size_t i = dict->count; i >= 2; i -= 2) /* of two the later one counts */
    if (pickle_text_is(dict->items[i - 2], key)) return dict->items[i - 1];
  return NULL;
}

/* A growable array of values, in the pool: what is outgrown stays there, at most as much again. */
typedef struct Values {
  PickleValue **items;
  size_t count, capacity;
} Values;

typedef struct Machine {
  PicklePool *pool;
  const PickleRules *rules;
  const char *path;
  const uint8_t *data, *at, *end;
  size_t opcode_at; /* of the opcode that is being done */
  Values stack, memo;
  Values marks; /* heights of the stack, as integers */
  Error *error;
} Machine;

static bool fail(const Machine *m, const char *format, ...) PRINTF_LIKE(2, 3);

static bool fail(const Machine *m, const char *format, ...) {
  char text[512];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  return error_set(m->error, ERROR_MODEL, "%s: pickle at byte %zu: %s", m->path, m->opcode_at, text);
}

/* The error of a rule or of the pool, with its place. */
static bool fail_below(const Machine *m, Error *below) {
  if (below->code == ERROR_MODEL) return fail(m, "%s", below->message);
  return error_set(m->error, below->code, "%s", below->message);
}

static void *take(const Machine *m, size_t bytes) {
  Error below = {0};
  void *memory = pickle_alloc(m->pool, bytes, &below);
  if (!memory) fail_below(m, &below);
  return memory;
}

static bool reserve(const Machine *m, PickleValue ***items, size_t count, size_t *capacity, size_t more) {
  if (more <= *capacity - count) return true;
  const size_t wanted = (count + more) * 2 < 8 ? 8 : (count + more) * 2;
  PickleValue **grown = take(m, wanted * sizeof *grown);
  if (!grown) return false;
  if (count) memcpy(grown, *items, count * sizeof *grown);
  *items = grown;
  *capacity = wanted;
  return true;
}

static bool push(Machine *m, PickleValue *value) {
  Values *stack = &m->stack;
  if (!value || !reserve(m, &stack->items, stack->count, &stack->capacity, 1)) return false;
  stack->items[stack->count++] = value;
  return true;
}

static PickleValue *new_value(const Machine *m, PickleKind kind) {
  PickleValue *value = take(m, sizeof *value);
  if (value) value->kind = kind;
  return value;
}

/* ---- the stack ---- */

/* How many values lie above the last mark, or on the stack where there is none. */
static size_t above_mark(const Machine *m) {
  const size_t floor = m->marks.count ? (size_t)m->marks.items[m->marks.count - 1]->integer : 0;
  return m->stack.count - floor;
}

/* The value on top, or NULL: opcodes reach no value below the last mark, as in Python. */
static PickleValue *pop(Machine *m) {
  if (above_mark(m) > 0) return m->stack.items[--m->stack.count];
  fail(m, "the stack is empty");
  return NULL;
}

static PickleValue *top(const Machine *m) {
  if (above_mark(m) > 0) return m->stack.items[m->stack.count - 1];
  fail(m, "the stack is empty");
  return NULL;
}

static bool set_mark(Machine *m, int unused) {
  (void)unused;
  PickleValue *height = new_value(m, PICKLE_INT);
  if (!height || !reserve(m, &m->marks.items, m->marks.count, &m->marks.capacity, 1)) return false;
  height->integer = (int64_t)m->stack.count;
  m->marks.items[m->marks.count++] = height;
  return true;
}

/* Takes the values above the last mark off, and the mark; they stay where they are until the next push. */
static bool pop_mark(Machine *m, PickleValue ***items, size_t *count) {
  if (m->marks.count == 0) return fail(m, "no mark is set");
  *count = above_mark(m);
  m->stack.count -= *count;
  *items = m->stack.items ? m->stack.items + m->stack.count : NULL;
  m->marks.count--;
  return true;
}

/* ---- operands ---- */

static const uint8_t *operand(Machine *m, size_t bytes) {
  if (bytes > (size_t)(m->end - m->at)) {
    fail(m, "truncated");
    return NULL;
  }
  const uint8_t *from = m->at;
  m->at += bytes;
  return from;
}

/* A little-endian number of at most 8 bytes. */
static bool operand_number(Machine *m, size_t bytes, uint64_t *out) {
  const uint8_t *from = operand(m, bytes);
  *out = 0;
  if (!from) return false;
  for (size_t i = bytes; i-- > 0;) *out = *out << 8 | from[i];
  return true;
}

/* The text up to the end of the line. */
static bool operand_line(Machine *m, const char **text, size_t *bytes) {
  const uint8_t *end = m->at < m->end ? memchr(m->at, '\n', (size_t)(m->end - m->at)) : NULL;
  if (!end) return fail(m, "truncated");
  *text = (const char *)m->at;
  *bytes = (size_t)(end - m->at);
  m->at = end + 1;
  return true;
}

/* ---- opcodes ---- */

static bool push_int(Machine *m, PickleKind kind, int64_t integer) {
  PickleValue *value = new_value(m, kind);
  if (value) value->integer = integer;
  return push(m, value);
}

static bool push_unsigned(Machine *m, int bytes) {
  uint64_t number;
  return operand_number(m, (size_t)bytes, &number) && push_int(m, PICKLE_INT, (int64_t)number);
}

/* LONG1: any number of bytes, two's complement; what fits in 64 bits. */
static bool push_long(Machine *m, int unused) {
  (void)unused;
  uint64_t bytes, number;
  if (!operand_number(m, 1, &bytes)) return false;
  if (bytes > 8) return fail(m, "an integer of more than 64 bits");
  if (!operand_number(m, (size_t)bytes, &number)) return false;
  if (bytes > 0 && bytes < 8 && number >> (8 * bytes - 1)) number |= UINT64_MAX << (8 * bytes);
  return push_int(m, PICKLE_INT, (int64_t)number);
}

static bool push_float(Machine *m, int unused) {
  (void)unused;
  const uint8_t *from = operand(m, 8);
  PickleValue *value = from ? new_value(m, PICKLE_FLOAT) : NULL;
  if (!value) return false;
  uint64_t bits = 0;
  for (int i = 0; i < 8; i++) bits = bits << 8 | from[i]; /* big-endian, alone of all */
  memcpy(&value->number, &bits, sizeof bits);
  return push(m, value);
}

static bool push_text(Machine *m, int length_bytes) {
  uint64_t bytes;
  if (!operand_number(m, (size_t)length_bytes, &bytes)) return false;
  const uint8_t *text = operand(m, bytes > SIZE_MAX ? SIZE_MAX : (size_t)bytes);
  PickleValue *value = text ? new_value(m, PICKLE_TEXT) : NULL;
  if (!value) return false;
  value->text = (const char *)text;
  value->count = (size_t)bytes;
  return push(m, value);
}

static bool push_tuple(Machine *m, PickleValue **items, size_t count) {
  PickleValue *tuple = new_value(m, PICKLE_TUPLE);
  PickleValue **copy = tuple && count ? take(m, count * sizeof *copy) : NULL;
  if (!tuple || (count && !copy)) return false;
  if (count) memcpy(copy, items, count * sizeof *copy);
  tuple->items = copy;
  tuple->count = count;
  return push(m, tuple);
}

static bool small_tuple(Machine *m, int items) {
  const size_t count = (size_t)items;
  if (above_mark(m) < count) return fail(m, "the stack is empty");
  m->stack.count -= count;
  return push_tuple(m, count ? m->stack.items + m->stack.count : NULL, count);
}

static bool marked_tuple(Machine *m, int unused) {
  (void)unused;
  PickleValue **items = NULL;
  size_t count = 0;
  return pop_mark(m, &items, &count) && push_tuple(m, items, count);
}

/* Adds values to the list or dictionary on top. */
static bool extend(Machine *m, PickleKind kind, PickleValue **items, size_t count) {
  PickleValue *onto = top(m);
  if (!onto) return false;
  if (onto->kind != kind)
    return fail(m, "expected %s to add to, found %s", kind == PICKLE_LIST ? "a list" : "a dict",
                pickle_kind_name(onto));
  if (kind == PICKLE_DICT && count % 2 != 0) return fail(m, "a key without a value");
  if (!reserve(m, &onto->items, onto->count, &onto->capacity, count)) return false;
  if (count) memcpy(onto->items + onto->count, items, count * sizeof *items);
  onto->count += count;
  return true;
}

static bool extend_marked(Machine *m, int kind) {
  PickleValue **items = NULL;
  size_t count = 0;
  return pop_mark(m, &items, &count) && extend(m, (PickleKind)kind, items, count);
}

static bool extend_one(Machine *m, int kind) {
  const size_t count = kind == PICKLE_DICT ? 2 : 1;
  if (above_mark(m) < count) return fail(m, "the stack is empty");
  m->stack.count -= count;
  return extend(m, (PickleKind)kind, m->stack.items + m->stack.count, count);
}

/* Numbers of the memo are given out in order, so none is beyond the opcodes so far. */
static bool memo_put(Machine *m, uint64_t index) {
  PickleValue *value = top(m);
  if (!value) return false;
  if (index > m->opcode_at) return fail(m, "memo number %llu", (unsigned long long)index);
  if (index >= m->memo.count) {
    if (!reserve(m, &m->memo.items, m->memo.count, &m->memo.capacity, (size_t)index + 1 - m->memo.count))
      return false;
    m->memo.count = (size_t)index + 1; /* fresh memory of the pool is zeroed */
  }
  m->memo.items[index] = value;
  return true;
}

static bool memo_next(Machine *m, int unused) {
  (void)unused;
  return memo_put(m, m->memo.count);
}

static bool memo_at(Machine *m, int bytes) {
  uint64_t index;
  return operand_number(m, (size_t)bytes, &index) && memo_put(m, index);
}

static bool memo_get(Machine *m, int bytes) {
  uint64_t index;
  if (!operand_number(m, (size_t)bytes, &index)) return false;
  if (index >= m->memo.count || !m->memo.items[index])
    return fail(m, "memo number %llu is not set", (unsigned long long)index);
  return push(m, m->memo.items[index]);
}

static bool push_global(Machine *m, const char *module, size_t module_bytes, const char *name,
                        size_t name_bytes) {
  const int number = m->rules->global(module, module_bytes, name, name_bytes);
  if (number >= 0) return push_int(m, PICKLE_GLOBAL, number);
  return fail(
      m,
      "it names %.*s.%.*s, and only what tensors are made of is taken from a pickle; if you trust the "
      "file, load it in PyTorch and save the weights as safetensors",
      (int)(module_bytes < 100 ? module_bytes : 100), module, (int)(name_bytes < 100 ? name_bytes : 100),
      name);
}

static bool line_global(Machine *m, int unused) {
  (void)unused;
  const char *module = NULL, *name = NULL;
  size_t module_bytes = 0, name_bytes = 0;
  return operand_line(m, &module, &module_bytes) && operand_line(m, &name, &name_bytes) &&
         push_global(m, module, module_bytes, name, name_bytes);
}

static bool stack_global(Machine *m, int unused) {
  (void)unused;
  const PickleValue *name = pop(m), *module = name ? pop(m) : NULL;
  if (!module) return false;
  if (name->kind != PICKLE_TEXT || module->kind != PICKLE_TEXT)
    return fail(m, "expected the name of a global, found %s and %s", pickle_kind_name(module),
                pickle_kind_name(name));
  return push_global(m, module->text, module->count, name->text, name->count);
}

static bool call(Machine *m, int unused) {
  (void)unused;
  const PickleValue *arguments = pop(m), *function = arguments ? pop(m) : NULL;
  if (!function) return false;
  if (function->kind != PICKLE_GLOBAL || arguments->kind != PICKLE_TUPLE)
    return fail(m, "expected a call of a global with a tuple, found %s and %s", pickle_kind_name(function),
                pickle_kind_name(arguments));
  Error below = {0};
  PickleValue *result = m->rules->call(m->rules->context, (int)function->integer, arguments, &below);
  return result ? push(m, result) : fail_below(m, &below);
}

static bool persistent(Machine *m, int unused) {
  (void)unused;
  const PickleValue *id = pop(m);
  Error below = {0};
  if (!id) return false;
  PickleValue *result = m->rules->persistent(m->rules->context, id, &below);
  return result ? push(m, result) : fail_below(m, &below);
}

/* Attributes of a dictionary ("_metadata" of a state_dict) say nothing of its content. */
static bool build(Machine *m, int unused) {
  (void)unused;
  const PickleValue *state = pop(m), *object = state ? top(m) : NULL;
  if (!object) return false;
  if (object->kind == PICKLE_DICT && state->kind == PICKLE_DICT) return true;
  return fail(m, "opcode BUILD (0x62) sets the state of %s", pickle_kind_name(object));
}

static bool push_kind(Machine *m, int kind) {
  return push(m, new_value(m, (PickleKind)kind));
}

static bool push_bool(Machine *m, int value) {
  return push_int(m, PICKLE_BOOL, value);
}

static bool push_signed(Machine *m, int bytes) {
  uint64_t number;
  return operand_number(m, (size_t)bytes, &number) && push_int(m, PICKLE_INT, (int32_t)number);
}

static bool check_protocol(Machine *m, int bytes) {
  uint64_t protocol;
  if (!operand_number(m, (size_t)bytes, &protocol)) return false;
  return (protocol >= 2 && protocol <= 5) || fail(m, "protocol %d, expected 2 to 5", (int)protocol);
}

/* A hint for buffers. */
static bool skip_frame(Machine *m, int bytes) {
  return operand(m, (size_t)bytes) != NULL;
}

/* By the names of pickletools; without `run` they are refused. STOP is done by who runs them. */
static const struct {
  uint8_t code;
  const char *name;
  bool (*run)(Machine *m, int argument);
  int argument; /* bytes of a number or length, items, a kind */
} opcodes[] = {{0x80, "PROTO", check_protocol, 1},
               {0x95, "FRAME", skip_frame, 8},
               {'(', "MARK", set_mark, 0},
               {'N', "NONE", push_kind, PICKLE_NONE},
               {0x88, "NEWTRUE", push_bool, true},
               {0x89, "NEWFALSE", push_bool, false},
               {'K', "BININT1", push_unsigned, 1},
               {'M', "BININT2", push_unsigned, 2},
               {'J', "BININT", push_signed, 4},
               {0x8a, "LONG1", push_long, 0},
               {'G', "BINFLOAT", push_float, 0},
               {'X', "BINUNICODE", push_text, 4},
               {0x8c, "SHORT_BINUNICODE", push_text, 1},
               {0x8d, "BINUNICODE8", push_text, 8},
               {'T', "BINSTRING", push_text, 4}, /* Python 2's text */
               {'U', "SHORT_BINSTRING", push_text, 1},
               {')', "EMPTY_TUPLE", small_tuple, 0},
               {0x85, "TUPLE1", small_tuple, 1},
               {0x86, "TUPLE2", small_tuple, 2},
               {0x87, "TUPLE3", small_tuple, 3},
               {'t', "TUPLE", marked_tuple, 0},
               {']', "EMPTY_LIST", push_kind, PICKLE_LIST},
               {'a', "APPEND", extend_one, PICKLE_LIST},
               {'e', "APPENDS", extend_marked, PICKLE_LIST},
               {'}', "EMPTY_DICT", push_kind, PICKLE_DICT},
               {'s', "SETITEM", extend_one, PICKLE_DICT},
               {'u', "SETITEMS", extend_marked, PICKLE_DICT},
               {'q', "BINPUT", memo_at, 1},
               {'r', "LONG_BINPUT", memo_at, 4},
               {0x94, "MEMOIZE", memo_next, 0},
               {'h', "BINGET", memo_get, 1},
               {'j', "LONG_BINGET", memo_get, 4},
               {'c', "GLOBAL", line_global, 0},
               {0x93, "STACK_GLOBAL", stack_global, 0},
               {'R', "REDUCE", call, 0},
               {'Q', "BINPERSID", persistent, 0},
               {'b', "BUILD", build, 0},
               {.code = 'i', .name = "INST"},
               {.code = 'o', .name = "OBJ"},
               {.code = 0x81, .name = "NEWOBJ"},
               {.code = 0x92, .name = "NEWOBJ_EX"},
               {.code = 'P', .name = "PERSID"},
               {.code = 0x82, .name = "EXT1"},
               {.code = 0x83, .name = "EXT2"},
               {.code = 0x84, .name = "EXT4"},
               {.code = 'F', .name = "FLOAT"},
               {.code = 'I', .name = "INT"},
               {.code = 'L', .name = "LONG"},
               {.code = 0x8b, .name = "LONG4"},
               {.code = 'S', .name = "STRING"},
               {.code = 'V', .name = "UNICODE"},
               {.code = 'B', .name = "BINBYTES"},
               {.code = 'C', .name = "SHORT_BINBYTES"},
               {.code = 0x8e, .name = "BINBYTES8"},
               {.code = 0x96, .name = "BYTEARRAY8"},
               {.code = 0x97, .name = "NEXT_BUFFER"},
               {.code = 0x98, .name = "READONLY_BUFFER"},
               {.code = 'd', .name = "DICT"},
               {.code = 'l', .name = "LIST"},
               {.code = 0x8f, .name = "EMPTY_SET"},
               {.code = 0x90, .name = "ADDITEMS"},
               {.code = 0x91, .name = "FROZENSET"},
               {.code = 'g', .name = "GET"},
               {.code = 'p', .name = "PUT"},
               {.code = '0', .name = "POP"},
               {.code = '1', .name = "POP_MARK"},
               {.code = '2', .name = "DUP"}};

static bool step(Machine *m, uint8_t code) {
  const char *name = "of no known name";
  for (size_t i = 0; i < sizeof opcodes / sizeof *opcodes; i++) {
    if (opcodes[i].code != code) continue;
    if (opcodes[i].run) return opcodes[i].run(m, opcodes[i].argument);
    name = opcodes[i].name;
  }
  return fail(m, "opcode %s (0x%02x) is none that a file of tensors needs", name, code);
}

PickleValue *pickle_read(PicklePool *pool, const PickleRules *rules, const char *path, const uint8_t *data,
                         size_t size, size_t *used, Error *error) {
  Machine m = {.pool = pool,
               .rules = rules,
               .path = path,
               .data = data,
               .at = data,
               .end = data + size,
               .error = error};
  for (;;) {
    m.opcode_at = (size_t)(m.at - data);
    const uint8_t *opcode = operand(&m, 1);
    if (!opcode) return NULL;
    if (*opcode == '.') break; /* STOP */
    if (!step(&m, *opcode)) return NULL;
  }
  *used = (size_t)(m.at - data);
  return pop(&m);
}
