/* Chat templates against Transformers: of the model's own template, text and ids are those of
 * apply_chat_template, for real templates (fixtures/tokenizer/chat.json). */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/companions.h"
#include "base/file.h"
#include "datasets/chat.h"
#include "tokenizer/text.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static json_t *load_cases(void) {
  json_error_t problem;
  json_t *root = json_load_file(FIXTURES "/tokenizer/chat.json", 0, &problem);
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

/* All loss tokens are the assistant's: their bytes are its texts, white space aside, and the end marks. */
static void check_loss(const ChatTemplate *chat, const Conversation *talk, const ChatReading *reading) {
  Error error = {0};
  Buffer said = {0}, expected = {0};
  const char *end = tokenizer_token(chat->tokenizer, chat->end_id);
  IntArray kept = {0};
  for (size_t i = 0; i < reading->ids.size; i++) {
    if (reading->loss.data[i]) assert_true(int_array_push(&kept, reading->ids.data[i], &error));
  }
  assert_true(buffer_append(&said, "", 0, &error) && buffer_append(&expected, "", 0, &error));
  assert_true(tokenizer_decode(chat->tokenizer, kept.data, kept.size, false, &said, &error));
  for (size_t i = 0; i < talk->count; i++) {
    if (talk->items[i].role != CHAT_ASSISTANT) continue;
    assert_true(buffer_text(&expected, talk->items[i].text, &error) && buffer_text(&expected, end, &error));
  }
  for (int pass = 0; pass < 2; pass++) {
    Buffer *text = pass ? &said : &expected;
    size_t used = 0;
    for (size_t i = 0, begin = 0; i < text->size; begin = i) {
      const uint32_t c = utf8_next(text->data, &i);
      if (char_is_space(c) || (c >= 0x1c && c <= 0x1f)) continue; /* as Python's strip() */
      memmove(text->data + used, text->data + begin, i - begin);
      used += i - begin;
    }
    text->data[used] = '\0';
  }
  assert_string_equal(said.data, expected.data);
  int_array_free(&kept);
  buffer_free(&said);
  buffer_free(&expected);
}

static void check_conversation(const ChatTemplate *chat, const json_t *conversation) {
  Conversation talk = {0};
  Error error = {0};
  ChatReading reading = {0};
  assert_true(conversation_add_json(&talk, json_object_get(conversation, "messages"), &error));
  const bool prompt = json_is_true(json_object_get(conversation, "prompt"));
  if (!chat_read(chat, &talk, talk.count, prompt ? CHAT_ASK : CHAT_EVERY_TURN, 0, &reading, &error)) {
    fail_msg("%s", error.message);
  }
  assert_string_equal(reading.text.text.data, json_string_value(json_object_get(conversation, "text")));
  const json_t *expected = json_object_get(conversation, "ids");
  assert_int_equal(reading.ids.size, json_array_size(expected));
  for (size_t i = 0; i < reading.ids.size; i++)
    assert_int_equal(reading.ids.data[i], json_integer_value(json_array_get(expected, i)));
  if (!prompt) check_loss(chat, &talk, &reading);
  chat_reading_free(&reading);
  conversation_free(&talk);
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
    Error error = {0};
    ChatTemplate chat;
    make_model(directory, json_string_value(json_object_get(item, "tokenizer")),
               json_object_get(item, "config"));
    Tokenizer *tokenizer = tokenizer_open(directory, &error);
    if (!tokenizer || !chat_template_init(&chat, tokenizer, &(ChatOptions){.name = NULL}, &error))
      fail_msg("%s: %s", name, error.message);
    for (size_t k = 0; k < json_array_size(talks); k++, conversations++)
      check_conversation(&chat, json_array_get(talks, k));
    chat_template_free(&chat);
    tokenizer_free(tokenizer);
  }
  assert_true(conversations > 100);
  Error error = {0};
  assert_true(directory_remove_all(directory, &error));
  json_decref(root);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_templates)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
