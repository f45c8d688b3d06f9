/* The prompt of a record as a record of its own, by format, and what it reads as again. */
#include "tests/unit/datasets_world.h"

#include "datasets/prompt_record.h"

/* Of a record as text, in the form `made` has with an answer beside it: {"prompt": ..., ..., "completion": ...}. */
static void expect_made(DatasetFormat format, const char *text, const char *expected) {
  Error error = {0};
  Record record = {0};
  const RecordPlace place = {.file = "f", .line = 1};
  json_t *root = json_loads(text, 0, NULL);
  assert_non_null(root);
  if (!record_parse(&record, root, DATASET_PROMPT, format, place, &error)) fail_msg("%s", error.message);
  json_t *made = prompt_record(root, &record, format, &error);
  assert_non_null(made);
  assert_int_equal(json_object_set_new(made, "completion", prompt_record_answer(made, "Yes.", 4)), 0);
  char *shown = json_dumps(made, JSON_COMPACT);
  assert_string_equal(shown, expected);
  free(shown);
  /* And it is what it is meant to be, whatever other keys it has. */
  DatasetFormat found;
  DatasetKind kind;
  assert_true(record_detect_kind(made, place, &found, &kind, &error));
  assert_int_equal(found, FORMAT_PROMPT_COMPLETION);
  json_decref(made);
  json_decref(root);
  record_free(&record);
}

#define ASKED "[{\"role\":\"user\",\"content\":\"Hi.\"}]"
#define SAID  "[{\"role\":\"assistant\",\"content\":\"Yes.\"}]"

static void each_format(void **state) {
  (void)state;
  expect_made(FORMAT_PROMPTS, "{\"prompt\": \"Hi.\", \"id\": 7, \"place\": {\"x\": [1]}}",
              "{\"prompt\":\"Hi.\",\"id\":7,\"place\":{\"x\":[1]},\"completion\":\"Yes.\"}");
  expect_made(FORMAT_PROMPTS, "{\"id\": 7, \"prompt\": " ASKED "}",
              "{\"prompt\":" ASKED ",\"id\":7,\"completion\":" SAID "}");
  expect_made(FORMAT_PROMPT_COMPLETION, "{\"prompt\": \"Hi.\", \"completion\": \"No.\"}",
              "{\"prompt\":\"Hi.\",\"completion\":\"Yes.\"}");
  expect_made(FORMAT_UNPAIRED, "{\"prompt\": \"Hi.\", \"completion\": \"No.\", \"label\": false}",
              "{\"prompt\":\"Hi.\",\"completion\":\"Yes.\"}");
  expect_made(FORMAT_ALPACA,
              "{\"instruction\": \"Hi.\", \"input\": \"Ann\", \"output\": \"No.\", \"source\": \"s\"}",
              "{\"prompt\":\"Hi.\\n\\nAnn\",\"source\":\"s\",\"completion\":\"Yes.\"}");
  expect_made(
      FORMAT_ALPACA, "{\"instruction\": \"Hi.\", \"output\": \"No.\", \"system\": \"Be.\"}",
      "{\"prompt\":[{\"role\":\"system\",\"content\":\"Be.\"},{\"role\":\"user\",\"content\":\"Hi.\"}],"
      "\"completion\":" SAID "}");
  expect_made(FORMAT_DOLLY, "{\"instruction\": \"Hi.\", \"context\": \"Ann\", \"response\": \"No.\"}",
              "{\"prompt\":\"Hi.\\n\\nAnn\",\"completion\":\"Yes.\"}");
  expect_made(
      FORMAT_SHAREGPT,
      "{\"conversations\": [{\"from\": \"human\", \"value\": \"Hi.\"}, {\"from\": \"gpt\", \"value\": "
      "\"No.\"}]}",
      "{\"prompt\":" ASKED ",\"completion\":" SAID "}");
  expect_made(FORMAT_PREFERENCE,
              "{\"prompt\": \"Hi.\", \"chosen\": \"No.\", \"rejected\": \"Go.\", \"margin\": 1}",
              "{\"prompt\":\"Hi.\",\"completion\":\"Yes.\"}");
  expect_made(FORMAT_PREFERENCE,
              "{\"chosen\": \"\\n\\nHuman: Hi.\\n\\nAssistant: No.\", \"rejected\": \"\\n\\nHuman: "
              "Hi.\\n\\nAssistant: Go.\"}",
              "{\"prompt\":\"Hi.\",\"completion\":\"Yes.\"}");
  expect_made(FORMAT_RANKING, "{\"prompt\": \"Hi.\", \"responses\": [\"No.\", \"Go.\"], \"scores\": [1, 2]}",
              "{\"prompt\":\"Hi.\",\"completion\":\"Yes.\"}");
}

/* Earlier answers are no part of what is to be learnt, and what goes to the template with a message stays. */
static void earlier_turns(void **state) {
  (void)state;
  expect_made(
      FORMAT_MESSAGES,
      "{\"messages\": [{\"role\": \"user\", \"content\": \"Hi.\"}, {\"role\": \"assistant\", \"content\": "
      "\"No.\", \"reasoning_content\": \"hm\"}, {\"role\": \"user\", \"content\": \"Go.\"}, {\"role\": "
      "\"assistant\", \"content\": \"x\"}], \"tools\": [{\"name\": \"t\"}], \"weight\": 0}",
      "{\"prompt\":[{\"role\":\"user\",\"content\":\"Hi.\"},{\"role\":\"assistant\",\"content\":\"No.\","
      "\"reasoning_content\":\"hm\",\"train\":false},{\"role\":\"user\",\"content\":\"Go.\"}],"
      "\"tools\":[{\"name\":\"t\"}],\"completion\":" SAID "}");
  expect_made(FORMAT_PROMPTS,
              "{\"prompt\": \"\\n\\nHuman: Hi.\\n\\nAssistant: No.\\n\\nHuman: Go.\\n\\nAssistant:\"}",
              "{\"prompt\":[{\"role\":\"user\",\"content\":\"Hi.\"},{\"role\":\"assistant\",\"content\":\"No."
              "\",\"train\":false},{\"role\":\"user\",\"content\":\"Go.\"}],\"completion\":" SAID "}");
}

/* Keys that would make another record of it: a raw text, a preference, a weight ... */
static void keys_with_a_meaning(void **state) {
  (void)state;
  expect_made(
      FORMAT_PROMPTS,
      "{\"prompt\": \"Hi.\", \"text\": \"t\", \"chosen\": \"c\", \"rejected\": \"r\", \"label\": true, "
      "\"weight\": 1, \"train\": true, \"scores\": [1], \"kind\": \"k\"}",
      "{\"prompt\":\"Hi.\",\"kind\":\"k\",\"completion\":\"Yes.\"}");
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(each_format), cmocka_unit_test(earlier_turns),
                                     cmocka_unit_test(keys_with_a_meaning)};
  return cmocka_run_group_tests_name("datasets/prompt_record", tests, NULL, NULL);
}
