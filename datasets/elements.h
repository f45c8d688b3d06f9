/* Inside datasets/ only: the elements of a JSON list, found one at a time without reading the list as a whole.
 *
 * Where an element ends is known from its brackets and quotes; whether it is sound JSON is for the parser to say. */
#ifndef DATASETS_ELEMENTS_H
#define DATASETS_ELEMENTS_H

#include "datasets/lines.h"

/* Moves to the next element: its text in line, its place in number and first_column. *found = false after the last one, when
 * nothing but white space follows the list. ERROR_DATA "FILE:LINE:COLUMN: ..." for what is no list. */
NODISCARD bool element_next(LineReader *reader, bool *found, Error *error);

#endif
