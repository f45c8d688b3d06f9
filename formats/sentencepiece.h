/* SentencePiece's tokenizer.model as it stands in the file: pieces, and the settings that decide ids.
 *
 * The file is one protobuf message, ModelProto of sentencepiece_model.proto. Of its wire format only varints, fixed
 * numbers and length-delimited fields occur; fields that decide nothing (how the model was trained) are passed over, as
 * protobuf does with what it does not know. A field that comes twice has its last value.
 *
 * Everything is checked against the file's size: a file that is cut, damaged or lies about lengths is ERROR_MODEL with the
 * byte where it goes wrong. So are pieces that SentencePiece itself refuses: empty, twice, not UTF-8. */
#ifndef FORMATS_SENTENCEPIECE_H
#define FORMATS_SENTENCEPIECE_H

#include "base/memory.h"

#include <stddef.h>
#include <stdint.h>

typedef enum PieceType {
  PIECE_NORMAL = 1,
  PIECE_UNKNOWN = 2,
  PIECE_CONTROL = 3,      /* never made from a text: BOS, EOS */
  PIECE_USER_DEFINED = 4, /* one token wherever it stands */
  PIECE_UNUSED = 5,
  PIECE_BYTE = 6 /* <0x00> ... */
} PieceType;

typedef struct SentencePiece {
  const char *text; /* UTF-8 without NUL inside, not ended by one; borrowed from the file's bytes */
  size_t bytes;
  float score;
  PieceType type;
} SentencePiece;

typedef enum SentencePieceKind {
  SENTENCEPIECE_UNIGRAM = 1,
  SENTENCEPIECE_BPE = 2,
  SENTENCEPIECE_WORD = 3,
  SENTENCEPIECE_CHAR = 4
} SentencePieceKind;

typedef struct SentencePieceModel {
  Buffer file;
  SentencePiece *pieces; /* by id */
  size_t count, capacity;
  SentencePieceKind kind;
  bool byte_fallback;
  bool suffix;                                         /* treat_whitespace_as_suffix */
  int unk, bos, eos, pad;                              /* ids as the trainer was told; -1: none */
  char *unk_piece, *bos_piece, *eos_piece, *pad_piece; /* their names there */
  const char *charsmap; /* precompiled normalisation map, borrowed; bytes 0: none */
  size_t charsmap_bytes;
  bool denormalizes; /* a map for decoding */
  bool add_dummy_prefix, remove_extra_whitespaces, escape_whitespaces;
} SentencePieceModel;

/* ERROR_FILE, ERROR_MODEL. */
NODISCARD bool sentencepiece_open(SentencePieceModel *model, const char *path, Error *error);
void sentencepiece_close(SentencePieceModel *model);

#endif
