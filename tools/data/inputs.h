/* From what the user names to files that can be read twice: directories become their files, pipes are kept in a directory beside the
 * output, which goes again with inputs_close. */
#ifndef TOOLS_DATA_INPUTS_H
#define TOOLS_DATA_INPUTS_H

#include "base/draft.h"
#include "datasets/sources.h"
#include "tools/data/config.h"

typedef struct Inputs {
  OptionSources data, against;
  char *place; /* PLACE.drover-draft-... is where what is needed for a while may lie */
  Draft kept;
} Inputs;

NODISCARD bool inputs_open(Inputs *inputs, const DataConfig *config, Log *log, Error *error);
void inputs_close(Inputs *inputs);
/* What a path is called in reports: that of a pipe by its digest. */
const char *inputs_name(const Inputs *inputs, const char *path);

#endif
