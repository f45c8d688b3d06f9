#include "tools/bench/bench.h"
#include "tools/bench/peer_script.h" /* made of peer.py */

#include <stdio.h>
#include <string.h>

enum { LOADING_SECONDS = 300, MEASURING_SECONDS = 900 };

/* The last line that a child said on standard error. */
static void last_words(Child *child, char said[300]) {
  const char *line;
  size_t bytes;
  while (child_line(&child->err, CHILD_LONGEST_LINE, &line, &bytes)) {
    if (bytes > 0) snprintf(said, 300, "%.*s", (int)bytes, line);
  }
  line = child_rest(&child->err, &bytes);
  if (bytes > 0) snprintf(said, 300, "%.*s", (int)bytes, line);
}

/* Waits for a line that is a JSON object; others are passed over, for libraries like to talk. NULL with a problem when none comes. */
static json_t *read_reply(Child *child, double seconds, Error *problem, Error *error) {
  const double until = time_monotonic() + seconds;
  char said[300] = "";
  for (;;) {
    const char *line;
    size_t bytes;
    while (child_line(&child->out, CHILD_LONGEST_LINE, &line, &bytes)) {
      json_t *reply = bytes && *line == '{' ? json_loadb(line, bytes, 0, NULL) : NULL;
      if (reply) return reply;
    }
    if (child_is_over(child)) break;
    if (time_monotonic() > until) {
      error_set(problem, ERROR_DATA, "no answer within %.0f seconds", seconds);
      return NULL;
    }
    last_words(child, said); /* and so makes room */
    if (!bench_goes_on(error)) return NULL;
    if (!child_exchange(child, 0.2, error)) return NULL;
  }
  char status[64];
  child_status_text(child_end(child, 2), status, sizeof status);
  last_words(child, said);
  error_set(problem, ERROR_DATA, "%s%s%s", status, *said ? ": " : "", said);
  return NULL;
}

static bool send(Child *child, const json_t *request, Error *error) {
  Buffer text = {0};
  const bool ok = json_append_text(&text, request, error) && buffer_text(&text, "\n", error) &&
                  child_send(child, text.data, text.size, error);
  buffer_free(&text);
  return ok;
}

static bool start(Child *child, const Bench *bench, Error *problem) {
  char *argv[] = {bench->config->python, "-u", "-c", (char *)peer_script, NULL};
  return child_start(child, argv, problem);
}

static void end(Child *child) {
  child_end(child, 2);
  child_free(child);
}

/* -- what there is -------------------------------------------------------------------------------------- */

static json_t *lacks(const char *text) {
  return json_pack("{s:s}", "lacks", text);
}

bool peers_look(Bench *bench, Error *error) {
  Child child = {0};
  Error problem = {0};
  json_t *found = NULL, *names = json_array();
  bool ok = names || error_out_of_memory(error, "peers", 0);
  for (size_t i = 0; ok && i < bench->config->peers.count; i++)
    ok = json_array_append_new(names, json_string(bench->config->peers.items[i])) == 0 ||
         error_out_of_memory(error, "peers", 0);
  json_t *request = json_pack("{s:s,s:o}", "do", "look", "peers", names);
  ok = ok && (request || error_out_of_memory(error, "peers", 0));
  if (ok && start(&child, bench, &problem)) {
    ok = send(&child, request, error);
    if (ok) found = read_reply(&child, LOADING_SECONDS, &problem, error);
    end(&child);
  }
  const char *failed = json_string_value(json_object_get(found, "failed"));
  if (failed) error_set(&problem, ERROR_DATA, "%s", failed);
  for (size_t i = 0; ok && i < bench->config->peers.count; i++) {
    const char *name = bench->config->peers.items[i];
    json_t *peer = found && !failed ? json_incref(json_object_get(found, name)) : lacks(problem.message);
    const char *missing = json_string_value(json_object_get(peer, "lacks"));
    char text[400];
    if (missing && strcmp(missing, "import") == 0) {
      json_decref(peer);
      snprintf(text, sizeof text, "not importable by %s", bench->config->python);
      peer = lacks(text);
      missing = text;
    }
    if (missing) log_warning(bench->log, "%s: %s", name, missing);
    ok = (peer && json_object_set_new(bench->peers, name, peer) == 0) ||
         error_out_of_memory(error, "peers", 0);
  }
  json_decref(request);
  json_decref(found);
  return ok && error->code == 0;
}

/* -- one of them ------------------------------------------------------------------------------------------ */

static const char *const kinds[] = {"sft", "reward", "ppo", "decode", "prefill", "rollout"}; /* as WorkKind */

bool peer_start(Peer *peer, const Bench *bench, const char *name, const Workload *work, Error *problem,
                Error *error) {
  *peer = (Peer){0};
  json_t *request = json_pack("{s:s,s:s,s:s,s:s,s:i,s:s,s:b,s:s,s:I,s:I,s:I,s:I}", "do", "load", "peer", name,
                              "model", bench->model, "scratch", bench->scratch, "threads", bench->threads,
                              "kind", kinds[work->kind], "lora", (int)work->lora, "weights", work->weights,
                              "batch", (json_int_t)work->batch, "length", (json_int_t)work->length, "answer",
                              (json_int_t)work->answer, "times", (json_int_t)work->times);
  bool ok = request || error_out_of_memory(error, "request", 0);
  if (ok && start(&peer->child, bench, problem)) {
    ok = send(&peer->child, request, error);
    json_t *reply = ok ? read_reply(&peer->child, LOADING_SECONDS, problem, error) : NULL;
    const char *failed = json_string_value(json_object_get(reply, "failed"));
    if (failed) error_set(problem, ERROR_DATA, "%s", failed);
    json_decref(reply);
    if (problem->code || error->code) peer_end(peer);
    child_pause(&peer->child); /* its threads may keep cores busy while they wait */
  }
  json_decref(request);
  return ok && error->code == 0;
}

bool peer_measure(Peer *peer, double *rate, Error *problem, Error *error) {
  if (!child_send(&peer->child, "{\"do\":\"measure\"}\n", strlen("{\"do\":\"measure\"}\n"), error))
    return false;
  child_go_on(&peer->child);
  json_t *reply = read_reply(&peer->child, MEASURING_SECONDS, problem, error);
  child_pause(&peer->child);
  const char *failed = json_string_value(json_object_get(reply, "failed"));
  *rate = json_number_value(json_object_get(reply, "rate"));
  if (failed) error_set(problem, ERROR_DATA, "%s", failed);
  if (reply && !failed && !(*rate > 0)) error_set(problem, ERROR_DATA, "it measured nothing");
  json_decref(reply);
  return error->code == 0;
}

void peer_end(Peer *peer) {
  end(&peer->child);
  *peer = (Peer){0};
}
