/* Option tables: one list of rows gives the defaults, the JSON reader, the command line, --help,
 * --print-config and the checks.
 *
 * A stage declares a config struct and a static table of rows that point into it by offset. Values come, in
 * this order, from the defaults, a JSON or YAML file (`--config FILE`, sections as objects; base/config_file.h), and `--section.key
 * VALUE` (or `--section.key=VALUE`) overrides. Unknown keys are errors that name the nearest known one, or what the
 * option of another trainer is here (base/option_elsewhere.h); only a string "about" at the top of a file is passed over, for
 * saying what the file is for. Required options that are missing are named in one error, and so are
 * paths that are still "<what belongs here>" (drover new).
 * A bare `--section.flag` before another option or at the end means true. Lists on the command line are separated by commas, or
 * JSON when they begin with [ or {; one that is given again there is added to, while of another option the last value counts.
 * All errors are ERROR_USAGE and name the file with the line, or the argument.
 *
 * What an option has to do with others stands in its row: when it matters at all, where its default is another one, and which
 * one it excludes. Of two that exclude each other, one in a file gives way to one on the command line, as values of a key do; two from one place are an
 * error.
 * Conditions are texts like "lora.enabled = true, no model.adapter or no reward.adapter": terms joined by " or ", these
 * joined by ", " for "and". A term is "KEY = VALUE", "KEY != VALUE", "KEY > NUMBER", "KEY" (it is set: not empty, 0 or
 * false) or "no KEY". They are shown by --help as they are. */
#ifndef BASE_OPTION_H
#define BASE_OPTION_H

#include "base/error.h"
#include "base/log.h"
#include "base/memory.h"

#include <stddef.h>
#include <stdint.h>

typedef enum OptionType {
  OPTION_BOOL,   /* bool */
  OPTION_INT,    /* int64_t */
  OPTION_FLOAT,  /* double */
  OPTION_STRING, /* char *, owned; NULL when unset */
  OPTION_CHOICE, /* int: index into choices */
  OPTION_STRINGS, /* OptionStrings: a JSON list of strings; a JSON string or the command line: separated by commas */
  OPTION_SOURCES, /* OptionSources: the same of paths, of which an element may be {"path":..., "weight":...} */
  OPTION_OBJECT, /* char *, owned: a JSON object as compact text, its keys in the user's order; NULL when unset. On the command line
                     that text. Its own keys are the business of whoever reads it. */
  OPTION_OBJECTS, /* char *, owned: a JSON list of objects as compact text, NULL when unset or empty; one object stands for a list
                     of it. On the command line that text. options_read reads each. */
  OPTION_BYTES /* int64_t: number, or text with a unit: KiB, MiB, GiB, TiB of 2^10 ... 2^40 bytes, kB, MB, GB, TB of 10^3 ...
                    10^12 (IEC 80000-13); K, M, G, T like KiB, ..., as dd, Slurm and Docker read them. 0 = none */
} OptionType;

typedef struct OptionStrings {
  char **items;
  size_t count;
} OptionStrings;

typedef struct OptionSource {
  char *path;
  double weight; /* default 1 */
} OptionSource;

typedef struct OptionSources {
  OptionSource *items;
  size_t count;
} OptionSources;

/* What the text of an OPTION_STRING is the path of. */
typedef enum OptionNames {
  OPTION_NAMES_NOTHING,
  OPTION_NAMES_PATH,
  OPTION_NAMES_MODEL,
  OPTION_NAMES_ADAPTER,
  OPTION_NAMES_MODELS /* of an OPTION_OBJECTS: objects may name models and adapters (train/model_objects.h) */
} OptionNames;

typedef struct Option Option;

/* What an object of an OPTION_OBJECTS may be: the value of its key "kind", and the keys that it may have then. */
typedef struct OptionKind {
  const char *name;
  const Option *table;
  size_t rows;
} OptionKind;

struct Option {
  const char *key; /* "optim.lr" */
  OptionType type;
  size_t offset;              /* offsetof(Config, field) */
  const char *fallback;       /* default, as it would be typed on the command line; NULL = unset/empty */
  double min, max;            /* inclusive range of numbers; both 0 = unbounded; may be +-INFINITY */
  const char *const *choices; /* NULL-terminated, for OPTION_CHOICE */
  bool required;
  const char *help;               /* one line: meaning, unit */
  bool check_without;             /* required, but not with --check */
  const char *when;               /* the condition under which it matters; NULL = always */
  const char *instead;            /* the default where ... */
  const char *instead_when;       /* ... this condition holds */
  const char *excludes;           /* key of another way to say the same; the defaults of both set nothing */
  bool first;                     /* what one gives or changes first: in the short help */
  OptionNames names;              /* what a string is the path of, or what objects name */
  const OptionKind *const *kinds; /* what objects may be, NULL-terminated: for the help */
};

/* Rows, one line each: ROW_INT("optim.batch_size", Config, optim.batch_size, "16", 1, 4096, "sequences per update").
 * After the help may follow .first = true, .names = OPTION_NAMES_..., .kinds = ..., .when = "...", .check_without = true, .excludes = "KEY", and .instead = "...", .instead_when = "...". */
#define ROW_BOOL(key, Config, field, fallback, ...) \
  { key, OPTION_BOOL, offsetof(Config, field), fallback, 0, 0, NULL, false, .help = __VA_ARGS__ }
#define ROW_INT(key, Config, field, fallback, min, max, ...) \
  { key, OPTION_INT, offsetof(Config, field), fallback, min, max, NULL, false, .help = __VA_ARGS__ }
#define ROW_FLOAT(key, Config, field, fallback, min, max, ...) \
  { key, OPTION_FLOAT, offsetof(Config, field), fallback, min, max, NULL, false, .help = __VA_ARGS__ }
#define ROW_STRING(key, Config, field, fallback, ...) \
  { key, OPTION_STRING, offsetof(Config, field), fallback, 0, 0, NULL, false, .help = __VA_ARGS__ }
#define ROW_STRING_REQUIRED(key, Config, field, ...) \
  { key, OPTION_STRING, offsetof(Config, field), NULL, 0, 0, NULL, true, .help = __VA_ARGS__ }
#define ROW_CHOICE(key, Config, field, fallback, choices, ...) \
  { key, OPTION_CHOICE, offsetof(Config, field), fallback, 0, 0, choices, false, .help = __VA_ARGS__ }
#define ROW_STRINGS(key, Config, field, fallback, ...) \
  { key, OPTION_STRINGS, offsetof(Config, field), fallback, 0, 0, NULL, false, .help = __VA_ARGS__ }
#define ROW_SOURCES(key, Config, field, fallback, ...) \
  { key, OPTION_SOURCES, offsetof(Config, field), fallback, 0, 0, NULL, false, .help = __VA_ARGS__ }
#define ROW_SOURCES_REQUIRED(key, Config, field, ...) \
  { key, OPTION_SOURCES, offsetof(Config, field), NULL, 0, 0, NULL, true, .help = __VA_ARGS__ }
#define ROW_OBJECT(key, Config, field, ...) \
  { key, OPTION_OBJECT, offsetof(Config, field), NULL, 0, 0, NULL, false, .help = __VA_ARGS__ }
#define ROW_OBJECTS(key, Config, field, ...) \
  { key, OPTION_OBJECTS, offsetof(Config, field), NULL, 0, 0, NULL, false, .help = __VA_ARGS__ }
#define ROW_BYTES(key, Config, field, fallback, ...) \
  { key, OPTION_BYTES, offsetof(Config, field), fallback, 0, 0, NULL, false, .help = __VA_ARGS__ }

/* Which options the user gave. One of a file that has given way to the command line has its default again. */
typedef enum OptionOrigin {
  OPTION_DEFAULT,
  OPTION_GAVE_WAY,
  OPTION_FROM_FILE,
  OPTION_FROM_LINE,
  OPTION_ADDED_TO /* a list, on the command line more than once */
} OptionOrigin;

enum { OPTION_MOST_ROWS = 192 };

typedef struct OptionGiven {
  const Option *table; /* borrowed */
  size_t rows;
  unsigned char origin[OPTION_MOST_ROWS]; /* OptionOrigin of each row */
} OptionGiven;

/* Whether the command line or a file sets the option, to whatever value. The key must be in the table. */
bool option_given(const OptionGiven *given, const char *key);

/* Says which options of a file gave way to others on the command line, and which lists were added to. Warns of every option that is given and cannot matter, since its row's condition does not hold (a file that sets it to its
 * default is no reason: a resolved configuration has all keys), and of every number that is given where it has another
 * default and does not even leave the common one: a rate for all weights where an adapter is trained. */
void options_warn(const OptionGiven *given, const void *config, Log *log);

/* The row of a key, NULL where there is none. */
const Option *option_find(const Option *table, size_t rows, const char *key);

/* What the command line asked for besides options. */
typedef struct OptionRequest {
  bool help, print_config, check, version, json;
  const char *help_topic; /* what stands behind --help; NULL: nothing */
  OptionGiven given;
} OptionRequest;

/* Fills `config` (zeroed by the caller) from defaults, then argv. `--config`, `--help`, `--print-config`,
 * `--check`, `--version` and `--json` are understood here. Required options are checked unless
 * --help or --version was given, those with check_without not with --check either. In a table with a row "config" of its own, --config is that row. */
NODISCARD bool options_parse(const Option *table, size_t rows, void *config, int argc, char **argv,
                             OptionRequest *request, Error *error);

/* Fills `config` (zeroed by the caller) from a resolved configuration (options_json), perhaps of a table with other rows:
 * keys that this table lacks are passed over, what the text lacks is the default. `place` is where it stands, for
 * messages. */
NODISCARD bool options_recall(const Option *table, size_t rows, void *config, const char *text,
                              const char *place, Error *error);

/* The text of an OPTION_STRING or OPTION_OBJECTS; NULL when it is not set. */
const char *option_text(const Option *option, const void *config);
NODISCARD bool option_replace_text(const Option *option, void *config, const char *text, Error *error);

struct json_t;

/* Fills `config` (zeroed by the caller) from defaults, then from one JSON object, an element of an OPTION_OBJECTS; `place` is where it
 * stands, for messages: "reward.sources[2]". Required options are checked. */
NODISCARD bool options_read(const Option *table, size_t rows, void *config, const struct json_t *object,
                            const char *place, Error *error);

/* Frees what options_parse, options_recall or options_read, whether they failed or not, put into config. */
void options_free(const Option *table, size_t rows, void *config);

/* What the help of a program says before its options. */
typedef struct OptionHelp {
  const char *program; /* "sft" */
  const char *summary; /* a sentence */
  const char *example; /* lines of a command; NULL: none */
} OptionHelp;

/* Appends the generated help, lines of at most 80 characters: key, type, default, range or choices, meaning. `topic` NULL: of the
 * rows that are marked as first, or of all where none is; "all"; or the name of a section. ERROR_USAGE for any other. */
NODISCARD bool options_help(const Option *table, size_t rows, const OptionHelp *about, const char *topic,
                            Buffer *out, Error *error);

/* Appends the resolved configuration as JSON, sections as objects, keys in table order, newline at the end:
 * reading it back gives the same config. */
NODISCARD bool options_json(const Option *table, size_t rows, const void *config, Buffer *out, Error *error);

/* The nearest of `count` names by edit distance, or NULL when none is near. */
const char *nearest_name(const char *name, const char *const *names, size_t count);

#endif
