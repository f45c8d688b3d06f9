/* Inside model/save*.c only: the files beside the weights of a saved model. */
#ifndef MODEL_SAVED_CONFIG_H
#define MODEL_SAVED_CONFIG_H

#include "model/weights.h"

/* config.json of the model as it is saved: its class, dtype, and what `tokens` (may be NULL) say of end and padding; untied:
 * the head has a tensor of its own, which the model's config.json does not say. */
NODISCARD bool saved_config_write(const Model *model, const ScoreHead *head, bool untied,
                                  const SavedTokens *tokens, DType dtype, const char *source,
                                  const char *directory, Error *error);
/* Whether config.json can say so: ERROR_MODEL for an architecture that always ties. */
NODISCARD bool saved_config_can_untie(const Model *model, Error *error);

#endif
