#include "datasets/columns.h"

#include "base/json.h"
#include "datasets/fields.h"
#include "datasets/formats.h"

#include <string.h>

static bool check_column(const char *key, const json_t *value, DatasetFormat format, const char *name,
                         Error *error) {
  const char *keys[FORMAT_MOST_KEYS];
  if (!format_has_key(format, key)) {
    const char *near = nearest_name(key, keys, format_all_keys(format, keys));
    const char *who = format ? dataset_format_names[format] : "no format";
    return error_set(error, ERROR_USAGE, "%s: data.columns: %s has %s key '%s'%s%s%s", name, who,
                     format ? "no" : "a", key, near ? "; did you mean '" : "", near ? near : "",
                     near ? "'?" : "");
  }
  if (json_is_string(value) && json_string_length(value) > 0) return true;
  return error_set(error, ERROR_USAGE, "%s: data.columns: key '%s': expected the name of a column, found %s",
                   name, key, json_is_string(value) ? "an empty string" : json_kind(value));
}

bool columns_open(Columns *columns, const char *text, DatasetFormat format, const char *name, Error *error) {
  *columns = (Columns){0};
  if (!text) return true;
  json_error_t where;
  json_t *map = json_parse(text, strlen(text), json_limit_config, JSON_REJECT_DUPLICATES, &where);
  if (!json_is_object(map)) {
    error_set(error, ERROR_USAGE, "%s: data.columns: expected an object of names", name);
    json_decref(map);
    return false;
  }
  const char *key, *other;
  json_t *value, *twin;
  bool ok = true;
  json_object_foreach(map, key, value) {
    ok = ok && check_column(key, value, format, name, error);
    json_object_foreach(map, other, twin) {
      if (ok && strcmp(key, other) != 0 && json_equal(value, twin)) {
        ok = error_set(error, ERROR_USAGE, "%s: data.columns: '%s' and '%s' are the same column '%s'", name,
                       key, other, json_string_value(value));
      }
    }
  }
  if (ok && json_object_size(map) > 0) {
    columns->map = map;
  } else {
    json_decref(map);
  }
  return ok;
}

void columns_close(Columns *columns) {
  json_decref(columns->map);
  *columns = (Columns){0};
}

bool columns_apply(const Columns *columns, json_t *root, KeyNames *passed, Error *error) {
  if (!columns->map) return true;
  json_t *moved = json_object();
  const char *key;
  json_t *value;
  bool ok = moved != NULL;
  json_object_foreach(columns->map, key, value) {
    json_t *found = json_object_get(root, json_string_value(value));
    ok = ok && (!found || json_object_set(moved, key, found) == 0);
  }
  json_object_foreach(columns->map, key, value) {
    json_object_del(root, json_string_value(value));
  }
  json_object_foreach(columns->map, key, value) {
    if (json_object_del(root, key) == 0) fields_pass(passed, "", key);
  }
  ok = ok && json_object_update(root, moved) == 0;
  json_decref(moved);
  return ok || error_out_of_memory(error, "record", 0);
}

const char *columns_shown(const Columns *columns, const char *path, char *out, size_t room) {
  if (!columns || !columns->map) return path;
  const size_t length = strcspn(path, ".[");
  snprintf(out, room, "%.*s", (int)length, path);
  const json_t *name = json_object_get(columns->map, out);
  if (!name) return path;
  snprintf(out, room, "%s%s", json_string_value(name), path + length);
  return out;
}
