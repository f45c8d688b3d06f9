/* "..." % values and "...".format(values). */
#ifndef TEMPLATE_FORMAT_H
#define TEMPLATE_FORMAT_H

#include "template/run.h"

NODISCARD bool format_percent(Run *run, const ValueString *format, Value values, Value *out);
NODISCARD bool format_braces(Run *run, const ValueString *format, const CallArguments *arguments, Value *out);

/* How one value is laid out; both notations end here. */
typedef struct FieldFormat {
  const char *fill; /* one code point */
  size_t fill_size;
  char align; /* < > ^ =; 0: that of the value's type */
  char sign;  /* + - or blank */
  bool alternate, zero;
  char grouping;            /* , or _ or 0 */
  int64_t width, precision; /* precision: -1 when not given */
  char type;                /* 0: none */
} FieldFormat;

/* Appends a number, or a string, so. */
NODISCARD bool format_int(Run *run, const FieldFormat *format, int64_t number);
NODISCARD bool format_real(Run *run, const FieldFormat *format, double number);
NODISCARD bool format_string(Run *run, const FieldFormat *format, const ValueString *string);

#endif
