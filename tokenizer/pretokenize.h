/* The "pre_tokenizer" of tokenizer.json: Sequence, Split, ByteLevel, Metaspace, Digits, Punctuation, Whitespace,
 * WhitespaceSplit, BertPreTokenizer, CharDelimiterSplit, FixedLength. It cuts a text into pieces that the model never merges across, and may rewrite it (bytes as
 * printable characters, spaces as U+2581). */
#ifndef TOKENIZER_PRETOKENIZE_H
#define TOKENIZER_PRETOKENIZE_H

#include "base/reader.h"
#include "base/regex.h"
#include "tokenizer/text.h"

typedef struct Piece {
  size_t begin, end; /* bytes of the text */
} Piece;

typedef struct Pieces {
  Piece *data;
  size_t size, capacity;
} Pieces;

/* A text in pieces, and the working space for making them; all kept for the next text. */
typedef struct PieceWork {
  Text text; /* the pieces' text */
  Pieces pieces;
  Text spare_text;
  Pieces spare_pieces;
  bool from_start; /* the first piece holds the beginning of the input */
  struct SplitMark *marks;
  size_t mark_count, mark_capacity;
} PieceWork;
void piece_work_free(PieceWork *work);

typedef struct PreTokenizerStep PreTokenizerStep;

typedef struct PreTokenizer {
  PreTokenizerStep *steps; /* sequences are flattened */
  size_t count;
  ByteAlphabet alphabet;
} PreTokenizer;

/* value NULL: the whole text is one piece. */
NODISCARD bool pretokenizer_init(PreTokenizer *pretokenizer, const Reader *reader, Error *error);
void pretokenizer_free(PreTokenizer *pretokenizer);

/* Cuts work->text, which is at the start of the input or not, into work->pieces (none of them empty). */
NODISCARD bool pretokenizer_apply(const PreTokenizer *pretokenizer, PieceWork *work, bool at_start,
                                  RegexScratch *scratch, Error *error);

#endif
