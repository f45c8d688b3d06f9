#include "tokenizer/decode.h"

typedef enum DecoderKind {
  DECODE_BYTES,
  DECODE_REPLACE,
  DECODE_BYTE_FALLBACK,
  DECODE_FUSE,
  DECODE_STRIP,
  DECODE_METASPACE,
  DECODE_WORDPIECE,
  DECODE_BPE
} DecoderKind;

struct DecoderStep {
  DecoderKind kind;
  Regex *pattern; /* Replace */
  char *content;  /* Replace: what is put in. Strip, Metaspace: the character.
                    WordPiece: the prefix, BPEDecoder: the suffix. Owned */
  size_t content_bytes;
  size_t start, stop; /* Strip: how many at most */
  bool cleanup;       /* WordPiece */
  bool prefix;        /* Metaspace: the first token begins with one that stands for nothing */
};

static const char replacement_character[] = "\xef\xbf\xbd";

static bool set_content(DecoderStep *step, const char *text, size_t bytes, Error *error) {
  step->content = memory_alloc(bytes + 1);
  if (!step->content) return error_out_of_memory(error, "decoder", bytes);
  memcpy(step->content, text, bytes);
  step->content_bytes = bytes;
  return true;
}

static bool read_character(DecoderStep *step, const Reader *reader, const char *key, Error *error) {
  const char *text;
  size_t bytes, at = 0;
  if (!reader_text(reader, key, true, &text, &bytes, error)) return false;
  if (bytes > 0) (void)utf8_next(text, &at);
  if (bytes == 0 || at != bytes) return reader_fail(reader, error, "%s must be one character", key);
  return set_content(step, text, bytes, error);
}

static bool read_replace(DecoderStep *step, const Reader *reader, Error *error) {
  Reader pattern;
  const char *text, *content;
  size_t bytes, content_bytes;
  if (!reader_member(reader, "pattern", &pattern, error)) return false;
  bool literal = reader_has(&pattern, "String");
  if (!reader_text(&pattern, literal ? "String" : "Regex", true, &text, &bytes, error) ||
      !reader_text(reader, "content", true, &content, &content_bytes, error))
    return false;
  step->pattern = regex_compile(text, bytes, literal ? REGEX_LITERAL : REGEX_ONIGURUMA, error);
  if (!step->pattern) return error_context(error, "%s: %s", pattern.path, pattern.where);
  return set_content(step, content, content_bytes, error);
}

static bool read_metaspace(DecoderStep *step, const Reader *reader, Error *error) {
  const char *scheme;
  size_t bytes;
  bool add_prefix_space;
  if (!read_character(step, reader, "replacement", error) ||
      !reader_text(reader, "prepend_scheme", false, &scheme, &bytes, error) ||
      !reader_bool(reader, "add_prefix_space", true, &add_prefix_space, error))
    return false;
  step->prefix = scheme ? strcmp(scheme, "never") != 0 : add_prefix_space;
  return true;
}

static bool read_strip(DecoderStep *step, const Reader *reader, Error *error) {
  long long start, stop;
  if (!read_character(step, reader, "content", error) ||
      !reader_int(reader, "start", 0, 1 << 20, &start, error) ||
      !reader_int(reader, "stop", 0, 1 << 20, &stop, error))
    return false;
  step->start = (size_t)start;
  step->stop = (size_t)stop;
  return true;
}

static bool read_text(DecoderStep *step, const Reader *reader, const char *key, Error *error) {
  const char *text;
  size_t bytes;
  return reader_text(reader, key, true, &text, &bytes, error) && set_content(step, text, bytes, error);
}

/* The suffix is replaced as plain text is. */
static bool read_bpe(DecoderStep *step, const Reader *reader, Error *error) {
  if (!read_text(step, reader, "suffix", error)) return false;
  if (step->content_bytes == 0) return reader_fail(reader, error, "suffix must not be empty");
  step->pattern = regex_compile(step->content, step->content_bytes, REGEX_LITERAL, error);
  return step->pattern != NULL;
}

static bool read_step(DecoderStep *step, const Reader *reader, const char *type, Error *error) {
  static const struct {
    const char *name;
    DecoderKind kind;
  } known[] = {
      {"ByteLevel", DECODE_BYTES},     {"Replace", DECODE_REPLACE}, {"ByteFallback", DECODE_BYTE_FALLBACK},
      {"Fuse", DECODE_FUSE},           {"Strip", DECODE_STRIP},     {"Metaspace", DECODE_METASPACE},
      {"WordPiece", DECODE_WORDPIECE}, {"BPEDecoder", DECODE_BPE}};
  for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
    if (strcmp(type, known[i].name) != 0) continue;
    step->kind = known[i].kind;
    switch (step->kind) {
      case DECODE_REPLACE:
        return read_replace(step, reader, error);
      case DECODE_STRIP:
        return read_strip(step, reader, error);
      case DECODE_METASPACE:
        return read_metaspace(step, reader, error);
      case DECODE_WORDPIECE:
        return read_text(step, reader, "prefix", error) &&
               reader_bool_required(reader, "cleanup", &step->cleanup, error);
      case DECODE_BPE:
        return read_bpe(step, reader, error);
      default:
        return true;
    }
  }
  if (strcmp(type, "CTC") == 0)
    return reader_fail(reader, error,
                       "decoder CTC is not supported: it is for speech, and drops repeated tokens");
  return reader_fail(
      reader, error,
      "decoder %s is not supported (known: Sequence, ByteLevel, Replace, ByteFallback, Fuse, Strip, "
      "Metaspace, WordPiece, BPEDecoder)",
      type);
}

static bool read_steps(Decoder *decoder, const Reader *reader, int depth, Error *error) {
  const char *type;
  if (!reader_type(reader, &type, error)) return false;
  if (strcmp(type, "Sequence") == 0) {
    Reader list, item;
    if (depth == 0) return reader_fail(reader, error, "sequences are nested too deeply");
    if (!reader_array(reader, "decoders", &list, error)) return false;
    for (size_t i = 0; i < json_array_size(list.value); i++)
      if (!reader_item(&list, i, &item, error) || !read_steps(decoder, &item, depth - 1, error)) return false;
    return true;
  }
  DecoderStep *steps = memory_resize(decoder->steps, (decoder->count + 1) * sizeof *steps);
  if (!steps) return error_out_of_memory(error, "decoder", (decoder->count + 1) * sizeof *steps);
  decoder->steps = steps;
  steps[decoder->count] = (DecoderStep){0};
  return read_step(&steps[decoder->count++], reader, type, error);
}

bool decoder_init(Decoder *decoder, const Reader *reader, Error *error) {
  *decoder = (Decoder){.present = reader->value != NULL};
  byte_alphabet_init(&decoder->alphabet);
  if (!reader->value || read_steps(decoder, reader, 8, error)) return true;
  decoder_free(decoder);
  return false;
}

void decoder_free(Decoder *decoder) {
  for (size_t i = 0; i < decoder->count; i++) {
    regex_free(decoder->steps[i].pattern);
    memory_free(decoder->steps[i].content);
  }
  memory_free(decoder->steps);
  *decoder = (Decoder){0};
}

/* ---- lists of strings ---- */

/* Ends the string being appended to strings->text. */
static bool end_string(TokenStrings *strings, Error *error) {
  if (strings->count == strings->capacity) {
    size_t capacity = strings->capacity * 2 + 32;
    size_t *ends = memory_resize(strings->ends, capacity * sizeof *ends);
    if (!ends) return error_out_of_memory(error, "decoding", capacity * sizeof *ends);
    strings->ends = ends;
    strings->capacity = capacity;
  }
  strings->ends[strings->count++] = strings->text.size;
  return true;
}

bool token_strings_push(TokenStrings *strings, const char *bytes, size_t count, Error *error) {
  return buffer_append(&strings->text, bytes, count, error) && end_string(strings, error);
}

void token_strings_free(TokenStrings *strings) {
  buffer_free(&strings->text);
  memory_free(strings->ends);
  *strings = (TokenStrings){0};
}

static void string_at(const TokenStrings *strings, size_t i, const char **bytes, size_t *count) {
  size_t begin = i == 0 ? 0 : strings->ends[i - 1];
  *bytes = strings->text.data ? strings->text.data + begin : "";
  *count = strings->ends[i] - begin;
}

/* ---- steps ---- */

static bool append_lossy(Buffer *out, const char *bytes, size_t count, Error *error) {
  for (size_t at = 0; at < count;) {
    size_t skip = 0, valid = utf8_valid_prefix(bytes + at, count - at, &skip);
    if (!buffer_append(out, bytes + at, valid, error)) return false;
    if (skip > 0 && !buffer_append(out, replacement_character, 3, error)) return false;
    at += valid + skip;
  }
  return true;
}

/* A token's bytes when all its characters are of the byte alphabet, else its text as it is (added tokens). */
static bool append_alphabet_bytes(const ByteAlphabet *alphabet, const char *text, size_t count, Buffer *raw,
                                  Error *error) {
  size_t start = raw->size;
  for (size_t at = 0; at < count;) {
    uint32_t c = utf8_next(text, &at);
    int byte = c < sizeof alphabet->byte_of / sizeof alphabet->byte_of[0] ? alphabet->byte_of[c] : -1;
    if (byte < 0) {
      raw->size = start;
      return buffer_append(raw, text, count, error);
    }
    char value = (char)byte;
    if (!buffer_append(raw, &value, 1, error)) return false;
  }
  return true;
}

static bool apply_bytes(const ByteAlphabet *alphabet, const TokenStrings *in, TokenStrings *out,
                        Error *error) {
  Buffer raw = {0};
  bool done = true;
  for (size_t i = 0; done && i < in->count; i++) {
    const char *text;
    size_t count;
    string_at(in, i, &text, &count);
    done = append_alphabet_bytes(alphabet, text, count, &raw, error);
  }
  done = done && append_lossy(&out->text, raw.data, raw.size, error) && end_string(out, error);
  buffer_free(&raw);
  return done;
}

/* Ends a string that is the text with every match of the step's pattern replaced. */
static bool push_replaced(const DecoderStep *step, RegexScratch *scratch, const char *text, size_t count,
                          const char *content, size_t content_bytes, TokenStrings *out, Error *error) {
  RegexCursor cursor = {0};
  RegexMatch match;
  size_t copied = 0;
  for (bool found = true;;) {
    if (!regex_next(step->pattern, scratch, text, count, &cursor, &match, &found, error)) return false;
    if (!found) return token_strings_push(out, text + copied, count - copied, error);
    if (!buffer_append(&out->text, text + copied, match.begin - copied, error) ||
        !buffer_append(&out->text, content, content_bytes, error))
      return false;
    copied = match.end;
  }
}

/* Replace; and BPEDecoder, for which the end of a word is a space, but not at the end of the text. */
static bool apply_replace(const DecoderStep *step, const TokenStrings *in, TokenStrings *out, Error *error) {
  RegexScratch *scratch = regex_scratch_new(error);
  bool done = scratch != NULL;
  for (size_t i = 0; done && i < in->count; i++) {
    const char *text, *content = step->content;
    size_t count, bytes = step->content_bytes;
    string_at(in, i, &text, &count);
    if (step->kind == DECODE_BPE) {
      content = " ";
      bytes = i + 1 < in->count;
    }
    done = push_replaced(step, scratch, text, count, content, bytes, out, error);
  }
  regex_scratch_free(scratch);
  return done;
}

static int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

/* The byte of a token <0x0A>, else -1. */
static int byte_token(const char *text, size_t count) {
  if (count != 6 || memcmp(text, "<0x", 3) != 0 || text[5] != '>') return -1;
  if (text[3] == '+' && hex_digit(text[4]) >= 0)
    return hex_digit(text[4]); /* as Rust's parser reads a sign */
  int high = hex_digit(text[3]), low = hex_digit(text[4]);
  return high < 0 || low < 0 ? -1 : high * 16 + low;
}

/* A run of byte tokens: its characters, or one U+FFFD per byte when it is not well-formed as a whole. */
static bool flush_run(Buffer *run, TokenStrings *out, Error *error) {
  size_t skip;
  bool done = true;
  if (run->size == 0) return true;
  if (utf8_valid_prefix(run->data, run->size, &skip) == run->size) {
    done = token_strings_push(out, run->data, run->size, error);
  } else {
    for (size_t i = 0; done && i < run->size; i++)
      done = token_strings_push(out, replacement_character, 3, error);
  }
  buffer_clear(run);
  return done;
}

static bool apply_byte_fallback(const TokenStrings *in, TokenStrings *out, Error *error) {
  Buffer run = {0};
  bool done = true;
  for (size_t i = 0; done && i < in->count; i++) {
    const char *text;
    size_t count;
    string_at(in, i, &text, &count);
    int byte = byte_token(text, count);
    char value = (char)byte;
    if (byte >= 0)
      done = buffer_append(&run, &value, 1, error);
    else
      done = flush_run(&run, out, error) && token_strings_push(out, text, count, error);
  }
  done = done && flush_run(&run, out, error);
  buffer_free(&run);
  return done;
}

static bool apply_strip(const DecoderStep *step, const TokenStrings *in, TokenStrings *out, Error *error) {
  size_t width = step->content_bytes;
  for (size_t i = 0; i < in->count; i++) {
    const char *text;
    size_t count;
    string_at(in, i, &text, &count);
    for (size_t k = 0; k < step->start && count >= width && memcmp(text, step->content, width) == 0; k++) {
      text += width;
      count -= width;
    }
    for (size_t k = 0;
         k < step->stop && count >= width && memcmp(text + count - width, step->content, width) == 0; k++)
      count -= width;
    if (!token_strings_push(out, text, count, error)) return false;
  }
  return true;
}

static bool apply_metaspace(const DecoderStep *step, const TokenStrings *in, TokenStrings *out,
                            Error *error) {
  for (size_t i = 0; i < in->count; i++) {
    const char *text;
    size_t count;
    string_at(in, i, &text, &count);
    for (size_t at = 0; at < count;) {
      size_t begin = at;
      (void)utf8_next(text, &at);
      bool space = at - begin == step->content_bytes && memcmp(text + begin, step->content, at - begin) == 0;
      if (space && i == 0 && step->prefix) continue;
      if (!buffer_append(&out->text, space ? " " : text + begin, space ? 1 : at - begin, error)) return false;
    }
    if (!end_string(out, error)) return false;
  }
  return true;
}

/* Takes spaces out of the end of `text`, from `begin` on, as they stand before these in turn. */
static void clean_up(Buffer *text, size_t begin) {
  static const char *const pairs[][2] = {
      {" .", "."},   {" ?", "?"},           {" !", "!"},   {" ,", ","},     {" ' ", "'"},   {" n't", "n't"},
      {" 'm", "'m"}, {" do not", " don't"}, {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
  for (size_t pair = 0; pair < sizeof pairs / sizeof pairs[0]; pair++) {
    const char *from = pairs[pair][0], *to = pairs[pair][1];
    size_t width = strlen(from), kept = begin, bytes = strlen(to);
    for (size_t at = begin; at < text->size;) {
      bool match = text->size - at >= width && memcmp(text->data + at, from, width) == 0;
      if (match)
        memcpy(text->data + kept, to, bytes);
      else
        text->data[kept] = text->data[at];
      kept += match ? bytes : 1;
      at += match ? width : 1;
    }
    text->size = kept; /* no replacement is longer than what it replaces */
  }
}

static bool apply_wordpiece(const DecoderStep *step, const TokenStrings *in, TokenStrings *out,
                            Error *error) {
  for (size_t i = 0; i < in->count; i++) {
    const char *text;
    size_t count, begin = out->text.size, prefix = step->content_bytes;
    string_at(in, i, &text, &count);
    if (i > 0) {
      bool continues = count >= prefix && memcmp(text, step->content, prefix) == 0;
      text += continues ? prefix : 0;
      count -= continues ? prefix : 0;
      if (!continues && !buffer_text(&out->text, " ", error)) return false;
    }
    if (!buffer_append(&out->text, text, count, error)) return false;
    if (step->cleanup) clean_up(&out->text, begin);
    if (!end_string(out, error)) return false;
  }
  return true;
}

static bool apply(const Decoder *decoder, const DecoderStep *step, const TokenStrings *in, TokenStrings *out,
                  Error *error) {
  switch (step->kind) {
    case DECODE_BYTES:
      return apply_bytes(&decoder->alphabet, in, out, error);
    case DECODE_REPLACE:
    case DECODE_BPE:
      return apply_replace(step, in, out, error);
    case DECODE_BYTE_FALLBACK:
      return apply_byte_fallback(in, out, error);
    case DECODE_FUSE:
      return token_strings_push(out, in->text.data ? in->text.data : "", in->text.size, error);
    case DECODE_STRIP:
      return apply_strip(step, in, out, error);
    case DECODE_METASPACE:
      return apply_metaspace(step, in, out, error);
    case DECODE_WORDPIECE:
      return apply_wordpiece(step, in, out, error);
  }
  return true;
}

bool decoder_apply(const Decoder *decoder, TokenStrings *strings, Buffer *out, Error *error) {
  TokenStrings spare = {0};
  bool done = true;
  for (size_t i = 0; done && i < decoder->count; i++) {
    spare.count = 0;
    buffer_clear(&spare.text);
    done = apply(decoder, &decoder->steps[i], strings, &spare, error);
    TokenStrings swap = *strings;
    *strings = spare;
    spare = swap;
  }
  for (size_t i = 0; done && i < strings->count; i++) {
    const char *text;
    size_t count;
    string_at(strings, i, &text, &count);
    if (i > 0 && !decoder->present) done = buffer_text(out, " ", error);
    done = done && append_lossy(out, text, count, error);
  }
  token_strings_free(&spare);
  return done;
}

bool decoder_waits(const Decoder *decoder, const char *token, size_t bytes) {
  for (size_t i = 0; i < decoder->count; i++)
    if (decoder->steps[i].kind == DECODE_BYTE_FALLBACK) return byte_token(token, bytes) >= 0;
  return false;
}
