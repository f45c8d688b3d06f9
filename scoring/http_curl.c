/* Judges behind HTTP, with libcurl: a number of requests at once, which go on whenever somebody attends to them.
 *
 * Deadlines are reckoned here and not by libcurl, for a reply that lay there while nobody looked has not come late. */
#include "scoring/chat_judge.h"
#include "scoring/request.h"
#include "scoring/sigpipe.h"

#include "base/memory.h"

#include <curl/curl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { LONGEST_REPLY = 4 << 20, MOST_TOLD = 10 /* faults in a rollout's log */ };

/* A question on its way. */
typedef struct Item {
  int64_t slot, tries;
  double at; /* when it may be asked: time_monotonic */
  bool running, done;
} Item;

typedef struct Transfer {
  CURL *easy;
  int64_t item; /* -1: none */
  double since; /* time_monotonic */
  Buffer request, reply;
  bool too_long;
} Transfer;

typedef struct State {
  CURLM *multi;
  struct curl_slist *headers;
  Transfer *transfers; /* [concurrency] */
  ChatJudge chat;      /* of openai */
  Item *items;         /* [capacity] in the order in which they were given */
  int64_t count, first, left;
  int64_t told;
  double looked_at, open_at; /* time_monotonic */
} State;

static const char *key_of(const HttpOptions *options) {
  return options->key_env ? getenv(options->key_env) : NULL;
}

/* -- opening ---------------------------------------------------------------------------------------------- */

static size_t take_reply(char *bytes, size_t size, size_t count, void *context) {
  Transfer *transfer = context;
  Error ignored = {0};
  transfer->too_long = transfer->reply.size + size * count > LONGEST_REPLY;
  return !transfer->too_long && buffer_append(&transfer->reply, bytes, size * count, &ignored) ? size * count
                                                                                               : 0;
}

static bool add_header(State *state, const char *text, Error *error) {
  struct curl_slist *longer = text ? curl_slist_append(state->headers, text) : NULL;
  if (!longer) return error_out_of_memory(error, "header", 0);
  state->headers = longer;
  return true;
}

static bool open_headers(State *state, const char *key, Error *error) {
  char *secret = key ? memory_format("Authorization: Bearer %s", key) : NULL;
  const bool ok = add_header(state, "Content-Type: application/json", error) &&
                  add_header(state, "Expect:", error) && (!key || add_header(state, secret, error));
  memory_free(secret);
  return ok;
}

static bool open_transfer(Transfer *transfer, const State *state, const char *url, Error *error) {
  transfer->item = -1;
  transfer->easy = curl_easy_init();
  if (!transfer->easy) return error_out_of_memory(error, "HTTP requests", 0);
  CURL *easy = transfer->easy;
  const bool ok = !curl_easy_setopt(easy, CURLOPT_URL, url) &&
                  !curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https") &&
                  !curl_easy_setopt(easy, CURLOPT_HTTPHEADER, state->headers) &&
                  !curl_easy_setopt(easy, CURLOPT_USERAGENT, "drover/" DROVER_VERSION) &&
                  !curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, take_reply) &&
                  !curl_easy_setopt(easy, CURLOPT_WRITEDATA, transfer) &&
                  !curl_easy_setopt(easy, CURLOPT_PRIVATE, transfer) &&
                  !curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L) &&
                  !curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
  return ok || error_set(error, ERROR_USAGE, "libcurl does not take %s", url);
}

static bool open_judge(Source *source, Error *error) {
  const HttpOptions *options = source->options;
  const size_t n = (size_t)source->scoring->setting.capacity, requests = (size_t)options->concurrency;
  State *state = source->state = memory_zeroed(1, sizeof *state);
  if (!state) return error_out_of_memory(error, "HTTP judge", sizeof *state);
  source->scoring->wants_text = true;
  source->anywhere = options->cache;
  state->items = memory_zeroed(n, sizeof *state->items);
  state->transfers = memory_zeroed(requests, sizeof *state->transfers);
  if (!state->items || !state->transfers)
    return error_out_of_memory(error, "HTTP judge", n * sizeof *state->items);
  if (curl_global_init(CURL_GLOBAL_DEFAULT) || !(state->multi = curl_multi_init()))
    return error_out_of_memory(error, "libcurl", 0);
  bool ok = (options->format != HTTP_OPENAI || chat_judge_open(&state->chat, options, error)) &&
            open_headers(state, key_of(options), error);
  for (size_t i = 0; ok && i < requests; i++)
    ok = open_transfer(&state->transfers[i], state, options->url, error);
  return ok;
}

static void stop(State *state, Transfer *transfer) {
  if (transfer->item < 0) return;
  state->items[transfer->item].running = false;
  transfer->item = -1;
  curl_multi_remove_handle(state->multi, transfer->easy);
}

static void stop_all(const Source *source) {
  const HttpOptions *options = source->options;
  State *state = source->state;
  Sigpipe sigpipe;
  sigpipe_block(&sigpipe);
  for (int64_t i = 0; state->transfers && i < options->concurrency; i++) stop(state, &state->transfers[i]);
  sigpipe_restore(&sigpipe);
}

static void close_judge(Source *source) {
  const HttpOptions *options = source->options;
  State *state = source->state;
  if (!state) return;
  stop_all(source);
  for (int64_t i = 0; state->transfers && i < options->concurrency; i++) {
    Transfer *transfer = &state->transfers[i];
    if (transfer->easy) curl_easy_cleanup(transfer->easy);
    buffer_free(&transfer->request);
    buffer_free(&transfer->reply);
  }
  if (state->multi) {
    curl_multi_cleanup(state->multi);
    curl_global_cleanup();
  }
  curl_slist_free_all(state->headers);
  chat_judge_close(&state->chat);
  memory_free(state->transfers);
  memory_free(state->items);
  memory_free(state);
  source->state = NULL;
}

/* -- questions -------------------------------------------------------------------------------------------- */

static void begin(Source *source) {
  State *state = source->state;
  stop_all(source); /* of a rollout that was given up */
  state->count = state->first = state->left = state->told = 0;
}

static bool question(Source *source, int64_t slot, Buffer *out, Error *error) {
  const HttpOptions *options = source->options;
  State *state = source->state;
  const Answer *answer = &source->scoring->answers[slot];
  const Buffer *said = &source->scoring->texts[slot];
  return options->format == HTTP_OPENAI ? chat_judge_question(&state->chat, options, answer, said, out, error)
                                        : request_body(answer, said, out, error);
}

static bool submit(Source *source, int64_t slot, Error *error) {
  (void)error;
  State *state = source->state;
  state->items[state->count++] = (Item){.slot = slot};
  if (state->left++ == 0) state->looked_at = time_monotonic();
  return true;
}

static bool start(Source *source, Transfer *transfer, int64_t i, double now, Error *error) {
  const HttpOptions *options = source->options;
  State *state = source->state;
  Item *item = &state->items[i];
  const Buffer *asked = &source->questions[item->slot];
  buffer_clear(&transfer->request);
  buffer_clear(&transfer->reply);
  const bool ok =
      options->format == HTTP_OPENAI
          ? buffer_append(&transfer->request, asked->data, asked->size, error)
          : request_whole(&source->scoring->answers[item->slot], asked, &transfer->request, error);
  if (!ok) return false;
  transfer->too_long = false;
  transfer->item = i;
  transfer->since = now;
  item->running = true;
  if (curl_easy_setopt(transfer->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)transfer->request.size) ||
      curl_easy_setopt(transfer->easy, CURLOPT_POSTFIELDS, transfer->request.data) ||
      curl_multi_add_handle(state->multi, transfer->easy))
    return error_out_of_memory(error, "HTTP request", transfer->request.size);
  return true;
}

/* The first question that may be asked now; -1: none. *next: when there may be one. */
static int64_t waiting(State *state, double now, double *next) {
  while (state->first < state->count && state->items[state->first].done) state->first++;
  for (int64_t i = state->first; i < state->count; i++) {
    const Item *item = &state->items[i];
    if (item->running || item->done) continue;
    if (item->at <= now) return i;
    if (item->at < *next) *next = item->at;
  }
  return -1;
}

/* Fills the free places, unless the server has asked for a pause. */
static bool start_all(Source *source, double now, double *next, Error *error) {
  const HttpOptions *options = source->options;
  State *state = source->state;
  if (now < state->open_at) {
    *next = fmin(*next, state->open_at);
    return true;
  }
  for (int64_t t = 0; t < options->concurrency; t++) {
    if (state->transfers[t].item >= 0) continue;
    const int64_t i = waiting(state, now, next);
    if (i < 0) return true;
    if (!start(source, &state->transfers[t], i, now, error)) return false;
  }
  return true;
}

/* -- replies ---------------------------------------------------------------------------------------------- */

/* Asks again later, or gives up. asked: seconds that the server wants to be left alone. */
static bool fault(Source *source, int64_t i, bool may_pass, double asked, const char *what, Error *error) {
  const HttpOptions *options = source->options;
  State *state = source->state;
  Item *item = &state->items[i];
  const int64_t id = source->scoring->answers[item->slot].id;
  char label[96], often[60] = "";
  item->tries++;
  if (!may_pass || item->tries > options->retries) {
    if (item->tries > 1) snprintf(often, sizeof often, ", at the last of %" PRId64 " requests", item->tries);
    return error_set(error, ERROR_DATA, "%.200s: %s%s, about the answer of id %" PRId64, options->url, what,
                     often, id);
  }
  const double delay = http_delay(options->backoff, item->tries, asked);
  item->at = time_monotonic() + delay;
  if (state->told++ < MOST_TOLD)
    log_warning(source->scoring->setting.log,
                "%s: %s, about the answer of id %" PRId64 ": asked again in %g s, %" PRId64 " of %" PRId64
                " times",
                source_label(source, label), what, id, delay, item->tries, options->retries);
  return true;
}

static bool read_reply(const Source *source, const Buffer *reply, Verdict *verdict, Error *error) {
  const HttpOptions *options = source->options;
  const State *state = source->state;
  const char *text = reply->size ? reply->data : "";
  return options->format == HTTP_OPENAI ? chat_judge_reply(&state->chat, text, reply->size, verdict, error)
                                        : verdict_read(verdict, text, reply->size, error);
}

static bool take_verdict(Source *source, int64_t i, const Buffer *reply, Error *error) {
  const HttpOptions *options = source->options;
  State *state = source->state;
  Item *item = &state->items[i];
  Verdict verdict;
  Error why = {0};
  const char *key = key_of(options);
  if (read_reply(source, reply, &verdict, &why) && verdict.has_id &&
      verdict.id != source->scoring->answers[item->slot].id)
    error_set(&why, ERROR_DATA, "its id is %" PRId64, verdict.id);
  if (why.code == ERROR_DATA && key && reply->size && memmem(reply->data, reply->size, key, strlen(key)))
    snprintf(why.message, sizeof why.message, "a reply that is no score, and has the key in it");
  /* A language model may say it better the next time. */
  if (why.code == ERROR_DATA) return fault(source, i, options->format == HTTP_OPENAI, 0, why.message, error);
  if (why.code) return error_set(error, why.code, "%s", why.message);
  item->done = true;
  state->left--;
  return verdict_note(&verdict, source, item->slot, error);
}

static bool may_pass(CURLcode code) {
  return code != CURLE_URL_MALFORMAT && code != CURLE_UNSUPPORTED_PROTOCOL &&
         code != CURLE_PEER_FAILED_VERIFICATION && code != CURLE_SSL_CERTPROBLEM &&
         code != CURLE_SSL_CACERT_BADFILE && code != CURLE_WRITE_ERROR;
}

static bool finish(Source *source, Transfer *transfer, CURLcode code, Error *error) {
  const HttpOptions *options = source->options;
  State *state = source->state;
  const int64_t i = transfer->item;
  char what[400], shown[200];
  long status = 0;
  curl_off_t asked = 0;
  stop(state, transfer);
  if (code != CURLE_OK) {
    snprintf(what, sizeof what, "%s",
             transfer->too_long ? "a reply of more than 4 MiB" : curl_easy_strerror(code));
    return fault(source, i, may_pass(code), 0, what, error);
  }
  curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &status);
  if (status >= 200 && status < 300) return take_verdict(source, i, &transfer->reply, error);
  curl_easy_getinfo(transfer->easy, CURLINFO_RETRY_AFTER, &asked);
  http_shown(transfer->reply.data, transfer->reply.size, key_of(options), shown);
  snprintf(what, sizeof what, "HTTP status %ld%s%s%s%s", status,
           status >= 300 && status < 400 ? " (what it leads to is not followed)" : "", *shown ? ": '" : "",
           shown, *shown ? "'" : "");
  if (!fault(source, i, http_may_pass(status), (double)asked, what, error)) return false;
  if (status == 429 || asked > 0) state->open_at = fmax(state->open_at, state->items[i].at);
  return true;
}

static bool finish_all(Source *source, Error *error) {
  State *state = source->state;
  int more;
  for (CURLMsg *message; (message = curl_multi_info_read(state->multi, &more));) {
    Transfer *transfer;
    const CURLcode code = message->data.result;
    if (message->msg != CURLMSG_DONE) continue;
    curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&transfer);
    if (!finish(source, transfer, code, error)) return false;
  }
  return true;
}

/* Time in which nobody looked is none that it took. */
static bool stop_late(Source *source, double now, Error *error) {
  const HttpOptions *options = source->options;
  State *state = source->state;
  const double away = now - state->looked_at;
  char what[80];
  state->looked_at = now;
  snprintf(what, sizeof what, "no reply within %g seconds", options->timeout);
  for (int64_t t = 0; t < options->concurrency; t++) {
    Transfer *transfer = &state->transfers[t];
    const int64_t i = transfer->item;
    if (i < 0) continue;
    if (away > 1) transfer->since += away;
    if (now - transfer->since <= options->timeout) continue;
    stop(state, transfer);
    if (!fault(source, i, true, 0, what, error)) return false;
  }
  return true;
}

static bool exchange(Source *source, double seconds, Error *error) {
  State *state = source->state;
  int running;
  const double now = time_monotonic();
  double next = now + seconds;
  if (!start_all(source, now, &next, error)) return false;
  curl_multi_perform(state->multi, &running);
  const int64_t left = state->left;
  if (!finish_all(source, error) || !stop_late(source, time_monotonic(), error)) return false;
  if (state->left < left || state->left == 0 || next <= now) return true;
  curl_multi_poll(state->multi, NULL, 0, (int)(1000 * (next - now)), NULL);
  return true;
}

static bool attend(Source *source, double seconds, Error *error) {
  Sigpipe sigpipe;
  sigpipe_block(&sigpipe);
  const bool ok = exchange(source, seconds, error);
  sigpipe_restore(&sigpipe);
  return ok;
}

static int64_t left(const Source *source) {
  const State *state = source->state;
  return state->left;
}

const SourceKind http_source = {.keys = {"http", http_options, HTTP_OPTIONS},
                                .config_size = sizeof(HttpOptions),
                                .check = http_check,
                                .open = open_judge,
                                .close = close_judge,
                                .begin = begin,
                                .question = question,
                                .submit = submit,
                                .attend = attend,
                                .left = left};
