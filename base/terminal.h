/* Text of files and models on its way to a terminal. An escape sequence in a tensor's name, a key, a token or an
 * answer could move the cursor, clear the screen or rename the window, so control characters are spelled out. */
#ifndef BASE_TERMINAL_H
#define BASE_TERMINAL_H

#include <stddef.h>
#include <stdio.h>

/* Copies text with every control character (C0 but for tab and newline, DEL, C1 in UTF-8) spelled out: C0 as
 * \xHH, the others, which JSON may have in its strings, as \u00HH, so that it stays JSON. What does not fit into `size` bytes
 * with the NUL is left out. Returns the length. */
size_t terminal_text(const char *text, size_t bytes, char *out, size_t size);

/* Writes text: as terminal_text where the stream is a terminal, else as it is. Errors are the stream's (ferror). */
void terminal_write(FILE *stream, const char *text, size_t bytes);

/* The same for a text with marks, U+27E6 and U+27E7: on a terminal what stands between them is shown in colour and without them, unless
 * NO_COLOR is set. */
void terminal_write_marked(FILE *stream, const char *text, size_t bytes);

#endif
