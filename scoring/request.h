/* Inside scoring/ only: an answer as judges outside are given it, one JSON object in a line:
 *
 *   {"id": 17, "prompt": "...", "answer": "...", "finished": true, "reference": "...", "messages": [...], "tools": [...], "record": {...}}
 *
 * messages, tools and record are those of datasets/prompt_context.h; reference and tools are left out where there are none. */
#ifndef SCORING_REQUEST_H
#define SCORING_REQUEST_H

#include "scoring/scoring.h"

/* Appends everything but the id: `"prompt": ...}`; equal answers to equal prompts give equal bytes. */
NODISCARD bool request_body(const Answer *answer, const Buffer *said, Buffer *out, Error *error);
/* Appends the whole, without an end of line. */
NODISCARD bool request_whole(const Answer *answer, const Buffer *body, Buffer *out, Error *error);

#endif
