#include "datasets/fields.h"

#include "datasets/formats.h"
#include "datasets/turns.h"

#include <stdio.h>
#include <string.h>

/* -- names of keys ----------------------------------------------------------------------------------------- */

static bool has_name(const KeyNames *names, const char *name, size_t length) {
  for (const char *at = names->text; *at;) {
    const size_t size = strcspn(at, ",");
    if (size == length && !memcmp(at, name, length)) return true;
    at += size;
    if (*at) at += 2; /* ", " */
  }
  return false;
}

/* Names beyond the room that there is are not kept: three dots stand for them. */
void fields_pass(KeyNames *names, const char *prefix, const char *key) {
  char name[96];
  const int length = snprintf(name, sizeof name, "%s%s", prefix, key);
  if (length <= 0 || (size_t)length >= sizeof name || names->full) return;
  if (has_name(names, name, (size_t)length)) return;
  const size_t used = strlen(names->text), room = sizeof names->text - used;
  names->full = (size_t)length + sizeof ", , ..." > room;
  snprintf(names->text + used, room, "%s%s", used ? ", " : "", names->full ? "..." : name);
}

/* -- what is honoured -------------------------------------------------------------------------------------- */

static bool one_of(const char *key, const char *const *keys) {
  while (*keys && strcmp(*keys, key) != 0) keys++;
  return *keys != NULL;
}

/* Keys of a message that go to the template with it. */
static const char *const carried_keys[] = {"tool_calls", "tool_call_id",      "function_call", "name",
                                           "reasoning",  "reasoning_content", "thinking",      NULL};

/* -- what is refused --------------------------------------------------------------------------------------- */

/* Keys by which other tools change the text of a conversation or what is learnt from it. */
static const char *const dialogue_keys[] = {"system",
                                            "input",
                                            "history",
                                            "tools",
                                            "functions",
                                            "tool_calls",
                                            "images",
                                            "image",
                                            "videos",
                                            "video",
                                            "audios",
                                            "audio",
                                            "train_detail",
                                            "reasoning",
                                            "reasoning_content",
                                            "thinking",
                                            "chat_template_kwargs",
                                            NULL};

static const char *const message_keys[] = {"tools",  "images", "image",        "videos", "video",
                                           "audios", "audio",  "train_detail", NULL};

/* Keys that leave a record out of training, or weigh it. */
static const char *const share_keys[] = {"label", "weight", "train", NULL};

static bool says_nothing(const json_t *value) {
  if (!value) return true;
  switch (json_typeof(value)) {
    case JSON_NULL:
    case JSON_FALSE:
      return true;
    case JSON_STRING:
      return json_string_length(value) == 0;
    case JSON_ARRAY:
      return json_array_size(value) == 0;
    case JSON_OBJECT:
      return json_object_size(value) == 0;
    default:
      return false;
  }
}

bool fields_say(const json_t *value) {
  return !says_nothing(value);
}

bool fields_weigh(const char *key) {
  return one_of(key, share_keys);
}

static bool refuse(RecordPlace place, const char *path, const char *key, const char *why, Error *error) {
  char full[192];
  snprintf(full, sizeof full, "%s%s%s", path, *path ? "." : "", key);
  return fail_text(place, full, why, error);
}

static bool refuse_unhonoured(RecordPlace place, const char *path, const char *key, Error *error) {
  return refuse(place, path, key,
                "is not supported, and without it the record would mean something else; take it out of the "
                "records, or leave these records out",
                error);
}

/* 0 or 1, as number or boolean; null is 1. */
static bool read_share(const json_t *value, const char *path, const char *key, RecordPlace place, bool *share,
                       Error *error) {
  *share = true;
  if (json_is_null(value) || json_is_true(value)) return true;
  *share = false;
  if (json_is_false(value)) return true;
  const double number = json_is_number(value) ? json_number_value(value) : -1;
  *share = number == 1;
  if (number == 0 || number == 1) return true;
  return refuse(place, path, key,
                json_is_number(value) ? "expected 0 or 1: learning with other weights is not supported"
                                      : "expected 0, 1, false or true",
                error);
}

/* A record that is to be learnt from in full passes. */
static bool check_share(const json_t *value, const char *key, RecordPlace place, Error *error) {
  bool share;
  if (!strcmp(key, "label")) {
    /* KTO's unpaired answers; a label of another type is a class of something, not a verdict on the answer. */
    if (!json_is_false(value)) return true;
    return refuse(place, "", key,
                  "false marks an undesired answer, which would be learnt; leave these records out "
                  "(jq -c 'select(.label)')",
                  error);
  }
  if (!read_share(value, "", key, place, &share, error)) return false;
  return share || refuse(place, "", key, "says not to learn from this record; leave such records out", error);
}

bool fields_check_record(const json_t *root, DatasetKind kind, DatasetFormat format, RecordPlace place,
                         KeyNames *passed, Error *error) {
  /* A raw text stands as it is whatever lies beside it; a prompt is not learnt from. */
  const bool dialogue = format != FORMAT_TEXT, learnt = kind == DATASET_SFT || kind == DATASET_TEXT;
  const char *key;
  json_t *value;
  json_object_foreach((json_t *)root, key, value) {
    if (format_has_key(format, key)) continue;
    if (format == FORMAT_RANKING && !strcmp(key, "margin") && !says_nothing(value)) {
      return refuse(place, "", key, "is of a pair; of several answers it is not known which pair is meant",
                    error);
    }
    if (dialogue && one_of(key, dialogue_keys)) {
      if (!says_nothing(value)) return refuse_unhonoured(place, "", key, error);
    } else if (learnt && one_of(key, share_keys) && (dialogue || strcmp(key, "label") != 0)) {
      if (!check_share(value, key, place, error)) return false;
    } else {
      fields_pass(passed, "", key);
    }
  }
  return true;
}

bool fields_check_message(const json_t *message, const char *role, const char *content, const char *path,
                          RecordPlace place, KeyNames *passed, bool *learnt, bool *carried, Error *error) {
  const char *key;
  json_t *value;
  *learnt = true;
  *carried = false;
  json_object_foreach((json_t *)message, key, value) {
    if (!strcmp(key, role) || !strcmp(key, content)) continue;
    if (!strcmp(key, "weight") || !strcmp(key, "train")) {
      bool share;
      if (!read_share(value, path, key, place, &share, error)) return false;
      *learnt = *learnt && share;
    } else if (one_of(key, carried_keys)) {
      *carried = *carried || !says_nothing(value);
    } else if (one_of(key, message_keys)) {
      if (!says_nothing(value)) return refuse_unhonoured(place, path, key, error);
    } else {
      fields_pass(passed, "messages[].", key);
    }
  }
  return true;
}
