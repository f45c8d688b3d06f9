/* Chat templates by name: text, what is in the loss, ids, and what is refused. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/companions.h"
#include "base/file.h"
#include "datasets/chat.h"
#include "datasets/chat_detect.h"
#include "tokenizer/train.h"

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

/* The rendering with [ ] around what is in the loss. */
static void check_marked(const ChatTemplate *chat, const ChatMessage *messages, size_t count, bool prompt,
                         const char *expected) {
  Error error = {0};
  ChatText text = {0};
  Buffer marked = {0};
  if (!chat_render(chat, messages, count, prompt, &text, &error)) fail_msg("%s", error.message);
  for (size_t i = 0; i < text.segment_count; i++) {
    ChatSegment segment = text.segments[i];
    assert_true(buffer_format(&marked, &error, segment.loss ? "[%.*s]" : "%.*s",
                              (int)(segment.end - segment.begin), text.text.data + segment.begin));
  }
  assert_string_equal(marked.data, expected);
  chat_text_free(&text);
  buffer_free(&marked);
}

/* The tokens in the loss, decoded, are exactly the text in the loss. */
static void check_loss_tokens(const ChatTemplate *chat, const ChatMessage *messages, size_t count,
                              const char *expected) {
  Error error = {0};
  IntArray ids = {0}, loss = {0}, kept = {0};
  Buffer text = {0};
  assert_true(chat_encode(chat, messages, count, false, &ids, &loss, &error));
  for (size_t i = 0; i < ids.size; i++)
    if (loss.data[i]) assert_true(int_array_push(&kept, ids.data[i], &error));
  assert_true(tokenizer_decode(chat->tokenizer, kept.data, kept.size, false, &text, &error));
  assert_string_equal(text.data, expected);
  int_array_free(&ids);
  int_array_free(&loss);
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
    const char *family, *tokenizer, *config, *rendered, *loss;
  } cases[] = {
      {"plain", "gpt2", "{\"eos_token\": \"<|endoftext|>\"}", "Q [A <|endoftext|>]R[B<|endoftext|>]",
       "A <|endoftext|>B<|endoftext|>"},
      {"chatml", "smollm2", pipe_config,
       "<|im_start|>user\nQ <|im_end|>\n<|im_start|>assistant\n[A "
       "<|im_end|>]\n<|im_start|>user\nR<|im_end|>\n"
       "<|im_start|>assistant\n[B<|im_end|>]\n<|im_start|>assistant\n",
       "A <|im_end|>B<|im_end|>"},
      {"alpaca", "gpt2", "{\"eos_token\": \"<|endoftext|>\"}",
       "%s\n\n### Instruction:\nQ \n\n### Response:\n[A <|endoftext|>]### Instruction:\nR\n\n### Response:\n"
       "[B<|endoftext|>]### Response:\n",
       "A <|endoftext|>B<|endoftext|>"},
      {"vicuna", "llama2_metaspace", piece_config,
       "%s USER: Q  ASSISTANT:[ A </s>]USER: R ASSISTANT:[ B</s>]ASSISTANT:", "A </s> B</s>"},
      {"zephyr", "llama2_legacy", piece_config,
       "<|user|>\nQ </s>\n<|assistant|>\n[A </s>]\n<|user|>\nR</s>\n<|assistant|>\n[B</s>]\n<|assistant|>\n",
       "A </s>B</s>"},
      {"llama2", "llama2_legacy", piece_config, "<s>[INST] Q [/INST][ A </s>]<s>[INST] R [/INST][ B </s>]",
       "A </s> B </s>"},
      {"llama3", "llama3", header_config,
       "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nQ<|eot_id|><|start_header_id|>assistant"
       "<|end_header_id|>\n\n[A<|eot_id|>]<|start_header_id|>user<|end_header_id|>\n\nR<|eot_id|><|start_"
       "header_id|>"
       "assistant<|end_header_id|>\n\n[B<|eot_id|>]<|start_header_id|>assistant<|end_header_id|>\n\n",
       "A<|eot_id|>B<|eot_id|>"},
  };
  const ChatMessage talk[] = {say(CHAT_USER, "Q "), say(CHAT_ASSISTANT, "A "), say(CHAT_USER, "R"),
                              say(CHAT_ASSISTANT, "B")};
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    Error error = {0};
    ChatTemplate chat;
    Tokenizer *tokenizer = open_with(cases[i].tokenizer, cases[i].config);
    if (!chat_template_init(&chat, tokenizer, cases[i].family, &error)) fail_msg("%s", error.message);
    char expected[1024];
    const char *preamble = cases[i].family[0] == 'a' ? alpaca : vicuna,
               *hole = strstr(cases[i].rendered, "%s");
    snprintf(expected, sizeof expected, "%s%s", hole ? preamble : "", cases[i].rendered + (hole ? 2 : 0));
    check_marked(&chat, talk, 4, true, expected);
    check_loss_tokens(&chat, talk, 4, cases[i].loss);
    assert_true(tokenizer_is_eos(tokenizer, chat.end_id));
    chat_template_free(&chat);
    tokenizer_free(tokenizer);
  }
}

static void test_system_and_input(void **state) {
  (void)state;
  Error error = {0};
  ChatTemplate chat;
  ChatMessage user = say(CHAT_USER, "Sum"), answer = say(CHAT_ASSISTANT, "3"),
              system = say(CHAT_SYSTEM, "Be kind.");
  user.input = "1 2";
  user.input_bytes = 3;
  const ChatMessage plain[] = {user, answer}, full[] = {system, user, answer};
  Tokenizer *tokenizer = open_with("gpt2", "{\"eos_token\": \"<|endoftext|>\"}");
  assert_true(chat_template_init(&chat, tokenizer, "alpaca", &error));
  check_marked(
      &chat, plain, 2, false,
      "Below is an instruction that describes a task, paired with an input that provides further context. "
      "Write a "
      "response that appropriately completes the request.\n\n### Instruction:\nSum\n\n### Input:\n1 2\n\n"
      "### Response:\n[3<|endoftext|>]");
  check_marked(&chat, full, 3, false,
               "Be kind.\n\n### Instruction:\nSum\n\n### Input:\n1 2\n\n### Response:\n[3<|endoftext|>]");
  const ChatMessage late[] = {user, system};
  ChatText text = {0};
  assert_false(chat_render(&chat, late, 2, false, &text, &error));
  assert_int_equal(error.code, ERROR_DATA);
  chat_text_free(&text);
  chat_template_free(&chat);
  tokenizer_free(tokenizer);
  error = (Error){0};
  tokenizer = open_with("llama2_legacy", piece_config);
  assert_true(chat_template_init(&chat, tokenizer, "llama2", &error));
  check_marked(&chat, full, 3, false, "<s>[INST] <<SYS>>\nBe kind.\n<</SYS>>\n\nSum\n\n1 2 [/INST][ 3 </s>]");
  chat_template_free(&chat);
  assert_true(chat_template_init(&chat, tokenizer, "vicuna", &error));
  check_marked(&chat, full, 3, false, "Be kind. USER: Sum\n\n1 2 ASSISTANT:[ 3</s>]");
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
  const ChatMessage talk[] = {say(CHAT_USER, "Hello"), say(CHAT_ASSISTANT, "Hi")};
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    Error error = {0};
    ChatTemplate chat;
    IntArray ids = {0}, loss = {0};
    size_t times = 0;
    Tokenizer *tokenizer = open_with(cases[i].tokenizer, cases[i].config);
    assert_true(chat_template_init(&chat, tokenizer, cases[i].family, &error));
    assert_true(chat_encode(&chat, talk, 2, false, &ids, &loss, &error));
    for (size_t k = 0; k < ids.size; k++) times += ids.data[k] == tokenizer_bos(tokenizer);
    assert_int_equal(times, cases[i].times);
    if (times) assert_int_equal(ids.data[0], tokenizer_bos(tokenizer));
    if (cases[i].first > 0) assert_int_equal(ids.data[0], cases[i].first);
    assert_int_equal(loss.size, ids.size);
    assert_int_equal(loss.data[0], 0);
    assert_int_equal(ids.data[ids.size - 1] == chat.end_id ? loss.data[ids.size - 1] : 1, 1);
    int_array_free(&ids);
    int_array_free(&loss);
    chat_template_free(&chat);
    tokenizer_free(tokenizer);
  }
}

/* A token across the border of prompt and answer is in the loss. */
static void test_border(void **state) {
  (void)state;
  Error error = {0};
  ChatTemplate chat;
  IntArray ids = {0}, loss = {0};
  const ChatMessage talk[] = {say(CHAT_USER, "t"), say(CHAT_ASSISTANT, "he")};
  Tokenizer *tokenizer = open_with("gpt2", "{\"eos_token\": \"<|endoftext|>\"}");
  assert_true(chat_template_init(&chat, tokenizer, "plain", &error));
  assert_true(chat_encode(&chat, talk, 2, false, &ids, &loss, &error));
  int merged = tokenizer_id(tokenizer, "the");
  assert_true(merged >= 0);
  assert_int_equal(ids.size, 2);
  assert_int_equal(ids.data[0], merged);
  assert_true(loss.data[0] == 1 && loss.data[1] == 1);
  int_array_free(&ids);
  int_array_free(&loss);
  chat_template_free(&chat);
  tokenizer_free(tokenizer);
}

static void expect_init(const char *family, const char *config, const char *name, ErrorCode code,
                        const char *says) {
  Error error = {0};
  ChatTemplate chat;
  Tokenizer *tokenizer = open_with(family, config);
  if (chat_template_init(&chat, tokenizer, name, &error)) fail_msg("%s was accepted", name);
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
  Error error = {0};
  ChatTemplate chat;
  ChatText text = {0};
  const ChatMessage twice[] = {say(CHAT_USER, "a"), say(CHAT_USER, "b")};
  Tokenizer *tokenizer = open_with("llama2_legacy", piece_config);
  assert_true(chat_template_init(&chat, tokenizer, "llama2", &error));
  assert_false(chat_render(&chat, twice, 2, false, &text, &error));
  assert_int_equal(error.code, ERROR_DATA);
  assert_non_null(strstr(error.message, "message 2"));
  error = (Error){0};
  assert_false(chat_render(&chat, twice, 0, false, &text, &error));
  assert_int_equal(error.code, ERROR_DATA);
  chat_text_free(&text);
  chat_template_free(&chat);
  tokenizer_free(tokenizer);
}

static void test_canonical(void **state) {
  (void)state;
  static const struct {
    const char *jinja, *canonical;
  } cases[] = {
      {"{{- 'a' + \"b\" -}}", "{{'ab'}}"},
      {"{% if x %}\n {{ message.content }} {%- endif -%}", "{%ifx%}{{message['content']}}{%endif%}"},
      {"{{ 'a\n' }}{# no {{ tag }} #}{{ message[\"role\"] }}", "{{'a\\n'+message['role']}}"},
      {"{{ x.strip() }}", "{{x|trim}}"},
      {"{{ 'it\\'s' }}", "{{'it's'}}"},
      {"{{ 'open", "{{'open'}}"},
      {"{# open", ""},
      {"{{", "{{}}"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    Error error = {0};
    Buffer out = {0};
    assert_true(chat_canonical(cases[i].jinja, &out, &error));
    assert_string_equal(out.data ? out.data : "", cases[i].canonical);
    buffer_free(&out);
  }
}

/* ---- the trainer's own checks ---- */

static void expect_training(TokenizerTraining training, const char *says) {
  Error error = {0};
  assert_null(tokenizer_trainer_open(&training, &error));
  assert_int_equal(error.code, ERROR_USAGE);
  if (!strstr(error.message, says)) fail_msg("\"%s\" does not say \"%s\"", error.message, says);
}

static void test_training(void **state) {
  (void)state;
  static const char *const special[] = {"<|im_start|>", "<|im_end|>"}, *const twice[] = {"a", "a"},
                           *const bad[] = {"\xff"};
  TokenizerTraining good = {.vocab_size = 300,
                            .special = special,
                            .special_count = 2,
                            .bos = special[0],
                            .eos = special[1],
                            .add_bos = true,
                            .chat_template = tokenizer_chatml_template,
                            .model_max_length = 64};
  TokenizerTraining wrong = good;
  wrong.vocab_size = 257;
  expect_training(wrong, "need 258");
  wrong = good;
  wrong.eos = "</s>";
  expect_training(wrong, "</s> is not among");
  wrong = good;
  wrong.bos = NULL;
  expect_training(wrong, "needs a BOS");
  expect_training((TokenizerTraining){.vocab_size = 300, .special = twice, .special_count = 2},
                  "given twice");
  expect_training((TokenizerTraining){.vocab_size = 300, .special = bad, .special_count = 1}, "not UTF-8");

  Error error = {0};
  ChatTemplate chat;
  int size = 0;
  TokenizerTrainer *trainer = tokenizer_trainer_open(&good, &error);
  assert_non_null(trainer);
  assert_true(tokenizer_trainer_add_text(trainer, "abab<|im_end|>abab", 18, &error));
  assert_true(tokenizer_trainer_write(trainer, directory, &size, &error));
  assert_int_equal(size,
                   260); /* ab, abab: no pair is left, and the special token's letters were not counted */
  tokenizer_trainer_free(trainer);
  Tokenizer *tokenizer = tokenizer_open(directory, &error);
  if (!tokenizer) fail_msg("%s", error.message);
  assert_true(tokenizer_adds_bos(tokenizer));
  assert_true(chat_template_init(&chat, tokenizer, "auto", &error));
  assert_int_equal(chat.family, CHAT_CHATML);
  assert_int_equal(chat.end_id, 1);
  chat_template_free(&chat);
  tokenizer_free(tokenizer);
}

static void test_training_out_of_memory(void **state) {
  (void)state;
  TokenizerTraining training = {.vocab_size = 300};
  long failures = 0;
  for (long allowed = 0;; allowed += 1 + allowed / 16) {
    Error error = {0};
    memory_fail_after(allowed);
    TokenizerTrainer *trainer = tokenizer_trainer_open(&training, &error);
    bool done = trainer && tokenizer_trainer_add_text(trainer, "the cat and the hat", 19, &error) &&
                tokenizer_trainer_write(trainer, directory, NULL, &error);
    memory_fail_after(-1);
    tokenizer_trainer_free(trainer);
    if (done) break;
    assert_int_equal(error.code, ERROR_MEMORY);
    failures++;
  }
  assert_true(failures > 20);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_families),
      cmocka_unit_test(test_system_and_input),
      cmocka_unit_test(test_bos),
      cmocka_unit_test(test_border),
      cmocka_unit_test(test_refusals),
      cmocka_unit_test(test_turns),
      cmocka_unit_test(test_canonical),
      cmocka_unit_test(test_training),
      cmocka_unit_test(test_training_out_of_memory),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
