/* What sources of rewards are told of a prompt: its messages, its reference answer, and the record's other keys. */
#include "tests/unit/datasets_world.h"

typedef struct Case {
  const char *line;
  const char *record, *reference;
} Case;

static const Case cases[] = {
    {"{\"prompt\": \"Hi.\"}", "{\"messages\":[{\"role\":\"user\",\"content\":\"Hi.\"}],\"record\":{}}", ""},
    /* The last assistant turn, unless the record says it itself. */
    {"{\"messages\": [{\"role\": \"system\", \"content\": \"Be short.\"}, {\"role\": \"user\", \"content\": "
     "\"Hi.\", \"name\": \"a\"},"
     " {\"role\": \"assistant\", \"content\": \"Bye.\"}], \"id\": 7}",
     "{\"messages\":[{\"role\":\"system\",\"content\":\"Be "
     "short.\"},{\"role\":\"user\",\"content\":\"Hi.\",\"name\":\"a\"}],"
     "\"record\":{\"id\":7}}",
     "Bye."},
    {"{\"prompt\": \"Hi.\", \"completion\": \"Bye.\", \"reference\": \"Hello.\"}",
     "{\"messages\":[{\"role\":\"user\",\"content\":\"Hi.\"}],\"record\":{\"reference\":\"Hello.\"}}",
     "Hello."},
    {"{\"prompt\": \"Hi.\", \"reference\": 72}",
     "{\"messages\":[{\"role\":\"user\",\"content\":\"Hi.\"}],\"record\":{\"reference\":72}}", "72"},
    {"{\"prompt\": \"Hi.\", \"reference\": 0.1}",
     "{\"messages\":[{\"role\":\"user\",\"content\":\"Hi.\"}],\"record\":{\"reference\":0.1}"
     "}",
     "0.1"},
    {"{\"prompt\": \"Hi.\", \"reference\": [\"a\", \"b\"], \"n\": NaN, \"m\": {\"k\": 1e999}}",
     "{\"messages\":[{\"role\":\"user\",\"content\":\"Hi.\"}],\"record\":{\"reference\":[\"a\",\"b\"],\"n\":"
     "NaN,\"m\":{\"k\":1e999}}}",
     ""},
    /* Alpaca's input stands behind its instruction; its answer is no key of its own. */
    {"{\"instruction\": \"Name a colour.\", \"input\": \"the sea\", \"output\": \"Blue.\", \"tests\": "
     "[{\"in\": \"x\"}]}",
     "{\"messages\":[{\"role\":\"user\",\"content\":\"Name a colour.\\n\\nthe "
     "sea\"}],\"record\":{\"tests\":[{\"in\":\"x\"}]}}",
     "Blue."},
    {"{\"prompt\": \"Hi.\", \"tools\": [{\"type\": \"function\"}], \"\\u00e9\": \"\\ud83d\\ude00 "
     "\\\"q\\\"\"}",
     "{\"messages\":[{\"role\":\"user\",\"content\":\"Hi.\"}],\"tools\":[{\"type\":\"function\"}],"
     "\"record\":{\"\xc3\xa9\":\"\xf0\x9f\x98\x80 \\\"q\\\"\"}}",
     ""},
};

static void records_reach_whoever_judges(void **state) {
  World *world = *state;
  DatasetOptions options = options_of(world, DATASET_PROMPT);
  char *file = memory_copy_string(temporary_path(&world->temporary, "tools.jinja"));
  write_text(file, "{{ tools | tojson }}{% for m in messages %}{{ m.content }}{% endfor %}");
  ChatTemplate chat;
  Error why = {0};
  if (!chat_template_init(&chat, world->tokenizer, &(ChatOptions){.name = file}, &why))
    fail_msg("%s", why.message);
  options.chat = &chat;
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    char path[512];
    snprintf(path, sizeof path, "%s", temporary_path(&world->temporary, "records.jsonl"));
    write_text(path, cases[i].line);
    for (int reuse = 0; reuse < 2; reuse++) {
      Error error = {0};
      Dataset dataset;
      if (!dataset_open_file(&dataset, path, &options, &error)) fail_msg("%s", error.message);
      assert_int_equal(dataset.reused, reuse);
      const Example example = example_at(&dataset, 0);
      assert_string_equal(example.record, cases[i].record);
      assert_int_equal(example.record_bytes, strlen(cases[i].record));
      assert_string_equal(example.reference, cases[i].reference);
      dataset_close(&dataset);
    }
  }
  chat_template_free(&chat);
  memory_free(file);
}

/* Those of other kinds have none. */
static void examples_keep_no_record(void **state) {
  World *world = *state;
  DatasetOptions options = options_of(world, DATASET_SFT);
  Error error = {0};
  Dataset dataset;
  char path[512];
  snprintf(path, sizeof path, "%s", temporary_path(&world->temporary, "example.jsonl"));
  write_text(path, "{\"prompt\": \"Hi.\", \"completion\": \"Bye.\", \"id\": 7}");
  if (!dataset_open_file(&dataset, path, &options, &error)) fail_msg("%s", error.message);
  const Example example = example_at(&dataset, 0);
  assert_string_equal(example.record, "");
  assert_int_equal(example.record_bytes, 0);
  dataset_close(&dataset);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(records_reach_whoever_judges),
                                     cmocka_unit_test(examples_keep_no_record)};
  return cmocka_run_group_tests(tests, open_world, close_world);
}
