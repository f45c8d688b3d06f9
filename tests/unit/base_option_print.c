/* Options printed: as JSON that is read again, and as help. */
#include "tests/unit/base_option_world.h"

static void assert_same(const Config *a, const Config *b) {
  assert_string_equal(a->path, b->path);
  assert_memory_equal(&a->lr, &b->lr, sizeof a->lr);
  assert_memory_equal(&a->clip, &b->clip, sizeof a->clip);
  assert_true(a->recompute == b->recompute && a->dtype == b->dtype && a->seed == b->seed);
  assert_true(a->batch == b->batch && a->limit == b->limit);
  assert_int_equal(a->targets.count, b->targets.count);
  for (size_t i = 0; i < a->targets.count; i++) assert_string_equal(a->targets.items[i], b->targets.items[i]);
  assert_int_equal(a->train.count, b->train.count);
  for (size_t i = 0; i < a->train.count; i++) {
    assert_string_equal(a->train.items[i].path, b->train.items[i].path);
    assert_true(a->train.items[i].weight == b->train.items[i].weight);
  }
  assert_true(!a->note == !b->note);
  if (a->note) assert_string_equal(a->note, b->note);
}

static void printed_config_reads_back(void **state) {
  (void)state;
  static const char *const floats[] = {"0.1",
                                       "1e-05",
                                       "0.3333333333333333",
                                       "4.9406564584124654e-324",
                                       "1e22",
                                       "123456789012345678",
                                       "0",
                                       "0.30000000000000004"};
  for (size_t i = 0; i < sizeof floats / sizeof *floats; i++) {
    Config a, b;
    OptionRequest request;
    Error error;
    Buffer first = {0}, second = {0};
    assert_true(PARSE(&a, &request, &error, "--model.path", "a \"quoted\" \\ \n \xc3\xa9 path",
                      "--optim.clip", floats[i], "--run.seed", "-9223372036854775808", "--model.recompute",
                      "--model.dtype", "bf16", "--data.train",
                      i % 2 ? "[{\"path\":\"x\",\"weight\":0.1}, \"y\"]" : "", "--lora.targets",
                      i % 2 ? "[\"a,b\", \"\"]" : "", "--device.memory_limit", "3TiB"));
    if (i % 2) assert_int_equal(a.train.count, 2);
    assert_true(options_json(table, ROWS, &a, &first, &error));
    assert_int_equal(first.data[first.size - 1], '\n');
    assert_true(PARSE(&b, &request, &error, "--config", write_config(first.data)));
    assert_same(&a, &b);
    assert_true(options_json(table, ROWS, &b, &second, &error));
    assert_string_equal(first.data, second.data);
    buffer_free(&first);
    buffer_free(&second);
    options_free(table, ROWS, &a);
    options_free(table, ROWS, &b);
  }
}

/* A configuration that another table printed: what this one lacks is passed over, what the text lacks is the default. */
static void a_config_is_recalled(void **state) {
  (void)state;
  Config a, b = {0};
  OptionRequest request;
  Error error;
  Buffer json = {0};
  assert_true(
      PARSE(&a, &request, &error, "--model.path", "m", "--optim.clip", "0.1", "--model.dtype", "bf16"));
  assert_true(options_json(table, ROWS, &a, &json, &error));
  assert_true(options_recall(table, ROWS, &b, json.data, "here", &error));
  assert_same(&a, &b);
  options_free(table, ROWS, &a);
  options_free(table, ROWS, &b);
  buffer_free(&json);
  b = (Config){0};
  assert_true(options_recall(
      table, ROWS, &b, "{\"optim\": {\"lr\": 0.5, \"new\": 1}, \"ppo\": {\"clip\": 2}}", "here", &error));
  assert_float_equal(b.lr, 0.5, 0);
  assert_float_equal(b.clip, 0.1, 0);
  assert_null(b.path);
  options_free(table, ROWS, &b);
  b = (Config){0};
  assert_false(options_recall(table, ROWS, &b, "{\"optim\": {\"lr\": \"fast\"}}", "here", &error));
  assert_non_null(strstr(error.message, "here"));
  assert_non_null(strstr(error.message, "optim.lr"));
  options_free(table, ROWS, &b);
}

static void printed_config_is_grouped(void **state) {
  (void)state;
  Config c;
  OptionRequest request;
  Error error;
  Buffer json = {0};
  assert_true(PARSE(&c, &request, &error, "--model.path", "m", "--optim.clip", "100000"));
  assert_true(options_json(table, ROWS, &c, &json, &error));
  assert_string_equal(json.data,
                      "{\n"
                      "  \"model\": {\n"
                      "    \"path\": \"m\",\n"
                      "    \"recompute\": false,\n"
                      "    \"dtype\": \"f32\"\n"
                      "  },\n"
                      "  \"optim\": {\n"
                      "    \"lr\": 1e-05,\n"
                      "    \"clip\": 100000,\n"
                      "    \"batch_size\": 8\n"
                      "  },\n"
                      "  \"lora\": {\n"
                      "    \"targets\": [\"q_proj\", \"v_proj\"]\n"
                      "  },\n"
                      "  \"data\": {\n"
                      "    \"train\": []\n"
                      "  },\n"
                      "  \"device\": {\n"
                      "    \"memory_limit\": 0\n"
                      "  },\n"
                      "  \"run\": {\n"
                      "    \"seed\": 1,\n"
                      "    \"note\": null\n"
                      "  },\n"
                      "  \"adapter\": {\n"
                      "    \"rate\": 1e-05,\n"
                      "    \"rank\": 8,\n"
                      "    \"room\": 1048576,\n"
                      "    \"modules\": [\"q\", \"v\"],\n"
                      "    \"count\": 0,\n"
                      "    \"share\": 0\n"
                      "  }\n"
                      "}\n");
  buffer_free(&json);
  options_free(table, ROWS, &c);
}

static void help_shows_everything(void **state) {
  (void)state;
  Buffer help = {0};
  Error error = {0};
  assert_true(options_help(table, ROWS, "sft", "supervised fine-tuning", &help, &error));
  assert_int_equal(strncmp(help.data, "sft: supervised fine-tuning\n\nusage: sft ", 40), 0);
  for (int i = 0; i < ROWS; i++) {
    char name[64];
    snprintf(name, sizeof name, "\n  --%s ", table[i].key);
    assert_non_null(strstr(help.data, name));
  }
  assert_non_null(strstr(help.data, "model directory (required)\n"));
  assert_non_null(strstr(help.data, "peak learning rate (0 .. 1; default 1e-5)\n"));
  assert_non_null(strstr(help.data, "type of the weights (one of f32, bf16; default f32)\n"));
  assert_non_null(strstr(help.data, "rank (1 .. 64; default 8; only with model.dtype != f32)\n"));
  assert_non_null(strstr(help.data, "default 1e-5, 1e-4"));
  assert_non_null(strstr(help.data, "\nmodel\n"));
  assert_non_null(strstr(help.data, "\n  SIZE "));
  assert_non_null(strstr(help.data, "8589934592"));
  assert_non_null(strstr(help.data, "8000000000"));
  /* One section once, one column of texts, no line too long. */
  assert_null(strstr(strstr(help.data, "\nmodel\n") + 1, "\nmodel\n"));
  size_t column = 0;
  for (const char *line = help.data; *line; line += strcspn(line, "\n") + 1) {
    assert_true(strcspn(line, "\n") <= 100);
    if (strncmp(line, "  --", 4) != 0) continue;
    const char *text = strstr(line + 4, "  ");
    text += strspn(text, " ");
    if (!column) column = (size_t)(text - line);
    assert_int_equal(text - line, column);
  }
  buffer_free(&help);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(printed_config_reads_back),
      TEST(a_config_is_recalled),
      TEST(printed_config_is_grouped),
      TEST(help_shows_everything),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
