/* Whether files hold the weights of a model: names, shapes and types. */
#ifndef MODEL_WEIGHTS_CHECK_H
#define MODEL_WEIGHTS_CHECK_H

#include "formats/weight_files.h"
#include "model/model.h"

/* Opens the weights of a directory and sees that they are those of the model. What is missing, of another shape or type, or unexpected is
 * one ERROR_MODEL together, by name: the first of each kind, and how many there are. */
NODISCARD bool weights_open_checked(WeightFiles *files, const Model *model, const char *directory,
                                    Error *error);
/* The entry of a tensor of the model in such files. */
const WeightEntry *weights_entry(const WeightFiles *files, const Model *model, int tensor);
/* That one entry is of floating point and this shape. */
NODISCARD bool weights_check_entry(const WeightEntry *entry, Tensor expected, Error *error);

#endif
