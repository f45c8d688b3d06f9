/* Numbers as Python writes and reads them. */
#ifndef TEMPLATE_NUMBER_H
#define TEMPLATE_NUMBER_H

#include "template/values.h"

enum { FLOAT_TEXT = 64 };

/* repr(): the shortest digits that are read back as the same number. */
void number_print(double real, char out[FLOAT_TEXT]);
/* int(text, base) and float(text): space around, underscores between digits. False: it is none. *overflow: it is, but not of 64 bits. */
bool number_read_int(const char *text, size_t size, int base, int64_t *out, bool *overflow);
bool number_read_float(const char *text, size_t size, double *out);
/* round(real, digits) */
double number_round(double real, int digits);
/* Of 64 bits, or false. */
bool number_to_int(double real, int64_t *out);

#endif
