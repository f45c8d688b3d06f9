#include "scoring/chat_judge.h"

#include "base/file.h"
#include "base/json.h"
#include "scoring/exact.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

static const char usual_score[] = "-?[0-9]+(?:[.][0-9]+)?";

/* It must look at the answer, and a variable that nobody gives it is a slip. */
static bool check_variables(const Template *template, const char *name, Error *error) {
  static const char *const known[] = {"prompt",   "answer", "finished", "reference",
                                      "messages", "tools",  "record",   NULL};
  char other[64];
  if (template_reads_other(template, known, other))
    return error_set(error, ERROR_USAGE,
                     "%s: it reads '%s'; there are prompt, answer, finished, reference, "
                     "messages, tools and record",
                     name, other);
  return template_reads(template, "answer") ||
         error_set(error, ERROR_USAGE, "%s: it does not read 'answer'", name);
}

static bool open_template(ChatJudge *judge, const HttpOptions *options, Error *error) {
  const char *name = options->prompt_file ? options->prompt_file : "'prompt'";
  Buffer text = {0};
  bool ok = !options->prompt_file || file_read(options->prompt_file, &text, error);
  ok = ok && (options->prompt_file || buffer_text(&text, options->prompt, error));
  judge->template = ok ? template_parse(text.data ? text.data : "", text.size, name, error) : NULL;
  ok = judge->template && check_variables(judge->template, name, error);
  buffer_free(&text);
  return ok;
}

static bool open_score(ChatJudge *judge, const HttpOptions *options, Error *error) {
  const char *pattern = options->score ? options->score : usual_score;
  Error why = {0};
  judge->score = regex_compile(pattern, strlen(pattern), REGEX_PCRE2, &why);
  return judge->score ? (judge->scratch = regex_scratch_new(error)) != NULL
                      : error_set(error, ERROR_USAGE, "'score': %s", why.message);
}

static bool open_parameters(ChatJudge *judge, const HttpOptions *options, Error *error) {
  static const char *const taken[] = {"model", "messages", "stream", "n"};
  const char *text = options->parameters ? options->parameters : "{\"temperature\": 0}";
  judge->parameters = json_loads(text, 0, NULL);
  if (!judge->parameters) return error_out_of_memory(error, "parameters", strlen(text));
  for (size_t i = 0; i < sizeof taken / sizeof *taken; i++) {
    if (json_object_get(judge->parameters, taken[i]))
      return error_set(error, ERROR_USAGE, "'parameters': '%s' is not to be set there", taken[i]);
  }
  return true;
}

bool chat_judge_open(ChatJudge *judge, const HttpOptions *options, Error *error) {
  *judge = (ChatJudge){0};
  const bool ok = (judge->heap = value_heap_open(256 << 20, error)) && open_template(judge, options, error) &&
                  open_score(judge, options, error) && open_parameters(judge, options, error);
  if (!ok) chat_judge_close(judge);
  return ok;
}

void chat_judge_close(ChatJudge *judge) {
  template_free(judge->template);
  value_heap_close(judge->heap);
  template_text_free(&judge->text);
  regex_free(judge->score);
  regex_scratch_free(judge->scratch);
  json_decref(judge->parameters);
  *judge = (ChatJudge){0};
}

static bool set_text(ValueHeap *heap, Value variables, const char *name, const char *text, size_t bytes,
                     Error *error) {
  Value value;
  return value_text(heap, text, bytes, false, &value, error) &&
         value_dict_set(heap, variables, name, value, error);
}

static bool set_json(ValueHeap *heap, Value variables, const char *name, const json_t *json, Error *error) {
  Value value = value_none();
  return (!json || value_json(heap, json, false, &value, error)) &&
         value_dict_set(heap, variables, name, value, error);
}

static bool render(ChatJudge *judge, const Answer *answer, const json_t *context, const Buffer *said,
                   Error *error) {
  ValueHeap *heap = judge->heap;
  const Example *prompt = &answer->prompt;
  Value v;
  value_heap_clear(heap);
  return value_dict(heap, &v, error) &&
         set_text(heap, v, "prompt", prompt->prompt, prompt->prompt_bytes, error) &&
         set_text(heap, v, "answer", said->data, said->size, error) &&
         value_dict_set(heap, v, "finished", value_bool(answer->finished), error) &&
         (prompt->reference_bytes
              ? set_text(heap, v, "reference", prompt->reference, prompt->reference_bytes, error)
              : value_dict_set(heap, v, "reference", value_none(), error)) &&
         set_json(heap, v, "messages", json_object_get(context, "messages"), error) &&
         set_json(heap, v, "tools", json_object_get(context, "tools"), error) &&
         set_json(heap, v, "record", json_object_get(context, "record"), error) &&
         template_render(judge->template, heap, v, 0, &template_limits, &judge->text, error);
}

static json_t *message_of(const char *role, const char *text, size_t bytes) {
  return json_pack("{s:s, s:o}", "role", role, "content", json_stringn(text, bytes));
}

/* {"model", "messages", further members} */
static bool put_request(const ChatJudge *judge, const HttpOptions *options, Buffer *out, Error *error) {
  const Buffer *asked = &judge->text.text;
  json_t *messages = json_array();
  bool ok = messages != NULL;
  if (ok && options->system)
    ok = json_array_append_new(messages, message_of("system", options->system, strlen(options->system))) == 0;
  ok = ok &&
       json_array_append_new(messages, message_of("user", asked->data ? asked->data : "", asked->size)) == 0;
  json_t *whole = json_pack("{s:s, s:o}", "model", options->model, "messages", messages);
  ok = ok && whole && json_object_update(whole, judge->parameters) == 0;
  ok = ok ? json_append_text(out, whole, error) : error_out_of_memory(error, "request", asked->size);
  json_decref(whole);
  return ok;
}

bool chat_judge_question(ChatJudge *judge, const HttpOptions *options, const Answer *answer,
                         const Buffer *said, Buffer *out, Error *error) {
  json_error_t broken;
  json_t *context = json_parse(answer->prompt.record, answer->prompt.record_bytes, json_limit_record,
                               JSON_ALLOW_NUL, &broken);
  if (!context) return error_set(error, ERROR_DATA, "the record of a prompt: %s", broken.text);
  const bool ok = render(judge, answer, context, said, error) && put_request(judge, options, out, error);
  json_decref(context);
  return ok;
}

/* -- its reply -------------------------------------------------------------------------------------------- */

static bool refuse(const char *text, size_t bytes, const char *why, Error *error) {
  char shown[200];
  shown_text(text, bytes, shown);
  return error_set(error, ERROR_DATA, "%s: '%s'", why, shown);
}

/* A number in full, white space around it aside. */
static bool read_score(const char *text, size_t bytes, double *score) {
  char number[64], *end;
  while (bytes > 0 && isspace((unsigned char)*text)) text++, bytes--;
  while (bytes > 0 && isspace((unsigned char)text[bytes - 1])) bytes--;
  if (bytes == 0 || bytes >= sizeof number) return false;
  snprintf(number, sizeof number, "%.*s", (int)bytes, text);
  *score = strtod(number, &end);
  return strspn(number, "+-.0123456789eE") == bytes && !*end && isfinite((float)*score);
}

bool chat_judge_reply(const ChatJudge *judge, const char *text, size_t bytes, Verdict *verdict,
                      Error *error) {
  static const JsonLimit limit = {4 << 20, 64 << 20};
  json_error_t broken;
  *verdict = (Verdict){0};
  json_t *root = json_parse(text, bytes, limit, JSON_ALLOW_NUL, &broken);
  const json_t *choice = json_array_get(json_object_get(root, "choices"), 0);
  const json_t *content = json_object_get(json_object_get(choice, "message"), "content");
  const char *said = json_string_value(content), *part;
  const size_t said_bytes = json_string_length(content);
  size_t part_bytes;
  bool found = false, ok = said != NULL;
  if (!ok) {
    refuse(text, bytes, "expected a chat completion with choices[0].message.content, found", error);
  } else {
    ok = exact_extract(judge->score, judge->scratch, said, said_bytes, &part, &part_bytes, &found, error) &&
         ((found && read_score(part, part_bytes, &verdict->score)) ||
          refuse(found ? part : said, found ? part_bytes : said_bytes,
                 found ? "what 'score' finds is no number" : "there is no score in what the model says",
                 error));
  }
  json_decref(root);
  return ok;
}
