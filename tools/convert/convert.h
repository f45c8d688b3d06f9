/* The parts of `convert`: a configuration of axolotl, LLaMA-Factory or TRL as one of ours.
 *
 * Every key of the file is one of four things: taken over, by base/option_elsewhere.h or code of its own; set aside, because it has no
 * part in what is learnt; off; or a problem, which is named with its line and why. What a file leaves out is its trainer's default, and
 * is written down where it is not ours. Nothing is taken over that would count otherwise. */
#ifndef TOOLS_CONVERT_CONVERT_H
#define TOOLS_CONVERT_CONVERT_H

#include "base/config_file.h"
#include "base/file.h"
#include "base/option.h"

typedef enum Dialect { AXOLOTL, FACTORY, TRL, DIALECTS } Dialect;
extern const char *const dialect_names[]; /* "axolotl", "llamafactory", "trl", NULL */

typedef struct ConvertConfig {
  char *file, *out;
  int from;                    /* 0: found out; else Dialect + 1 */
  int stage;                   /* 0: found out; else an index of stage_names + 1 */
  int64_t devices, batch_size; /* batch_size 0: by the file */
  OptionSources data, eval_data;
  bool force;
} ConvertConfig;

extern const char *const stage_names[]; /* sft, reward, dpo, ppo, NULL */

typedef struct Note {
  char *key; /* ours */
  char *text;
} Note;

enum { MOST_TAKEN = 64 };

typedef struct Conversion {
  const ConvertConfig *config;
  ConfigFile file;
  Dialect from;
  const char *stage; /* static */
  json_t *made;      /* our configuration so far */
  Note notes[MOST_TAKEN];
  size_t note_count;
  StringList problems; /* "FILE:LINE: 'key': why" */
  StringList asides;   /* "key: why" */
  StringList seen;     /* keys that code of its own has dealt with */
} Conversion;

/* -- convert/take.c: putting values ---------------------------------------------------------------------- */

/* The value of a key there: NULL when it is not there or null. */
json_t *theirs(const Conversion *c, const char *name);
/* null, false, "", "none", [] and {}: what is as if it were not there. */
bool is_off(const json_t *value);
/* Sets a value here with a note behind it (may be NULL); takes the value over. The first value of a key stays. */
NODISCARD bool put_take(Conversion *c, const char *key, json_t *value, const char *note, Error *error);
NODISCARD bool problem(Conversion *c, const char *name, Error *error, const char *format, ...)
    PRINTF_LIKE(4, 5);
NODISCARD bool aside(Conversion *c, const char *name, const char *why, Error *error);
/* Marks a key as dealt with. */
NODISCARD bool see(Conversion *c, const char *name, Error *error);
/* All keys that nobody has dealt with, by the table. */
NODISCARD bool take_rest(Conversion *c, Error *error);
bool is_made(const Conversion *c, const char *key);

/* -- convert/source.c: whose file it is ------------------------------------------------------------------ */

NODISCARD bool find_dialect(Conversion *c, Error *error);
NODISCARD bool find_stage(Conversion *c, Error *error);

/* -- convert/data.c, convert/own.c: what takes more than a table ------------------------------------------ */

NODISCARD bool take_data(Conversion *c, Error *error);
NODISCARD bool take_template(Conversion *c, Error *error);
NODISCARD bool take_model(Conversion *c, Error *error);
NODISCARD bool take_updates(Conversion *c, Error *error);
NODISCARD bool take_rewards(Conversion *c, Error *error);

/* -- convert/defaults.c ------------------------------------------------------------------------------------ */

/* Where the file leaves it to its trainer. */
NODISCARD bool take_defaults(Conversion *c, Error *error);

/* -- convert/write.c --------------------------------------------------------------------------------------- */

NODISCARD bool write_converted(const Conversion *c, Buffer *out, Error *error);
void conversion_free(Conversion *c);

#endif
