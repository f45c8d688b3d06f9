/* The atomic writer of base/file.h. */
#include "base/file.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

static bool write_error(const FileWriter *writer, Error *error) {
  return error_set(error, ERROR_FILE, "cannot write %s: %s", writer->path, strerror(errno ? errno : EIO));
}

bool file_writer_open(FileWriter *writer, const char *path, Error *error) {
  *writer = (FileWriter){0};
  int descriptor;
  writer->path = memory_copy_string(path);
  if (!writer->path) return error_out_of_memory(error, "path", strlen(path));
  if (draft_file(&writer->draft, path, &descriptor, error)) {
    writer->stream = fdopen(descriptor, "wb");
    if (writer->stream) return true;
    write_error(writer, error);
    close(descriptor);
  }
  file_writer_close(writer);
  return false;
}

bool file_writer_write(FileWriter *writer, const void *bytes, size_t count, Error *error) {
  ASSERT(writer->stream);
  if (count == 0) return true;
  errno = 0;
  if (fwrite(bytes, 1, count, writer->stream) != count) return write_error(writer, error);
  writer->written += count;
  return true;
}

/* fsync of the directory that holds the file, so that the rename itself survives a power cut. */
static bool sync_parent(const char *path, Error *error) {
  char *parent = path_parent(path);
  if (!parent) return error_out_of_memory(error, "path", strlen(path));
  bool ok = directory_sync(parent, error);
  memory_free(parent);
  return ok;
}

bool file_writer_commit(FileWriter *writer, Error *error) {
  ASSERT(writer->stream);
  errno = 0;
  /* ferror: an earlier failed write must not be renamed into place even if the caller missed it. */
  bool ok = !ferror(writer->stream) && fflush(writer->stream) == 0 && fsync(fileno(writer->stream)) == 0;
  if (!ok) write_error(writer, error);
  if (fclose(writer->stream) != 0 && ok) ok = write_error(writer, error);
  writer->stream = NULL;
  if (ok && rename(writer->draft.path, writer->path) != 0) ok = write_error(writer, error);
  ok = ok && sync_parent(writer->path, error);
  file_writer_close(writer);
  return ok;
}

void file_writer_close(FileWriter *writer) {
  if (writer->stream) fclose(writer->stream);
  draft_drop(&writer->draft);
  memory_free(writer->path);
  *writer = (FileWriter){0};
}

bool file_write_text(const char *path, const char *text, Error *error) {
  FileWriter writer;
  if (!file_writer_open(&writer, path, error)) return false;
  bool ok = file_writer_write(&writer, text, strlen(text), error) && file_writer_commit(&writer, error);
  file_writer_close(&writer);
  return ok;
}
