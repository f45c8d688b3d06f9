/* Inside datasets/ only: the bytes of a file, unpacked where gzip or zstd has packed it.
 *
 * What a file is shows in its first bytes, not in its name. Both kinds may consist of several parts one after the other, as `cat a.gz
 * b.gz` makes them. "-" is standard input; pipes are read as well as files. */
#ifndef DATASETS_UNPACK_H
#define DATASETS_UNPACK_H

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

typedef struct Unpacker Unpacker;

/* NULL: ERROR_FILE, also for a directory. path is borrowed until the unpacker is closed. */
Unpacker *unpacker_open(const char *path, Error *error);
void unpacker_close(Unpacker *unpacker); /* NULL is fine */

/* Puts at most `room` bytes into `out`; *count = 0 at the end. ERROR_DATA for packed bytes that are broken or end too soon. */
NODISCARD bool unpacker_read(Unpacker *unpacker, char *out, size_t room, size_t *count, Error *error);

uint64_t unpacker_size(const Unpacker *unpacker);  /* of the file as it lies there; 0 for a pipe */
uint64_t unpacker_taken(const Unpacker *unpacker); /* bytes of it that were read so far */

#endif
