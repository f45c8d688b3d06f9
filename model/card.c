#include "model/card.h"

#include "base/file.h"
#include "base/json.h"
#include "model/source.h"

#include <string.h>

static bool read_card(ModelCard *card, const json_t *config, Error *error) {
  const char *name = json_string_value(json_object_get(config, "_name_or_path"));
  card->arch = architecture_find(config, error);
  if (!card->arch || !architecture_read(card->arch, config, &card->spec, error)) return false;
  card->scores = architecture_is_score(card->arch, config);
  card->name = name ? memory_copy_string(name) : NULL;
  return !name || card->name || error_out_of_memory(error, "model name", strlen(name));
}

bool model_card_read(ModelCard *card, const char *directory, Error *error) {
  *card = (ModelCard){0};
  char *path;
  json_t *config = model_config_read(directory, &path, error);
  Error why = {0};
  const bool ok =
      config && (read_card(card, config, &why) || error_set(error, why.code, "%s: %s", path, why.message));
  json_decref(config);
  memory_free(path);
  return ok;
}

void model_card_free(ModelCard *card) {
  memory_free(card->name);
  *card = (ModelCard){0};
}
