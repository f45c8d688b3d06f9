/* What --check does without: a model directory that holds config.json alone has a memory plan, and so has a stage whose data
 * are not there yet. What is missing is said, with what stands in its place; a run itself needs all of it.
 *
 *   no weights                  names, shapes and values are not looked at (base_open, model_paths_read); a score head is
 *                               taken to be there (score_head_open)
 *   no data, or no tokenizer    every sequence may have data.max_length tokens, the most that is ever let through
 *   no card                     one is assumed (device_open_to_plan)
 *
 * What the heap holds of a tokenizer or of data that are not there is not in the plan. */
#ifndef TRAIN_ABSENT_H
#define TRAIN_ABSENT_H

#include "train/data.h"

/* Whether the data are not to be read: none are given, or the model has config.json alone. Says so, with what is assumed;
 * `name`: "data.train". */
bool absent_data(const ModelConfig *model, const DataConfig *config, const char *name,
                 const OptionSources *sources, Log *log);
/* What stands in the place of a data set: no examples, but their sizes. sequences: of one example. */
Dataset absent_dataset(const DataConfig *config, int64_t sequences);

#endif
