/* Inside base/option*.c only: reading one value into a config, and what the reader and the help share. */
#ifndef BASE_OPTION_VALUE_H
#define BASE_OPTION_VALUE_H

#include "base/option.h"

#include "base/json.h"

/* Names the value in messages: "--optim.lr", or "FILE:LINE: 'optim.lr'". */
typedef struct OptionPlace {
  const char *file; /* NULL: the command line */
  const char *key;
  int line; /* 0: not known */
} OptionPlace;

/* Each replaces the option's value and frees the former one; on failure the config is still valid. */
NODISCARD bool option_set_text(const Option *option, void *config, const char *text, OptionPlace place,
                               Error *error);
NODISCARD bool option_set_json(const Option *option, void *config, const json_t *value, OptionPlace place,
                               Error *error);
/* Of OPTION_STRINGS and OPTION_SOURCES. add: to what the option has; an empty text empties it all the same. */
NODISCARD bool option_set_list_text(const Option *option, void *config, const char *text, bool add,
                                    OptionPlace place, Error *error);
NODISCARD bool option_set_list_json(const Option *option, void *config, const json_t *value,
                                    OptionPlace place, Error *error);
void option_clear(const Option *option, void *config);

/* Records "PLACE: message" as ERROR_USAGE. Always returns false. */
bool option_error(Error *error, OptionPlace place, const char *format, ...) PRINTF_LIKE(3, 4);
/* "expected a number, found a string ("abc")". Always returns false. */
bool option_wrong_type(Error *error, OptionPlace place, const char *expected, const json_t *value);
/* A new string, or NULL: what is later printed as JSON has to be UTF-8 (json_string refuses else). */
char *option_copy_text(const char *text, OptionPlace place, Error *error);

/* Whether the value is the one that is written `text`, as for option_set_text. */
bool option_equals(const Option *option, const void *config, const char *text);
/* Whether it is set: not empty, 0 or false. */
bool option_is_set(const Option *option, const void *config);
/* Where two options that exclude each other are set: the one that is not of the command line gets its default back; ERROR_USAGE when
 * both have the same origin. */
NODISCARD bool options_exclude(OptionGiven *given, void *config, Error *error);
/* Whether a condition of a row holds; base/option.h has the language. Mistakes in it are the table's: assertions. */
bool option_holds(const Option *table, size_t rows, const void *config, const char *condition);

/* The known key (or section) that `key` is most likely meant for, NULL when none is: a slip in the section and one in the name, the name
 * without its section or in another one, or an abbreviation of a single name ("optim.wd"); points into the table or `section`. */
const char *option_nearest(const Option *table, size_t rows, const char *key, char section[64]);

/* The length of "optim" in "optim.lr"; 0 for a key without a section. */
int option_section(const char *key);
bool option_same_section(const Option *a, const Option *b);
/* Whether row i is the first of its section; the whole section is printed there, in table order. */
bool option_opens_section(const Option *table, size_t i);

/* "0 .. 1", ">= 1", "<= 2", or "" when unbounded. */
void option_range_text(const Option *option, char *out, size_t size);
/* The shortest decimal text that reads back as the same double. */
void option_float_text(double value, char *out, size_t size);

#endif
