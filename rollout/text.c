#include "rollout/text.h"

#include <string.h>

void text_stream_begin(TextStream *stream, const Tokenizer *tokenizer, const char *const *stops,
                       size_t stop_count) {
  if (!stream->decoder.tokenizer) decode_stream_init(&stream->decoder, tokenizer, true);
  /* A text that met a stop string was never finished: its last ids may still be in the decoder. */
  stream->decoder.tokenizer = tokenizer;
  stream->decoder.ids.size = 0;
  stream->decoder.prefix_ids = 0;
  buffer_clear(&stream->decoder.prefix);
  buffer_clear(&stream->pending);
  stream->ready = 0;
  stream->stops = stops;
  stream->stop_count = stop_count;
}

void text_stream_free(TextStream *stream) {
  decode_stream_free(&stream->decoder);
  buffer_free(&stream->pending);
  *stream = (TextStream){0};
}

/* Where the earliest stop string begins, or pending.size when there is none. */
static size_t find_stop(const TextStream *stream) {
  const size_t size = stream->pending.size;
  size_t earliest = size;
  for (size_t i = 0; i < stream->stop_count; i++) {
    const char *stop = stream->stops[i];
    const char *found = size ? memmem(stream->pending.data, size, stop, strlen(stop)) : NULL;
    if (found && (size_t)(found - stream->pending.data) < earliest) {
      earliest = (size_t)(found - stream->pending.data);
    }
  }
  return earliest;
}

/* Length of the longest end of the text that a stop string begins with. */
static size_t held_back(const TextStream *stream) {
  const size_t size = stream->pending.size;
  size_t longest = 0;
  for (size_t i = 0; i < stream->stop_count; i++) {
    const char *stop = stream->stops[i];
    size_t length = strlen(stop);
    for (length = length > size ? size : length; length > longest; length--) {
      if (!memcmp(stream->pending.data + size - length, stop, length)) longest = length;
    }
  }
  return longest;
}

bool text_stream_push(TextStream *stream, int id, bool *stopped, Error *error) {
  *stopped = false;
  const size_t before = stream->pending.size;
  if (!decode_stream_push(&stream->decoder, id, &stream->pending, error)) return false;
  const size_t size = stream->pending.size;
  if (size == before) return true; /* nothing new: what is held back is still held back */
  const size_t stop = find_stop(stream);
  *stopped = stop < size;
  stream->ready = *stopped ? stop : size - held_back(stream);
  return true;
}

bool text_stream_finish(TextStream *stream, Error *error) {
  if (!decode_stream_finish(&stream->decoder, &stream->pending, error)) return false;
  stream->ready = stream->pending.size;
  return true;
}

void text_stream_taken(TextStream *stream) {
  Buffer *pending = &stream->pending;
  if (stream->ready == 0) return;
  memmove(pending->data, pending->data + stream->ready, pending->size - stream->ready);
  pending->size -= stream->ready;
  pending->data[pending->size] = '\0';
  stream->ready = 0;
}
