#include "train/ranks.h"

#include "base/memory.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { VALUE = 200 };

/* Of a host: how many cores and how much memory it has. */
static bool is_own_affair(const char *section, const char *key) {
  return strcmp(section, "device") == 0 && (strcmp(key, "threads") == 0 || strcmp(key, "memory_limit") == 0);
}

static void write_value(const json_t *value, char out[VALUE]) {
  char *text = value ? json_dumps(value, JSON_ENCODE_ANY) : NULL;
  snprintf(out, VALUE, "%.*s", VALUE - 1, text ? text : "nothing");
  free(text);
}

/* The first option of this section that differs. */
static bool compare_section(const char *section, json_t *first, json_t *own, Error *error) {
  const char *key;
  json_t *value;
  json_object_foreach(first, key, value) {
    const json_t *here = json_object_get(own, key);
    if (is_own_affair(section, key) || json_equal(value, here)) continue;
    char there_text[VALUE], here_text[VALUE];
    write_value(value, there_text);
    write_value(here, here_text);
    return error_set(error, ERROR_USAGE, "%s.%s is %s here and %s on rank 0: all ranks need the same command",
                     section, key, here_text, there_text);
  }
  return true;
}

static bool compare(const char *first_text, const char *own_text, Error *error) {
  json_t *first = json_loads(first_text, 0, NULL), *own = json_loads(own_text, 0, NULL), *value;
  const char *section;
  bool ok = (first && own) || error_out_of_memory(error, "configuration", strlen(first_text));
  if (ok) {
    json_object_foreach(first, section, value) {
      ok = ok && compare_section(section, value, json_object_get(own, section), error);
    }
  }
  json_decref(first);
  json_decref(own);
  return ok;
}

bool ranks_check_settings(const Comm *comm, const char *settings, Error *error) {
  if (comm->size == 1) return true;
  int64_t size = (int64_t)strlen(settings) + 1;
  comm_broadcast(comm, 0, &size, sizeof size);
  char *first = memory_alloc((size_t)size);
  if (!first) return error_out_of_memory(error, "configuration of rank 0", (size_t)size);
  if (comm->rank == 0) memcpy(first, settings, (size_t)size);
  comm_broadcast(comm, 0, first, (size_t)size);
  const bool ok = compare(first, settings, error);
  memory_free(first);
  return ok;
}
