/* Literals of the language: numbers, and strings with their escapes. */
#ifndef TEMPLATE_LITERAL_H
#define TEMPLATE_LITERAL_H

#include "template/lexer.h"

/* Bytes of the number that the text begins with, 0 if it is none. after_dot: it stands behind a ".", where there are no fractions. */
size_t literal_number_size(const char *text, size_t size, bool after_dot, TokenKind *kind);
/* NULL, or what is wrong. */
const char *literal_number(const char *text, size_t size, TokenKind kind, Value *out);
/* text: without its quotes. False: out of memory; *problem: what is wrong, if something is. */
NODISCARD bool literal_string(ValueHeap *heap, const char *text, size_t size, Value *out,
                              const char **problem, Error *error);

#endif
