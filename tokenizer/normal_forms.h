/* The normal forms NFC, NFD, NFKC and NFKD (Unicode 15, annex 15) of a text, with spans: in linear time, whatever
 * marks a text piles up. */
#ifndef TOKENIZER_NORMAL_FORMS_H
#define TOKENIZER_NORMAL_FORMS_H

#include "tokenizer/text.h"

typedef enum NormalForm { NORMAL_NFC, NORMAL_NFD, NORMAL_NFKC, NORMAL_NFKD } NormalForm;

/* Appends the normal form of `in`. Characters that were put together or reordered share the span of all. */
NODISCARD bool normal_form_append(NormalForm form, const Text *in, Text *out, Error *error);

#endif
