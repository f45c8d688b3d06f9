/* Renders cases with the room template/ and compares each byte with what jinja2 made of the same (tests/fixtures/make_templates.py, random.py,
 * real.py).
 *
 *     run_cases [--each] FILE...        # FILE.json, or FILE.jsonl with one case a line
 *
 * A file: {"now": seconds, "templates": {NAME: SOURCE}, "inputs": {NAME: VARIABLES}, "cases": [...]}, all but the cases optional.
 * A case: "template" names one of the templates, or "source" is one; "input" and "variables" likewise. What is expected:
 *     "text"         the rendering
 *     "error"        the words of raise_exception, or true where jinja2 raises something of its own
 *     "prompt"       with add_generation_prompt it is the text and this; "prompt_text", "prompt_error" where it is something else
 *     "generations"  [[begin, end], ...] in bytes: what stood in {% generation %}
 *
 * Every rendering is also asked where its text came from: the strings are lent as tracked, and what is said to be an exact copy
 * must be one. Where there are messages, each is rendered once more with its letters replaced by characters that occur only once, so that
 * each of them in the rendering shows by itself which byte of which message it was.
 *
 * Exit code 1 when anything differs. --each: a line for every template. */
#include "base/file.h"
#include "base/json.h"
#include "template/template.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct Tally {
  int equal, different, refused; /* cases; refused: the template was not parsed though jinja2 takes it */
} Tally;

typedef struct Runner {
  const char *file;
  const json_t *templates, *inputs;
  int64_t now;
  ValueHeap *heap;
  TemplateText text;
  Template *template; /* of `source` */
  const char *source;
  Error parse_error;
  Tally tally;
  char name[256]; /* of the case, for messages */
} Runner;

enum { SHOWN = 40, UNIQUE_FIRST = 0xF0000, UNIQUE_LAST = 0x10FFFD };

static void show_bytes(const char *title, const char *text, size_t size, size_t place) {
  size_t begin = place > SHOWN ? place - SHOWN : 0, end = place + SHOWN < size ? place + SHOWN : size;
  printf("  %s: %s", title, begin > 0 ? "..." : "");
  for (size_t i = begin; i < end; i++) {
    if (i == place) printf(">>>");
    if (text[i] == '\n') {
      printf("\\n");
    } else {
      putchar(text[i]);
    }
  }
  printf("%s%s\n", place >= size ? ">>>(end)" : "", end < size ? "..." : "");
}

static bool differs(Runner *runner, const char *what) {
  if (runner->tally.different++ < SHOWN) printf("%s: %s: %s\n", runner->file, runner->name, what);
  return false;
}

static bool same_text(Runner *runner, const char *expected, size_t size) {
  const Buffer *got = &runner->text.text;
  size_t place = 0;
  while (place < size && place < got->size && expected[place] == got->data[place]) place++;
  if (place == size && place == got->size) return true;
  char what[64];
  snprintf(what, sizeof what, "differs at byte %zu", place);
  differs(runner, what);
  if (runner->tally.different <= SHOWN) {
    show_bytes("expected", expected, size, place);
    show_bytes("found   ", got->data ? got->data : "", got->size, place);
  }
  return false;
}

/* What the origins say of the last rendering holds: they ascend, and exact ones are what they were copied from. */
static bool origins_hold(Runner *runner) {
  const TemplateText *text = &runner->text;
  size_t end = 0;
  for (size_t i = 0; i < text->origin_count; i++) {
    const TemplateOrigin *origin = &text->origins[i];
    if (origin->begin < end || origin->end <= origin->begin || origin->end > text->text.size) {
      char what[96];
      snprintf(what, sizeof what, "origins do not ascend: [%zu, %zu) after %zu of %zu", origin->begin,
               origin->end, end, text->text.size);
      return differs(runner, what);
    }
    end = origin->end;
    if (origin->exact && (origin->bytes != origin->end - origin->begin ||
                          memcmp(text->text.data + origin->begin, origin->from, origin->bytes) != 0)) {
      return differs(runner, "an exact origin is another text");
    }
  }
  return true;
}

static bool same_generations(Runner *runner, const json_t *expected) {
  bool same = json_array_size(expected) == runner->text.generation_count;
  for (size_t i = 0; same && i < runner->text.generation_count; i++) {
    const json_t *stretch = json_array_get(expected, i);
    same = (size_t)json_integer_value(json_array_get(stretch, 0)) == runner->text.generations[i].begin &&
           (size_t)json_integer_value(json_array_get(stretch, 1)) == runner->text.generations[i].end;
  }
  return same || differs(runner, "the stretches of generation differ");
}

static bool render(Runner *runner, const json_t *variables, Error *error) {
  Value values;
  value_heap_clear(runner->heap);
  return value_json(runner->heap, variables, true, &values, error) &&
         template_render(runner->template, runner->heap, values, runner->now, &template_limits, &runner->text,
                         error);
}

/* expected: a string, or true for an error of jinja2's own. */
static bool same_error(Runner *runner, const json_t *expected, const Error *error) {
  static const char said[] = "the chat template refuses: ";
  char what[1200];
  if (error->code != ERROR_DATA && error->code != ERROR_MODEL) {
    snprintf(what, sizeof what, "an error of code %d: %s", error->code, error->message);
    return differs(runner, what);
  }
  if (!json_is_string(expected)) return true;
  const char *found = strstr(error->message, said);
  if (found && strcmp(found + sizeof said - 1, json_string_value(expected)) == 0) return true;
  snprintf(what, sizeof what, "other words: %s", error->message);
  differs(runner, what);
  if (runner->tally.different <= SHOWN) printf("  expected: %s\n", json_string_value(expected));
  return false;
}

static bool check(Runner *runner, const json_t *variables, const json_t *text, const char *more,
                  const json_t *refusal) {
  Error error = {0};
  if (!runner->template) {
    if (refusal) return same_error(runner, refusal, &runner->parse_error);
    if (runner->tally.refused++ < SHOWN) {
      printf("%s: %s: refused: %s\n", runner->file, runner->name, runner->parse_error.message);
    }
    return false;
  }
  if (!render(runner, variables, &error)) {
    if (refusal) return same_error(runner, refusal, &error);
    char what[1200];
    snprintf(what, sizeof what, "an error, where jinja2 renders: %s", error.message);
    return differs(runner, what);
  }
  if (refusal) {
    differs(runner, "rendered, where jinja2 raises");
    show_bytes("found   ", runner->text.text.data ? runner->text.text.data : "", runner->text.text.size, 0);
    return false;
  }
  Buffer expected = {0};
  bool good = buffer_append(&expected, json_string_value(text), json_string_length(text), &error) &&
              buffer_text(&expected, more, &error) && same_text(runner, expected.data, expected.size) &&
              origins_hold(runner);
  buffer_free(&expected);
  return good;
}

/* Texts of messages whose letters are characters that occur only once. */
typedef struct Unique {
  char **texts; /* of json strings, which do not move */
  size_t text_count;
  const char *places[UNIQUE_LAST - UNIQUE_FIRST + 1];
  int count;
} Unique;

static json_t *unique_string(Unique *unique, const json_t *string) {
  const char *text = json_string_value(string);
  size_t size = json_string_length(string);
  Buffer out = {0};
  Error error = {0};
  bool good = buffer_text(&out, "", &error);
  int first = unique->count;
  for (size_t i = 0; good && i < size; i++) {
    bool tag = strchr("<>/|[]{}", text[i]) != NULL;
    static const char *const kept[] = {"think", "img", "image"}; /* what templates look for in a text */
    for (size_t k = 0; k < sizeof kept / sizeof *kept && !tag; k++) {
      size_t length = strlen(kept[k]);
      if (strncmp(text + i, kept[k], length) == 0) {
        good = buffer_append(&out, text + i, length, &error);
        i += length - 1;
        tag = true;
        break;
      }
    }
    char c = text[i];
    bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    if (letter && !tag && unique->count <= UNIQUE_LAST - UNIQUE_FIRST) {
      unsigned code = UNIQUE_FIRST + (unsigned)unique->count++;
      char bytes[4] = {(char)(0xF0 | code >> 18), (char)(0x80 | (code >> 12 & 63)),
                       (char)(0x80 | (code >> 6 & 63)), (char)(0x80 | (code & 63))};
      good = buffer_append(&out, bytes, 4, &error);
    } else if (!(tag && letter)) {
      good = buffer_append(&out, &c, 1, &error);
    }
  }
  json_t *result = good ? json_stringn(out.data, out.size) : NULL;
  if (result) { /* the places are in the json string, which stays where it is */
    const char *at = json_string_value(result);
    size_t length = json_string_length(result);
    for (size_t i = 0; i + 3 < length && first < unique->count; i++) {
      if ((unsigned char)at[i] >= 0xF3) unique->places[first++] = at + i;
    }
  }
  buffer_free(&out);
  return result;
}

/* A copy in which strings under "content" and "reasoning_content" are unique. */
static json_t *unique_copy(Unique *unique, const json_t *value, bool text) {
  if (json_is_object(value)) {
    json_t *copy = json_object();
    const char *key;
    json_t *member;
    json_object_foreach((json_t *)value, key, member) {
      bool said = strcmp(key, "content") == 0 || strcmp(key, "reasoning_content") == 0 ||
                  (text && strcmp(key, "text") == 0);
      json_object_set_new(copy, key, unique_copy(unique, member, said));
    }
    return copy;
  }
  if (json_is_array(value)) {
    json_t *copy = json_array();
    for (size_t i = 0; i < json_array_size(value); i++) {
      const json_t *item = json_array_get(value, i);
      json_array_append_new(copy, unique_copy(unique, item, text && !json_is_string(item)));
    }
    return copy;
  }
  return text && json_is_string(value) ? unique_string(unique, value) : json_deep_copy(value);
}

static int unique_code(const unsigned char *text) {
  return (text[0] & 7) << 18 | (text[1] & 63) << 12 | (text[2] & 63) << 6 | (text[3] & 63);
}

/* Each unique character of the rendering has an origin, the one that it shows. */
static bool unique_found(Runner *runner, const Unique *unique) {
  const TemplateText *text = &runner->text;
  const TemplateOrigin *origin = text->origins, *end = text->origins + text->origin_count;
  for (size_t i = 0; i + 3 < text->text.size; i++) {
    const unsigned char *at = (const unsigned char *)text->text.data + i;
    if (at[0] < 0xF3 || unique_code(at) < UNIQUE_FIRST || unique_code(at) >= UNIQUE_FIRST + unique->count)
      continue;
    const char *from = unique->places[unique_code(at) - UNIQUE_FIRST];
    while (origin < end && origin->end <= i) origin++;
    bool found = origin < end && origin->begin <= i && from >= origin->from &&
                 from < origin->from + origin->bytes &&
                 (!origin->exact || from == origin->from + (i - origin->begin));
    if (!found) {
      differs(runner, "a character of a message has no origin, or not its own");
      if (runner->tally.different <= SHOWN) show_bytes("found   ", text->text.data, text->text.size, i);
      return false;
    }
  }
  return true;
}

static bool check_unique(Runner *runner, const json_t *variables) {
  if (!runner->template || !json_is_array(json_object_get(variables, "messages"))) return true;
  Unique *unique = memory_zeroed(1, sizeof *unique);
  json_t *copy = json_copy((json_t *)variables);
  ASSERT(unique && copy);
  json_object_set_new(copy, "messages", unique_copy(unique, json_object_get(variables, "messages"), false));
  Error error = {0};
  bool good = !render(runner, copy, &error) || (origins_hold(runner) && unique_found(runner, unique));
  json_decref(copy);
  memory_free(unique);
  return good;
}

static bool check_plain(Runner *runner, const json_t *variables, const json_t *this) {
  const json_t *generations = json_object_get(this, "generations");
  return check(runner, variables, json_object_get(this, "text"), "", json_object_get(this, "error")) &&
         (!generations || same_generations(runner, generations)) && check_unique(runner, variables);
}

static bool check_case(Runner *runner, const json_t *variables, const json_t *this) {
  const json_t *prompt = json_object_get(this, "prompt"), *other = json_object_get(this, "prompt_text"),
               *refusal = json_object_get(this, "prompt_error");
  if (!prompt && !other && !refusal) return check_plain(runner, variables, this);
  json_t *given = json_copy((json_t *)variables);
  json_object_set_new(given, "add_generation_prompt", json_false());
  bool good = check_plain(runner, given, this);
  if (good) {
    size_t length = strlen(runner->name);
    snprintf(runner->name + length, sizeof runner->name - length, " + prompt");
    json_object_set_new(given, "add_generation_prompt", json_true());
    good = check(runner, given, other ? other : json_object_get(this, "text"),
                 prompt ? json_string_value(prompt) : "", refusal);
  }
  json_decref(given);
  return good;
}

static const char *text_of(const json_t *object, const char *key, const char *otherwise) {
  const json_t *value = json_object_get(object, key);
  return json_is_string(value) ? json_string_value(value) : otherwise;
}

static void run_case(Runner *runner, const json_t *this, size_t index) {
  const char *template = text_of(this, "template", NULL), *input = text_of(this, "input", NULL);
  const char *source = template ? text_of(runner->templates, template, NULL) : text_of(this, "source", NULL);
  const json_t *variables =
      input ? json_object_get(runner->inputs, input) : json_object_get(this, "variables");
  ASSERT(source && json_is_object(variables));
  snprintf(runner->name, sizeof runner->name, "%zu: %s / %s", index + 1,
           template ? template : text_of(this, "name", source), input ? input : "");
  if (runner->source != source) {
    template_free(runner->template);
    runner->parse_error = (Error){0};
    runner->template =
        template_parse(source, strlen(source), template ? template : "template", &runner->parse_error);
    runner->source = source;
  }
  if (check_case(runner, variables, this)) runner->tally.equal++;
}

static void show_tally(const char *name, Tally now, Tally before) {
  printf("%s: %d equal, %d different, %d refused\n", name, now.equal - before.equal,
         now.different - before.different, now.refused - before.refused);
}

static json_t *parse_or_die(const char *file, const char *text, size_t size) {
  json_error_t problem;
  json_t *value = json_parse(text, size, json_limit_record, JSON_ALLOW_NUL, &problem);
  if (!value) {
    printf("%s: %s\n", file, problem.text);
    exit(2);
  }
  return value;
}

static void run_lines(Runner *runner, const Buffer *text) {
  size_t index = 0;
  for (const char *line = text->data, *end = text->data + text->size; line < end;) {
    const char *stop = memchr(line, '\n', (size_t)(end - line));
    if (!stop) stop = end;
    json_t *this = parse_or_die(runner->file, line, (size_t)(stop - line));
    run_case(runner, this, index++);
    json_decref(this);
    runner->source = NULL;
    line = stop + 1;
  }
}

static void run_file(Runner *runner, bool each) {
  Error error = {0};
  Buffer text = {0};
  if (!file_read(runner->file, &text, &error)) {
    printf("%s\n", error.message);
    exit(2);
  }
  size_t length = strlen(runner->file);
  Tally before = runner->tally;
  if (length > 6 && strcmp(runner->file + length - 6, ".jsonl") == 0) {
    run_lines(runner, &text);
  } else {
    json_t *root = parse_or_die(runner->file, text.data, text.size);
    const json_t *cases = json_object_get(root, "cases");
    runner->templates = json_object_get(root, "templates");
    runner->inputs = json_object_get(root, "inputs");
    runner->now = json_integer_value(json_object_get(root, "now"));
    Tally template_before = before;
    for (size_t i = 0; i < json_array_size(cases); i++) {
      run_case(runner, json_array_get(cases, i), i);
      const char *this = text_of(json_array_get(cases, i), "template", "");
      if (each && strcmp(this, text_of(json_array_get(cases, i + 1), "template", "")) != 0) {
        show_tally(this, runner->tally, template_before);
        template_before = runner->tally;
      }
    }
    json_decref(root);
  }
  runner->source = NULL;
  buffer_free(&text);
  show_tally(runner->file, runner->tally, before);
}

int main(int count, char **arguments) {
  Error error = {0};
  Runner runner = {.heap = value_heap_open(256u << 20, &error)};
  ASSERT(runner.heap);
  bool each = false;
  int files = 0;
  for (int i = 1; i < count; i++) {
    if (strcmp(arguments[i], "--each") == 0) {
      each = true;
      continue;
    }
    runner.file = arguments[i];
    run_file(&runner, each);
    files++;
  }
  template_free(runner.template);
  template_text_free(&runner.text);
  value_heap_close(runner.heap);
  if (files == 0) printf("usage: run_cases [--each] FILE...\n");
  return files == 0 ? 2 : runner.tally.different || runner.tally.refused;
}
