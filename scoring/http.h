/* Inside scoring/ only: judges behind HTTP, but for the transport (http_curl.c): options, formats, and what is done about faults.
 *
 *   json    asks what a command is asked (scoring/request.h) and is answered as by one (scoring/verdict.h)
 *   openai  asks a language model by a prompt, in the form of OpenAI's chat completions that many servers have, and finds the score in what it says
 *           (scoring/chat_judge.h) */
#ifndef SCORING_HTTP_H
#define SCORING_HTTP_H

#include "scoring/verdict.h"

typedef enum HttpFormat { HTTP_JSON, HTTP_OPENAI } HttpFormat;

typedef struct HttpOptions {
  SourceCommon common;
  char *url, *key_env;
  int format; /* HttpFormat */
  double timeout, backoff;
  int64_t retries, concurrency;
  bool cache;
  /* openai */
  char *model, *system, *prompt, *prompt_file, *score, *parameters;
} HttpOptions;

enum { HTTP_OPTIONS = 18 };
extern const Option http_options[HTTP_OPTIONS];

/* What the table cannot say; nothing is sent. */
NODISCARD bool http_check(const void *options, const char *place, Error *error);

/* Whether the same request may be answered otherwise a little later: 408, 425, 429, and faults of the server. */
bool http_may_pass(long status);
/* Seconds before try number `tries` + 1, from 1 on: backoff, doubled for each try, at most 60; or what the server asks for, at most 120. */
double http_delay(double backoff, int64_t tries, double asked);
/* shown_text without the key. */
void http_shown(const char *text, size_t bytes, const char *key, char out[200]);

#endif
