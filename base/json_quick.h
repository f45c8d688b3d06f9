/* Inside base/ only: JSON that is plain, read fast.
 *
 * The library reads about 40 MB/s, byte by byte with a state for each. This reader takes whole stretches of text at once and makes
 * the library's values of them. It does not judge: whatever is broken, unusual (numbers of more than 18 digits, depth beyond 256, a
 * NUL in a text, a key given twice) or beyond the limit makes it give up, and the library reads the same text again and says what is wrong. */
#ifndef BASE_JSON_QUICK_H
#define BASE_JSON_QUICK_H

#include <jansson.h>
#include <stddef.h>

/* What the library's values take, with the allocator's share, a little rounded up. */
enum { OBJECT_BYTES = 240, LIST_BYTES = 144, STRING_BYTES = 96, NUMBER_BYTES = 32, ITEM_BYTES = 16 };

/* A new reference to an object or list, equal to what json_loadb makes of it; NULL: it is for the library to read. At most `memory`
 * bytes of values are made. */
json_t *json_quick(const char *text, size_t bytes, size_t memory);

#endif
