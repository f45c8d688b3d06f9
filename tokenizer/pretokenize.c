#include "tokenizer/pretokenize.h"

/* A stretch of a piece: one match of the step's pattern, or what lies between matches. */
typedef struct SplitMark {
  size_t begin, end;
  bool match;
} SplitMark;

/* What becomes of the matches. Names as in the file. */
typedef enum SplitBehavior {
  SPLIT_REMOVED,
  SPLIT_ISOLATED,
  SPLIT_MERGED_WITH_PREVIOUS,
  SPLIT_MERGED_WITH_NEXT,
  SPLIT_CONTIGUOUS
} SplitBehavior;

typedef enum StepKind { STEP_SPLIT, STEP_BYTES, STEP_METASPACE } StepKind;
typedef enum PrependScheme { PREPEND_ALWAYS, PREPEND_FIRST, PREPEND_NEVER } PrependScheme;

struct PreTokenizerStep {
  StepKind kind;
  /* the cut, which STEP_BYTES and STEP_METASPACE make only when `cuts` */
  bool cuts;
  Regex *pattern;            /* or, when NULL, */
  size_t length;             /* stretches of so many characters (FixedLength), or, when 0, */
  int (*class_of)(uint32_t); /* runs of characters of one class >= 0; CLASS_ALONE characters stand alone */
  SplitBehavior behavior;
  bool invert;
  bool add_prefix_space; /* ByteLevel */
  PrependScheme prepend; /* Metaspace */
  char replacement[4];
  size_t replacement_bytes;
};

/* Classes that make matches; CLASS_NONE is what lies between them. */
enum { CLASS_NONE = -1, CLASS_ALONE = 0, CLASS_WORD = 1, CLASS_OTHER = 2 };

static int class_numeric(uint32_t c) {
  return char_is_numeric(c) ? CLASS_ALONE : CLASS_NONE;
}
static int class_punctuation(uint32_t c) {
  return char_is_punctuation(c) ? CLASS_ALONE : CLASS_NONE;
}
static int class_space(uint32_t c) {
  return char_is_space(c) ? CLASS_ALONE : CLASS_NONE;
}
/* \w+|[^\w\s]+ */
static int class_whitespace(uint32_t c) {
  return char_is_word(c) ? CLASS_WORD : char_is_space(c) ? CLASS_NONE : CLASS_OTHER;
}

static const char gpt2_pattern[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

static bool read_behavior(const Reader *reader, SplitBehavior fallback, bool required,
                          SplitBehavior *behavior, Error *error) {
  static const char *const names[] = {"Removed", "Isolated", "MergedWithPrevious", "MergedWithNext",
                                      "Contiguous"};
  const char *name;
  size_t bytes;
  if (!reader_text(reader, "behavior", required, &name, &bytes, error)) return false;
  *behavior = fallback;
  if (!name) return true;
  for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
    if (strcmp(name, names[i]) == 0) {
      *behavior = (SplitBehavior)i;
      return true;
    }
  return reader_fail(reader, error, "unknown behavior %s", name);
}

static bool read_split(PreTokenizerStep *step, const Reader *reader, Error *error) {
  Reader pattern;
  const char *text;
  size_t bytes;
  if (!reader_member(reader, "pattern", &pattern, error)) return false;
  bool literal = reader_has(&pattern, "String");
  if (!reader_text(&pattern, literal ? "String" : "Regex", true, &text, &bytes, error)) return false;
  step->pattern = regex_compile(text, bytes, literal ? REGEX_LITERAL : REGEX_ONIGURUMA, error);
  if (!step->pattern) return error_context(error, "%s: %s", pattern.path, pattern.where);
  return read_behavior(reader, SPLIT_ISOLATED, true, &step->behavior, error) &&
         reader_bool(reader, "invert", false, &step->invert, error);
}

static bool read_byte_level(PreTokenizerStep *step, const Reader *reader, Error *error) {
  step->kind = STEP_BYTES;
  step->behavior = SPLIT_ISOLATED;
  if (!reader_bool_required(reader, "add_prefix_space", &step->add_prefix_space, error) ||
      !reader_bool(reader, "use_regex", true, &step->cuts, error))
    return false;
  if (!step->cuts) return true;
  step->pattern = regex_compile(gpt2_pattern, sizeof gpt2_pattern - 1, REGEX_ONIGURUMA, error);
  return step->pattern != NULL;
}

static bool read_metaspace(PreTokenizerStep *step, const Reader *reader, Error *error) {
  const char *replacement, *scheme;
  size_t bytes, at = 0;
  bool add_prefix_space;
  step->kind = STEP_METASPACE;
  step->behavior = SPLIT_MERGED_WITH_NEXT;
  if (!reader_text(reader, "replacement", true, &replacement, &bytes, error)) return false;
  if (bytes > 0) (void)utf8_next(replacement, &at);
  if (bytes == 0 || at != bytes) return reader_fail(reader, error, "replacement must be one character");
  memcpy(step->replacement, replacement, bytes);
  step->replacement_bytes = bytes;
  if (!reader_bool(reader, "add_prefix_space", true, &add_prefix_space, error) ||
      !reader_bool(reader, "split", true, &step->cuts, error) ||
      !reader_text(reader, "prepend_scheme", false, &scheme, &bytes, error))
    return false;
  if (!scheme) scheme = add_prefix_space ? "always" : "never";
  if (strcmp(scheme, "first") == 0)
    step->prepend = PREPEND_FIRST;
  else if (strcmp(scheme, "never") == 0)
    step->prepend = PREPEND_NEVER;
  else if (strcmp(scheme, "always") == 0)
    step->prepend = PREPEND_ALWAYS;
  else
    return reader_fail(reader, error, "unknown prepend_scheme %s", scheme);
  if (!add_prefix_space && step->prepend != PREPEND_NEVER)
    return reader_fail(reader, error, "add_prefix_space and prepend_scheme contradict each other");
  step->pattern = regex_compile(step->replacement, step->replacement_bytes, REGEX_LITERAL, error);
  return step->pattern != NULL;
}

static bool read_digits(PreTokenizerStep *step, const Reader *reader, Error *error) {
  bool individual;
  step->class_of = class_numeric;
  if (!reader_bool_required(reader, "individual_digits", &individual, error)) return false;
  step->behavior = individual ? SPLIT_ISOLATED : SPLIT_CONTIGUOUS;
  return true;
}

static bool read_punctuation(PreTokenizerStep *step, const Reader *reader, Error *error) {
  step->class_of = class_punctuation;
  return read_behavior(reader, SPLIT_ISOLATED, false, &step->behavior, error);
}

static bool read_whitespace(PreTokenizerStep *step, const Reader *reader, Error *error) {
  (void)reader, (void)error;
  step->class_of = class_whitespace;
  step->behavior = SPLIT_REMOVED;
  step->invert = true;
  return true;
}

static bool read_whitespace_split(PreTokenizerStep *step, const Reader *reader, Error *error) {
  (void)reader, (void)error;
  step->class_of = class_space;
  step->behavior = SPLIT_REMOVED;
  return true;
}

static bool read_delimiter(PreTokenizerStep *step, const Reader *reader, Error *error) {
  const char *text;
  size_t bytes, at = 0;
  step->behavior = SPLIT_REMOVED;
  if (!reader_text(reader, "delimiter", true, &text, &bytes, error)) return false;
  if (bytes > 0) (void)utf8_next(text, &at);
  if (bytes == 0 || at != bytes) return reader_fail(reader, error, "delimiter must be one character");
  step->pattern = regex_compile(text, bytes, REGEX_LITERAL, error);
  return step->pattern != NULL;
}

static bool read_length(PreTokenizerStep *step, const Reader *reader, Error *error) {
  long long length = 5;
  step->behavior = SPLIT_ISOLATED;
  if (reader_has(reader, "length") && !reader_int(reader, "length", 1, 1 << 30, &length, error)) return false;
  step->length = (size_t)length;
  return true;
}

typedef struct StepType {
  const char *name;
  bool (*read)(PreTokenizerStep *step, const Reader *reader, Error *error);
} StepType;

static const StepType step_types[] = {{"Split", read_split},
                                      {"ByteLevel", read_byte_level},
                                      {"Metaspace", read_metaspace},
                                      {"Digits", read_digits},
                                      {"Punctuation", read_punctuation},
                                      {"Whitespace", read_whitespace},
                                      {"WhitespaceSplit", read_whitespace_split},
                                      {"CharDelimiterSplit", read_delimiter},
                                      {"FixedLength", read_length}};

static bool push_step(PreTokenizer *pretokenizer, const Reader *reader, const char *type, Error *error) {
  PreTokenizerStep *steps = memory_resize(pretokenizer->steps, (pretokenizer->count + 1) * sizeof *steps);
  if (!steps) return error_out_of_memory(error, "pre-tokenizer", (pretokenizer->count + 1) * sizeof *steps);
  pretokenizer->steps = steps;
  PreTokenizerStep *step = &steps[pretokenizer->count++];
  *step = (PreTokenizerStep){.kind = STEP_SPLIT, .cuts = true};
  for (size_t i = 0; i < sizeof step_types / sizeof step_types[0]; i++)
    if (strcmp(type, step_types[i].name) == 0) return step_types[i].read(step, reader, error);
  return reader_fail(
      reader, error,
      "pre-tokenizer %s is not supported (known: Sequence, Split, ByteLevel, Metaspace, Digits, Punctuation, "
      "Whitespace, WhitespaceSplit, BertPreTokenizer, CharDelimiterSplit, FixedLength)",
      type);
}

static bool read_steps(PreTokenizer *pretokenizer, const Reader *reader, int depth, Error *error) {
  const char *type;
  if (!reader_type(reader, &type, error)) return false;
  if (strcmp(type, "BertPreTokenizer") == 0)
    return push_step(pretokenizer, reader, "WhitespaceSplit", error) &&
           push_step(pretokenizer, reader, "Punctuation", error);
  if (strcmp(type, "Sequence") != 0) return push_step(pretokenizer, reader, type, error);
  Reader list, item;
  if (depth == 0) return reader_fail(reader, error, "sequences are nested too deeply");
  if (!reader_array(reader, "pretokenizers", &list, error)) return false;
  for (size_t i = 0; i < json_array_size(list.value); i++)
    if (!reader_item(&list, i, &item, error) || !read_steps(pretokenizer, &item, depth - 1, error))
      return false;
  return true;
}

bool pretokenizer_init(PreTokenizer *pretokenizer, const Reader *reader, Error *error) {
  *pretokenizer = (PreTokenizer){0};
  byte_alphabet_init(&pretokenizer->alphabet);
  if (!reader->value || read_steps(pretokenizer, reader, 8, error)) return true;
  pretokenizer_free(pretokenizer);
  return false;
}

void pretokenizer_free(PreTokenizer *pretokenizer) {
  for (size_t i = 0; i < pretokenizer->count; i++) regex_free(pretokenizer->steps[i].pattern);
  memory_free(pretokenizer->steps);
  *pretokenizer = (PreTokenizer){0};
}

void piece_work_free(PieceWork *work) {
  text_free(&work->text);
  text_free(&work->spare_text);
  memory_free(work->pieces.data);
  memory_free(work->spare_pieces.data);
  memory_free(work->marks);
  *work = (PieceWork){0};
}

static bool push_piece(Pieces *pieces, size_t begin, size_t end, Error *error) {
  if (begin == end) return true;
  if (pieces->size == pieces->capacity) {
    size_t capacity = pieces->capacity * 2 + 64;
    Piece *data = memory_resize(pieces->data, capacity * sizeof *data);
    if (!data) return error_out_of_memory(error, "pieces of a text", capacity * sizeof *data);
    pieces->data = data;
    pieces->capacity = capacity;
  }
  pieces->data[pieces->size++] = (Piece){begin, end};
  return true;
}

static bool push_mark(PieceWork *work, size_t begin, size_t end, bool match, Error *error) {
  if (work->mark_count == work->mark_capacity) {
    size_t capacity = work->mark_capacity * 2 + 64;
    SplitMark *marks = memory_resize(work->marks, capacity * sizeof *marks);
    if (!marks) return error_out_of_memory(error, "pieces of a text", capacity * sizeof *marks);
    work->marks = marks;
    work->mark_capacity = capacity;
  }
  work->marks[work->mark_count++] = (SplitMark){begin, end, match};
  return true;
}

static bool mark_pattern(const PreTokenizerStep *step, PieceWork *work, Piece piece, RegexScratch *scratch,
                         Error *error) {
  const char *text = work->text.data + piece.begin;
  size_t bytes = piece.end - piece.begin, done = 0;
  RegexCursor cursor = {0};
  RegexMatch match;
  for (bool found = true;;) {
    if (!regex_next(step->pattern, scratch, text, bytes, &cursor, &match, &found, error)) return false;
    if (!found) break;
    if (done < match.begin &&
        !push_mark(work, piece.begin + done, piece.begin + match.begin, step->invert, error))
      return false;
    if (!push_mark(work, piece.begin + match.begin, piece.begin + match.end, !step->invert, error))
      return false;
    done = match.end;
  }
  return done == bytes || push_mark(work, piece.begin + done, piece.end, step->invert, error);
}

static bool mark_classes(const PreTokenizerStep *step, PieceWork *work, Piece piece, Error *error) {
  size_t begin = piece.begin;
  int class = CLASS_NONE;
  for (size_t at = piece.begin; at < piece.end;) {
    size_t here = at;
    int next = step->class_of(utf8_next(work->text.data, &at));
    if (next == class && class != CLASS_ALONE) continue;
    if (here > begin && !push_mark(work, begin, here, (class != CLASS_NONE) != step->invert, error))
      return false;
    begin = here;
    class = next;
  }
  return push_mark(work, begin, piece.end, (class != CLASS_NONE) != step->invert, error);
}

static bool mark_lengths(const PreTokenizerStep *step, PieceWork *work, Piece piece, Error *error) {
  for (size_t at = piece.begin; at < piece.end;) {
    size_t begin = at;
    for (size_t i = 0; i < step->length && at < piece.end; i++) (void)utf8_next(work->text.data, &at);
    if (!push_mark(work, begin, at, true, error)) return false;
  }
  return true;
}

/* Joins marks into pieces. A match is joined to its neighbour only when that neighbour is not itself a match. */
static bool cut_marks(SplitBehavior behavior, const SplitMark *marks, size_t count, Pieces *out,
                      Error *error) {
  for (size_t i = 0; i < count;) {
    size_t last = i;
    switch (behavior) {
      case SPLIT_ISOLATED:
      case SPLIT_REMOVED:
        break;
      case SPLIT_CONTIGUOUS:
        while (last + 1 < count && marks[last + 1].match == marks[i].match) last++;
        break;
      case SPLIT_MERGED_WITH_PREVIOUS:
        if (!marks[i].match && i + 1 < count && marks[i + 1].match) last = i + 1;
        break;
      case SPLIT_MERGED_WITH_NEXT:
        if (marks[i].match && i + 1 < count && !marks[i + 1].match) last = i + 1;
        break;
    }
    bool dropped = behavior == SPLIT_REMOVED && marks[i].match;
    if (!dropped && !push_piece(out, marks[i].begin, marks[last].end, error)) return false;
    i = last + 1;
  }
  return true;
}

static void swap_texts(PieceWork *work) {
  Text swap = work->text;
  work->text = work->spare_text;
  work->spare_text = swap;
}

static void swap_pieces(PieceWork *work) {
  Pieces swap = work->pieces;
  work->pieces = work->spare_pieces;
  work->spare_pieces = swap;
}

static bool step_cut(const PreTokenizerStep *step, PieceWork *work, RegexScratch *scratch, Error *error) {
  work->spare_pieces.size = 0;
  for (size_t i = 0; i < work->pieces.size; i++) {
    Piece piece = work->pieces.data[i];
    work->mark_count = 0;
    bool marked = step->pattern  ? mark_pattern(step, work, piece, scratch, error)
                  : step->length ? mark_lengths(step, work, piece, error)
                                 : mark_classes(step, work, piece, error);
    if (!marked || !cut_marks(step->behavior, work->marks, work->mark_count, &work->spare_pieces, error))
      return false;
  }
  swap_pieces(work);
  if (work->pieces.size == 0 || work->pieces.data[0].begin > 0) work->from_start = false;
  return true;
}

/* Copies each piece with something in front where that is wanted, and for Metaspace with every space replaced. */
static bool step_prefix(const PreTokenizerStep *step, PieceWork *work, Error *error) {
  const Text *in = &work->text;
  Text *out = &work->spare_text;
  bool metaspace = step->kind == STEP_METASPACE;
  const char *prefix = metaspace ? step->replacement : " ";
  size_t prefix_bytes = metaspace ? step->replacement_bytes : 1;
  out->size = 0;
  for (size_t i = 0; i < work->pieces.size; i++) {
    Piece *piece = &work->pieces.data[i];
    bool wanted = metaspace ? step->prepend == PREPEND_ALWAYS ||
                                  (step->prepend == PREPEND_FIRST && work->from_start && i == 0)
                            : true;
    bool there =
        in->data[piece->begin] == ' ' || (piece->end - piece->begin >= prefix_bytes &&
                                          memcmp(in->data + piece->begin, prefix, prefix_bytes) == 0);
    size_t begin = out->size;
    TokenSpan place = text_span(in, piece->begin, piece->end);
    place.end = place.begin;
    if (wanted && !there && !text_append(out, prefix, prefix_bytes, place, error)) return false;
    for (size_t at = piece->begin; at < piece->end;) {
      const char *space = metaspace ? memchr(in->data + at, ' ', piece->end - at) : NULL;
      size_t end = space ? (size_t)(space - in->data) : piece->end;
      if (!text_append_part(out, in, at, end, error)) return false;
      if (space && !text_append(out, prefix, prefix_bytes, text_span(in, end, end + 1), error)) return false;
      at = space ? end + 1 : end;
    }
    *piece = (Piece){begin, out->size};
  }
  swap_texts(work);
  return true;
}

static bool step_bytes(const ByteAlphabet *alphabet, PieceWork *work, Error *error) {
  Text *out = &work->spare_text;
  out->size = 0;
  for (size_t i = 0; i < work->pieces.size; i++) {
    Piece *piece = &work->pieces.data[i];
    size_t begin = out->size;
    if (!text_append_bytes(out, alphabet, &work->text, piece->begin, piece->end, error)) return false;
    *piece = (Piece){begin, out->size};
  }
  swap_texts(work);
  return true;
}

bool pretokenizer_apply(const PreTokenizer *pretokenizer, PieceWork *work, bool at_start,
                        RegexScratch *scratch, Error *error) {
  work->pieces.size = 0;
  work->from_start = at_start;
  work->spare_text.tracked = work->text.tracked;
  if (!push_piece(&work->pieces, 0, work->text.size, error)) return false;
  for (size_t i = 0; i < pretokenizer->count; i++) {
    const PreTokenizerStep *step = &pretokenizer->steps[i];
    bool rewrites = step->kind == STEP_METASPACE || (step->kind == STEP_BYTES && step->add_prefix_space);
    if (rewrites && !step_prefix(step, work, error)) return false;
    if (step->cuts && !step_cut(step, work, scratch, error)) return false;
    if (step->kind == STEP_BYTES && !step_bytes(&pretokenizer->alphabet, work, error)) return false;
  }
  return true;
}
