/* What templates are refused for, with the place; what they must not do while running; memory that runs out. */
#include "tests/unit/template_lab.h"

typedef struct Refusal {
  const char *text, *message;
} Refusal;

static void refuse_all(const Refusal *cases, size_t count, ErrorCode code) {
  TemplateLab lab;
  lab_open(&lab, "{\"x\": 5, \"d\": {}, \"l\": [1]}");
  for (size_t i = 0; i < count; i++) expect_error(&lab, cases[i].text, code, cases[i].message);
  lab_close(&lab);
}

static void broken_templates_at_load(void **state) {
  (void)state;
  static const Refusal cases[] = {
      {"a\n {{ x | nope }}", "t:2:9: No filter named 'nope'."},
      {"{{ x is nope }}", "t:1:9: No test named 'nope'."},
      {"{{ l | random }}", "t:1:8: the filter 'random' is not supported"},
      {"{% do x %}", "t:1:4: Encountered unknown tag 'do'."},
      {"{% include 'x' %}", "t:1:4: the tag 'include' is not supported"},
      {"{% if x %}\n{% foo %}",
       "t:2:4: Encountered unknown tag 'foo'. The innermost block that needs to be closed is 'if'."},
      {"{% for x in l %}",
       "t:1:17: Unexpected end of template. The innermost block that needs to be closed is 'for'."},
      {"{{ x", "t:1:5: unexpected end of template, expected 'end of print statement'"},
      {"{{ (x] }}", "t:1:6: unexpected ']', expected ')'"},
      {"{{ x ! }}", "t:1:6: unexpected char '!'"},
      {"{{ 99999999999999999999 }}", "t:1:4: a whole number of more than 64 bits"},
      {"{# a", "t:1:3: Missing end of comment tag"},
      {"{% raw %}a", "t:1:10: Missing end of raw directive"},
      {"{% break %}", "t:1:4: 'break' outside loop"},
      {"{% for i in l %}{% macro m() %}{% break %}{% endmacro %}{% endfor %}",
       "t:1:35: 'break' outside loop"},
      {"{% set 1 = 2 %}", "t:1:8: can't assign to 'integer'"},
      {"{% for i in l %}{% set loop = 1 %}{% endfor %}",
       "t:1:24: Can't assign to special loop variable in for-loop target"},
  };
  refuse_all(cases, sizeof cases / sizeof *cases, ERROR_MODEL);
}

static void failures_while_rendering(void **state) {
  (void)state;
  static const Refusal cases[] = {
      {"{{ raise_exception('no ' ~ x) }}", "the chat template refuses: no 5"},
      {"a\n{{ y.z }}", "t:2: 'y' is undefined"},
      {"{{ d.a.b }}", "t:1: 'dict object' has no attribute 'a'"},
      {"{{ l[3].b }}", "t:1: list object has no element 3"},
      {"{{ 1 + 'a' }}", "t:1: unsupported operand type(s) for +: 'int' and 'str'"},
      {"{{ 1 < 'a' }}", "t:1: '<' not supported between instances of 'int' and 'str'"},
      {"{{ x() }}", "t:1: 'int' object is not callable"},
      {"{{ l.append(2) }}", "t:1: access to attribute 'append' of 'list' object is unsafe."},
      {"{% set a, b = l %}", "t:1: not enough values to unpack (expected 2, got 1)"},
      {"{% set d.x = 1 %}", "t:1: cannot assign attribute on non-namespace object"},
      {"{{ 'a'.encode() }}", "t:1: 'encode' is not supported"},
      {"{{ l | map('upper') }}",
       "t:1: a 'generator' object has no text that would be the same twice (|list makes one that has)"},
      {"{{ 9223372036854775807 + 1 }}", "t:1: a whole number gets too large: more than 64 bits"},
      {"{{ d | tojson(x=1) }}", "t:1: tojson() got an unexpected keyword argument 'x'"},
  };
  refuse_all(cases, sizeof cases / sizeof *cases, ERROR_DATA);
}

static void limits_are_named(void **state) {
  (void)state;
  TemplateLab lab;
  lab_open(&lab, "{\"x\": 5}");
  lab.limits = (TemplateLimits){.steps = 100000, .depth = 20, .output = 10000};
  static const Refusal cases[] = {
      {"{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
       "t:1: the chat template takes too long: more than 100000 steps"},
      {"{{ 'ab' * 999999999999 }}", "t:1: the text gets too long: more than 10000 bytes"},
      {"{{ 'a'.center(999999999999) }}", "t:1: the text gets too long: more than 10000 bytes"},
      {"{{ '%999999s' % 1 }}", "t:1: the text gets too long: more than 10000 bytes"},
      {"{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
       "t:1: macros call each other too deeply: more than 20 calls within each other"},
      {"{% set ns = namespace(l=[]) %}{% for i in range(999) %}{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l }}",
       "t:1: nested too deeply: more than 160 expressions and blocks within each other"},
      {"{{ range(999999) }}",
       "t:1: Range too big. The sandbox blocks ranges larger than MAX_RANGE (100000)."},
      {"{% set a = 'a' * 5000 %}{{ a.strip('b' * 4999 ~ 'a') }}",
       "t:1: the chat template takes too long: more than 100000 steps"},
      {"{{ ('a' * 9000).rfind('b' ~ 'a' * 4500) }}",
       "t:1: the chat template takes too long: more than 100000 steps"},
      {"{{ [1] * 99999999999999 }}", "t:1: the chat template takes too long: more than 100000 steps"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
    expect_error(&lab, cases[i].text, ERROR_DATA, cases[i].message);
  char deep[2000] = "{{ ";
  for (int i = 0; i < 300; i++) strcat(deep, "not ");
  strcat(deep, "x }}");
  assert_false(lab_render(&lab, deep));
  assert_non_null(strstr(lab.error.message, "nested more than 200 deep"));
  lab_close(&lab);
}

/* Every allocation fails once: an error of memory, and nothing is lost (the sanitizer's part). */
static void failing_allocations(void **state) {
  (void)state;
  static const char text[] =
      "{% macro m(a, b=2) %}{{ a }}{{ caller() }}{% endmacro %}{% set ns = namespace(t='') %}"
      "{% for w in content.split() if w %}{% set ns.t = ns.t + w | upper %}{% call m(w) %}x{% endcall %}{% "
      "endfor %}"
      "{% generation %}{{ [ns.t, {'a': content}] | tojson(indent=2) }}{% endgeneration %}";
  json_error_t problem;
  json_t *json = json_loads("{\"content\": \"one two three\"}", 0, &problem);
  bool done = false;
  for (long count = 0; !done; count++) {
    assert_true(count < 200);
    Error error = {0};
    TemplateText out = {0};
    Value variables;
    memory_fail_after(count);
    Template *template = template_parse(text, sizeof text - 1, "t", &error);
    ValueHeap *heap = template ? value_heap_open(1 << 20, &error) : NULL;
    done = heap && value_json(heap, json, true, &variables, &error) &&
           template_render(template, heap, variables, 0, &template_limits, &out, &error);
    memory_fail_after(-1);
    if (!done) assert_int_equal(error.code, ERROR_MEMORY);
    template_free(template);
    value_heap_close(heap);
    template_text_free(&out);
  }
  json_decref(json);
}

int main(void) {
  const struct CMUnitTest all[] = {
      cmocka_unit_test(broken_templates_at_load),
      cmocka_unit_test(failures_while_rendering),
      cmocka_unit_test(limits_are_named),
      cmocka_unit_test(failing_allocations),
  };
  return cmocka_run_group_tests(all, NULL, NULL);
}
