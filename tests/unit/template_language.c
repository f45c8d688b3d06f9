/* The language of chat templates in small: each construct with the text that it gives. tests/template/ compares with jinja2. */
#include "tests/unit/template_lab.h"

static const char variables[] =
    "{\"x\": 5, \"s\": \"a-b-c\", \"l\": [3, 1, 2], \"d\": {\"b\": 1, \"a\": \"A\", \"items\": 7}, \"none\": "
    "null,"
    " \"messages\": [{\"role\": \"system\", \"content\": \" Be nice. \"}, {\"role\": \"user\", \"content\": "
    "\"Hi\"}]}";

typedef struct Case {
  const char *text, *expected;
} Case;

static void render_all(const Case *cases, size_t count) {
  TemplateLab lab;
  lab_open(&lab, variables);
  for (size_t i = 0; i < count; i++) expect_text(&lab, cases[i].text, cases[i].expected);
  lab_close(&lab);
}

#define RENDER(...)                                  \
  do {                                               \
    static const Case cases[] = {__VA_ARGS__};       \
    render_all(cases, sizeof cases / sizeof *cases); \
  } while (0)

static void space_around_tags(void **state) {
  (void)state;
  RENDER({"a\n", "a"}, {"a\n\n", "a\n"}, {"a\r\nb\rc", "a\nb\nc"},
         {"{% if x %}\nyes\n{% endif %}\nend", "yes\nend"}, {"  {% if x %}a{% endif %}", "a"},
         {"  {%+ if x %}a{% endif +%}\nb", "  a\nb"}, {" {{- x -}}\n b", "5b"}, {"a {# c #}\nb", "a b"},
         {"a\n  {#- c -#}\n b", "ab"}, {"{% raw %} {{ x }} {% endraw %}", " {{ x }} "},
         {"a {%- raw -%} {% {%- endraw %} b", "a{% b"});
}

static void scopes(void **state) {
  (void)state;
  RENDER(
      {"{% if true %}{% set y = 1 %}{% endif %}{{ y }}", "1"},
      {"{% for i in l %}{% set x = i %}{% endfor %}{{ x }}", "5"},
      {"{% for i in l %}{{ y }}{% set y = i %}{% endfor %}", ""},
      {"{% set ns = namespace(n=0) %}{% for i in l %}{% set ns.n = ns.n + i %}{% endfor %}{{ ns.n }}", "6"},
      {"{% macro m() %}{{ g }}{{ i }}{% endmacro %}{% set g = 1 %}{% for i in l %}{{ m() }}{% endfor %}",
       "111"},
      {"{% with a = 1, b = x %}{{ a + b }}{% endwith %}{{ a }}", "6"},
      {"{% set t | upper %}a{{ x }}b{% endset %}{{ t }}", "A5B"},
      {"{% set a, b = 1, [2, 3] %}{{ b[1] }}{{ a }}", "31"});
}

static void loops(void **state) {
  (void)state;
  RENDER(
      {"{% for i in l %}{{ loop.index }}/{{ loop.length }}{{ loop.revindex0 }}{{ ',' if not loop.last }}{% "
       "endfor %}",
       "1/32,2/31,3/30"},
      {"{% for i in l if i > 1 %}{{ i }}{{ loop.last }}{% else %}none{% endfor %}", "3False2True"},
      {"{% for i in [] %}{{ i }}{% else %}none{% endfor %}", "none"},
      {"{% for i in range(9) %}{% if i == 2 %}{% continue %}{% elif i == 5 %}{% break %}{% endif %}{{ i }}{% "
       "endfor %}",
       "0134"},
      {"{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}", "b=1;a=A;items=7;"},
      {"{% for i in l %}{{ loop.previtem }}{{ i }}{{ loop.nextitem }}{{ loop.cycle('x', 'y') }} {% endfor %}",
       "31x 312y 12x "},
      {"{% for i in [1, [2, [3]]] recursive %}{{ i if i is number else loop(i) ~ loop.depth }}{% endfor %}",
       "12321"},
      {"{% for i in l recursive %}{{ i }}{% endfor %}", "312"});
}

static void macros(void **state) {
  (void)state;
  RENDER(
      {"{% macro m(a, b=a) %}{{ a }}{{ b }}{% endmacro %}{{ m(1) }}{{ m(b=2, a=3) }}", "1132"},
      {"{% macro m() %}[{{ caller(1) }}]{% endmacro %}{% call(n) m() %}{{ n }}{{ x }}{% endcall %}", "[15]"},
      {"{% macro m() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, z=2) }}", "(1,){'z': 2}"},
      {"{% macro m(n) %}{{ n }}{% if n %}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(3) }}", "3210"});
}

static void expressions(void **state) {
  (void)state;
  RENDER(
      {"{{ 7 // 2 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 7 / 2 }} {{ 2 ** 3 }} {{ 1e16 }} {{ 0.1 + 0.2 }}",
       "3 -4 2 3.5 8 1e+16 0.30000000000000004"},
      {"{{ 'a' ~ 1 ~ none }} {{ 'ab' * 2 }} {{ [1] + [2] }} {{ (1,) }} {{ 'a' 'b' }}",
       "a1None abab [1, 2] (1,) ab"},
      {"{{ 1 < 2 < 3 }} {{ 1 in l }} {{ 'z' not in s }} {{ not x }} {{ 1 if false }}|",
       "True True True False |"},
      {"{{ l[::-1] }} {{ s[-3:] }} {{ 'é€😀'[1] }} {{ l[9] }}|", "[2, 1, 3] b-c € |"},
      {"{{ d.a }} {{ d['items'] }} {{ d.items is callable }} {{ d.nope }}|", "A 7 True |"},
      {"{{ {'a': [1, none, true]} }} {{ \"it's\" ~ ['it\\'s'] }}", "{'a': [1, None, True]} it's[\"it's\"]"},
      {"{{ '%s %5.2f|%-3d|' % ('a', 2.345, 7) }} {{ '{0} {k!r:>4} {0}'.format(1, k='q') }}",
       "a  2.35|7  | 1  'q' 1"},
      {"{{ strftime_now('%d %b %Y %H:%M:%S') }}", "29 Feb 2024 13:05:09"});
}

static void filters_and_tests(void **state) {
  (void)state;
  RENDER(
      {"{{ d | tojson }} {{ [1] | tojson(indent=1) }} {{ '<é\\n>' | tojson }}",
       "{\"b\": 1, \"a\": \"A\", \"items\": 7} [\n 1\n] \"<é\\n>\""},
      {"{{ l | sort }} {{ l | max }} {{ l | sum }} {{ d | dictsort | first }} {{ ['b', 'B'] | unique | list "
       "}}",
       "[1, 2, 3] 3 6 ('a', 'A') ['b']"},
      {"{{ messages | map(attribute='role') | join(',') }} {{ messages | rejectattr('role', 'eq', 'user') | "
       "list | length }}",
       "system,user 1"},
      {"{% if messages | selectattr('role', 'eq', 'tool') %}a generator is true{% endif %}",
       "a generator is true"},
      {"{{ ' é ' | trim }}{{ nope | default('q') }}{{ '' | d('w', true) }}{{ '3.7' | int }}{{ 2.5 | round }}",
       "éqw32.0"},
      {"{{ 'a\nb' | indent(2) }} {{ 'stra\u00dfe' | upper }} {{ 'a-b c' | title }}", "a\n  b STRASSE A-B C"},
      {"{{ x is defined }}{{ y is undefined }}{{ l is sequence }}{{ d is mapping }}{{ 4 is even }}{{ s is "
       "string }}",
       "TrueTrueTrueTrueTrueTrue"});
}

int main(void) {
  const struct CMUnitTest all[] = {
      cmocka_unit_test(space_around_tags),
      cmocka_unit_test(scopes),
      cmocka_unit_test(loops),
      cmocka_unit_test(macros),
      cmocka_unit_test(expressions),
      cmocka_unit_test(filters_and_tests),
  };
  return cmocka_run_group_tests(all, NULL, NULL);
}
