/* Where the text of a rendering came from: through every operation on strings, and which of it stood in {% generation %}. */
#include "tests/unit/template_lab.h"

#include <stdio.h>

/* Stretches that came from `content`: "begin-end<from+bytes" with "~" where they were changed. */
static void expect_origins(TemplateLab *lab, const char *text, const char *rendered, const char *origins) {
  expect_text(lab, text, rendered);
  const char *content = json_string_value(json_object_get(lab->variables, "content"));
  size_t size = strlen(content);
  char found[400] = "";
  for (size_t i = 0, used = 0; i < lab->out.origin_count; i++) {
    const TemplateOrigin *origin = &lab->out.origins[i];
    if (origin->from < content || origin->from > content + size) continue;
    if (origin->exact) {
      assert_int_equal(origin->end - origin->begin, origin->bytes);
      assert_memory_equal(lab->out.text.data + origin->begin, origin->from, origin->bytes);
    }
    used += (size_t)snprintf(found + used, sizeof found - used, "%s%zu-%zu<%zu+%zu%s", used ? " " : "",
                             origin->begin, origin->end, (size_t)(origin->from - content), origin->bytes,
                             origin->exact ? "" : "~");
  }
  if (strcmp(found, origins) != 0) fail_msg("%s: expected \"%s\", got \"%s\"", text, origins, found);
}

static void through_operations(void **state) {
  (void)state;
  TemplateLab lab;
  lab_open(&lab, "{\"content\": \" Hi, <you>\\n\", \"other\": \"zz\"}"); /* 11 bytes */
  static const char *const cases[][3] = {
      {"{{ content }}", " Hi, <you>\n", "0-11<0+11"},
      {"a{{ content }}b{{ content }}", "a Hi, <you>\nb Hi, <you>\n", "1-12<0+11 13-24<0+11"},
      {"{{ content | trim }}", "Hi, <you>", "0-9<1+9"},
      {"{{ content[1:3] }}{{ content[3:6] }}", "Hi, <", "0-5<1+5"},
      {"{{ '[' + content.strip() ~ ']' }}", "[Hi, <you>]", "1-10<1+9"},
      {"{{ content.split(',')[0] }}", " Hi", "0-3<0+3"},
      {"{{ content.split() | join('+') }}", "Hi,+<you>", "0-3<1+3 4-9<5+5"},
      {"{{ content | replace('Hi', 'Ho') }}", " Ho, <you>\n", "0-1<0+1 3-11<3+8"},
      {"{{ content | upper }}", " HI, <YOU>\n", "0-11<0+11~"},
      {"{{ other | lower }}{{ content | tojson }}", "zz\" Hi, <you>\\n\"", "3-13<0+10 13-15<10+1~"},
      {"{{ content | e }}", " Hi, &lt;you&gt;\n", "0-5<0+5 5-9<5+1~ 9-12<6+3 12-16<9+1~ 16-17<10+1"},
      {"{% set t %}<{{ content }}>{% endset %}{{ t[1:-1] }}", " Hi, <you>\n", "0-11<0+11"},
      {"{% macro m(c) %}({{ c }}){% endmacro %}{{ m(content | trim) }}", "(Hi, <you>)", "1-10<1+9"},
      {"{% filter trim %}{{ content }}{% endfilter %}", "Hi, <you>", "0-9<1+9"},
      {"{{ 'x%sy' % content }}{{ [content] }}", "x Hi, <you>\ny[' Hi, <you>\\n']",
       "1-12<0+11 15-25<0+10 25-27<10+1~"},
      {"{{ '{}'.format(content) }}{{ content[::-1][:2] }}", " Hi, <you>\n\n>",
       "0-11<0+11 11-12<10+1 12-13<9+1"},
      {"{% if 'Hi' in content %}{{ content | length }}{% endif %}", "11", ""},
      {"{% set ns = namespace(t='') %}{% for c in content %}{% set ns.t = ns.t + c %}{% endfor %}{{ ns.t }}",
       " Hi, <you>\n", "0-11<0+11"},
      {"{{ content | indent(2) }}{{ content.splitlines()[0] }}", " Hi, <you>\n Hi, <you>",
       "0-10<0+10 11-21<0+10"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
    expect_origins(&lab, cases[i][0], cases[i][1], cases[i][2]);
  lab_close(&lab);
}

static void keys_have_none(void **state) {
  (void)state;
  TemplateLab lab;
  lab_open(&lab, "{\"content\": {\"key\": 1}}");
  expect_text(&lab, "{% for k in content %}{{ k }}{% endfor %}", "key");
  assert_int_equal(lab.out.origin_count, 0);
  lab_close(&lab);
}

static void expect_generations(TemplateLab *lab, const char *text, const char *rendered,
                               const char *stretches) {
  expect_text(lab, text, rendered);
  char found[200] = "";
  for (size_t i = 0, used = 0; i < lab->out.generation_count; i++)
    used += (size_t)snprintf(found + used, sizeof found - used, "%s%zu-%zu", used ? " " : "",
                             lab->out.generations[i].begin, lab->out.generations[i].end);
  if (strcmp(found, stretches) != 0) fail_msg("%s: expected \"%s\", got \"%s\"", text, stretches, found);
}

static void generation_blocks(void **state) {
  (void)state;
  TemplateLab lab;
  lab_open(&lab, "{\"m\": [\"ab\", \"c\"]}");
  expect_generations(&lab, "x{% generation %}y{{ m[0] }}z{% endgeneration %}w", "xyabzw", "1-5");
  expect_generations(&lab, "{% for t in m %}<{% generation %}{{ t }}.{% endgeneration %}>{% endfor %}",
                     "<ab.><c.>", "1-4 6-8");
  expect_generations(
      &lab,
      "{% macro a(t) %}({% generation %}{{ t }}{% endgeneration %}){% endmacro %}-{{ a(m[0]) }}{{ a(m[1]) }}",
      "-(ab)(c)", "2-4 6-7");
  expect_generations(&lab, "{% generation %}{% endgeneration %}q", "q", "");
  Error error = {0};
  Template *template =
      template_parse("{{ tools }}{% for x in y %}{% set z = x %}{% endfor %}", 54, "t", &error);
  assert_non_null(template);
  assert_false(template_has_generation(template));
  assert_true(template_reads(template, "tools"));
  assert_true(template_reads(template, "y"));
  assert_false(template_reads(template, "x"));
  assert_false(template_reads(template, "z"));
  char other[64];
  assert_true(template_reads_other(template, (const char *[]){"tools", NULL}, other));
  assert_string_equal(other, "y");
  assert_false(template_reads_other(template, (const char *[]){"y", "more", "tools", NULL}, other));
  template_free(template);
  const char *functions = "{{ range(3) | length }}{% set n = namespace(a=tools) %}{{ n.a }}{{ loop }}";
  template = template_parse(functions, strlen(functions), "t", &error);
  assert_non_null(template);
  assert_true(template_reads_other(template, (const char *[]){"tools", NULL}, other)); /* outside of a loop */
  assert_string_equal(other, "loop");
  assert_false(template_reads_other(template, (const char *[]){"tools", "loop", NULL}, other));
  template_free(template);
  lab_close(&lab);
}

int main(void) {
  const struct CMUnitTest all[] = {
      cmocka_unit_test(through_operations),
      cmocka_unit_test(keys_have_none),
      cmocka_unit_test(generation_blocks),
  };
  return cmocka_run_group_tests(all, NULL, NULL);
}
