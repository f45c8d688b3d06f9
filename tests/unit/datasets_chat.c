/* Chat templates by name: text, what is in the loss, ids, and what is refused. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/companions.h"
#include "base/file.h"
#include "datasets/chat.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char directory[] = "/tmp/drover-chat-XXXXXX";

static int set_up(void **state) {
  (void)state;
  return mkdtemp(directory) ? 0 : -1;
}

static int tear_down(void **state) {
  (void)state;
  Error error = {0};
  return directory_remove_all(directory, &error) ? 0 : -1;
}

/* A family's tokenizer with the given tokenizer_config.json. */
static Tokenizer *open_with(const char *family, const char *config) {
  char path[512];
  Error error = {0};
  snprintf(path, sizeof path, FIXTURES "/tokenizer/%s", family);
  assert_true(companions_copy(path, directory, &error));
  snprintf(path, sizeof path, "%s/tokenizer_config.json", directory);
  assert_true(file_write_text(path, config, &error));
  Tokenizer *tokenizer = tokenizer_open(directory, &error);
  if (!tokenizer) fail_msg("%s", error.message);
  return tokenizer;
}

static ChatMessage say(ChatRole role, const char *text) {
  return (ChatMessage){.role = role, .text = text, .bytes = strlen(text)};
}

static const char pipe_config[] = "{\"bos_token\": \"<|im_start|>\", \"eos_token\": \"<|im_end|>\"}";
static const char piece_config[] = "{\"bos_token\": \"<s>\", \"eos_token\": \"</s>\"}";
static const char header_config[] = "{\"bos_token\": \"<|begin_of_text|>\", \"eos_token\": \"<|eot_id|>\"}";

/* The template of this name, NULL: the model's own. */
static bool init(ChatTemplate *chat, const Tokenizer *tokenizer, const char *name, Error *error) {
  return chat_template_init(chat, tokenizer, &(ChatOptions){.name = name}, error);
}

static void must_init(ChatTemplate *chat, const Tokenizer *tokenizer, const char *name) {
  Error error = {0};
  if (!init(chat, tokenizer, name, &error)) fail_msg("%s: %s", name ? name : "own", error.message);
}

static void must_read(const ChatTemplate *chat, ChatMessage *messages, size_t count, ChatUse use,
                      ChatReading *reading) {
  Error error = {0};
  const Conversation talk = {.items = messages, .count = count};
  if (!chat_read(chat, &talk, count, use, 0, reading, &error)) fail_msg("%s", error.message);
  assert_int_equal(reading->ids.size, reading->loss.size);
}

/* The rendering with [ ] around the bytes of tokens in the loss. */
static void mark_text(const ChatReading *reading, Buffer *marked) {
  Error error = {0};
  const size_t front = reading->ids.size - reading->spans.size;
  size_t at = 0;
  bool inside = false;
  for (size_t i = 0; i < reading->spans.size; i++) {
    const TokenSpan span = reading->spans.data[i];
    if (span.begin == span.end) continue;
    const bool loss = reading->loss.data[front + i];
    assert_true(buffer_append(marked, reading->text.text.data + at, span.begin - at, &error));
    if (loss != inside) assert_true(buffer_text(marked, loss ? "[" : "]", &error));
    assert_true(buffer_append(marked, reading->text.text.data + span.begin, span.end - span.begin, &error));
    at = span.end;
    inside = loss;
  }
  if (inside) assert_true(buffer_text(marked, "]", &error));
}

static void check_use(const ChatTemplate *chat, ChatMessage *messages, size_t count, ChatUse use,
                      const char *expected) {
  ChatReading reading = {0};
  Buffer marked = {0};
  must_read(chat, messages, count, use, &reading);
  mark_text(&reading, &marked);
  assert_string_equal(marked.data, expected);
  buffer_free(&marked);
  chat_reading_free(&reading);
}

static void check_marked(const ChatTemplate *chat, ChatMessage *messages, size_t count,
                         const char *expected) {
  check_use(chat, messages, count, CHAT_EVERY_TURN, expected);
}

/* The tokens in the loss, decoded, are exactly the text in the loss. */
static void check_loss_tokens(const ChatTemplate *chat, ChatMessage *messages, size_t count,
                              const char *expected) {
  Error error = {0};
  ChatReading reading = {0};
  IntArray kept = {0};
  Buffer text = {0};
  must_read(chat, messages, count, CHAT_EVERY_TURN, &reading);
  for (size_t i = 0; i < reading.ids.size; i++)
    if (reading.loss.data[i]) assert_true(int_array_push(&kept, reading.ids.data[i], &error));
  assert_true(tokenizer_decode(chat->tokenizer, kept.data, kept.size, false, &text, &error));
  assert_string_equal(text.data, expected);
  chat_reading_free(&reading);
  int_array_free(&kept);
  buffer_free(&text);
}

static const char alpaca[] =
    "Below is an instruction that describes a task. Write a response that appropriately completes the "
    "request.";
static const char vicuna[] =
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, "
    "detailed, "
    "and polite answers to the user's questions.";

static void test_families(void **state) {
  (void)state;
  static const struct {
    const char *family, *tokenizer, *config, *rendered, *loss, *asks;
  } cases[] = {
      {"plain", "gpt2", "{\"eos_token\": \"<|endoftext|>\"}", "Q [A <|endoftext|>]R[B<|endoftext|>]",
       "A <|endoftext|>B<|endoftext|>", ""},
      {"chatml", "smollm2", pipe_config,
       "<|im_start|>user\nQ <|im_end|>\n<|im_start|>assistant\n[A "
       "<|im_end|>]\n<|im_start|>user\nR<|im_end|>\n"
       "<|im_start|>assistant\n[B<|im_end|>]\n",
       "A <|im_end|>B<|im_end|>", "<|im_start|>assistant\n"},
      {"alpaca", "gpt2", "{\"eos_token\": \"<|endoftext|>\"}",
       "%s\n\n### Instruction:\nQ \n\n### Response:\n[A <|endoftext|>]### Instruction:\nR\n\n### Response:\n"
       "[B<|endoftext|>]",
       "A <|endoftext|>B<|endoftext|>", "### Response:\n"},
      {"vicuna", "llama2_metaspace", piece_config,
       "%s USER: Q  ASSISTANT:[ A </s>]USER: R ASSISTANT:[ B</s>]", "A </s> B</s>", "ASSISTANT:"},
      {"zephyr", "llama2_legacy", piece_config,
       "<|user|>\nQ </s>\n<|assistant|>\n[A </s>]\n<|user|>\nR</s>\n<|assistant|>\n[B</s>]\n", "A </s>B</s>",
       "<|assistant|>\n"},
      {"llama2", "llama2_legacy", piece_config, "<s>[INST] Q [/INST][ A </s>]<s>[INST] R [/INST][ B </s>]",
       "A </s> B </s>", ""},
      {"llama3", "llama3", header_config,
       "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nQ<|eot_id|><|start_header_id|>assistant"
       "<|end_header_id|>\n\n[A<|eot_id|>]<|start_header_id|>user<|end_header_id|>\n\nR<|eot_id|><|start_"
       "header_id|>"
       "assistant<|end_header_id|>\n\n[B<|eot_id|>]",
       "A<|eot_id|>B<|eot_id|>", "<|start_header_id|>assistant<|end_header_id|>\n\n"},
  };
  ChatMessage talk[] = {say(CHAT_USER, "Q "), say(CHAT_ASSISTANT, "A "), say(CHAT_USER, "R"),
                        say(CHAT_ASSISTANT, "B")};
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    ChatTemplate chat;
    Tokenizer *tokenizer = open_with(cases[i].tokenizer, cases[i].config);
    must_init(&chat, tokenizer, cases[i].family);
    char expected[1024];
    const char *preamble = cases[i].family[0] == 'a' ? alpaca : vicuna,
               *hole = strstr(cases[i].rendered, "%s");
    snprintf(expected, sizeof expected, "%s%s", hole ? preamble : "", cases[i].rendered + (hole ? 2 : 0));
    check_marked(&chat, talk, 4, expected);
    check_loss_tokens(&chat, talk, 4, cases[i].loss);
    /* What is asked is what the answer's reading begins with, and its end is the prompt's. */
    ChatReading whole = {0}, asked = {0};
    must_read(&chat, talk, 4, CHAT_LAST_TURN, &whole);
    must_read(&chat, talk, 3, CHAT_ASK, &asked);
    const Buffer *prompt = &asked.text.text;
    assert_memory_equal(whole.text.text.data, prompt->data, prompt->size);
    assert_string_equal(prompt->data + prompt->size - strlen(cases[i].asks), cases[i].asks);
    for (size_t k = 0; k < asked.loss.size; k++) assert_int_equal(asked.loss.data[k], 0);
    chat_reading_free(&whole);
    chat_reading_free(&asked);
    assert_true(tokenizer_is_eos(tokenizer, chat.end_id));
    chat_template_free(&chat);
    tokenizer_free(tokenizer);
  }
}

static void check_refused(const ChatTemplate *chat, ChatMessage *messages, size_t count, const char *says) {
  Error error = {0};
  ChatReading reading = {0};
  const Conversation talk = {.items = messages, .count = count};
  assert_false(chat_read(chat, &talk, count, CHAT_EVERY_TURN, 0, &reading, &error));
  assert_int_equal(error.code, ERROR_DATA);
  if (!strstr(error.message, says)) fail_msg("\"%s\" does not say \"%s\"", error.message, says);
  chat_reading_free(&reading);
}

static void test_system_and_input(void **state) {
  (void)state;
  ChatTemplate chat;
  ChatMessage user = say(CHAT_USER, "Sum"), answer = say(CHAT_ASSISTANT, "3"),
              system = say(CHAT_SYSTEM, "Be kind.");
  user.input = "1 2";
  user.input_bytes = 3;
  ChatMessage plain[] = {user, answer}, full[] = {system, user, answer};
  Tokenizer *tokenizer = open_with("gpt2", "{\"eos_token\": \"<|endoftext|>\"}");
  must_init(&chat, tokenizer, "alpaca");
  check_marked(
      &chat, plain, 2,
      "Below is an instruction that describes a task, paired with an input that provides further context. "
      "Write a "
      "response that appropriately completes the request.\n\n### Instruction:\nSum\n\n### Input:\n1 2\n\n"
      "### Response:\n[3<|endoftext|>]");
  check_marked(&chat, full, 3,
               "Be kind.\n\n### Instruction:\nSum\n\n### Input:\n1 2\n\n### Response:\n[3<|endoftext|>]");
  ChatMessage late[] = {user, system};
  check_refused(&chat, late, 2, "message 2: a system message must come first");
  chat_template_free(&chat);
  tokenizer_free(tokenizer);
  tokenizer = open_with("llama2_legacy", piece_config);
  must_init(&chat, tokenizer, "llama2");
  check_marked(&chat, full, 3, "<s>[INST] <<SYS>>\nBe kind.\n<</SYS>>\n\nSum\n\n1 2 [/INST][ 3 </s>]");
  chat_template_free(&chat);
  must_init(&chat, tokenizer, "vicuna");
  check_marked(&chat, full, 3, "Be kind. USER: Sum\n\n1 2 ASSISTANT:[ 3</s>]");
  chat_template_free(&chat);
  tokenizer_free(tokenizer);
}

/* Families without a BOS of their own take the tokenizer's; families with one never have two. */
static void test_bos(void **state) {
  (void)state;
  static const struct {
    const char *tokenizer, *config, *family;
    int first;
    size_t times;
  } cases[] = {
      {"llama2_legacy", piece_config, "vicuna", 1, 1},
      {"llama2_metaspace", piece_config, "plain", 1, 1},
      {"llama2_legacy", piece_config, "llama2", 1, 1},
      {"llama2_legacy", piece_config, "zephyr", -1, 0},
      {"llama3", header_config, "llama3", -1, 1},
      {"llama2_legacy", "{\"bos_token\": \"<s>\", \"eos_token\": \"</s>\", \"add_bos_token\": false}",
       "plain", 1, 1}}; /* tokenizer.json decides */
  ChatMessage talk[] = {say(CHAT_USER, "Hello"), say(CHAT_ASSISTANT, "Hi")};
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    ChatTemplate chat;
    ChatReading reading = {0};
    size_t times = 0;
    Tokenizer *tokenizer = open_with(cases[i].tokenizer, cases[i].config);
    must_init(&chat, tokenizer, cases[i].family);
    must_read(&chat, talk, 2, CHAT_EVERY_TURN, &reading);
    const int *ids = reading.ids.data, *loss = reading.loss.data;
    const size_t last = reading.ids.size - 1;
    for (size_t k = 0; k <= last; k++) times += ids[k] == tokenizer_bos(tokenizer);
    assert_int_equal(times, cases[i].times);
    if (times) assert_int_equal(ids[0], tokenizer_bos(tokenizer));
    if (cases[i].first > 0) assert_int_equal(ids[0], cases[i].first);
    assert_int_equal(loss[0], 0);
    assert_int_equal(ids[last] == chat.end_id ? loss[last] : 1, 1);
    chat_reading_free(&reading);
    chat_template_free(&chat);
    tokenizer_free(tokenizer);
  }
}

/* A token across the border of prompt and answer is in the loss. */
static void test_border(void **state) {
  (void)state;
  ChatTemplate chat;
  ChatReading reading = {0};
  ChatMessage talk[] = {say(CHAT_USER, "t"), say(CHAT_ASSISTANT, "he")};
  Tokenizer *tokenizer = open_with("gpt2", "{\"eos_token\": \"<|endoftext|>\"}");
  must_init(&chat, tokenizer, "plain");
  must_read(&chat, talk, 2, CHAT_EVERY_TURN, &reading);
  int merged = tokenizer_id(tokenizer, "the");
  assert_true(merged >= 0);
  assert_int_equal(reading.ids.size, 2);
  assert_int_equal(reading.ids.data[0], merged);
  assert_true(reading.loss.data[0] == 1 && reading.loss.data[1] == 1);
  chat_reading_free(&reading);
  chat_template_free(&chat);
  tokenizer_free(tokenizer);
}

static void expect_init(const char *family, const char *config, const char *name, ErrorCode code,
                        const char *says) {
  Error error = {0};
  ChatTemplate chat;
  Tokenizer *tokenizer = open_with(family, config);
  if (init(&chat, tokenizer, name, &error)) fail_msg("%s was accepted", name);
  assert_int_equal(error.code, code);
  if (!strstr(error.message, says)) fail_msg("\"%s\" does not say \"%s\"", error.message, says);
  tokenizer_free(tokenizer);
}

static void test_refusals(void **state) {
  (void)state;
  expect_init("gpt2", "{\"eos_token\": \"<|endoftext|>\"}", "chatlm", ERROR_USAGE, "known: plain, chatml");
  expect_init("gpt2", "{\"eos_token\": \"<|endoftext|>\"}", NULL, ERROR_MODEL, "has no chat template");
  expect_init("gpt2", "{\"eos_token\": \"<|endoftext|>\"}", "", ERROR_MODEL, "has no chat template");
  expect_init("gpt2", "{\"eos_token\": \"<|endoftext|>\"}", "chatml", ERROR_MODEL,
              "needs the token <|im_start|>");
  expect_init("gpt2", "{\"eos_token\": \"<|endoftext|>\"}", "llama3", ERROR_MODEL,
              "needs the token <|start_header_id|>");
  expect_init("gpt2", "{}", "plain", ERROR_MODEL, "needs an EOS token");
  expect_init("gpt2", "{\"eos_token\": \"<|endoftext|>\"}", "llama2", ERROR_MODEL, "needs a BOS token");
}

static void test_turns(void **state) {
  (void)state;
  ChatTemplate chat;
  ChatMessage twice[] = {say(CHAT_USER, "a"), say(CHAT_USER, "b")};
  Tokenizer *tokenizer = open_with("llama2_legacy", piece_config);
  must_init(&chat, tokenizer, "llama2");
  check_refused(&chat, twice, 2, "message 2");
  check_refused(&chat, twice, 0, "without messages");
  chat_template_free(&chat);
  tokenizer_free(tokenizer);
}

/* ---- the model's own templates ---- */

/* SmolLM2's tokenizer with a template of its own. */
static Tokenizer *open_own(const char *jinja) {
  json_t *config = json_pack("{s:s, s:s, s:s}", "bos_token", "<|im_start|>", "eos_token", "<|im_end|>",
                             "chat_template", jinja);
  char *text = json_dumps(config, 0);
  Tokenizer *tokenizer = open_with("smollm2", text);
  free(text);
  json_decref(config);
  return tokenizer;
}

static void check_own(const char *jinja, ChatMessage *messages, size_t count, ChatUse use,
                      const char *expected) {
  ChatTemplate chat;
  Tokenizer *tokenizer = open_own(jinja);
  must_init(&chat, tokenizer, NULL);
  check_use(&chat, messages, count, use, expected);
  chat_template_free(&chat);
  tokenizer_free(tokenizer);
}

#define TURN   "'<|im_start|>' + m.role + '\n' + "
#define ANSWER "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"

/* Whatever a template does around and to the text, what the assistant says is found from the rendering. */
static void test_own_template(void **state) {
  (void)state;
  const char asked[] = "A", again[] = "A",
             answer[] = "A"; /* each in a place of its own, as texts of records are */
  ChatMessage talk[] = {say(CHAT_USER, asked), say(CHAT_ASSISTANT, " A "), say(CHAT_USER, again),
                        say(CHAT_ASSISTANT, answer)};
  /* Stripped; the same text in every turn: nothing could be found by searching. */
  check_own(
      "{% for m in messages %}{{ " TURN "m.content | trim + '<|im_end|>\n' }}{% endfor %}" ANSWER, talk, 4,
      CHAT_EVERY_TURN,
      "<|im_start|>user\nA<|im_end|>\n<|im_start|>assistant\n[A<|im_end|>]\n<|im_start|>user\nA<|im_end|>\n"
      "<|im_start|>assistant\n[A<|im_end|>]\n");
  check_own(
      "{% for m in messages %}{{ " TURN "m.content | trim + '<|im_end|>\n' }}{% endfor %}" ANSWER, talk, 4,
      CHAT_LAST_TURN,
      "<|im_start|>user\nA<|im_end|>\n<|im_start|>assistant\nA<|im_end|>\n<|im_start|>user\nA<|im_end|>\n"
      "<|im_start|>assistant\n[A<|im_end|>]\n");
  /* Its own blocks; the end mark behind a block is taken in. */
  check_own(
      "{% for m in messages %}{{ '<|im_start|>' + m.role }}\n{% if m.role == 'assistant' %}{% generation %}"
      "{{ m.content }}{% endgeneration %}{% else %}{{ m.content }}{% endif %}{{ '<|im_end|>' }}\n{% endfor "
      "%}" ANSWER,
      talk + 2, 2, CHAT_EVERY_TURN, "<|im_start|>user\nA<|im_end|>\n<|im_start|>assistant\n[A<|im_end|>]\n");
  /* More than one special token: the last one is the end. */
  check_own(
      "{% for m in messages %}{{ " TURN "m.content + '<|endoftext|>x<|im_end|>\n' }}{% endfor %}" ANSWER,
      talk + 2, 2, CHAT_EVERY_TURN,
      "<|im_start|>user\nA<|endoftext|>x<|im_end|>\n<|im_start|>assistant\n[A<|endoftext|>x<|im_end|>]\n");
  /* A turn that is kept out. */
  talk[1].unlearnt = true;
  check_own("{% for m in messages %}{{ " TURN "m.content + '<|im_end|>' }}{% endfor %}" ANSWER, talk, 4,
            CHAT_EVERY_TURN,
            "<|im_start|>user\nA<|im_end|><|im_start|>assistant\n A <|im_end|><|im_start|>user\nA<|im_end|>"
            "<|im_start|>assistant\n[A<|im_end|>]");
}

static const char thinking[] =
    "{% for m in messages %}{% set text = m.content %}"
    "{% if m.role == 'assistant' and not loop.last and '</t>' in text %}{% set text = text.split('</t>')[-1] "
    "%}{% endif %}"
    "{{ " TURN "text + '<|im_end|>' }}{% endfor %}" ANSWER;

/* Thinking is taken out of earlier turns: the whole is not what was generated. */
static void test_turns_apart(void **state) {
  (void)state;
  ChatMessage talk[] = {say(CHAT_USER, "Q"), say(CHAT_ASSISTANT, "<t>x</t>A"), say(CHAT_USER, "R"),
                        say(CHAT_ASSISTANT, "B")};
  ChatTemplate chat;
  ChatReading reading = {0};
  Tokenizer *tokenizer = open_own(thinking);
  must_init(&chat, tokenizer, NULL);
  must_read(&chat, talk, 4, CHAT_EVERY_TURN, &reading);
  assert_true(reading.found.apart);
  for (size_t i = 0; i < reading.loss.size; i++) assert_int_equal(reading.loss.data[i], 0);
  chat_reading_free(&reading);
  check_use(&chat, talk, 2, CHAT_LAST_TURN,
            "<|im_start|>user\nQ<|im_end|><|im_start|>assistant\n[<t>x</t>A<|im_end|>]");
  check_use(&chat, talk, 4, CHAT_LAST_TURN,
            "<|im_start|>user\nQ<|im_end|><|im_start|>assistant\nA<|im_end|><|im_start|>user\nR<|im_end|>"
            "<|im_start|>assistant\n[B<|im_end|>]");
  chat_template_free(&chat);
  tokenizer_free(tokenizer);
}

static ChatFindings find(const char *jinja, ChatMessage *messages, size_t count) {
  ChatTemplate chat;
  ChatReading reading = {0};
  Tokenizer *tokenizer = open_own(jinja);
  must_init(&chat, tokenizer, NULL);
  must_read(&chat, messages, count, CHAT_EVERY_TURN, &reading);
  const ChatFindings found = reading.found;
  chat_reading_free(&reading);
  chat_template_free(&chat);
  tokenizer_free(tokenizer);
  return found;
}

static void test_findings(void **state) {
  (void)state;
  ChatMessage talk[] = {say(CHAT_SYSTEM, "S"), say(CHAT_USER, "Q"), say(CHAT_ASSISTANT, "Well, yes")};
  ChatFindings found =
      find("{% for m in messages %}{{ " TURN "m.content + '<|im_end|>' }}{% endfor %}" ANSWER, talk, 3);
  assert_true(found.left_out == -1 && found.changed == -1 && found.without_end == -1 && !found.apart);
  found = find("{% for m in messages %}{% if m.role != 'system' %}{{ " TURN
               "m.content + '<|im_end|>' }}{% endif %}{% endfor %}" ANSWER,
               talk, 3);
  assert_int_equal(found.left_out, 0);
  found =
      find("{% for m in messages %}{{ " TURN "m.content.split(',')[0] + '<|im_end|>' }}{% endfor %}" ANSWER,
           talk, 3);
  assert_int_equal(found.changed, 2);
  found = find("{% for m in messages %}{{ " TURN "m.content | upper + '<|im_end|>' }}{% endfor %}" ANSWER,
               talk, 3);
  assert_int_equal(found.changed, 2);
  found = find("{% for m in messages %}{{ " TURN "m.content + '\n\n' }}{% endfor %}" ANSWER, talk, 3);
  assert_int_equal(found.without_end, 2);
  /* Left out altogether: nothing of the turn is learnt, not even how it ends. */
  static const char silent[] =
      "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}"
      "{% if m.role != 'assistant' %}{{ m.content }}{% endif %}{{ '<|im_end|>' }}{% endfor %}" ANSWER;
  found = find(silent, talk, 3);
  assert_int_equal(found.left_out, 2);
  check_own(silent, talk, 3, CHAT_EVERY_TURN,
            "<|im_start|>system\nS<|im_end|><|im_start|>user\nQ<|im_end|><|im_start|>assistant\n<|im_end|>");
  /* An empty answer ends all the same. */
  talk[2] = say(CHAT_ASSISTANT, "");
  check_own(
      silent, talk, 3, CHAT_EVERY_TURN,
      "<|im_start|>system\nS<|im_end|><|im_start|>user\nQ<|im_end|><|im_start|>assistant\n[<|im_end|>]");
}

/* Tools reach the template, calls with their arguments as objects; a template that does not show them is refused. */
static void test_tools(void **state) {
  (void)state;
  json_t *tools = json_pack("[{s:s}]", "name", "add");
  json_t *call = json_pack("{s:s, s:n, s:[{s:{s:s, s:s}}]}", "role", "assistant", "content", "tool_calls",
                           "function", "name", "add", "arguments", "{\"a\": 1}");
  ChatMessage messages[] = {say(CHAT_USER, "Q"), {.role = CHAT_ASSISTANT, .extra = call}};
  Conversation talk = {.items = messages, .count = 2, .tools = tools};
  static const char shows[] =
      "{% if tools %}{{ tools | tojson }}\n{% endif %}"
      "{% for m in messages %}{{ '<|im_start|>' + m.role }}\n{% if m.content %}{{ m.content }}{% endif %}"
      "{% for c in m.tool_calls %}<c>{{ c.function.name }} {{ c.function.arguments | tojson }}</c>{% endfor "
      "%}"
      "{{ '<|im_end|>' }}{% endfor %}" ANSWER;
  ChatTemplate chat;
  ChatReading reading = {0};
  Buffer marked = {0};
  Error error = {0};
  Tokenizer *tokenizer = open_own(shows);
  must_init(&chat, tokenizer, NULL);
  assert_true(chat_read(&chat, &talk, 2, CHAT_EVERY_TURN, 0, &reading, &error));
  mark_text(&reading, &marked);
  assert_string_equal(marked.data,
                      "[{\"name\": \"add\"}]\n<|im_start|>user\nQ<|im_end|><|im_start|>assistant\n"
                      "[<c>add {\"a\": 1}</c><|im_end|>]");
  assert_int_equal(reading.found.left_out, -1);
  chat_template_free(&chat);
  tokenizer_free(tokenizer);

  tokenizer = open_own("{% for m in messages %}{{ m.role }}{{ m.content }}{{ '<|im_end|>' }}{% endfor %}");
  must_init(&chat, tokenizer, NULL);
  assert_false(chat_read(&chat, &talk, 2, CHAT_EVERY_TURN, 0, &reading, &error));
  assert_int_equal(error.code, ERROR_DATA);
  assert_non_null(strstr(error.message, "has tools"));
  talk.tools = NULL;
  error = (Error){0};
  assert_true(chat_read(&chat, &talk, 2, CHAT_EVERY_TURN, 0, &reading, &error));
  assert_int_equal(reading.found.left_out, 1); /* the calls */
  chat_template_free(&chat);
  tokenizer_free(tokenizer);
  buffer_free(&marked);
  chat_reading_free(&reading);
  json_decref(tools);
  json_decref(call);
}

/* What has three names in records is there under both that templates read; keys that are null are not there at all. */
static void test_keys(void **state) {
  (void)state;
  static const char *const names[] = {"reasoning_content", "thinking", "reasoning"};
  ChatTemplate chat;
  ChatReading reading = {0};
  Buffer marked = {0};
  Error error = {0};
  Tokenizer *tokenizer = open_own(
      "{% for m in messages %}{{ '<|im_start|>' + m.role }}\n{{ m.content is defined }}{{ m.name is defined "
      "}}"
      "{% if m.thinking %}<t>{{ m.reasoning_content }}|{{ m.thinking }}</t>{% endif %}{{ m.content }}{{ "
      "'<|im_end|>' }}"
      "{% endfor %}" ANSWER);
  must_init(&chat, tokenizer, NULL);
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    json_t *list = json_pack("[{s:s, s:s, s:n}, {s:s, s:s, s:s}]", "role", "user", "content", "Q", "name",
                             "role", "assistant", "content", "A", names[i], "Hm.");
    Conversation talk = {0};
    assert_true(conversation_add_json(&talk, list, &error));
    assert_true(chat_read(&chat, &talk, 2, CHAT_EVERY_TURN, 0, &reading, &error));
    buffer_clear(&marked);
    mark_text(&reading, &marked);
    assert_string_equal(marked.data,
                        "<|im_start|>user\nTrueFalseQ<|im_end|><|im_start|>assistant\n"
                        "[TrueFalse<t>Hm.|Hm.</t>A<|im_end|>]");
    assert_int_equal(reading.found.changed, -1);
    conversation_free(&talk);
    json_decref(list);
  }
  chat_template_free(&chat);
  tokenizer_free(tokenizer);
  buffer_free(&marked);
  chat_reading_free(&reading);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_families),     cmocka_unit_test(test_system_and_input),
      cmocka_unit_test(test_bos),          cmocka_unit_test(test_border),
      cmocka_unit_test(test_refusals),     cmocka_unit_test(test_turns),
      cmocka_unit_test(test_own_template), cmocka_unit_test(test_turns_apart),
      cmocka_unit_test(test_findings),     cmocka_unit_test(test_tools),
      cmocka_unit_test(test_keys),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
