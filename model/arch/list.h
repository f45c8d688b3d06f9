/* The architectures there are: list.def names them, one file each (or one for a family). */
#ifndef MODEL_ARCH_LIST_H
#define MODEL_ARCH_LIST_H

#include "model/arch.h"

#define ARCHITECTURE(name) extern const Architecture architecture_##name;
#include "model/arch/list.def"
#undef ARCHITECTURE

#endif
