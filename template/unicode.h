/* Code points of UTF-8 that may be broken, and what Python knows about them. A byte that is not part of a valid sequence is a character of its own,
 * UNICODE_BROKEN + the byte: of no class, and never changed. */
#ifndef TEMPLATE_UNICODE_H
#define TEMPLATE_UNICODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { UNICODE_BROKEN = 0x110000 };

/* Bytes of the first code point of `size` (> 0) bytes. */
size_t unicode_width(const char *bytes, size_t size);
/* The first code point; *width as above. */
int32_t unicode_read(const char *bytes, size_t size, size_t *width);
/* The one that ends at `end` (> 0). */
int32_t unicode_read_back(const char *bytes, size_t end, size_t *width);
size_t unicode_count(const char *bytes, size_t size);
/* Writes at most 4 bytes; broken ones as they were. */
size_t unicode_write(int32_t point, char *bytes);

bool unicode_is_space(int32_t point); /* str.isspace, and \s of Python's patterns */
bool unicode_is_alpha(int32_t point);
bool unicode_is_decimal(int32_t point);
bool unicode_is_digit(int32_t point);
bool unicode_is_word(int32_t point); /* \w of Python's patterns */
bool unicode_is_upper(int32_t point);
bool unicode_is_lower(int32_t point);
bool unicode_is_title(int32_t point);
bool unicode_is_printable(int32_t point);
bool unicode_is_name(int32_t point, bool first); /* of an identifier */
bool unicode_is_line_end(int32_t point);         /* str.splitlines */
bool unicode_is_case_ignorable(int32_t point);

/* Full case mappings: at most three code points. The final sigma is the caller's. Returns how many. */
size_t unicode_upper(int32_t point, int32_t out[3]);
size_t unicode_lower(int32_t point, int32_t out[3]);
size_t unicode_title(int32_t point, int32_t out[3]);

#endif
