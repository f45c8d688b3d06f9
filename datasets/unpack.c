#include "datasets/unpack.h"

#include "base/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

enum { PACKED_BYTES = 1 << 17 };

typedef enum Packing { PACKING_UNKNOWN, PACKING_NONE, PACKING_GZIP, PACKING_ZSTD } Packing;

struct Unpacker {
  const char *path;
  int descriptor;
  uint64_t size, taken;
  Packing packing;
  bool within; /* a part has begun and not ended */
  bool ended;  /* no more bytes in the file */
  char *packed;
  size_t at, end; /* of the bytes of `packed` that are still to be used */
  z_stream gzip;
  ZSTD_DStream *zstd;
};

Unpacker *unpacker_open(const char *path, Error *error) {
  struct stat status;
  Unpacker *unpacker = memory_zeroed(1, sizeof *unpacker);
  if (unpacker) unpacker->packed = memory_alloc(PACKED_BYTES);
  if (!unpacker || !unpacker->packed) {
    memory_free(unpacker);
    error_out_of_memory(error, "read buffer", PACKED_BYTES);
    return NULL;
  }
  unpacker->path = path;
  unpacker->descriptor =
      strcmp(path, "-") == 0 ? fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0) : open(path, O_RDONLY | O_CLOEXEC);
  if (unpacker->descriptor < 0 || fstat(unpacker->descriptor, &status) != 0) {
    error_set(error, ERROR_FILE, "%s: %s", path, strerror(errno));
  } else if (S_ISDIR(status.st_mode)) {
    error_set(error, ERROR_FILE, "%s: is a directory, expected a JSONL file", path);
  } else {
    unpacker->size = S_ISREG(status.st_mode) ? (uint64_t)status.st_size : 0;
    return unpacker;
  }
  unpacker_close(unpacker);
  return NULL;
}

void unpacker_close(Unpacker *unpacker) {
  if (!unpacker) return;
  if (unpacker->descriptor >= 0) close(unpacker->descriptor);
  if (unpacker->packing == PACKING_GZIP) inflateEnd(&unpacker->gzip);
  ZSTD_freeDStream(unpacker->zstd);
  memory_free(unpacker->packed);
  memory_free(unpacker);
}

uint64_t unpacker_size(const Unpacker *unpacker) {
  return unpacker->size;
}

uint64_t unpacker_taken(const Unpacker *unpacker) {
  return unpacker->taken;
}

/* ---- bytes of the file ---- */

static bool read_some(Unpacker *unpacker, char *out, size_t room, size_t *count, Error *error) {
  ssize_t got;
  do got = read(unpacker->descriptor, out, room);
  while (got < 0 && errno == EINTR);
  *count = got > 0 ? (size_t)got : 0;
  unpacker->taken += *count;
  unpacker->ended = got == 0;
  return got >= 0 || error_set(error, ERROR_FILE, "%s: %s", unpacker->path, strerror(errno));
}

/* More bytes behind those that are there, which move to the front. */
static bool refill(Unpacker *unpacker, Error *error) {
  size_t count;
  memmove(unpacker->packed, unpacker->packed + unpacker->at, unpacker->end - unpacker->at);
  unpacker->end -= unpacker->at;
  unpacker->at = 0;
  if (!read_some(unpacker, unpacker->packed + unpacker->end, PACKED_BYTES - unpacker->end, &count, error)) {
    return false;
  }
  unpacker->end += count;
  return true;
}

static bool is_zstd_magic(const unsigned char *at) {
  static const unsigned char frame[] = {0x28, 0xb5, 0x2f, 0xfd};
  const bool skippable = (at[0] & 0xf0) == 0x50 && at[1] == 0x2a && at[2] == 0x4d && at[3] == 0x18;
  return skippable || memcmp(at, frame, sizeof frame) == 0;
}

static bool find_packing(Unpacker *unpacker, Error *error) {
  while (unpacker->end < 4 && !unpacker->ended) {
    if (!refill(unpacker, error)) return false;
  }
  const unsigned char *first = (const unsigned char *)unpacker->packed;
  unpacker->packing = PACKING_NONE;
  if (unpacker->end >= 2 && first[0] == 0x1f && first[1] == 0x8b) {
    if (inflateInit2(&unpacker->gzip, 16 + MAX_WBITS) != Z_OK) {
      return error_out_of_memory(error, "gzip", 0);
    }
    unpacker->packing = PACKING_GZIP;
  } else if (unpacker->end >= 4 && is_zstd_magic(first)) {
    unpacker->zstd = ZSTD_createDStream();
    if (!unpacker->zstd) return error_out_of_memory(error, "zstd", 0);
    unpacker->packing = PACKING_ZSTD;
  }
  return true;
}

/* ---- unpacking ---- */

/* One step over the bytes at hand: how many of `room` bytes were written. */
static bool step_gzip(Unpacker *unpacker, char *out, size_t room, size_t *count, Error *error) {
  z_stream *gzip = &unpacker->gzip;
  gzip->next_in = (unsigned char *)unpacker->packed + unpacker->at;
  gzip->avail_in = (unsigned)(unpacker->end - unpacker->at);
  gzip->next_out = (unsigned char *)out;
  gzip->avail_out = (unsigned)room;
  unpacker->within = true;
  const int result = inflate(gzip, Z_NO_FLUSH);
  *count = room - gzip->avail_out;
  unpacker->at = unpacker->end - gzip->avail_in;
  if (result == Z_STREAM_END) {
    unpacker->within = false;
    return inflateReset(gzip) == Z_OK || error_out_of_memory(error, "gzip", 0);
  }
  if (result == Z_OK || result == Z_BUF_ERROR) return true;
  return error_set(error, ERROR_DATA, "%s: broken gzip data at about byte %llu: %s", unpacker->path,
                   (unsigned long long)(unpacker->taken - gzip->avail_in),
                   gzip->msg ? gzip->msg : zError(result));
}

static bool step_zstd(Unpacker *unpacker, char *out, size_t room, size_t *count, Error *error) {
  ZSTD_inBuffer from = {unpacker->packed + unpacker->at, unpacker->end - unpacker->at, 0};
  ZSTD_outBuffer to = {out, room, 0};
  const size_t result = ZSTD_decompressStream(unpacker->zstd, &to, &from);
  *count = to.pos;
  unpacker->at += from.pos;
  unpacker->within = result != 0;
  if (!ZSTD_isError(result)) return true;
  return error_set(error, ERROR_DATA, "%s: broken zstd data at about byte %llu: %s", unpacker->path,
                   (unsigned long long)(unpacker->taken - (from.size - from.pos)), ZSTD_getErrorName(result));
}

static bool fail_short(const Unpacker *unpacker, Error *error) {
  return error_set(error, ERROR_DATA, "%s: the %s data end in the middle: the file was cut short",
                   unpacker->path, unpacker->packing == PACKING_GZIP ? "gzip" : "zstd");
}

/* Within a part there may be bytes to write though none are left to read; between parts there are none. */
static bool unpack(Unpacker *unpacker, char *out, size_t room, size_t *count, Error *error) {
  for (;;) {
    const bool used_up = unpacker->at == unpacker->end;
    if (used_up && !unpacker->within) {
      if (unpacker->ended) return true;
      if (!refill(unpacker, error)) return false;
      continue;
    }
    if (!(unpacker->packing == PACKING_GZIP ? step_gzip : step_zstd)(unpacker, out, room, count, error)) {
      return false;
    }
    if (*count > 0) return true;
    if (!used_up || !unpacker->within) continue;
    if (unpacker->ended) return fail_short(unpacker, error);
    if (!refill(unpacker, error)) return false;
  }
}

bool unpacker_read(Unpacker *unpacker, char *out, size_t room, size_t *count, Error *error) {
  *count = 0;
  if (unpacker->packing == PACKING_UNKNOWN && !find_packing(unpacker, error)) return false;
  if (unpacker->packing != PACKING_NONE) return unpack(unpacker, out, room, count, error);
  const size_t kept = unpacker->end - unpacker->at;
  if (kept == 0) return unpacker->ended || read_some(unpacker, out, room, count, error);
  *count = kept < room ? kept : room;
  memcpy(out, unpacker->packed + unpacker->at, *count);
  unpacker->at += *count;
  return true;
}
