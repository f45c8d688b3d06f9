#include "tools/convert/convert.h"

#include "base/yaml_write.h"

#include <string.h>

/* Sections in the order that people read them in. */
static const char *const sections[] = {"model", "reward",  "lora", "data", "optim",
                                       "dpo",   "rollout", "ppo",  "run",  "device"};

static const char *note_of(const Conversion *c, const char *key) {
  for (size_t i = 0; i < c->note_count; i++) {
    if (strcmp(c->notes[i].key, key) == 0) return c->notes[i].text;
  }
  return NULL;
}

static bool write_section(const Conversion *c, const char *section, Buffer *out, Error *error) {
  YamlLine lines[MOST_TAKEN];
  char keys[MOST_TAKEN][64];
  size_t count = 0;
  const char *name;
  json_t *value;
  json_object_foreach(json_object_get(c->made, section), name, value) {
    ASSERT(count < MOST_TAKEN);
    snprintf(keys[count], sizeof keys[count], "%s.%s", section, name);
    lines[count] = (YamlLine){.key = keys[count], .value = value, .note = note_of(c, keys[count])};
    count++;
  }
  return yaml_write(out, lines, count, 0, error);
}

static bool write_list(const char *title, const StringList *list, Buffer *out, Error *error) {
  bool ok = list->count == 0 || buffer_format(out, error, "\n# %s\n", title);
  for (size_t i = 0; ok && i < list->count; i++) ok = buffer_format(out, error, "#   %s\n", list->items[i]);
  return ok;
}

bool write_converted(const Conversion *c, Buffer *out, Error *error) {
  const char *file = c->config->out ? c->config->out : "FILE";
  bool ok =
      buffer_format(out, error, "# From %s, a configuration of %s.\n#   drover %s --config %s --check\n",
                    c->file.path, dialect_names[c->from], c->stage, file);
  for (size_t i = 0; ok && i < sizeof sections / sizeof *sections; i++)
    ok = write_section(c, sections[i], out, error);
  return ok && write_list("What is not taken over, and changes what is learnt:", &c->problems, out, error) &&
         write_list("What has no part in what is learnt here:", &c->asides, out, error);
}

void conversion_free(Conversion *c) {
  for (size_t i = 0; i < c->note_count; i++) {
    memory_free(c->notes[i].key);
    memory_free(c->notes[i].text);
  }
  json_decref(c->made);
  string_list_free(&c->problems);
  string_list_free(&c->asides);
  string_list_free(&c->seen);
  config_file_close(&c->file);
}
