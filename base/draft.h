/* Drafts: what is being written stands beside its place, under a name of its own, until it is whole.
 *
 * The name is PLACE.drover-draft-XXXXXXXXXXXXXXXX, 64 random bits, so that no two writers meet in one, not even two
 * with the same process number in two containers. Its writer holds it by flock for as long as he lives; a draft that
 * nobody holds was left by a killed one, and is removed when the next draft is made in the same directory. Nothing
 * else is: what has no such name, is another user's, or cannot be locked stays.
 *
 *   draft_directory(&draft, "out/model", error) && fill(draft.path, error) &&
 *     directory_replace(draft.path, "out/model", error)
 *   draft_drop(&draft)           always
 *
 * Errors are ERROR_FILE and name the place. For single files there is FileWriter (base/file.h). */
#ifndef BASE_DRAFT_H
#define BASE_DRAFT_H

#include "base/error.h"

typedef struct Draft {
  char *path; /* of the draft; NULL = none */
  int lock;   /* descriptor that holds it */
} Draft;

/* An empty file beside `place`, open for writing as *descriptor, which is the caller's to close. */
NODISCARD bool draft_file(Draft *draft, const char *place, int *descriptor, Error *error);
/* An empty directory beside `place`, whose parents are made when missing. */
NODISCARD bool draft_directory(Draft *draft, const char *place, Error *error);
/* Removes what still stands under the draft's name, and lets go of it; fine for a zeroed one. */
void draft_drop(Draft *draft);

/* Syncs the directory `ready` and puts it in place of `place`, which may exist and is then removed. Both lie in the
 * same directory. The two are exchanged in one step, so that there is never a moment without `place`; on a file system
 * that cannot exchange names there is one, and who is killed in it finds the former directory beside it as
 * PLACE.drover-former-XXXXXXXXXXXXXXXX, which nobody removes. */
NODISCARD bool directory_replace(const char *ready, const char *place, Error *error);

#endif
