#include "tools/merge/distance.h"

#include "datasets/lines.h"
#include "model/divergence.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

/* ---- texts ---- */

static const char *const own_texts[] = {
    "The train leaves at half past six, and tickets are sold at the station until it does.",
    "To make bread you need flour, water, salt and yeast. Mix them, and wait for an hour.",
    "Question: What is 17 plus 25?\nAnswer: 17 plus 25 is 42.",
    "int add(int a, int b) {\n  return a + b;\n}\n",
    "My kettle does not start. - Please check the plug first, and then the fuse.",
    "Der Zug fährt heute nicht, weil es in der Nacht zu viel geschneit hat."};

/* Appends a text's ids; those of no use are not kept, and *kept says so. */
static bool add_text(Distance *d, const Tokenizer *tokenizer, const char *text, size_t bytes, int64_t most,
                     bool *kept, Error *error) {
  const size_t first = d->ids.size, least = d->scores ? 1 : 2;
  *kept = false;
  if (!tokenizer_encode(tokenizer, text, bytes, true, &d->ids, error)) return false;
  if (most > 0 && d->ids.size - first > (size_t)most) d->ids.size = first + (size_t)most;
  const size_t count = d->ids.size - first;
  bool known = true;
  for (size_t i = first; i < d->ids.size; i++) known &= d->ids.data[i] < d->vocab;
  *kept = known && count >= least;
  if (!*kept) d->ids.size = first;
  if (!known)
    return error_set(error, ERROR_DATA, "a text has ids beyond the %" PRId64 " of the model", d->vocab);
  if (!*kept) return true;
  if ((int64_t)count > d->longest) d->longest = (int64_t)count;
  d->places += d->scores ? 1 : (int64_t)count - 1;
  return int_array_push(&d->ends, (int)d->ids.size, error);
}

static bool add_own(Distance *d, const Tokenizer *tokenizer, int64_t most, Error *error) {
  for (size_t i = 0; i < sizeof own_texts / sizeof *own_texts; i++) {
    Error why = {0};
    bool kept;
    if (!add_text(d, tokenizer, own_texts[i], strlen(own_texts[i]), most, &kept, &why) &&
        why.code != ERROR_DATA)
      return error_set(error, why.code, "%s", why.message);
  }
  return true;
}

static bool add_record(Distance *d, const Tokenizer *tokenizer, const json_t *record, int64_t most,
                       Error *error) {
  const json_t *prompt = json_object_get(record, "prompt"),
               *value = prompt ? prompt : json_object_get(record, "text");
  bool kept;
  if (!json_is_string(value))
    return error_set(error, ERROR_DATA, "key '%s': expected a text, found %s", prompt ? "prompt" : "text",
                     json_kind(value));
  return add_text(d, tokenizer, json_string_value(value), json_string_length(value), most, &kept, error);
}

static bool add_file(Distance *d, const Tokenizer *tokenizer, const char *path, int64_t most, Error *error) {
  LineReader reader;
  if (!line_reader_open(&reader, path, error)) return false;
  bool ok;
  json_t *record = NULL;
  while ((ok = line_reader_record(&reader, &record, error)) && record) {
    ok = add_record(d, tokenizer, record, most, error) ||
         error_context(error, "%s:%" PRIu64, path, reader.number);
    json_decref(record);
    if (!ok) break;
  }
  line_reader_close(&reader);
  return ok;
}

bool distance_open(Distance *d, const char *prompts, const Tokenizer *tokenizer, int64_t vocab,
                   int64_t most_tokens, bool scores, Error *error) {
  *d = (Distance){.vocab = vocab, .scores = scores};
  bool ok = prompts ? add_file(d, tokenizer, prompts, most_tokens, error)
                    : add_own(d, tokenizer, most_tokens, error);
  if (ok && d->places == 0)
    return !prompts || error_set(error, ERROR_DATA, "%s: no text to measure the distance by", prompts);
  for (int64_t i = 0; ok && i < d->longest; i++) ok = int_array_push(&d->rows, (int)i, error);
  return ok && batch_init(&d->batch, d->longest, 1, error);
}

void distance_free(Distance *d) {
  int_array_free(&d->ids);
  int_array_free(&d->ends);
  int_array_free(&d->rows);
  batch_free(&d->batch);
  memory_free(d->before);
  memory_free(d->logits);
  *d = (Distance){0};
}

static size_t before_count(const Distance *d) {
  return (size_t)d->places * (d->scores ? 1 : (size_t)d->vocab);
}

static size_t logits_count(const Distance *d) {
  return d->scores ? 1 : (size_t)(d->longest - 1) * (size_t)d->vocab;
}

size_t distance_bytes(const Distance *d) {
  return (before_count(d) + logits_count(d)) * sizeof(float);
}

bool distance_allocate(Distance *d, Error *error) {
  d->before = memory_alloc(before_count(d) * sizeof *d->before);
  d->logits = memory_alloc(logits_count(d) * sizeof *d->logits);
  return (d->before && d->logits) || error_out_of_memory(error, "log-probabilities", distance_bytes(d));
}

/* ---- passes ---- */

/* The pass over the text in the batch, and what is compared of it: logits of all places, or one score. */
static bool run(Distance *d, const Measured *m, Error *error) {
  Pass pass = {0};
  if (!pass_init(&pass, m->model, error)) return false;
  const size_t mark = arena_mark(m->step);
  const int64_t count = d->batch.tokens;
  pass_forward(&pass, m->compute, m->model, m->adapter, &d->batch, PASS_INFERENCE, m->step);
  if (d->scores)
    score_values(&pass, m->head, token_rows(d->rows.data + count - 1, NULL, 1), d->logits);
  else
    lm_logits(&pass, token_rows(d->rows.data, NULL, count - 1), d->logits);
  arena_release(m->step, mark);
  pass_free(&pass);
  return true;
}

bool distance_plan(Distance *d, const Measured *m, Error *error) {
  batch_plan(&d->batch);
  const bool ok = run(d, m, error);
  batch_clear(&d->batch);
  return ok;
}

/* Compares place by place: `place` is the first of the text, `ids` its ids. */
static void compare(Distance *d, const int *ids, int64_t count, int64_t place) {
  for (int64_t t = 0; t < count; t++) {
    const float *before = d->before + (place + t) * (d->scores ? 1 : d->vocab),
                *after = d->logits + t * (d->scores ? 1 : d->vocab);
    const int at = d->scores ? 0 : ids[t + 1];
    const double change = fabs((double)after[at] - (double)before[at]);
    d->sum += change;
    if (change > d->most) d->most = change;
    if (!d->scores) d->kl += divergence(before, after, d->vocab);
  }
}

static bool read_texts(Distance *d, const Measured *m, bool again, Error *error) {
  int64_t first = 0, place = 0, unused;
  bool ok = true;
  for (size_t i = 0; ok && i < d->ends.size; i++) {
    const int64_t length = d->ends.data[i] - first, count = d->scores ? 1 : length - 1,
                  width = d->scores ? 1 : d->vocab;
    batch_clear(&d->batch);
    const bool fits = batch_add(&d->batch, d->ids.data + first, length, &unused);
    ASSERT(fits);
    ok = run(d, m, error);
    for (int64_t t = 0; ok && !d->scores && t < count; t++) logits_normalize(d->logits + t * width, width, 1);
    if (ok && dtype_count_not_finite(d->logits, DTYPE_F32, (size_t)(count * width)))
      ok = error_set(error, ERROR_MODEL, "%s: what it computes of a text is not finite", m->model->directory);
    if (ok && again) compare(d, d->ids.data + first, count, place);
    if (ok && !again)
      memcpy(d->before + place * width, d->logits, (size_t)(count * width) * sizeof *d->before);
    first += length;
    place += count;
  }
  return ok;
}

bool distance_before(Distance *d, const Measured *measured, Error *error) {
  return read_texts(d, measured, false, error);
}

bool distance_after(Distance *d, const Measured *measured, Error *error) {
  d->sum = d->most = d->kl = 0;
  return read_texts(d, measured, true, error);
}

/* ---- figures ---- */

bool distance_text(const Distance *d, Buffer *out, Error *error) {
  const double n = (double)d->places;
  if (d->scores)
    return buffer_format(
        out, error,
        "from the base under the adapter: score changed by %.2g on average, at most %.2g (%zu texts)",
        d->sum / n, d->most, d->ends.size);
  return buffer_format(
      out, error,
      "from the base under the adapter: log-probability changed by %.2g nats on average, at most "
      "%.2g; KL %.2g nats (%" PRId64 " tokens of %zu texts)",
      d->sum / n, d->most, d->kl / n, d->places, d->ends.size);
}

bool distance_json(const Distance *d, Buffer *out, Error *error) {
  const char *what = d->scores ? "score" : "logprob";
  const double n = (double)d->places;
  return buffer_format(out, error, "{\"texts\":%zu,\"%s_mean\":%.9g,\"%s_max\":%.9g", d->ends.size, what,
                       d->sum / n, what, d->most) &&
         (d->scores ||
          buffer_format(out, error, ",\"tokens\":%" PRId64 ",\"kl_mean\":%.9g", d->places, d->kl / n)) &&
         buffer_text(out, "}", error);
}
