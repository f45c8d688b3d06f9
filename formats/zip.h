/* Where the entries of a zip archive lie, for archives whose entries are stored as they are: as torch.save writes them, so that
 * weights can be read in place.
 *
 * The directory at the end of the file is checked whole when an archive is opened, zip64 included: every entry lies in the file before the
 * directory, is not compressed or encrypted, and none covers another or has another's name. Checksums are not compared, which would be
 * a second reading of the weights.
 *
 * Reference: PKWARE's APPNOTE.TXT, sections 4.3 and 4.5.3. Errors are ERROR_MODEL and name file and entry. */
#ifndef FORMATS_ZIP_H
#define FORMATS_ZIP_H

#include "base/file.h"

typedef struct ZipEntry {
  const char *name; /* in the mapping, without a NUL */
  size_t name_bytes;
  const uint8_t *data; /* in the mapping */
  size_t bytes;
} ZipEntry;

typedef struct ZipFile {
  ZipEntry *entries; /* sorted by name */
  size_t count;
} ZipFile;

bool zip_is(const FileMap *map); /* by its first bytes */
NODISCARD bool zip_open(ZipFile *zip, const FileMap *map, const char *path,
                        Error *error); /* the map is borrowed */
void zip_close(ZipFile *zip);
/* The entry of that name; NULL: there is none. */
const ZipEntry *zip_find(const ZipFile *zip, const char *name, size_t name_bytes);

#endif
