#include "scoring/request.h"

#include "base/json.h"

static bool put_text(Buffer *out, const char *before, const char *text, size_t bytes, Error *error) {
  json_t *value = json_stringn(text, bytes);
  const bool ok = value ? buffer_text(out, before, error) && json_append_text(out, value, error)
                        : error_set(error, ERROR_DATA, "a text that is not UTF-8");
  json_decref(value);
  return ok;
}

bool request_body(const Answer *answer, const Buffer *said, Buffer *out, Error *error) {
  const Example *prompt = &answer->prompt;
  if (!put_text(out, "\"prompt\":", prompt->prompt, prompt->prompt_bytes, error) ||
      !put_text(out, ",\"answer\":", said->data, said->size, error) ||
      !buffer_format(out, error, ",\"finished\":%s", answer->finished ? "true" : "false")) {
    return false;
  }
  if (prompt->reference_bytes &&
      !put_text(out, ",\"reference\":", prompt->reference, prompt->reference_bytes, error)) {
    return false;
  }
  /* Without its first brace; the last one ends the whole. */
  return buffer_text(out, ",", error) &&
         buffer_append(out, prompt->record + 1, prompt->record_bytes - 1, error);
}

bool request_whole(const Answer *answer, const Buffer *body, Buffer *out, Error *error) {
  return buffer_format(out, error, "{\"id\":%lld,", (long long)answer->id) &&
         buffer_append(out, body->data, body->size, error);
}
