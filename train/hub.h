/* Models by their names on the Hugging Face hub, in the cache that its tools fill on this machine. Nothing is fetched.
 *
 *   CACHE/models--ORG--NAME/refs/REVISION          the commit that the branch or tag was when it was fetched
 *   CACHE/models--ORG--NAME/snapshots/COMMIT/...   links to the files
 *
 * CACHE is HF_HUB_CACHE, else HF_HOME/hub, else XDG_CACHE_HOME/huggingface/hub, else ~/.cache/huggingface/hub
 * (huggingface_hub, constants.py and "Hub local cache"). A name is ORG/NAME or NAME, with @REVISION behind it for another one than main. */
#ifndef TRAIN_HUB_H
#define TRAIN_HUB_H

#include "base/error.h"

enum { HUB_NAME_SIZE = 256 };

/* Where a name was looked for, and what was found. */
typedef struct HubModel {
  char name[HUB_NAME_SIZE];     /* "Qwen/Qwen2.5-0.5B" */
  char revision[HUB_NAME_SIZE]; /* as it was asked for; "" = none */
  char commit[HUB_NAME_SIZE];   /* of the snapshot */
  char *cache;                  /* the cache's directory; NULL: no variable and no home tells of one */
  char *folder;                 /* of the name in it, whether it is there or not */
  char *snapshot;               /* the directory with the model; NULL: not in the cache */
} HubModel;

/* Whether the text could be such a name; a path like ./x, /x or a/b/c is none. Then looks for it. */
NODISCARD bool hub_find(const char *text, HubModel *model, bool *is_name, Error *error);
void hub_model_free(HubModel *model); /* fine for a zeroed one */

/* "hf download ORG/NAME --revision REVISION": what fetches it. */
void hub_fetch_command(const HubModel *model, char *out, unsigned size);

/* The name of the model whose snapshot a directory is, by where it lies: "ORG/NAME" into `name`, the commit into `commit`, both of
 * HUB_NAME_SIZE. False when it lies in no such cache. */
bool hub_name_of(const char *directory, char *name, char *commit);

#endif
