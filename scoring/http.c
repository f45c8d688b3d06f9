#include "scoring/http.h"

#include "scoring/chat_judge.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

static const char *const format_names[] = {"json", "openai", NULL}; /* in the order of HttpFormat */

/* clang-format off */
const Option http_options[HTTP_OPTIONS] = {
    SOURCE_OPTIONS(HttpOptions, common)
    ROW_STRING_REQUIRED("url", HttpOptions, url, "where requests are sent, http:// or https://, whole"),
    ROW_CHOICE("format", HttpOptions, format, "json", format_names,
               "json: asked and answered as a command is; openai: a language model, asked by a prompt"),
    ROW_FLOAT("timeout", HttpOptions, timeout, "60", 0.01, 1e6, "seconds for one request"),
    ROW_INT("retries", HttpOptions, retries, "5", 0, 1000, "times that a request is made again, where that may help"),
    ROW_FLOAT("backoff", HttpOptions, backoff, "1", 0, 60, "seconds before the first of these, doubled each time, at most 60"),
    ROW_INT("concurrency", HttpOptions, concurrency, "8", 1, 1024, "requests at once"),
    ROW_BOOL("cache", HttpOptions, cache, "true", "what was said of a question holds for the same question in the whole run"),
    ROW_STRING("key_env", HttpOptions, key_env, NULL, "name of the environment variable with the key, sent as Authorization: Bearer"),
    ROW_STRING("model", HttpOptions, model, NULL, "the model's name", .when = "format = openai"),
    ROW_STRING("prompt", HttpOptions, prompt, NULL,
               "what it is asked, in Jinja; it reads prompt, answer, finished, reference, messages, tools, record", .when = "format = openai"),
    ROW_STRING("prompt_file", HttpOptions, prompt_file, NULL, "a file with that", .when = "format = openai"),
    ROW_STRING("system", HttpOptions, system, NULL, "a system message before it", .when = "format = openai"),
    ROW_STRING("score", HttpOptions, score, NULL,
               "regular expression (PCRE2) that finds the score in its reply: the last match, or its first group; default: the last number",
               .when = "format = openai"),
    ROW_OBJECT("parameters", HttpOptions, parameters, "further members of the request; default {\"temperature\": 0}", .when = "format = openai")};
/* clang-format on */

/* -- checks ----------------------------------------------------------------------------------------------- */

static bool check_url(const char *url, const char *place, Error *error) {
  const bool tls = strncmp(url, "https://", 8) == 0, plain = strncmp(url, "http://", 7) == 0;
  const char *host = url + (tls ? 8 : 7);
  if (!tls && !plain)
    return error_set(error, ERROR_USAGE, "%s: 'url': expected http://... or https://..., found '%.200s'",
                     place, url);
  const size_t length = strcspn(host, "/?#");
  for (const char *at = url; *at; at++) {
    if (isgraph((unsigned char)*at)) continue;
    return error_set(error, ERROR_USAGE, "%s: 'url': expected ASCII without spaces, found '%.200s'", place,
                     url);
  }
  if (memchr(host, '@', length)) /* not shown */
    return error_set(error, ERROR_USAGE,
                     "%s: 'url': a name and password do not belong into a configuration: "
                     "give the key's environment variable, key_env",
                     place);
  return (length > 0 && *host != ':') ||
         error_set(error, ERROR_USAGE, "%s: 'url': expected a host, found '%.200s'", place, url);
}

static bool check_key(const char *name, const char *place, Error *error) {
  const char *key = name ? getenv(name) : NULL;
  if (!name) return true;
  if (!key || !*key)
    return error_set(error, ERROR_USAGE, "%s: 'key_env': the environment has no %s", place, name);
  for (; *key; key++) {
    if (!isgraph((unsigned char)*key))
      return error_set(error, ERROR_USAGE,
                       "%s: 'key_env': what %s holds is no key: it has spaces, line ends or "
                       "letters beyond ASCII",
                       place, name);
  }
  return true;
}

/* Keys of the other format that are given would say nothing. */
static bool check_json(const HttpOptions *options, const char *place, Error *error) {
  const struct {
    const char *name, *value;
  } others[] = {
      {"model", options->model},   {"prompt", options->prompt}, {"prompt_file", options->prompt_file},
      {"system", options->system}, {"score", options->score},   {"parameters", options->parameters}};
  for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
    if (others[i].value)
      return error_set(error, ERROR_USAGE, "%s: '%s' is of format openai, and the format is json", place,
                       others[i].name);
  }
  return true;
}

static bool check_openai(const HttpOptions *options, const char *place, Error *error) {
  ChatJudge judge;
  Error why = {0};
  if (!options->model)
    return error_set(error, ERROR_USAGE, "%s: 'model' is required with format openai", place);
  if (!options->prompt == !options->prompt_file)
    return error_set(error, ERROR_USAGE, "%s: expected 'prompt' or 'prompt_file', %s", place,
                     options->prompt ? "found both" : "found none");
  const bool ok = chat_judge_open(&judge, options, &why);
  if (ok) chat_judge_close(&judge);
  return ok ||
         error_set(error, why.code == ERROR_MEMORY ? why.code : ERROR_USAGE, "%s: %s", place, why.message);
}

bool http_check(const void *config, const char *place, Error *error) {
  const HttpOptions *options = config;
  return check_url(options->url, place, error) && check_key(options->key_env, place, error) &&
         (options->format == HTTP_OPENAI ? check_openai(options, place, error)
                                         : check_json(options, place, error));
}

/* -- faults ----------------------------------------------------------------------------------------------- */

bool http_may_pass(long status) {
  return status == 408 || status == 425 || status == 429 || status >= 500;
}

double http_delay(double backoff, int64_t tries, double asked) {
  const double own = fmin(60, backoff * exp2((double)(tries - 1)));
  return fmax(own, fmin(asked, 120));
}

void http_shown(const char *text, size_t bytes, const char *key, char out[200]) {
  const size_t length = key ? strlen(key) : 0;
  Buffer clean = {0};
  Error ignored = {0};
  bool ok = buffer_text(&clean, "", &ignored);
  for (size_t i = 0; ok && i < bytes;) {
    const bool secret = length > 0 && bytes - i >= length && memcmp(text + i, key, length) == 0;
    ok = buffer_append(&clean, secret ? "***" : text + i, secret ? 3 : 1, &ignored);
    i += secret ? length : 1;
  }
  shown_text(ok ? clean.data : "", ok ? clean.size : 0, out);
  buffer_free(&clean);
}
