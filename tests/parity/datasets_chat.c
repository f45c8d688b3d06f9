/* Chat templates against Transformers: the model's own template is recognised, and text and ids are those of
 * apply_chat_template, for real templates (fixtures/datasets/chat.json). */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/companions.h"
#include "base/file.h"
#include "datasets/chat.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static json_t *load_cases(void) {
  json_error_t problem;
  json_t *root = json_load_file(FIXTURES "/datasets/chat.json", 0, &problem);
  if (!root) fail_msg("chat.json: %s", problem.text);
  return root;
}

/* A directory with the family's tokenizer.json and the given tokenizer_config.json. */
static void make_model(const char *directory, const char *family, const json_t *config) {
  char path[512];
  Error error = {0};
  snprintf(path, sizeof path, FIXTURES "/tokenizer/%s", family);
  assert_true(directory_create(directory, &error));
  assert_true(companions_copy(path, directory, &error));
  snprintf(path, sizeof path, "%s/tokenizer_config.json", directory);
  char *text = json_dumps(config, 0);
  assert_true(file_write_text(path, text, &error));
  free(text);
}

static size_t read_messages(const json_t *list, ChatMessage *messages) {
  for (size_t i = 0; i < json_array_size(list); i++) {
    const json_t *message = json_array_get(list, i);
    const char *role = json_string_value(json_object_get(message, "role"));
    const json_t *content = json_object_get(message, "content");
    messages[i] = (ChatMessage){.role = role[0] == 's'   ? CHAT_SYSTEM
                                        : role[0] == 'u' ? CHAT_USER
                                                         : CHAT_ASSISTANT,
                                .text = json_string_value(content),
                                .bytes = json_string_length(content)};
  }
  return json_array_size(list);
}

/* The segments cover the text in order, and the parts in the loss are the assistant's texts with their ends. */
static void check_segments(const ChatText *text, const ChatMessage *messages) {
  size_t at = 0;
  for (size_t i = 0; i < text->segment_count; i++) {
    ChatSegment segment = text->segments[i];
    assert_int_equal(segment.begin, at);
    assert_true(segment.end > segment.begin);
    at = segment.end;
    if (segment.loss) assert_int_equal(messages[segment.message].role, CHAT_ASSISTANT);
  }
  assert_int_equal(at, text->text.size);
}

static void check_conversation(const ChatTemplate *chat, const json_t *conversation) {
  ChatMessage messages[8];
  Error error = {0};
  ChatText text = {0};
  IntArray ids = {0}, loss = {0};
  size_t count = read_messages(json_object_get(conversation, "messages"), messages);
  bool prompt = json_is_true(json_object_get(conversation, "prompt"));
  if (!chat_render(chat, messages, count, prompt, &text, &error)) fail_msg("%s", error.message);
  assert_string_equal(text.text.data, json_string_value(json_object_get(conversation, "text")));
  check_segments(&text, messages);
  assert_true(chat_encode(chat, messages, count, prompt, &ids, &loss, &error));
  const json_t *expected = json_object_get(conversation, "ids");
  assert_int_equal(ids.size, json_array_size(expected));
  assert_int_equal(loss.size, ids.size);
  for (size_t i = 0; i < ids.size; i++)
    assert_int_equal(ids.data[i], json_integer_value(json_array_get(expected, i)));
  chat_text_free(&text);
  int_array_free(&ids);
  int_array_free(&loss);
}

static void test_templates(void **state) {
  (void)state;
  char directory[] = "/tmp/drover-chat-XXXXXX";
  assert_non_null(mkdtemp(directory));
  json_t *root = load_cases(), *list = json_object_get(root, "cases");
  size_t conversations = 0;
  for (size_t i = 0; i < json_array_size(list); i++) {
    json_t *item = json_array_get(list, i), *talks = json_object_get(item, "conversations");
    const char *name = json_string_value(json_object_get(item, "name"));
    const char *family = json_string_value(json_object_get(item, "family"));
    Error error = {0};
    ChatTemplate chat;
    make_model(directory, json_string_value(json_object_get(item, "tokenizer")),
               json_object_get(item, "config"));
    Tokenizer *tokenizer = tokenizer_open(directory, &error);
    if (!tokenizer || !chat_template_init(&chat, tokenizer, NULL, &error))
      fail_msg("%s: %s", name, error.message);
    assert_string_equal(chat_family_names[chat.family], family);
    for (size_t k = 0; k < json_array_size(talks); k++, conversations++)
      check_conversation(&chat, json_array_get(talks, k));
    chat_template_free(&chat);
    /* the family's name chooses the same variant */
    assert_true(chat_template_init(&chat, tokenizer, family, &error));
    check_conversation(&chat, json_array_get(talks, 0));
    chat_template_free(&chat);
    tokenizer_free(tokenizer);
  }
  assert_true(conversations > 100);
  Error error = {0};
  assert_true(directory_remove_all(directory, &error));
  json_decref(root);
}

static void test_unknown_templates(void **state) {
  (void)state;
  char directory[] = "/tmp/drover-chat-XXXXXX";
  assert_non_null(mkdtemp(directory));
  json_t *root = load_cases(), *list = json_object_get(root, "unknown");
  assert_true(json_array_size(list) >= 5);
  for (size_t i = 0; i < json_array_size(list); i++) {
    json_t *item = json_array_get(list, i);
    json_t *config = json_pack("{s:s, s:O}", "eos_token", "<|im_end|>", "chat_template",
                               json_object_get(item, "template"));
    Error error = {0};
    ChatTemplate chat;
    make_model(directory, "smollm2", config);
    json_decref(config);
    Tokenizer *tokenizer = tokenizer_open(directory, &error);
    assert_non_null(tokenizer);
    if (chat_template_init(&chat, tokenizer, "auto", &error))
      fail_msg("%s was taken for %s", json_string_value(json_object_get(item, "name")),
               chat_family_names[chat.family]);
    assert_int_equal(error.code, ERROR_MODEL);
    assert_non_null(strstr(error.message, "chatml"));
    tokenizer_free(tokenizer);
  }
  Error error = {0};
  assert_true(directory_remove_all(directory, &error));
  json_decref(root);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_templates),
                                     cmocka_unit_test(test_unknown_templates)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
