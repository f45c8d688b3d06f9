/* The text of a response while it grows, and the search for stop strings in it.
 *
 * Text is handed out as soon as it is certain: whole characters, and nothing at the end that might be the
 * beginning of a stop string. Stop strings are looked for in the decoded text, so it does not matter how they
 * are cut into tokens; special tokens give no text and so cannot be part of one. */
#ifndef ROLLOUT_TEXT_H
#define ROLLOUT_TEXT_H

#include "base/memory.h"
#include "tokenizer/tokenizer.h"

typedef struct TextStream {
  DecodeStream decoder;
  Buffer pending; /* decoded; [0, ready) may be handed out */
  size_t ready;
  const char *const *stops; /* borrowed */
  size_t stop_count;
} TextStream;

/* Begins a new text. A zeroed stream, or one used before: its buffers are kept. */
void text_stream_begin(TextStream *stream, const Tokenizer *tokenizer, const char *const *stops,
                       size_t stop_count);
void text_stream_free(TextStream *stream);

/* Takes the next id. Afterwards pending.data[0, ready) may be handed out. *stopped: a stop string was
 * completed; the text ends before it, and nothing more may be pushed. */
NODISCARD bool text_stream_push(TextStream *stream, int id, bool *stopped, Error *error);
/* The text is over: makes all of the rest ready. Not after a stop. */
NODISCARD bool text_stream_finish(TextStream *stream, Error *error);
/* What was ready has been handed out. */
void text_stream_taken(TextStream *stream);

#endif
