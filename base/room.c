#include "base/room.h"

#include "base/file.h"

#include <stdio.h>

void bytes_text(uint64_t bytes, char out[32]) {
  static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
  double value = (double)bytes;
  int unit = 0;
  for (; value >= 1024 && unit < 4; unit++) value /= 1024;
  snprintf(out, 32, unit == 0 ? "%.0f %s" : "%.2f %s", value, units[unit]);
}

bool directory_check_room(const char *path, uint64_t bytes, Error *error) {
  uint64_t available;
  char needed[32], room[32];
  if (!directory_room(path, &available, error)) return false;
  if (available >= bytes) return true;
  bytes_text(bytes, needed);
  bytes_text(available, room);
  return error_set(error, ERROR_FILE,
                   "%s: %s are to be written, and %s are free there: make room, or choose another place",
                   path, needed, room);
}
