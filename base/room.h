/* Room on a disk, looked at before much is written. */
#ifndef BASE_ROOM_H
#define BASE_ROOM_H

#include "base/error.h"

#include <stdint.h>

/* ERROR_FILE, with both figures, where the file system that the directory lies on, or will lie on when it is made, has no room for so many
 * bytes. */
NODISCARD bool directory_check_room(const char *path, uint64_t bytes, Error *error);

void bytes_text(uint64_t bytes, char out[32]); /* "1.25 GiB" */

#endif
