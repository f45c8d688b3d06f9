/* Inside scoring/ only: a language model as a judge: a prompt made of the answer by a template, a chat completion, and the number in it. */
#ifndef SCORING_CHAT_JUDGE_H
#define SCORING_CHAT_JUDGE_H

#include "base/regex.h"
#include "scoring/http.h"
#include "template/template.h"

typedef struct ChatJudge {
  Template *template;
  ValueHeap *heap;
  TemplateText text;
  Regex *score;
  RegexScratch *scratch;
  json_t *parameters;
} ChatJudge;

/* ERROR_USAGE, ERROR_MODEL or ERROR_FILE for what is wrong with the options of format openai. */
NODISCARD bool chat_judge_open(ChatJudge *judge, const HttpOptions *options, Error *error);
void chat_judge_close(ChatJudge *judge);
/* Appends the whole of a request. */
NODISCARD bool chat_judge_question(ChatJudge *judge, const HttpOptions *options, const Answer *answer,
                                   const Buffer *said, Buffer *out, Error *error);
/* ERROR_DATA that shows what was read. */
NODISCARD bool chat_judge_reply(const ChatJudge *judge, const char *text, size_t bytes, Verdict *verdict,
                                Error *error);

#endif
