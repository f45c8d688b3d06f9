/* strftime_now: the time that the rendering was given, in UTC. */
#ifndef TEMPLATE_CLOCK_H
#define TEMPLATE_CLOCK_H

#include "template/run.h"

NODISCARD bool clock_format(Run *run, const ValueString *format, Value *out);

#endif
