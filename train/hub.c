#include "train/hub.h"

#include "base/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* -- names ---------------------------------------------------------------------------------------------- */

static const char name_letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";

/* Bytes of the part of a name that `text` begins with; 0: none. Parts neither begin nor end with a dot or a dash. */
static size_t part_length(const char *text) {
  const size_t length = strspn(text, name_letters);
  if (length == 0 || strchr(".-", text[0]) || strchr(".-", text[length - 1])) return 0;
  return length;
}

/* [ORG/]NAME[@REVISION] */
static bool read_name(const char *text, HubModel *model) {
  size_t length = part_length(text);
  if (length > 0 && text[length] == '/') {
    const size_t second = part_length(text + length + 1);
    length = second ? length + 1 + second : 0;
  }
  const char *revision = text + length + (text[length] == '@');
  if (length == 0 || length >= sizeof model->name || strlen(revision) >= sizeof model->revision) return false;
  if (text[length] && (text[length] != '@' || !*revision || revision[strspn(revision, name_letters)]))
    return false;
  memcpy(model->name, text, length);
  memcpy(model->revision, revision, strlen(revision));
  return true;
}

/* -- the cache ------------------------------------------------------------------------------------------ */

static char *cache_directory(void) {
  static const struct {
    const char *variable, *below;
  } places[] = {{"HF_HUB_CACHE", ""},
                {"HUGGINGFACE_HUB_CACHE", ""}, /* the same of earlier versions */
                {"HF_HOME", "/hub"},
                {"XDG_CACHE_HOME", "/huggingface/hub"},
                {"HOME", "/.cache/huggingface/hub"}};
  for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
    const char *value = getenv(places[i].variable);
    if (value && *value) return memory_format("%s%s", value, places[i].below);
  }
  return NULL;
}

/* "ORG/NAME" as a folder: "models--ORG--NAME". */
static char *folder_of(const char *cache, const char *name) {
  const char *slash = strchr(name, '/');
  return slash ? memory_format("%s/models--%.*s--%s", cache, (int)(slash - name), name, slash + 1)
               : memory_format("%s/models--%s", cache, name);
}

/* The commit in refs/REVISION, if there is such a file. */
static bool read_ref(HubModel *model, const char *revision, Error *error) {
  Buffer text = {0};
  char *path = memory_format("%s/refs/%s", model->folder, revision);
  bool ok = path || error_out_of_memory(error, "path", strlen(model->folder));
  if (ok && file_exists(path)) ok = file_read(path, &text, error);
  if (ok && text.size > 0) {
    const size_t length = strspn(text.data, "0123456789abcdef");
    if (length < sizeof model->commit) memcpy(model->commit, text.data, length);
  }
  buffer_free(&text);
  memory_free(path);
  return ok;
}

/* The revision is a branch or tag, or the commit itself. */
static bool find_snapshot(HubModel *model, Error *error) {
  const char *revision = *model->revision ? model->revision : "main";
  if (!read_ref(model, revision, error)) return false;
  if (!*model->commit) memcpy(model->commit, revision, strlen(revision) + 1);
  char *path = memory_format("%s/snapshots/%s", model->folder, model->commit);
  if (!path) return error_out_of_memory(error, "path", strlen(model->folder));
  if (directory_exists(path)) {
    model->snapshot = path;
  } else {
    memory_free(path);
  }
  return true;
}

bool hub_find(const char *text, HubModel *model, bool *is_name, Error *error) {
  *model = (HubModel){0};
  *is_name = read_name(text, model);
  if (!*is_name) return true;
  model->cache = cache_directory();
  if (!model->cache) return true;
  model->folder = folder_of(model->cache, model->name);
  bool ok = model->folder || error_out_of_memory(error, "path", strlen(model->cache));
  ok = ok && find_snapshot(model, error);
  if (!ok) hub_model_free(model);
  return ok;
}

void hub_model_free(HubModel *model) {
  memory_free(model->cache);
  memory_free(model->folder);
  memory_free(model->snapshot);
  *model = (HubModel){0};
}

void hub_fetch_command(const HubModel *model, char *out, unsigned size) {
  const bool other = *model->revision && strcmp(model->revision, "main") != 0;
  snprintf(out, size, "hf download %s%s%s", model->name, other ? " --revision " : "",
           other ? model->revision : "");
}

/* -- names of directories ------------------------------------------------------------------------------- */

/* Cuts the last part off a path and returns it; "" when there is none. */
static const char *cut_last(char *path) {
  char *slash = strrchr(path, '/');
  if (!slash) return "";
  *slash = '\0';
  return slash + 1;
}

/* .../models--ORG--NAME/snapshots/COMMIT; no part of a name has two dashes one after the other. */
bool hub_name_of(const char *directory, char *name, char *commit) {
  char *real = realpath(directory, NULL);
  if (!real) return false;
  const char *last = cut_last(real), *above = cut_last(real), *folder = cut_last(real);
  const bool is = strcmp(above, "snapshots") == 0 && strncmp(folder, "models--", 8) == 0 &&
                  strlen(last) < HUB_NAME_SIZE && strlen(folder) < HUB_NAME_SIZE;
  if (is) {
    const char *rest = folder + 8, *dashes = strstr(rest, "--");
    snprintf(commit, HUB_NAME_SIZE, "%s", last);
    snprintf(name, HUB_NAME_SIZE, "%.*s%s%s", dashes ? (int)(dashes - rest) : (int)strlen(rest), rest,
             dashes ? "/" : "", dashes ? dashes + 2 : "");
  }
  free(real);
  return is;
}
