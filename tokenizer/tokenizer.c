#include "tokenizer/tokenizer.h"

#include "tokenizer/internal.h"

#include <string.h>

void tokenizer_free(Tokenizer *tokenizer) {
  if (!tokenizer) return;
  memory_free(tokenizer->directory);
  token_model_free(tokenizer->model);
  normalizer_free(&tokenizer->normalizer);
  pretokenizer_free(&tokenizer->pretokenizer);
  postprocessor_free(&tokenizer->postprocessor);
  decoder_free(&tokenizer->decoder);
  string_pool_free(&tokenizer->pool);
  memory_free(tokenizer->added);
  added_set_free(&tokenizer->added_raw);
  added_set_free(&tokenizer->added_normalized);
  string_table_free(&tokenizer->added_ids);
  memory_free(tokenizer->added_of);
  int_array_free(&tokenizer->eos_ids);
  for (size_t i = 0; i < tokenizer->template_count; i++) {
    memory_free(tokenizer->templates[i].name);
    memory_free(tokenizer->templates[i].text);
  }
  memory_free(tokenizer->templates);
  memory_free(tokenizer->note);
  memory_free(tokenizer);
}

void token_spans_free(TokenSpans *spans) {
  memory_free(spans->data);
  *spans = (TokenSpans){0};
}

/* ---- encoding ---- */

/* The working space of one call, and where its results go. */
typedef struct Encoder {
  const Tokenizer *tokenizer;
  RegexScratch *scratch;
  Text input;            /* the whole input, well-formed */
  Text section, spare;   /* a stretch between added tokens, being normalised */
  AddedParts raw, parts; /* of the input; of the section */
  PieceWork work;
  ModelWork tokens;
  IntArray *ids;
  TokenSpans *spans; /* NULL: not wanted */
} Encoder;

static bool emit(Encoder *encoder, int id, TokenSpan span, Error *error) {
  if (!int_array_push(encoder->ids, id, error)) return false;
  TokenSpans *spans = encoder->spans;
  if (!spans) return true;
  if (spans->size == spans->capacity) {
    size_t capacity = spans->capacity * 2 + 64;
    TokenSpan *data = memory_resize(spans->data, capacity * sizeof *data);
    if (!data) return error_out_of_memory(error, "token offsets", capacity * sizeof *data);
    spans->data = data;
    spans->capacity = capacity;
  }
  spans->data[spans->size++] = span;
  return true;
}

/* Pre-tokenises bytes begin..end of the normalised section and emits their tokens. */
static bool encode_plain(Encoder *encoder, size_t begin, size_t end, bool at_start, Error *error) {
  const Tokenizer *tokenizer = encoder->tokenizer;
  PieceWork *work = &encoder->work;
  work->text.size = 0;
  work->text.tracked = work->spare_text.tracked = encoder->spans != NULL;
  if (!text_append_part(&work->text, &encoder->section, begin, end, error) ||
      !pretokenizer_apply(&tokenizer->pretokenizer, work, at_start, encoder->scratch, error))
    return false;
  for (size_t i = 0; i < work->pieces.size; i++) {
    Piece piece = work->pieces.data[i];
    if (piece.end - piece.begin > UINT32_MAX / 4)
      return error_set(error, ERROR_DATA, "text is too long to tokenise");
    if (!token_model_encode(tokenizer->model, &encoder->tokens, work->text.data + piece.begin,
                            piece.end - piece.begin, error))
      return false;
    for (size_t k = 0; k < encoder->tokens.count; k++) {
      ModelToken token = encoder->tokens.tokens[k];
      TokenSpan span = text_span(&work->text, piece.begin + token.begin, piece.begin + token.end);
      if (!emit(encoder, token.id, span, error)) return false;
    }
  }
  return true;
}

/* Normalises bytes begin..end of the input, cuts out the added tokens that are found only now, and emits all. */
static bool encode_section(Encoder *encoder, size_t begin, size_t end, Error *error) {
  const Tokenizer *tokenizer = encoder->tokenizer;
  Text *section = &encoder->section;
  section->size = 0;
  section->from_start = begin == 0;
  section->tracked = encoder->spare.tracked = encoder->spans != NULL;
  if (!text_append_part(section, &encoder->input, begin, end, error) ||
      !normalizer_apply(&tokenizer->normalizer, section, &encoder->spare, encoder->scratch, error) ||
      !added_split(&tokenizer->added_normalized, section->data, section->size, &encoder->parts, error))
    return false;
  for (size_t i = 0; i < encoder->parts.size; i++) {
    AddedPart part = encoder->parts.data[i];
    bool done = part.token ? emit(encoder, part.token->id, text_span(section, part.begin, part.end), error)
                           : encode_plain(encoder, part.begin, part.end,
                                          part.begin == 0 && section->from_start, error);
    if (!done) return false;
  }
  return true;
}

static bool encode_all(Encoder *encoder, const char *text, size_t bytes, bool add_special, Error *error) {
  const Tokenizer *tokenizer = encoder->tokenizer;
  const PostProcessor *post = &tokenizer->postprocessor;
  encoder->input.tracked = encoder->spans != NULL;
  encoder->scratch = regex_scratch_new(error);
  if (!encoder->scratch || !text_append_input(&encoder->input, text, bytes, error) ||
      !added_split(&tokenizer->added_raw, encoder->input.data, encoder->input.size, &encoder->raw, error))
    return false;
  for (size_t i = 0; add_special && i < post->before.size; i++)
    if (!emit(encoder, post->before.data[i], (TokenSpan){0, 0}, error)) return false;
  for (size_t i = 0; i < encoder->raw.size; i++) {
    AddedPart part = encoder->raw.data[i];
    bool done = part.token
                    ? emit(encoder, part.token->id, text_span(&encoder->input, part.begin, part.end), error)
                    : encode_section(encoder, part.begin, part.end, error);
    if (!done) return false;
  }
  TokenSpan end = {(uint32_t)bytes, (uint32_t)bytes};
  for (size_t i = 0; add_special && i < post->after.size; i++)
    if (!emit(encoder, post->after.data[i], end, error)) return false;
  return true;
}

bool tokenizer_encode_spans(const Tokenizer *tokenizer, const char *text, size_t bytes, bool add_special,
                            IntArray *ids, TokenSpans *spans, Error *error) {
  if (spans && bytes > UINT32_MAX) return error_set(error, ERROR_DATA, "text is too long to tokenise");
  Encoder encoder = {.tokenizer = tokenizer, .ids = ids, .spans = spans};
  bool done = encode_all(&encoder, text, bytes, add_special, error);
  regex_scratch_free(encoder.scratch);
  text_free(&encoder.input);
  text_free(&encoder.section);
  text_free(&encoder.spare);
  added_parts_free(&encoder.raw);
  added_parts_free(&encoder.parts);
  piece_work_free(&encoder.work);
  model_work_free(tokenizer->model, &encoder.tokens);
  return done;
}

bool tokenizer_encode(const Tokenizer *tokenizer, const char *text, size_t bytes, bool add_special,
                      IntArray *ids, Error *error) {
  return tokenizer_encode_spans(tokenizer, text, bytes, add_special, ids, NULL, error);
}

/* ---- decoding ---- */

bool tokenizer_decode(const Tokenizer *tokenizer, const int *ids, size_t count, bool skip_special,
                      Buffer *out, Error *error) {
  TokenStrings strings = {0};
  bool done = true;
  for (size_t i = 0; done && i < count; i++) {
    const AddedToken *added = added_by_id(tokenizer, ids[i]);
    size_t bytes = 0;
    const char *text =
        added ? added->pattern : vocabulary_token(&tokenizer->model->vocabulary, ids[i], &bytes);
    if (added) bytes = added->pattern_bytes;
    if (!text || (skip_special && added && added->special)) continue;
    done = token_strings_push(&strings, text, bytes, error);
  }
  done = done && decoder_apply(&tokenizer->decoder, &strings, out, error);
  token_strings_free(&strings);
  return done;
}

/* ---- the vocabulary ---- */

int tokenizer_vocab_size(const Tokenizer *tokenizer) {
  return tokenizer->vocab_size;
}

const char *tokenizer_token(const Tokenizer *tokenizer, int id) {
  const AddedToken *added = added_by_id(tokenizer, id);
  size_t bytes;
  return added ? added->text : vocabulary_token(&tokenizer->model->vocabulary, id, &bytes);
}

int tokenizer_id(const Tokenizer *tokenizer, const char *token) {
  int index = string_table_get(&tokenizer->added_ids, token, strlen(token));
  return index >= 0 ? tokenizer->added[index].id
                    : vocabulary_id(&tokenizer->model->vocabulary, token, strlen(token));
}

bool tokenizer_is_special(const Tokenizer *tokenizer, int id) {
  const AddedToken *added = added_by_id(tokenizer, id);
  return added && added->special;
}

bool tokenizer_is_added(const Tokenizer *tokenizer, int id) {
  return added_by_id(tokenizer, id) != NULL;
}

int tokenizer_bos(const Tokenizer *tokenizer) {
  return tokenizer->bos;
}
int tokenizer_eos(const Tokenizer *tokenizer) {
  return tokenizer->eos;
}
int tokenizer_pad(const Tokenizer *tokenizer) {
  return tokenizer->pad;
}
int tokenizer_unk(const Tokenizer *tokenizer) {
  return tokenizer->unk;
}

const int *tokenizer_eos_ids(const Tokenizer *tokenizer, size_t *count) {
  *count = tokenizer->eos_ids.size;
  return tokenizer->eos_ids.data;
}

bool tokenizer_is_eos(const Tokenizer *tokenizer, int id) {
  for (size_t i = 0; i < tokenizer->eos_ids.size; i++)
    if (tokenizer->eos_ids.data[i] == id) return true;
  return false;
}

bool tokenizer_adds_bos(const Tokenizer *tokenizer) {
  const IntArray *before = &tokenizer->postprocessor.before;
  return tokenizer->bos >= 0 && before->size > 0 && before->data[0] == tokenizer->bos;
}

bool tokenizer_adds_eos(const Tokenizer *tokenizer) {
  const IntArray *after = &tokenizer->postprocessor.after;
  return tokenizer->eos >= 0 && after->size > 0 && after->data[after->size - 1] == tokenizer->eos;
}

const char *tokenizer_chat_template(const Tokenizer *tokenizer, const char *name) {
  for (size_t i = 0; i < tokenizer->template_count; i++) {
    if (strcmp(tokenizer->templates[i].name, name) == 0) return tokenizer->templates[i].text;
  }
  return NULL;
}

const char *tokenizer_chat_template_name(const Tokenizer *tokenizer, size_t index) {
  return index < tokenizer->template_count ? tokenizer->templates[index].name : NULL;
}
const char *tokenizer_note(const Tokenizer *tokenizer) {
  return tokenizer->note;
}
const char *tokenizer_directory(const Tokenizer *tokenizer) {
  return tokenizer->directory;
}

void tokenizer_digest(const Tokenizer *tokenizer, char out[33]) {
  memcpy(out, tokenizer->digest, 33);
}

bool tokenizer_vocabulary_digest(const Tokenizer *tokenizer, char out[33], Error *error) {
  Digest *digest = digest_open(error);
  if (!digest) return false;
  for (int id = 0; id < tokenizer->vocab_size; id++) {
    const char *token = tokenizer_token(tokenizer, id);
    if (!token) continue;
    digest_add(digest, &id, sizeof id);
    digest_add(digest, token, strlen(token) + 1);
  }
  const bool ok = token_model_digest(tokenizer->model, digest, error);
  if (ok) digest_text(digest, out);
  digest_close(digest);
  return ok;
}
