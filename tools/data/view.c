#include "tools/data/view.h"

const char *const text_choice_names[] = {"all", "prompt", "answer", NULL};

bool view_init(View *view, TextChoice choice, Folding folding, Error *error) {
  *view = (View){.choice = choice, .folding = folding};
  return folder_init(&view->folder, error);
}

void view_free(View *view) {
  folder_free(&view->folder);
  buffer_free(&view->prompt);
  buffer_free(&view->body);
  words_free(&view->words);
  buffer_free(&view->key);
}

static bool fold(View *view, const Buffer *text, Buffer *out, Error *error) {
  return folder_fold(&view->folder, FOLDING_FULL, text->size ? text->data : "", text->size, out, error);
}

bool view_make(View *view, const RecordText *text, Error *error) {
  const bool prompted = text->prompt.size && (view->choice != TEXT_ANSWER || !text->answer.size);
  const bool answered = text->answer.size && (view->choice != TEXT_PROMPT || !text->prompt.size);
  Buffer *body = &view->body;
  buffer_clear(&view->prompt);
  buffer_clear(body);
  if (!fold(view, text->prompt.size ? &text->prompt : &text->answer, &view->prompt, error)) return false;
  if (prompted && !buffer_append(body, view->prompt.data, view->prompt.size, error)) return false;
  const size_t end = body->size;
  if (answered && ((end && !buffer_text(body, " ", error)) || !fold(view, &text->answer, body, error)))
    return false;
  if (!words_cut(&view->words, body->size ? body->data : "", body->size, error)) return false;
  view->prompt_words = 0;
  while (view->prompt_words < view->words.units.size && view->words.begin.data[view->prompt_words] < end)
    view->prompt_words++;
  return true;
}

/* With their lengths in front, so that no two sets of parts give the same bytes. */
static bool add_part(View *view, const Buffer *text, Error *error) {
  Buffer *key = &view->key;
  const size_t at = key->size;
  uint64_t length = 0;
  if (!buffer_append(key, &length, sizeof length, error) ||
      !folder_fold(&view->folder, view->folding, text->size ? text->data : "", text->size, key, error))
    return false;
  length = key->size - at - sizeof length;
  memcpy(key->data + at, &length, sizeof length);
  return true;
}

bool view_digest(View *view, const RecordText *text, Hash128 *digest, Error *error) {
  const bool only_answer = view->choice == TEXT_ANSWER && text->answer.size,
             only_prompt = view->choice == TEXT_PROMPT && text->prompt.size;
  buffer_clear(&view->key);
  if (!only_answer && (!add_part(view, &text->system, error) || !add_part(view, &text->prompt, error)))
    return false;
  if (!only_prompt && !add_part(view, &text->answer, error)) return false;
  *digest = bytes_hash128(view->key.data, view->key.size);
  return true;
}
