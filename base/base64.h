/* Base64 of RFC 4648, section 4: with padding, without line ends. */
#ifndef BASE_BASE64_H
#define BASE_BASE64_H

#include "base/memory.h"

/* Appends the bytes that the text stands for. ERROR_MODEL when it is none. */
NODISCARD bool base64_decode(const char *text, size_t bytes, Buffer *out, Error *error);

#endif
