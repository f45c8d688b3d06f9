/* Open-Assistant's trees: {"prompt": {"text", "role": "prompter", "replies": [{"text", "role", "rank", "replies": ...}, ...]}}. */
#include "datasets/record_formats.h"

#include <math.h>
#include <string.h>

enum { MOST_TURNS = 4096 };

static bool is_usable(const json_t *node) {
  return !json_is_true(json_object_get(node, "deleted")) &&
         !json_is_false(json_object_get(node, "review_result"));
}

static bool read_rank(const json_t *node, RecordPlace place, double *rank, Error *error) {
  bool there;
  if (!get_number(json_object_get(node, "rank"), "replies.rank", place, &there, rank, error)) return false;
  if (!there) *rank = INFINITY;
  return true;
}

/* The reply to go on with, NULL at the end of the path. */
static bool best_reply(const json_t *node, RecordPlace place, const json_t **best, Error *error) {
  const json_t *replies = json_object_get(node, "replies");
  double lowest = INFINITY;
  *best = NULL;
  if (!replies || json_is_null(replies)) return true;
  if (!json_is_array(replies)) return fail_type(place, "replies", "list of messages", replies, error);
  for (size_t i = 0; i < json_array_size(replies); i++) {
    const json_t *reply = json_array_get(replies, i);
    double rank;
    if (!json_is_object(reply)) return fail_type(place, "replies", "list of messages", reply, error);
    if (!is_usable(reply)) continue;
    if (!read_rank(reply, place, &rank, error)) return false;
    if (*best && rank >= lowest) continue;
    *best = reply;
    lowest = rank;
  }
  return true;
}

static bool push_node(Conversation *talk, const json_t *node, RecordPlace place, Error *error) {
  const char *role = json_string_value(json_object_get(node, "role"));
  const bool assistant = role && strcmp(role, "assistant") == 0;
  if (!assistant && (!role || strcmp(role, "prompter") != 0)) {
    return fail_text(place, "role", "expected prompter or assistant in every message of a tree", error);
  }
  return push_string(talk, assistant ? CHAT_ASSISTANT : CHAT_USER, json_object_get(node, "text"), "text",
                     place, error);
}

bool parse_tree(Record *record, const json_t *root, RecordPlace place, Error *error) {
  Conversation *talk = &record->talk;
  const json_t *node = json_object_get(root, "prompt");
  if (!json_is_object(node)) return fail_type(place, "prompt", "object with 'replies'", node, error);
  if (!is_usable(node)) node = NULL;
  while (node && talk->count < MOST_TURNS) {
    const json_t *next;
    if (!push_node(talk, node, place, error) || !best_reply(node, place, &next, error)) return false;
    node = next;
  }
  while (talk->count > 0 && talk->items[talk->count - 1].role != CHAT_ASSISTANT) talk->count--;
  record->nothing = talk->count == 0;
  return true;
}
