/* The merges of a BPE vocabulary that comes without them: SentencePiece's, and those of GGUF files made of it. */
#ifndef TOKENIZER_MERGES_H
#define TOKENIZER_MERGES_H

#include "base/reader.h"

/* A piece that may be merged, and be part of merges. */
typedef struct MergePiece {
  const char *text; /* UTF-8 */
  size_t bytes;
  double key; /* merges into pieces of smaller keys come first, of equal keys in the order of the list */
} MergePiece;

/* Each way to make a piece of two others is a merge, of one piece those with the shorter left part first: what
 * tokenizer.json calls "merges". With `ranks` also a list of their ranks, equal for equal keys, so that of equal merges the
 * leftmost in a text is made, as SentencePiece does (bpe.h: "merge_ranks"). New references; NULL: memory is out. */
NODISCARD json_t *merges_derive(const MergePiece *pieces, size_t count, json_t **ranks, Error *error);

#endif
