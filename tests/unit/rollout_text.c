/* Text while it grows: nothing is lost, said twice or said too early; stop strings end it wherever they
 * are cut. */
#include "rollout_lab.h"

#include "base/memory.h"

static Tokenizer *open_tokenizer(const char *name) {
  char path[512];
  snprintf(path, sizeof path, "%s/tokenizer/%s", FIXTURES, name);
  Error error = {0};
  Tokenizer *tokenizer = tokenizer_open(path, &error);
  lab_check(tokenizer != NULL, &error);
  return tokenizer;
}

typedef struct Told {
  Buffer text;
  bool stopped;
  size_t pushed; /* ids taken before the stop, the one that completed it included */
} Told;

/* Pushes the ids of `text` and collects what is handed out. */
static Told tell(TextStream *stream, const Tokenizer *tokenizer, const char *text, const char *const *stops,
                 size_t stop_count) {
  Error error = {0};
  IntArray ids = {0};
  Told told = {0};
  lab_check(tokenizer_encode(tokenizer, text, strlen(text), false, &ids, &error), &error);
  text_stream_begin(stream, tokenizer, stops, stop_count);
  while (told.pushed < ids.size && !told.stopped) {
    lab_check(text_stream_push(stream, ids.data[told.pushed++], &told.stopped, &error), &error);
    lab_check(buffer_append(&told.text, stream->pending.data, stream->ready, &error), &error);
    text_stream_taken(stream);
  }
  if (!told.stopped) {
    lab_check(text_stream_finish(stream, &error), &error);
    lab_check(buffer_append(&told.text, stream->pending.data, stream->ready, &error), &error);
  }
  lab_check(buffer_append(&told.text, "", 0, &error), &error);
  int_array_free(&ids);
  return told;
}

static void expect(TextStream *stream, const Tokenizer *tokenizer, const char *text, const char *stop1,
                   const char *stop2, const char *expected, bool stopped) {
  const char *stops[2] = {stop1, stop2};
  Told told = tell(stream, tokenizer, text, stops, stop2 ? 2 : stop1 ? 1 : 0);
  if (strcmp(told.text.data ? told.text.data : "", expected) != 0 || told.stopped != stopped) {
    fail_msg("'%s': '%s'%s", text, told.text.data, told.stopped ? " and stopped" : "");
  }
  buffer_free(&told.text);
}

static void stops(void **state) {
  Tokenizer *t = open_tokenizer(*state);
  TextStream stream = {0}; /* used again and again */
  const char *text = "One fine day.\n\nUser: caf\xc3\xa9 \xf0\x9f\x98\x80 and more\nUser: again";
  expect(&stream, t, text, NULL, NULL, text, false);
  expect(&stream, t, text, "\nUser:", NULL, "One fine day.\n", true);
  expect(&stream, t, text, "\n\nUser:", "\nUser:", "One fine day.", true);
  expect(&stream, t, text, "never", "\xf0\x9f\x98\x81", text, false); /* half of an emoji's bytes agree */
  expect(&stream, t, text, "\xf0\x9f\x98\x80", NULL, "One fine day.\n\nUser: caf\xc3\xa9 ", true);
  expect(&stream, t, text, "One", NULL, "", true);
  expect(&stream, t, text, "User: again", NULL,
         "One fine day.\n\nUser: caf\xc3\xa9 \xf0\x9f\x98\x80 and more\n", true);
  expect(&stream, t, text, "againX", "moreX", text, false);   /* held back at the end, then let go */
  expect(&stream, t, "abababac", "abac", NULL, "abab", true); /* the stop overlaps its own beginning */
  expect(&stream, t, "aaaaab", "aab", NULL, "aaa", true);
  expect(&stream, t, text, "again", "fine", "One ", true); /* after a stop in mid-text, a clean start */
  expect(&stream, t, text, NULL, NULL, text, false);
  text_stream_free(&stream);
  tokenizer_free(t);
}

/* What is handed out never runs ahead: it is a beginning of the final text at every moment, and without stop
 * strings it lags behind only by characters that are not whole. */
static void prompt_and_whole(void **state) {
  Tokenizer *t = open_tokenizer(*state);
  Error error = {0};
  const char *text =
      "na\xc3\xafve \xe4\xbd\xa0\xe5\xa5\xbd \xf0\x9f\x91\xa9\xe2\x80\x8d\xf0\x9f\x9a\x80 done";
  IntArray ids = {0};
  Buffer told = {0}, whole = {0};
  lab_check(tokenizer_encode(t, text, strlen(text), false, &ids, &error), &error);
  TextStream stream = {0};
  const char *const held[] = {"done and gone"};
  text_stream_begin(&stream, t, held, 1);
  for (size_t i = 0; i < ids.size; i++) {
    bool stopped;
    lab_check(text_stream_push(&stream, ids.data[i], &stopped, &error), &error);
    assert_false(stopped);
    lab_check(buffer_append(&told, stream.pending.data, stream.ready, &error), &error);
    text_stream_taken(&stream);
    assert_memory_equal(told.data, text, told.size);
    assert_true(told.size == strlen(text) || ((unsigned char)text[told.size] & 0xc0) != 0x80); /* whole */
  }
  assert_true(told.size <= strlen(text) - 4); /* "done" may yet become "done and gone" */
  lab_check(text_stream_finish(&stream, &error), &error);
  lab_check(buffer_append(&told, stream.pending.data, stream.ready, &error), &error);
  lab_check(tokenizer_decode(t, ids.data, ids.size, true, &whole, &error), &error);
  assert_string_equal(told.data, whole.data);
  buffer_free(&told);
  buffer_free(&whole);
  int_array_free(&ids);
  text_stream_free(&stream);
  tokenizer_free(t);
}

/* -- in the engine --------------------------------------------------------------------------------------- */

enum { SAMPLES = 16, NEW_TOKENS = 24 };

typedef struct Spoken {
  RolloutSample samples[SAMPLES];
  int32_t prompts[SAMPLES][4], responses[SAMPLES][NEW_TOKENS];
  Buffer texts[SAMPLES];
} Spoken;

static void hear(void *context, const RolloutSample *sample, const char *text, size_t bytes) {
  Error error = {0};
  (void)context;
  lab_check(buffer_append(sample->user, text, bytes, &error), &error);
}

static void speak(Lab *lab, const Tokenizer *tokenizer, const char *const *stop, size_t stop_count, int alone,
                  Spoken *s) {
  Error error = {0};
  memset(s, 0, sizeof *s);
  const int ends[] = {5};
  const RolloutSpec spec = {.seed = 9,
                            .temperature = 1,
                            .top_p = 1,
                            .eos_ids = ends,
                            .eos_count = 1,
                            .tokenizer = tokenizer,
                            .stops = stop,
                            .stop_count = stop_count,
                            .on_token = hear};
  for (int i = 0; i < SAMPLES; i++) {
    for (int t = 0; t < 4; t++) s->prompts[i][t] = (i * 31 + t * 7 + 10) % 90;
    s->samples[i] = (RolloutSample){.prompt = s->prompts[i],
                                    .prompt_length = 4,
                                    .max_new_tokens = NEW_TOKENS,
                                    .number = (uint64_t)i,
                                    .user = &s->texts[i],
                                    .response = s->responses[i]};
  }
  for (int i = 0; i < SAMPLES; i += alone ? 1 : SAMPLES) {
    lab_check(engine_run(&lab->engine, &spec, &s->samples[i], alone ? 1 : SAMPLES, &error), &error);
  }
}

static void spoken_free(Spoken *s) {
  for (int i = 0; i < SAMPLES; i++) buffer_free(&s->texts[i]);
}

static const char *said(const Spoken *s, int i) {
  return s->texts[i].size ? s->texts[i].data : "";
}

/* Ids below 99 are single characters in GPT-2's vocabulary, so the tiny model speaks in them. */
static void engine_stops(void **state) {
  (void)state;
  Error error = {0};
  Lab lab;
  lab_open(&lab, "gpt2", false);
  Tokenizer *tokenizer = open_tokenizer("gpt2");
  static Spoken free_speech, alone, together;
  lab_engine(&lab, (EngineConfig){.batch = SAMPLES, .max_length = 28, .block_size = 4, .prefill_chunk = 64});
  speak(&lab, tokenizer, NULL, 0, false, &free_speech);
  /* Stop strings that are certain to occur: two characters in the middle of what was said. */
  char found[2][3] = {{0}};
  memcpy(found[0], said(&free_speech, 0) + 5, 2);
  memcpy(found[1], said(&free_speech, 1) + 9, 2);
  const char *const stop[] = {found[0], found[1], "no such text"};
  speak(&lab, tokenizer, stop, 3, true, &alone);
  int stopped = 0;
  for (int i = 0; i < SAMPLES; i++) {
    const RolloutSample *sample = &alone.samples[i];
    const char *whole = said(&free_speech, i);
    size_t end = strlen(whole);
    for (int k = 0; k < 2; k++) {
      const char *at = strstr(whole, found[k]);
      if (at && (size_t)(at - whole) < end) end = (size_t)(at - whole);
    }
    /* The text ends before the stop string; the ids are the free ones up to the one that completed it. */
    assert_int_equal(strlen(said(&alone, i)), end);
    assert_memory_equal(said(&alone, i), whole, end);
    assert_true((sample->finished == ROLLOUT_STOP) == (end < strlen(whole)));
    assert_memory_equal(sample->response, free_speech.samples[i].response,
                        (size_t)sample->length * sizeof(int32_t));
    if (sample->finished == ROLLOUT_STOP) {
      Buffer text = {0};
      lab_check(tokenizer_decode(tokenizer, sample->response, (size_t)sample->length, true, &text, &error),
                &error);
      assert_int_equal(text.size, end + 2);
      buffer_free(&text);
      stopped++;
    }
  }
  assert_true(stopped >= 2 && stopped < SAMPLES);

  /* In a cache so small that sequences are sent away in mid-text: nothing is lost or said twice. The last
   * character is always held back, since it might begin a stop string that never comes. */
  static char never[94][3];
  const char *held[96] = {found[0], found[1]};
  for (int i = 0; i < 94; i++) {
    never[i][0] = (char)('!' + i);
    never[i][1] = '\1';
    held[i + 2] = never[i];
  }
  const int64_t block = kv_block_bytes(&lab.model.spec, 4, DTYPE_F32);
  lab_engine(
      &lab,
      (EngineConfig){
          .batch = 8, .max_length = 28, .block_size = 4, .prefill_chunk = 5, .cache_bytes = 13 * block});
  speak(&lab, tokenizer, held, 96, false, &together);
  assert_true(lab.engine.stats.preemptions > 2);
  for (int i = 0; i < SAMPLES; i++) {
    assert_int_equal(alone.samples[i].finished, together.samples[i].finished);
    assert_int_equal(alone.samples[i].length, together.samples[i].length);
    assert_string_equal(said(&alone, i), said(&together, i));
  }
  spoken_free(&free_speech);
  spoken_free(&alone);
  spoken_free(&together);
  tokenizer_free(tokenizer);
  lab_close(&lab);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      {"stops, bytes", stops, NULL, NULL, "gpt2"},
      {"stops, byte fallback", stops, NULL, NULL, "llama2_legacy"},
      {"stops, llama3", stops, NULL, NULL, "llama3"},
      {"prompt_and_whole, bytes", prompt_and_whole, NULL, NULL, "gpt2"},
      {"prompt_and_whole, byte fallback", prompt_and_whole, NULL, NULL, "llama2_legacy"},
      cmocka_unit_test(engine_stops),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
