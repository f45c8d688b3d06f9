/* Decoding while ids arrive. Text depends on its neighbours (a character may span tokens, a decoder may strip the
 * first space), so each push decodes a short window: some ids whose text was given out already, and the new ones.
 * What the window's text has beyond the text of its context is new; while it ends in U+FFFD, or in a run of byte
 * tokens, it may still change. */
#include "tokenizer/internal.h"

#include <string.h>

void decode_stream_init(DecodeStream *stream, const Tokenizer *tokenizer, bool skip_special) {
  *stream = (DecodeStream){.tokenizer = tokenizer, .skip_special = skip_special};
}

static bool ends_in_replacement(const Buffer *text) {
  return text->size >= 3 && memcmp(text->data + text->size - 3, "\xef\xbf\xbd", 3) == 0;
}

/* Gives out what `text`, the window's, has beyond the context's. */
static bool give_out(const DecodeStream *stream, const Buffer *text, Buffer *out, Error *error) {
  size_t common = 0, limit = stream->prefix.size < text->size ? stream->prefix.size : text->size;
  while (common < limit && stream->prefix.data[common] == text->data[common]) common++;
  if (common == text->size) return true;
  return buffer_append(out, text->data + common, text->size - common, error);
}

/* The ids after the context become the context. */
static bool advance(DecodeStream *stream, Error *error) {
  size_t kept = stream->ids.size - stream->prefix_ids;
  memmove(stream->ids.data, stream->ids.data + stream->prefix_ids, kept * sizeof *stream->ids.data);
  stream->ids.size = stream->prefix_ids = kept;
  buffer_clear(&stream->prefix);
  return tokenizer_decode(stream->tokenizer, stream->ids.data, kept, stream->skip_special, &stream->prefix,
                          error);
}

bool decode_stream_push(DecodeStream *stream, int id, Buffer *out, Error *error) {
  if (!int_array_push(&stream->ids, id, error)) return false;
  const char *token = tokenizer_token(stream->tokenizer, id);
  if (token && decoder_waits(&stream->tokenizer->decoder, token, strlen(token))) return true;
  Buffer text = {0};
  bool done = tokenizer_decode(stream->tokenizer, stream->ids.data, stream->ids.size, stream->skip_special,
                               &text, error);
  if (done && text.size > stream->prefix.size && !ends_in_replacement(&text))
    done = give_out(stream, &text, out, error) && advance(stream, error);
  buffer_free(&text);
  return done;
}

bool decode_stream_finish(DecodeStream *stream, Buffer *out, Error *error) {
  Buffer text = {0};
  bool done = tokenizer_decode(stream->tokenizer, stream->ids.data, stream->ids.size, stream->skip_special,
                               &text, error) &&
              give_out(stream, &text, out, error);
  buffer_free(&text);
  stream->ids.size = stream->prefix_ids = 0;
  buffer_clear(&stream->prefix);
  return done;
}

void decode_stream_free(DecodeStream *stream) {
  int_array_free(&stream->ids);
  buffer_free(&stream->prefix);
  *stream = (DecodeStream){0};
}
