/* What a model directory says of itself before a Model is made of it: config.json alone is read. */
#ifndef MODEL_CARD_H
#define MODEL_CARD_H

#include "model/arch.h"

typedef struct ModelCard {
  const Architecture *arch;
  ModelSpec spec;
  bool scores; /* a ...ForSequenceClassification model: no LM head, only a score */
  char *name;  /* "_name_or_path": where Transformers loaded it from when it was saved; NULL when not given */
} ModelCard;

/* ERROR_FILE when there is no config.json, ERROR_MODEL when it cannot be followed; both name it. */
NODISCARD bool model_card_read(ModelCard *card, const char *directory, Error *error);
void model_card_free(ModelCard *card);

#endif
