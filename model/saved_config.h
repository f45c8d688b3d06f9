/* Inside model/save*.c only: the files beside the weights of a saved model. */
#ifndef MODEL_SAVED_CONFIG_H
#define MODEL_SAVED_CONFIG_H

#include "model/weights.h"

/* config.json of the model as it is saved: its class, dtype, and what `tokens` (may be NULL) say of end and padding. */
NODISCARD bool saved_config_write(const Model *model, const ScoreHead *head, const SavedTokens *tokens,
                                  DType dtype, const char *source, const char *directory, Error *error);

#endif
