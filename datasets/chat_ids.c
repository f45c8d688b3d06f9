/* What training keeps of the ids of a conversation. */
#include "datasets/chat_parts.h"

#include <string.h>

static void cut(IntArray *array, size_t at, size_t count) {
  if (array->size == 0) return;
  array->size -= count;
  memmove(array->data + at, array->data + at + count, (array->size - at) * sizeof(int));
}

void chat_drop_double_bos(const Tokenizer *tokenizer, IntArray *ids, IntArray *loss) {
  const int bos = tokenizer_bos(tokenizer);
  size_t more = 0;
  if (bos < 0 || ids->size == 0 || ids->data[0] != bos) return;
  while (more + 1 < ids->size && ids->data[more + 1] == bos) more++;
  cut(ids, 0, more);
  cut(loss, 0, more);
}

void chat_cut_front(const Tokenizer *tokenizer, IntArray *ids, IntArray *loss, size_t count) {
  const int bos = tokenizer_bos(tokenizer);
  const size_t at = bos >= 0 && ids->size && ids->data[0] == bos;
  cut(ids, at, count);
  cut(loss, at, count);
}

void chat_trim(IntArray *ids, IntArray *loss) {
  size_t end = loss->size;
  while (end > 0 && !loss->data[end - 1]) end--;
  ids->size = loss->size = end;
}

bool chat_read_answered(const ChatTemplate *chat, const Conversation *talk, bool ended, size_t limit,
                        ChatReading *reading, bool *shortened, Error *error) {
  IntArray *ids = &reading->ids, *loss = &reading->loss;
  if (!chat_read(chat, talk, talk->count, CHAT_LAST_TURN, 0, reading, error)) return false;
  chat_drop_double_bos(chat->tokenizer, ids, loss);
  chat_trim(ids, loss);
  if (!ended && ids->size > 1 && ids->data[ids->size - 1] == chat->end_id) ids->size = --loss->size;
  *shortened = ids->size > limit;
  if (*shortened) chat_cut_front(chat->tokenizer, ids, loss, ids->size - limit);
  return true;
}
