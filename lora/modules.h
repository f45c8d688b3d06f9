/* Inside this room: which modules a description means. */
#ifndef LORA_MODULES_H
#define LORA_MODULES_H

#include "lora/lora.h"

/* ERROR_MODEL where numbers are out of range, or a name is that of no module. */
NODISCARD bool lora_spec_check(const LoraSpec *spec, const LoraModule *modules, int count, Error *error);

/* Drops the names that mean no module but an LM head, for a model that only scores. */
void lora_spec_leave_head(LoraSpec *spec, const LoraModule *modules, int count);

bool lora_spec_adapts(const LoraSpec *spec, const LoraModule *module); /* has a pair, unless it is copied */
bool lora_spec_copies(const LoraSpec *spec, const LoraModule *module);
const LoraCarried *lora_spec_carries(const LoraSpec *spec, const LoraModule *module); /* or NULL */

/* What a head that is tied in the base takes from the table. */
typedef enum LoraTie { LORA_TIE_NONE, LORA_TIE_COPY, LORA_TIE_PAIR } LoraTie;
LoraTie lora_spec_tie(const LoraSpec *spec);

#endif
