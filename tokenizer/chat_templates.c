/* The chat templates that a model directory brings: which files and keys they stand in. */
#include "base/file.h"
#include "base/json.h"
#include "tokenizer/internal.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A later one of the same name replaces the earlier. */
static bool keep(Tokenizer *tokenizer, const char *name, size_t name_bytes, const char *text, Error *error) {
  NamedTemplate *place = NULL;
  for (size_t i = 0; i < tokenizer->template_count; i++) {
    NamedTemplate *at = &tokenizer->templates[i];
    if (strlen(at->name) == name_bytes && memcmp(at->name, name, name_bytes) == 0) place = at;
  }
  if (!place) {
    const size_t bytes = (tokenizer->template_count + 1) * sizeof *tokenizer->templates;
    NamedTemplate *grown = memory_resize(tokenizer->templates, bytes);
    if (!grown) return error_out_of_memory(error, "chat templates", bytes);
    tokenizer->templates = grown;
    place = &grown[tokenizer->template_count];
    *place = (NamedTemplate){.name = memory_format("%.*s", (int)name_bytes, name)};
    if (!place->name) return error_out_of_memory(error, "chat template", name_bytes);
    tokenizer->template_count++;
  }
  memory_free(place->text);
  place->text = memory_copy_string(text);
  return place->text || error_out_of_memory(error, "chat template", strlen(text));
}

static bool keep_default(Tokenizer *tokenizer, const char *text, Error *error) {
  return keep(tokenizer, "default", strlen("default"), text, error);
}

/* "chat_template": text, or [{"name": "default", "template": text}, ...]. */
static bool read_config(Tokenizer *tokenizer, const Reader *config, Error *error) {
  Reader member, item;
  const char *name, *text;
  size_t bytes;
  if (!config->value) return true;
  if (!reader_member(config, "chat_template", &member, error)) return false;
  if (!member.value) return true;
  if (!json_is_array(member.value)) {
    return reader_as_text(&member, &text, &bytes, error) && keep_default(tokenizer, text, error);
  }
  for (size_t i = 0; i < json_array_size(member.value); i++) {
    if (!reader_item(&member, i, &item, error) || !reader_text(&item, "name", true, &name, &bytes, error) ||
        !reader_text(&item, "template", true, &text, &bytes, error) ||
        !keep(tokenizer, name, strlen(name), text, error)) {
      return false;
    }
  }
  return true;
}

/* The file DIRECTORY/NAME as the template `name`, where it is there. */
static bool read_text(Tokenizer *tokenizer, const char *directory, const char *file, const char *name,
                      size_t name_bytes, Buffer *all, Error *error) {
  char *path = path_join(directory, file);
  if (!path) return error_out_of_memory(error, "path", strlen(directory));
  Buffer text = {0};
  bool ok = true;
  if (file_exists(path)) {
    ok = json_file_text(path, json_limit_config, &text, error) && buffer_append(&text, "", 0, error) &&
         buffer_append(all, file, strlen(file) + 1, error) &&
         buffer_append(all, text.data, text.size, error) &&
         keep(tokenizer, name, name_bytes, text.data, error);
  }
  buffer_free(&text);
  memory_free(path);
  return ok;
}

static int is_jinja(const struct dirent *entry) {
  const char *dot = strrchr(entry->d_name, '.');
  return dot && dot > entry->d_name && strcmp(dot, ".jinja") == 0;
}

/* additional_chat_templates/NAME.jinja */
static bool read_additional(Tokenizer *tokenizer, const char *directory, Buffer *all, Error *error) {
  char *folder = path_join(directory, "additional_chat_templates");
  if (!folder) return error_out_of_memory(error, "path", strlen(directory));
  struct dirent **entries = NULL;
  const int count = scandir(folder, &entries, is_jinja, alphasort);
  bool ok = count >= 0 || errno == ENOENT || errno == ENOTDIR ||
            error_set(error, ERROR_FILE, "%s: %s", folder, strerror(errno));
  for (int i = 0; i < count; i++) {
    const char *file = entries[i]->d_name;
    ok = ok && read_text(tokenizer, folder, file, file, strlen(file) - strlen(".jinja"), all, error);
    free(entries[i]); /* scandir's own */
  }
  free(entries);
  memory_free(folder);
  return ok;
}

/* chat_template.json: what processors of models with images write, {"chat_template": text}. */
static bool read_processor(Tokenizer *tokenizer, const char *directory, Buffer *all, Error *error) {
  char *path = path_join(directory, "chat_template.json");
  if (!path) return error_out_of_memory(error, "path", strlen(directory));
  Buffer text = {0};
  json_t *root = NULL;
  bool ok = true;
  if (file_exists(path)) {
    ok = json_file_text(path, json_limit_config, &text, error) &&
         buffer_append(all, text.data, text.size, error);
    root = ok ? reader_parse(path, &text, error) : NULL;
    ok = root != NULL;
  }
  if (root) {
    const Reader top = reader_top(path, root);
    ok = read_config(tokenizer, &top, error);
  }
  json_decref(root);
  buffer_free(&text);
  memory_free(path);
  return ok;
}

bool chat_templates_read(Tokenizer *tokenizer, const char *directory, const Reader *config, Buffer *all,
                         Error *error) {
  return read_config(tokenizer, config, error) && read_processor(tokenizer, directory, all, error) &&
         read_additional(tokenizer, directory, all, error) &&
         read_text(tokenizer, directory, "chat_template.jinja", "default", strlen("default"), all, error);
}
