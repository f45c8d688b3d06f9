/* Templates that were written to hang or exhaust whoever renders them: each ends soon, within its memory, with an error. */
#include "template/template.h"

// clang-format off
#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>
// clang-format on

#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

enum {
  MIB = 1 << 20,
  HEAP = 32 * MIB,
  BUILT = 64 * MIB, /* what a parsed template takes */
  SECONDS = 20      /* under sanitizers; else half a second */
};

/* A tenth of template_limits, so that it takes a tenth of the time. */
static const TemplateLimits limits = {.steps = 2000000, .depth = 200, .output = 8 * MIB};

typedef struct World {
  ValueHeap *heap;
  TemplateText text;
  Buffer source;
} World;

static int set_up(void **state) {
  static World world;
  Error error = {0};
  world.heap = value_heap_open(HEAP, &error);
  *state = &world;
  return world.heap ? 0 : -1;
}

static int tear_down(void **state) {
  World *world = *state;
  value_heap_close(world->heap);
  template_text_free(&world->text);
  buffer_free(&world->source);
  return 0;
}

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time); /* others may be at work */
  return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static long resident_most(void) { /* bytes */
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss * 1024;
}

/* Whether it was rendered; in any case soon, and in memory that is a small multiple of heap and output. */
static bool render(World *world, const char *source, size_t size, Error *error) {
  double begin = now();
  long before = resident_most();
  bool good = false;
  *error = (Error){0};
  value_heap_clear(world->heap);
  Template *template = template_parse(source, size, "hostile", error);
  if (template) {
    json_t *json =
        json_pack("{s:[{s:s,s:s}], s:n}", "messages", "role", "user", "content", "0123456789", "tools");
    Value variables;
    good = value_json(world->heap, json, true, &variables, error) &&
           template_render(template, world->heap, variables, 0, &limits, &world->text, error);
    json_decref(json);
  }
  template_free(template);
  double taken = now() - begin;
  if (taken > SECONDS) fail_msg("%.0f s: %.60s", taken, source);
  assert_true(resident_most() - before < 3l * (HEAP + (long)limits.output) + BUILT);
  if (!good && error->code != ERROR_DATA && error->code != ERROR_MODEL) {
    fail_msg("%.60s: code %d, %s", source, error->code, error->message);
  }
  return good;
}

static void what_has_no_end_is_ended(void **state) {
  static const char *const table[] = {
      /* loops */
      "{% for i in range(1000000000) %}{% endfor %}",
      "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
      "{% for i in range(9999) %}{% for j in range(9999) %}{% for k in range(9999) %}x{% endfor %}{% endfor "
      "%}{% endfor %}",
      "{% set ns = namespace(l=[1]) %}{% for i in range(99999) %}{% set ns.l = ns.l + ns.l %}{% endfor %}",
      "{% for i in range(99999999) if false %}{% endfor %}",
      "{{ range(999999999999) | list | length }}",
      "{{ range(99999999) | map('string') | join }}",
      "{{ range(99999999) | sum }}",
      "{{ range(99999999) | select('odd') | list | length }}",
      "{{ (range(99999999) | list)[::-1] | first }}",
      "{{ range(99999999) | sort | first }}",
      "{% for i in range(3000) %}{{ range(30000) | list | tojson }}{% endfor %}",
      /* strings that double */
      "{% set ns = namespace(x='xx') %}{% for i in range(99) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}{{ "
      "ns.x }}",
      "{% set ns = namespace(x='xx') %}{% for i in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
      "{% set ns = namespace(x='xx') %}{% for i in range(99) %}{% set ns.x = ns.x.replace('x', ns.x) %}{% "
      "endfor %}",
      "{% set ns = namespace(x='xx') %}{% for i in range(99) %}{% set ns.x = ns.x | replace('x', "
      "'xxxxxxxxxx') %}{% endfor %}",
      "{% set ns = namespace(x='xx') %}{% for i in range(99) %}{% set ns.x = [ns.x, ns.x] | join(ns.x) %}{% "
      "endfor %}",
      "{% set ns = namespace(x='xx') %}{% for i in range(99) %}{% set ns.x = ns.x.join([ns.x, ns.x, ns.x]) "
      "%}{% endfor %}",
      "{% set ns = namespace(x='xx') %}{% for i in range(99) %}{% set ns.x = '%s%s' % (ns.x, ns.x) %}{% "
      "endfor %}",
      "{% set ns = namespace(x='xx') %}{% for i in range(99) %}{% set ns.x = '{0}{0}'.format(ns.x) %}{% "
      "endfor %}",
      "{% set ns = namespace(x='\"') %}{% for i in range(99) %}{% set ns.x = ns.x | tojson %}{% endfor %}{{ "
      "ns.x }}",
      "{% set ns = namespace(x='xx') %}{% for i in range(99) %}{% set ns.x %}{{ ns.x }}{{ ns.x }}{% endset "
      "%}{% endfor %}",
      "{% macro m(x) %}{{ x }}{{ x }}{% endmacro %}{% set ns = namespace(x='x') %}{% for i in range(99) %}{% "
      "set ns.x = m(ns.x) %}{% endfor %}",
      "{{ 'x' * 99999999999 }}",
      "{{ messages[0].content * 999999999 }}",
      "{{ [0] * 99999999999 }}",
      "{{ 'x' * 9223372036854775807 }}",
      "{{ ('x' * 1000000).replace('x', 'y' * 1000000) }}",
      "{{ ('x' * 1000000) | replace('', 'y' * 1000000) }}",
      "{% for i in range(100000) %}{{ 'x' * 100000 }}{% endfor %}",
      "{% for i in range(100000) %}{% set x = 'x' * 1000000 %}{% endfor %}",
      "{% for i in range(100000) %}{% set x = ('x' * 1000000).upper() %}{% endfor %}",
      "{% for i in range(100000) %}{% set x = ('xy' * 100000).split('y') %}{% endfor %}",
      "{% for i in range(100000) %}{% set x = 'z' in 'y' * 1000000 %}{% endfor %}",
      "{% set a = ('x' * 300000) %}{% set b = 'x' * 150000 ~ 'y' %}{% for i in range(9999) %}{{ b in a }}{{ "
      "a.count(b) }}{{ a.find(b) }}{% endfor %}",
      /* widths */
      "{{ '%999999999999d' % 1 }}",
      "{{ '%999999999s' % 'x' }}",
      "{{ '%.999999999f' % 1.5 }}",
      "{{ '{:999999999999}'.format('x') }}",
      "{{ '{:>999999999}'.format('x') }}",
      "{{ '{:.999999999f}'.format(1.5) }}",
      "{{ 'x'.center(99999999999) }}",
      "{{ 'x'.ljust(99999999999) }}",
      "{{ '1'.zfill(99999999999) }}",
      "{{ 'a\\nb' | indent(99999999999) }}",
      "{{ [1, [2]] | tojson(indent=99999999999) }}",
      "{{ ('\\t' * 1000).expandtabs(99999999) }}",
      /* calls without end */
      "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
      "{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}{{ a() }}{% endmacro %}{{ a() }}",
      "{% macro m(n) %}{{ m(n + 1) }}{{ m(n + 1) }}{% endmacro %}{{ m(0) }}",
      "{% macro m() %}{% call m() %}{{ caller() }}{% endcall %}{% endmacro %}{{ m() }}",
      "{% macro m() %}{{ caller() }}{% endmacro %}{% call m() %}{% call m() %}{{ 1 / 0 }}{% endcall %}{% "
      "endcall %}",
      "{% macro m(n) %}{% for i in range(10) %}{{ m(n) if n > 0 }}{% endfor %}{% endmacro %}{{ m(1) }}",
      "{% macro m(n) %}{% if n > 0 %}{% for i in range(10) %}{{ m(n - 1) }}{% endfor %}{% endif %}{% "
      "endmacro %}{{ m(50) }}",
      "{% for i in [[[[]]]] recursive %}{{ loop([i]) }}{% endfor %}",
      /* values within each other, and through themselves */
      "{% set ns = namespace(x=[]) %}{% for i in range(99999) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x "
      "}}",
      "{% set ns = namespace(x=[]) %}{% for i in range(99999) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x | "
      "tojson }}",
      "{% set ns = namespace(x={}) %}{% for i in range(99999) %}{% set ns.x = {'a': ns.x} %}{% endfor %}{{ "
      "ns.x == ns.x }}{{ ns.x | tojson }}",
      "{% set ns = namespace(x=[], y=[]) %}{% for i in range(99999) %}{% set ns.x = [ns.x] %}{% set ns.y = "
      "[ns.y] %}{% endfor %}{{ ns.x == ns.y }}{{ ns.x < ns.y }}{{ [ns.x, ns.y] | sort }}{{ ns.x | string }}",
      "{% set ns = namespace(x=[1]) %}{% for i in range(99) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ "
      "ns.x | tojson }}",
      "{% set ns = namespace(x=[1]) %}{% for i in range(99) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ "
      "ns.x | string | length }}",
      "{% set ns = namespace(x=[1], y=[1]) %}{% for i in range(99) %}{% set ns.x = [ns.x, ns.x] %}{% set "
      "ns.y = [ns.y, ns.y] %}{% endfor %}{{ ns.x == ns.y }}{{ ns.x }}",
      "{% set ns = namespace(x='') %}{% for i in range(99999) %}{% set ns.x = ns.x ~ "
      "'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx' %}{% endfor %}{{ ns.x }}",
      /* numbers */
      "{{ 2 ** 99999999999 }}",
      "{{ 9 ** 9 ** 9 ** 9 }}",
      "{{ 9223372036854775807 + 1 }}",
      "{{ 9223372036854775807 * 9223372036854775807 }}",
      "{{ (-9223372036854775807 - 1) // -1 }}",
      "{{ -(-9223372036854775807 - 1) }}",
      "{{ (-9223372036854775807 - 1) | abs }}",
  };
  World *world = *state;
  for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
    Error error;
    if (render(world, table[i], strlen(table[i]), &error)) {
      fail_msg("rendered to %zu bytes: %s", world->text.text.size, table[i]);
    }
  }
}

/* begin, then `times` times piece, then middle, then `times` times back. */
static const Buffer *nested(World *world, const char *begin, const char *piece, const char *middle,
                            const char *back, int times) {
  Error error = {0};
  bool good = true;
  buffer_clear(&world->source);
  good = buffer_text(&world->source, begin, &error);
  for (int i = 0; i < times && good; i++) good = buffer_text(&world->source, piece, &error);
  good = good && buffer_text(&world->source, middle, &error);
  for (int i = 0; i < times && good; i++) good = buffer_text(&world->source, back, &error);
  assert_true(good);
  return &world->source;
}

/* Depth that a person writes is fine; a hundred thousand is an error, or is rendered where it needs no depth. */
static void what_is_nested_without_measure_does_no_harm(void **state) {
  static const struct {
    const char *begin, *piece, *middle, *back;
    bool fine; /* ten times */
  } table[] = {
      {"{{ ", "(", "1", ")", true},
      {"{{ ", "[", "1", "]", true},
      {"{{ ", "{1:", "1", "}", false},
      {"{{ ", "not ", "1", "", true},
      {"{{ ", "- ", "1", "", true},
      {"{{ ", "-", "1", "", true},
      {"{{ 1", "", "", " + 1", true},
      {"{{ 1", "", "", " ~ 1", true},
      {"{{ 1", "", "", " and 1", true},
      {"{{ 1", "", "", " or 1", true},
      {"{{ 1", "", "", " < 1", true},
      {"{{ 2", "", "", " ** 1", true},
      {"{{ x", "", "", ".x", false},
      {"{{ x", "", "", "[0]", false},
      {"{{ x", "", "", "()", false},
      {"{{ 'x'", "", "", " | upper", true},
      {"{{ 'x'", "", "", " is string", false},
      {"{{ 1", "", "", " if 1 else 2", true},
      {"{{ x", "[x", "", "]", false},
      {"{{ x", "(x", "", ")", false},
      {"{{ 'a' ", "", "", " 'a'", true},
      {"{% set ", "(a, ", "b", ")", false},
      {"", "{% if 1 %}", "x", "{% endif %}", false},
      {"", "{% for i in [1] %}", "x", "{% endfor %}", false},
      {"{% if 0 %}", "", "", "{% elif 0 %}", false},
      {"", "{% set x %}", "x", "{% endset %}", false},
      {"", "{% macro m() %}", "x", "{% endmacro %}", false},
      {"", "{% call m() %}", "x", "{% endcall %}", false},
      {"", "{% generation %}", "x", "{% endgeneration %}", false},
      {"", "{% filter upper %}", "x", "{% endfilter %}", false},
      {"", "{{", "", "}}", false},
      {"", "{#", "", "#}", false},
      {"", "{% raw %}", "", "{% endraw %}", false},
      {"", "{% macro m(a, b) %}{{ a }}{% endmacro %}{{ m(", "1", ") }}", false},
  };
  World *world = *state;
  for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
    for (int times = 10; times <= 100000; times *= 100) {
      const Buffer *source =
          nested(world, table[i].begin, table[i].piece, table[i].middle, table[i].back, times);
      Error error;
      render(world, source->data, source->size, &error);
      if (strncmp(source->data, "{{ ", 3) == 0) {
        assert_true(buffer_text(&world->source, " }}", &error));
        bool good = render(world, world->source.data, world->source.size, &error);
        if (times == 10 && table[i].fine && !good) fail_msg("%s: %s", world->source.data, error.message);
      }
    }
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(what_has_no_end_is_ended),
      cmocka_unit_test(what_is_nested_without_measure_does_no_harm),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
