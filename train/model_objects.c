#include "train/model_objects.h"

#include "base/json.h"

#include <string.h>

static bool names_a_model(const json_t *object) {
  const char *kind = json_string_value(json_object_get(object, "kind"));
  return kind && (strcmp(kind, "model") == 0 || strcmp(kind, "ensemble") == 0);
}

/* A list as it is to be opened, and as it is to be written down. */
typedef struct Lists {
  json_t *opened, *recorded;
  Log *log;
  Error *error;
} Lists;

/* The two strings that a name leads to; false with an error. */
static bool open_name(const Lists *lists, const char *key, OptionNames names, const json_t *value,
                      json_t **opened, json_t **recorded) {
  ModelPath place;
  if (!model_path_open(&place, key, names, json_string_value(value), lists->log, lists->error)) return false;
  *opened = json_string(place.path);
  *recorded = json_string(place.recorded);
  model_path_close(&place);
  return true;
}

static bool open_member(const Lists *lists, size_t i, const char *key, const char *member,
                        OptionNames names) {
  json_t *object = json_array_get(lists->opened, i), *recorded = json_array_get(lists->recorded, i);
  const json_t *value = json_object_get(object, member);
  json_t *path, *name;
  char full[80];
  if (!json_is_string(value)) return true; /* who reads the object says that */
  snprintf(full, sizeof full, "%s[%zu].%s", key, i, member);
  return open_name(lists, full, names, value, &path, &name) &&
         ((json_object_set_new(object, member, path) == 0 &&
           json_object_set_new(recorded, member, name) == 0) ||
          error_out_of_memory(lists->error, key, 0));
}

static bool open_adapters(const Lists *lists, size_t i, const char *key) {
  static const char member[] = "adapters";
  json_t *paths = json_object_get(json_array_get(lists->opened, i), member);
  json_t *names = json_object_get(json_array_get(lists->recorded, i), member), *path, *name;
  char full[80];
  snprintf(full, sizeof full, "%s[%zu].%s", key, i, member);
  for (size_t k = 0; k < json_array_size(paths); k++) {
    const json_t *value = json_array_get(paths, k);
    if (!json_is_string(value)) continue;
    if (!open_name(lists, full, OPTION_NAMES_ADAPTER, value, &path, &name)) return false;
    if (json_array_set_new(paths, k, path) != 0 || json_array_set_new(names, k, name) != 0)
      return error_out_of_memory(lists->error, key, 0);
  }
  return true;
}

static char *text_of(const json_t *list, Error *error) {
  Buffer text = {0};
  if (json_append_text(&text, list, error)) return text.data;
  buffer_free(&text);
  return NULL;
}

bool model_objects_open(ModelPath *out, const char *key, const char *text, Log *log, Error *error) {
  Lists lists = {.opened = json_loads(text, 0, NULL), .log = log, .error = error};
  lists.recorded = json_deep_copy(lists.opened);
  *out = (ModelPath){0};
  bool ok = lists.recorded || error_out_of_memory(error, key, strlen(text));
  for (size_t i = 0; ok && i < json_array_size(lists.opened); i++) {
    if (!names_a_model(json_array_get(lists.opened, i))) continue;
    ok = open_member(&lists, i, key, "path", OPTION_NAMES_MODEL) &&
         open_member(&lists, i, key, "adapter", OPTION_NAMES_ADAPTER) && open_adapters(&lists, i, key);
  }
  ok = ok && (out->path = text_of(lists.opened, error)) && (out->recorded = text_of(lists.recorded, error));
  json_decref(lists.opened);
  json_decref(lists.recorded);
  if (!ok) model_path_close(out);
  return ok;
}

bool model_objects_each(const char *text, ModelVisit *visit, void *context, Error *error) {
  json_t *list = json_loads(text, 0, NULL);
  bool ok = list || error_out_of_memory(error, "list", strlen(text));
  for (size_t i = 0; ok && i < json_array_size(list); i++) {
    const json_t *object = json_array_get(list, i);
    const char *path = names_a_model(object) ? json_string_value(json_object_get(object, "path")) : NULL;
    ok = !path || visit(context, path, error);
  }
  json_decref(list);
  return ok;
}
