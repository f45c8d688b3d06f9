#include "scoring/reading.h"

#include "base/json.h"

#include <string.h>

static bool open_tools(Reading *reading, const ModelPlace *model, const char *template,
                       const ScoringSetting *setting, Error *error) {
  const ModelConfig place = {.path = model->path, .adapter = model->adapter};
  DataConfig data = {.chat = setting->data->chat};
  data.chat.name = (char *)template;
  data.chat.args = NULL; /* they are for the policy's template */
  Error why = {0};
  if (!text_tools_open(&reading->tools, &place, &data, setting->log, &why)) {
    static const char other[] = "data.template: "; /* the option of the policy's */
    const bool named = strncmp(why.message, other, sizeof other - 1) == 0;
    return error_set(error, why.code, "%s%s", named ? "'template': " : "",
                     why.message + (named ? sizeof other - 1 : 0));
  }
  if (reading->tools.has_chat) return true;
  return error_set(
      error, ERROR_MODEL,
      "%s: its tokens are not the policy's, so that answers are read again, and there is no chat "
      "template to do it by: give the source a 'template' (%s)",
      model->path, reading->tools.chat_error.message);
}

static bool same_rendering(const TextTools *a, const TextTools *b) {
  return strcmp(a->identity.rendering, b->identity.rendering) == 0;
}

bool reading_open(Reading *reading, const ModelPlace *model, const char *template,
                  const ScoringSetting *setting, Error *error) {
  TextLikeness likeness;
  Error difference = {0};
  *reading = (Reading){0};
  Log *log = setting->met && strcmp(setting->met, model->path) == 0 ? NULL : setting->log;
  if (!text_tools_compare(setting->text, model->path, model->adapter, log, &likeness, &difference, error)) {
    return false;
  }
  const bool named = strcmp(template, "auto") != 0;
  if (likeness == TEXT_SAME && !named) return true;
  if (!open_tools(reading, model, template, setting, error)) return false;
  reading->needed = likeness == TEXT_OTHER_TOKENS || !same_rendering(&reading->tools, setting->text);
  if (!reading->needed) {
    text_tools_close(&reading->tools);
  } else if (setting->log) {
    log_info(setting->log, "%s: answers are rendered by the chat template %s%s for it", model->path,
             reading->tools.chat.name,
             likeness == TEXT_OTHER_TOKENS ? " and tokenised again by its own tokenizer" : "");
  }
  return true;
}

void reading_close(Reading *reading) {
  chat_reading_free(&reading->chat);
  conversation_free(&reading->talk);
  text_tools_close(&reading->tools);
  *reading = (Reading){0};
}

bool reading_serves(const Reading *reading, const ModelPlace *first, const ModelPlace *other,
                    const char *template, const ScoringSetting *setting, Error *error) {
  ScoringSetting silent = *setting;
  Reading own;
  silent.log = NULL;
  if (!reading_open(&own, other, template, &silent, error)) return false;
  const bool same =
      own.needed == reading->needed && (!own.needed || same_rendering(&own.tools, &reading->tools));
  reading_close(&own);
  return same ||
         error_set(error, ERROR_MODEL,
                   "%s: it was trained with another chat template than %s, and the models of an ensemble "
                   "read answers alike",
                   other->adapter, first->adapter);
}

bool reading_encode(Reading *reading, const Answer *answer, const Buffer *said, int64_t limit, IntArray *ids,
                    bool *shortened, Error *error) {
  Conversation *talk = &reading->talk;
  const ChatMessage turn = {.role = CHAT_ASSISTANT, .text = said->data, .bytes = said->size};
  json_error_t broken;
  json_t *record = json_parse(answer->prompt.record, answer->prompt.record_bytes, json_limit_record,
                              JSON_ALLOW_NUL, &broken);
  if (!record) return error_set(error, ERROR_DATA, "the record of a prompt: %s", broken.text);
  const json_t *tools = json_object_get(record, "tools");
  talk->count = 0;
  talk->tools = tools;
  const bool ok = conversation_add_json(talk, json_object_get(record, "messages"), error) &&
                  conversation_push(talk, turn, error) &&
                  chat_read_answered(&reading->tools.chat, talk, answer->ended, (size_t)limit, &reading->chat,
                                     shortened, error) &&
                  int_array_append(ids, reading->chat.ids.data, reading->chat.ids.size, error);
  json_decref(record);
  return ok;
}
