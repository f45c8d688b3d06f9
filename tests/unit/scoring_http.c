/* Judges behind HTTP, but for the transport: what is done about faults, what a language model is asked, and what is taken of its replies. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/memory.h"
#include "base/random.h"
#include "scoring/chat_judge.h"

#include <string.h>

static void faults(void **state) {
  (void)state;
  static const long pass[] = {408, 425, 429, 500, 502, 503, 504, 529},
                    stay[] = {301, 400, 401, 403, 404, 422};
  for (size_t i = 0; i < sizeof pass / sizeof *pass; i++) assert_true(http_may_pass(pass[i]));
  for (size_t i = 0; i < sizeof stay / sizeof *stay; i++) assert_false(http_may_pass(stay[i]));
  static const struct {
    double backoff;
    int64_t tries;
    double asked, delay;
  } delays[] = {{1, 1, 0, 1},   {1, 2, 0, 2},     {1, 4, 0, 8},    {0.5, 3, 0, 2},
                {1, 7, 0, 60},  {1, 1000, 0, 60}, {0, 1000, 0, 0}, {1, 1, 30, 30},
                {1, 5, 10, 16}, {1, 1, 3600, 120} /* not an hour */};
  for (size_t i = 0; i < sizeof delays / sizeof *delays; i++)
    assert_true(http_delay(delays[i].backoff, delays[i].tries, delays[i].asked) == delays[i].delay);
}

static void keys_are_not_shown(void **state) {
  (void)state;
  char shown[200], text[400] = "";
  const char said[] = "no sk-1 for sk-12, sk-";
  http_shown(said, strlen(said), "sk-1", shown);
  assert_string_equal(shown, "no *** for ***2, sk-");
  http_shown(said, strlen(said), NULL, shown);
  assert_string_equal(shown, said);
  /* Nor the beginning of one where a text is cut. */
  memset(text, 'x', 145);
  strcat(text, "sk-123456789 and so on, and on, and on");
  http_shown(text, strlen(text), "sk-123456789", shown);
  assert_null(strstr(shown, "sk-"));
}

static HttpOptions options_of(const char *prompt) {
  return (HttpOptions){.format = HTTP_OPENAI, .model = (char *)"m", .prompt = (char *)prompt};
}

static void expect_refusal(const HttpOptions *options, const char *message) {
  ChatJudge judge;
  Error error = {0};
  assert_false(chat_judge_open(&judge, options, &error));
  if (!strstr(error.message, message)) fail_msg("'%s' is not in: %s", message, error.message);
}

static void refused_prompts(void **state) {
  (void)state;
  HttpOptions options = options_of("{{ answer }} {{ question }}");
  expect_refusal(&options, "'prompt': it reads 'question'; there are prompt, answer,");
  options = options_of("{% if reference %}{{ prompt }}{% endif %}");
  expect_refusal(&options, "'prompt': it does not read 'answer'");
  options = options_of("\n {% for %}{{ answer }}");
  expect_refusal(&options, "'prompt':2:");
  options = options_of("{{ answer }}");
  options.score = (char *)"[";
  expect_refusal(&options, "'score': missing terminating ] for character class");
  options.score = NULL;
  options.parameters = (char *)"{\"stream\": true}";
  expect_refusal(&options, "'parameters': 'stream' is not to be set there");
}

static void questions(void **state) {
  (void)state;
  static const struct {
    const char *prompt, *system, *parameters, *request;
  } cases[] = {
      {"{{ answer }}", NULL, NULL,
       "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"so \\\"it\\\" "
       "is\"}],\"temperature\":0}"},
      {"{{ prompt }}/{{ reference }}/{{ finished }}/{{ answer | length }}", "Be just.", "{}",
       "{\"model\":\"m\",\"messages\":[{\"role\":\"system\",\"content\":\"Be just.\"},"
       "{\"role\":\"user\",\"content\":\"Hi/42/True/10\"}]}"},
      {"{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{{ tools }} {{ record.level }} "
       "{{ namespace(x=answer).x }}",
       NULL, "{\"top_p\": 0.5, \"temperature\": 1}",
       "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"user: Hi\\nNone 3 so \\\"it\\\" "
       "is\"}],"
       "\"top_p\":0.5,\"temperature\":1}"}};
  const char record[] =
      "{\"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}], \"record\": {\"level\": 3}}";
  Answer answer = {.prompt = {.prompt = "Hi",
                              .prompt_bytes = 2,
                              .reference = "42",
                              .reference_bytes = 2,
                              .record = record,
                              .record_bytes = strlen(record)},
                   .finished = true};
  Buffer said = {0}, out = {0};
  Error error = {0};
  assert_true(buffer_text(&said, "so \"it\" is", &error));
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    HttpOptions options = options_of(cases[i].prompt);
    options.system = (char *)cases[i].system;
    options.parameters = (char *)cases[i].parameters;
    ChatJudge judge;
    if (!chat_judge_open(&judge, &options, &error)) fail_msg("%s", error.message);
    for (int again = 0; again < 2; again++) {
      buffer_clear(&out);
      if (!chat_judge_question(&judge, &options, &answer, &said, &out, &error)) fail_msg("%s", error.message);
      assert_string_equal(out.data, cases[i].request);
    }
    chat_judge_close(&judge);
  }
  buffer_free(&said);
  buffer_free(&out);
}

#define COMPLETION(text) "{\"choices\": [{\"message\": {\"content\": \"" text "\"}}]}"

static void replies(void **state) {
  (void)state;
  static const struct {
    const char *score, *reply, *message; /* NULL: taken */
    double value;
  } cases[] = {
      {NULL, COMPLETION("7"), NULL, 7},
      {NULL, COMPLETION("Of 10 points I give 3.25."), NULL, 3.25},
      {NULL, COMPLETION("It is -2"), NULL, -2},
      {"Score: ([0-9.]+)", COMPLETION("Score: 1, no: Score: 8 of 10"), NULL, 8},
      {"<s>((?s).*?)</s>", COMPLETION("<s> 0.5\\n</s>"), NULL, 0.5},
      {"[0-9]+(?=/10)", COMPLETION("6/10"), NULL, 6},
      {"<s>(.*?)</s>", COMPLETION("<s>1e-1</s>"), NULL, 0.1},
      {"<s>(.*?)</s>", COMPLETION("<s>0x10</s>"), "what 'score' finds is no number: '0x10'", 0},
      {"<s>(.*?)</s>", COMPLETION("<s>nan</s>"), "what 'score' finds is no number: 'nan'", 0},
      {"<s>(.*?)</s>", COMPLETION("<s></s>"), "what 'score' finds is no number: ''", 0},
      {"<s>(.*?)</s>", COMPLETION("<s>1e99</s>"), "what 'score' finds is no number", 0},
      {"<s>(.*?)</s>", COMPLETION("7"), "there is no score in what the model says: '7'", 0},
      {NULL, COMPLETION("none"), "there is no score in what the model says: 'none'", 0},
      {NULL, COMPLETION(""), "there is no score in what the model says: ''", 0},
      {NULL, "{\"choices\": []}", "expected a chat completion with choices[0].message.content, found: '{", 0},
      {NULL, "{\"choices\": [{\"message\": {\"content\": null}}]}", "expected a chat completion", 0},
      {NULL, "{\"error\": {\"message\": \"no\"}}", "found: '{\"error\": {\"message\": \"no\"}}'", 0},
      {NULL, "<html>", "found: '<html>'", 0},
      {NULL, "", "expected a chat completion", 0}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    HttpOptions options = options_of("{{ answer }}");
    options.score = (char *)cases[i].score;
    ChatJudge judge;
    Verdict verdict;
    Error error = {0};
    assert_true(chat_judge_open(&judge, &options, &error));
    const bool ok = chat_judge_reply(&judge, cases[i].reply, strlen(cases[i].reply), &verdict, &error);
    if (ok != !cases[i].message) fail_msg("%s: %s", cases[i].reply, ok ? "taken" : error.message);
    if (ok) assert_true(verdict.score == cases[i].value && verdict.part_count == 0 && !verdict.has_id);
    if (!ok && !strstr(error.message, cases[i].message))
      fail_msg("not '%s': %s", cases[i].message, error.message);
    if (!ok) assert_int_equal(error.code, ERROR_DATA);
    chat_judge_close(&judge);
  }
}

/* Whatever is taken is a number that can be learnt from; and nothing breaks. */
static void any_reply(void **state) {
  (void)state;
  static const char seed[] = COMPLETION("Score: 7.5e0 \\u00e9");
  const RandomKey key = random_key(5, RANDOM_SHUFFLE);
  HttpOptions options = options_of("{{ answer }}");
  options.score = (char *)"Score: (\\S+)";
  ChatJudge judge;
  Error error = {0};
  int read = 0;
  assert_true(chat_judge_open(&judge, &options, &error));
  for (uint32_t round = 0; round < 10000; round++) {
    size_t bytes = strlen(seed);
    char *text = memory_copy_string(seed); /* its end is watched by the sanitizers */
    assert_non_null(text);
    for (uint32_t change = 0; change < 1 + round % 3; change++) {
      uint32_t words[4];
      philox4x32((uint32_t[]){round, change, 0, 0}, key, words);
      const size_t at = words[0] % bytes;
      if (words[1] % 8)
        text[at] = words[1] & 16 ? (char)words[2] : "0123456789{}[]\",:.eE+-\\ntu"[words[2] % 27];
      else
        bytes = 1 + words[2] % bytes;
    }
    Verdict verdict;
    error = (Error){0};
    if (chat_judge_reply(&judge, text, bytes, &verdict, &error)) {
      read++;
      assert_true(isfinite((float)verdict.score));
    } else {
      assert_int_equal(error.code, ERROR_DATA);
    }
    memory_free(text);
  }
  assert_true(read > 100 && read < 9000);
  chat_judge_close(&judge);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(faults),          cmocka_unit_test(keys_are_not_shown),
                                     cmocka_unit_test(refused_prompts), cmocka_unit_test(questions),
                                     cmocka_unit_test(replies),         cmocka_unit_test(any_reply)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
