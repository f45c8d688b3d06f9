/* What is in the loss under chat templates, against what masks.py found by other means.
 *
 *     run_masks FILE.json [--shifted]
 *
 * Each template gets a tokenizer of bytes and its special tokens, so that a mask of tokens is one of bytes and marks. --shifted: every mask is moved
 * by one token first, and each case must then be seen to be wrong. Exit code 1 when anything else is the case. */
#include "base/file.h"
#include "base/json.h"
#include "datasets/chat.h"
#include "tests/temporary.h"
#include "tokenizer/train.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct Runner {
  const json_t *inputs;
  int64_t now;
  bool shifted;
  Temporary folder;
  ChatReading reading;
  int right, wrong;
} Runner;

static void must(bool ok, const Error *error) {
  if (ok) return;
  fprintf(stderr, "%s\n", error->message);
  exit(1);
}

static Tokenizer *open_tokenizer(Runner *runner, const json_t *template) {
  const json_t *list = json_object_get(template, "special");
  const size_t count = json_array_size(list);
  const char **special = memory_alloc(count * sizeof *special);
  Error error = {0};
  must(special != NULL, &error);
  for (size_t i = 0; i < count; i++) special[i] = json_string_value(json_array_get(list, i));
  const TokenizerTraining training = {
      .vocab_size = 256 + (int)count,
      .special = special,
      .special_count = count,
      .bos = "<s>",
      .eos = "</s>",
      .pad = "<pad>",
      .unk = "<unk>",
      .chat_template = json_string_value(json_object_get(template, "source"))};
  char *directory = memory_copy_string(temporary_path(&runner->folder, "tokenizer"));
  TokenizerTrainer *trainer = tokenizer_trainer_open(&training, &error);
  must(trainer && tokenizer_trainer_write(trainer, directory, NULL, &error), &error);
  tokenizer_trainer_free(trainer);
  memory_free(special);
  Tokenizer *tokenizer = tokenizer_open(directory, &error);
  memory_free(directory);
  must(tokenizer != NULL, &error);
  return tokenizer;
}

/* The text of the tokens in the loss. */
static void said(const Runner *runner, const Tokenizer *tokenizer, Buffer *out) {
  const ChatReading *reading = &runner->reading;
  IntArray kept = {0};
  Error error = {0};
  for (size_t i = 0; i < reading->ids.size; i++) {
    const size_t from = runner->shifted ? i + 1 : i;
    if (from < reading->ids.size && reading->loss.data[from])
      must(int_array_push(&kept, reading->ids.data[i], &error), &error);
  }
  must(buffer_append(out, "", 0, &error) &&
           tokenizer_decode(tokenizer, kept.data, kept.size, false, out, &error),
       &error);
  int_array_free(&kept);
}

static void add_example(Runner *runner, const ChatTemplate *chat, const Conversation *talk, size_t count,
                        ChatUse use, json_t *examples) {
  Buffer text = {0};
  Error error = {0};
  must(chat_read(chat, talk, count, use, 0, &runner->reading, &error), &error);
  said(runner, chat->tokenizer, &text);
  json_array_append_new(examples, json_stringn(text.data, text.size));
  buffer_free(&text);
}

/* As datasets/encode.c makes examples of a conversation. */
static json_t *examples_of(Runner *runner, const ChatTemplate *chat, const json_t *input) {
  Conversation talk = {0};
  Error error = {0};
  json_t *examples = json_array();
  must(conversation_add_json(&talk, json_object_get(input, "messages"), &error), &error);
  add_example(runner, chat, &talk, talk.count, CHAT_EVERY_TURN, examples);
  if (runner->reading.found.apart) {
    json_array_clear(examples);
    for (size_t i = 0; i < talk.count; i++) {
      if (talk.items[i].role == CHAT_ASSISTANT)
        add_example(runner, chat, &talk, i + 1, CHAT_LAST_TURN, examples);
    }
  }
  conversation_free(&talk);
  return examples;
}

static void check(Runner *runner, const ChatTemplate *chat, const json_t *item) {
  const char *name = json_string_value(json_object_get(item, "input"));
  const json_t *expected = json_object_get(item, "examples");
  if (runner->shifted && strcmp(name, "empty content") == 0) return; /* nothing there can be seen to move */
  json_t *found = examples_of(runner, chat, json_object_get(runner->inputs, name));
  const bool equal = json_equal(found, expected);
  if (equal != runner->shifted) {
    runner->right++;
  } else {
    runner->wrong++;
    char *is = json_dumps(found, 0), *should = json_dumps(expected, 0);
    printf("%s, %s:\n  found    %s\n  expected %s\n", json_string_value(json_object_get(item, "template")),
           name, is, should);
    free(is);
    free(should);
  }
  json_decref(found);
}

int main(int argc, char **argv) {
  json_error_t broken;
  json_t *root = argc > 1 ? json_load_file(argv[1], 0, &broken) : NULL;
  if (!root) {
    fprintf(stderr, "expected: run_masks FILE.json [--shifted]\n");
    return 2;
  }
  Runner runner = {.inputs = json_object_get(root, "inputs"),
                   .now = json_integer_value(json_object_get(root, "now")),
                   .shifted = argc > 2 && strcmp(argv[2], "--shifted") == 0};
  temporary_open(&runner.folder);
  const char *name;
  json_t *template;
  json_object_foreach(json_object_get(root, "templates"), name, template) {
    Tokenizer *tokenizer = open_tokenizer(&runner, template);
    ChatTemplate chat;
    Error error = {0};
    if (!chat_template_init(&chat, tokenizer, &(ChatOptions){.now = runner.now}, &error)) {
      printf("%s: %s\n", name, error.message);
      runner.wrong++;
      tokenizer_free(tokenizer);
      continue;
    }
    size_t i;
    json_t *item;
    json_array_foreach(json_object_get(root, "cases"), i, item) {
      if (strcmp(json_string_value(json_object_get(item, "template")), name) == 0)
        check(&runner, &chat, item);
    }
    chat_template_free(&chat);
    tokenizer_free(tokenizer);
  }
  printf("%d cases as expected, %d not\n", runner.right, runner.wrong);
  chat_reading_free(&runner.reading);
  temporary_close(&runner.folder);
  json_decref(root);
  return runner.wrong > 0 || runner.right == 0;
}
