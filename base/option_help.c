/* The help of an option table. */
#include "base/option_value.h"

#include <stdio.h>
#include <string.h>

enum { HELP_WIDTH = 80, HELP_LEAST_COLUMN = 24, HELP_MOST_COLUMN = 34 };

static const char *placeholder(const Option *option) {
  static const char *const paths[] = {"TEXT", "PATH", "MODEL", "ADAPTER"}; /* in the order of OptionNames */
  switch (option->type) {
    case OPTION_BOOL:
      return "[true|false]";
    case OPTION_INT:
      return "N";
    case OPTION_FLOAT:
      return "X";
    case OPTION_CHOICE:
      return "NAME";
    case OPTION_STRINGS:
      return "A,B,...";
    case OPTION_SOURCES:
      return "PATH,...";
    case OPTION_OBJECT:
    case OPTION_OBJECTS:
      return "JSON";
    case OPTION_BYTES:
      return "SIZE";
    default:
      return paths[option->names];
  }
}

/* What stands in brackets behind the meaning, its parts with "; " between them. */
typedef struct Remarks {
  Buffer *out;
  bool any;
  Error *error;
} Remarks;

static bool remark(Remarks *r, const char *format, ...) PRINTF_LIKE(2, 3);
static bool remark(Remarks *r, const char *format, ...) {
  char text[512];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  const char *between = r->any ? "; " : " (";
  r->any = true;
  return buffer_format(r->out, r->error, "%s%s", between, text);
}

static bool remark_choices(Remarks *r, const Option *option) {
  if (option->type != OPTION_CHOICE) return true;
  bool ok = remark(r, "one of %s", option->choices[0]);
  for (size_t i = 1; ok && option->choices[i]; i++)
    ok = buffer_format(r->out, r->error, ", %s", option->choices[i]);
  return ok;
}

static bool remark_range(Remarks *r, const Option *option) {
  char range[80] = "";
  if (option->type == OPTION_INT || option->type == OPTION_FLOAT || option->type == OPTION_BYTES)
    option_range_text(option, range, sizeof range);
  return !*range || remark(r, "%s", range);
}

static bool remark_default(Remarks *r, const Option *option) {
  if (!option->fallback || !*option->fallback) return true;
  return option->instead
             ? remark(r, "default %s, %s with %s", option->fallback, option->instead, option->instead_when)
             : remark(r, "default %s", option->fallback);
}

/* The help line: "meaning (one of a, b; default a)"; whole: with the range, and when it matters. */
static bool describe(const Option *option, bool whole, Buffer *out, Error *error) {
  Remarks r = {.out = out, .error = error};
  bool ok = buffer_text(out, option->help ? option->help : "", error) && remark_choices(&r, option) &&
            (!whole || remark_range(&r, option));
  if (ok && whole && option->required)
    ok = remark(&r, "required%s", option->check_without ? " but for --check" : "");
  ok = ok && remark_default(&r, option) &&
       (!whole || !option->when || remark(&r, "only with %s", option->when));
  return ok && (!r.any || buffer_text(out, ")", error));
}

/* Appends the text and a line's end; it is wrapped at words, and goes on at `column`. */
static bool append_wrapped(const char *text, int column, Buffer *out, Error *error) {
  for (int room = HELP_WIDTH - column; *text;) {
    int length = (int)strlen(text);
    if (length > room) {
      for (length = room; length > 0 && text[length] != ' ';) length--;
      if (length == 0) length = (int)strcspn(text, " "); /* one word wider than the column */
    }
    if (!buffer_format(out, error, "%.*s", length, text)) return false;
    text += length + (text[length] == ' ');
    if (*text && !buffer_format(out, error, "\n%*s", column, "")) return false;
  }
  return buffer_text(out, "\n", error);
}

/* Appends "  NAME" and the text beside it from `column` on. */
static bool help_row(const char *name, const char *text, int column, Buffer *out, Error *error) {
  const int used = 2 + (int)strlen(name);
  const bool fits = used + 2 <= column;
  return buffer_format(out, error, "  %s%s%*s", name, fits ? "" : "\n", fits ? column - used : column, "") &&
         append_wrapped(text, column, out, error);
}

static void row_name(const Option *option, char *out, size_t size) {
  snprintf(out, size, "--%s %s", option->key, placeholder(option));
}

static bool option_row(const Option *option, bool whole, int column, Buffer *out, Error *error) {
  Buffer text = {0};
  char name[128];
  row_name(option, name, sizeof name);
  bool ok = describe(option, whole, &text, error) && help_row(name, text.data, column, out, error);
  buffer_free(&text);
  return ok;
}

/* -- what stands beside the options --------------------------------------------------------------------- */

static const char size_help[] =
    "bytes, or a number with a unit: 8G and 8GiB are 8 * 1024^3 bytes, 8GB is 8 * 1000^3; the same of K, M "
    "and T";

typedef struct HelpLine {
  const char *name, *text;
} HelpLine;

static const HelpLine general[] = {
    {"--config FILE",
     "YAML or JSON file with the same keys, sections as objects; options on the command line win"},
    {"--check", "look at configuration, data and model, plan the memory, then stop"},
    {"--print-config", "print the resolved configuration as JSON, then stop"},
    {"--json", "results on standard output as JSON"},
    {"--version", "print the version, then stop"},
    {"--help", "this text"},
};

static bool has_type(const Option *table, size_t rows, OptionType type) {
  for (size_t i = 0; i < rows; i++) {
    if (table[i].type == type) return true;
  }
  return false;
}

/* The lines of an example, indented. */
static bool append_example(const char *example, Buffer *out, Error *error) {
  if (!buffer_text(out, "\nexample\n", error)) return false;
  for (const char *line = example; *line;) {
    const size_t length = strcspn(line, "\n");
    if (!buffer_format(out, error, "  %.*s\n", (int)length, line)) return false;
    line += length + (line[length] == '\n');
  }
  return true;
}

/* -- the parts ------------------------------------------------------------------------------------------ */

typedef struct Help {
  const Option *table;
  size_t rows;
  int column; /* where texts begin */
  Buffer *out;
} Help;

static int column_of(const Option *table, size_t rows) {
  int column = HELP_LEAST_COLUMN;
  for (size_t i = 0; i < rows; i++) {
    char name[128];
    row_name(&table[i], name, sizeof name);
    const int width = (int)strlen(name) + 4;
    if (width > column && width <= HELP_MOST_COLUMN) column = width;
  }
  return column;
}

static bool append_begin(const Help *h, const OptionHelp *about, Error *error) {
  const bool own = option_find(h->table, h->rows, "config") != NULL; /* then --config is no file of options */
  char *title = memory_format("%s: %s", about->program, about->summary);
  const bool ok = title ? append_wrapped(title, 0, h->out, error)
                        : error_out_of_memory(error, "help", strlen(about->summary));
  memory_free(title);
  return ok &&
         buffer_format(h->out, error, "\nusage: drover %s%s [--KEY VALUE ...]\n", about->program,
                       own ? "" : " [--config FILE]") &&
         (!about->example || append_example(about->example, h->out, error));
}

static bool append_general(const Help *h, Error *error) {
  const size_t count = sizeof general / sizeof *general;
  if (!buffer_text(h->out, "\ngeneral\n", error)) return false;
  for (size_t i = option_find(h->table, h->rows, "config") != NULL; i < count; i++) {
    if (!help_row(general[i].name, general[i].text, h->column, h->out, error)) return false;
  }
  return true;
}

static bool key_row(const Option *option, int column, Buffer *out, Error *error) {
  Buffer text = {0};
  char name[128];
  snprintf(name, sizeof name, "%s %s", option->key,
           option->type == OPTION_STRINGS ? "[TEXT, ...]" : placeholder(option));
  const bool ok = describe(option, true, &text, error) && help_row(name, text.data, column, out, error);
  buffer_free(&text);
  return ok;
}

static bool all_have(const OptionKind *const *kinds, const char *key) {
  for (; *kinds; kinds++) {
    if (!option_find((*kinds)->table, (*kinds)->rows, key)) return false;
  }
  return true;
}

static bool append_keys(const Help *h, const OptionKind *kind, const OptionKind *const *all, bool common,
                        Error *error) {
  for (size_t i = 0; i < kind->rows; i++) {
    if (all_have(all, kind->table[i].key) == common && !key_row(&kind->table[i], h->column, h->out, error))
      return false;
  }
  return true;
}

/* The keys of the objects of a list: those that all have, then those of each kind. */
static bool append_kinds(const Help *h, const Option *option, Error *error) {
  const OptionKind *const *kinds = option->kinds;
  bool ok =
      buffer_format(h->out, error, "\n%s, each\n", option->key) && append_keys(h, *kinds, kinds, true, error);
  for (const OptionKind *const *kind = kinds; ok && *kind; kind++) {
    ok = buffer_format(h->out, error, "\n%s of kind %s\n", option->key, (*kind)->name) &&
         append_keys(h, *kind, kinds, false, error);
  }
  return ok;
}

/* The section that row i opens. */
static bool append_section(const Help *h, size_t i, Error *error) {
  const int length = option_section(h->table[i].key);
  if (!buffer_format(h->out, error, "\n%.*s\n", length ? length : 7, length ? h->table[i].key : "options"))
    return false;
  for (size_t j = i; j < h->rows; j++) {
    if (option_same_section(&h->table[i], &h->table[j]) &&
        !option_row(&h->table[j], true, h->column, h->out, error))
      return false;
  }
  for (size_t j = i; j < h->rows; j++) {
    if (option_same_section(&h->table[i], &h->table[j]) && h->table[j].kinds &&
        !append_kinds(h, &h->table[j], error))
      return false;
  }
  return true;
}

static bool append_all(const Help *h, Error *error) {
  for (size_t i = 0; i < h->rows; i++) {
    if (option_opens_section(h->table, i) && !append_section(h, i, error)) return false;
  }
  return !has_type(h->table, h->rows, OPTION_BYTES) ||
         (buffer_text(h->out, "\n", error) && help_row("SIZE", size_help, h->column, h->out, error));
}

/* -- what is asked for ---------------------------------------------------------------------------------- */

static size_t count_first(const Option *table, size_t rows) {
  size_t count = 0;
  for (size_t i = 0; i < rows; i++) count += table[i].first;
  return count;
}

static bool append_first(const Help *h, const char *title, bool required, Error *error) {
  bool ok = buffer_format(h->out, error, "\n%s\n", title);
  for (size_t i = 0; ok && i < h->rows; i++) {
    const Option *option = &h->table[i];
    if (option->first && option->required == required)
      ok = option_row(option, false, h->column, h->out, error);
  }
  return ok;
}

/* "--help SECTION", the names of the sections, and how many options there are. */
static bool append_topics(const Help *h, Error *error) {
  char name[64];
  Buffer sections = {0};
  bool ok = buffer_format(&sections, error, "all %zu options, or those of a section:", h->rows);
  for (size_t i = 0; ok && i < h->rows; i++) {
    const int length = option_section(h->table[i].key);
    if (!option_opens_section(h->table, i) || length == 0) continue;
    snprintf(name, sizeof name, " %.*s", length, h->table[i].key);
    ok = buffer_text(&sections, name, error);
  }
  const bool sectioned = ok && strchr(sections.data, ':')[1];
  ok = ok && buffer_text(h->out, "\nmore\n", error) &&
       help_row(sectioned ? "--help all, --help SECTION" : "--help all",
                sectioned ? sections.data : "all options", h->column, h->out, error);
  buffer_free(&sections);
  return ok;
}

static bool append_short(const Help *h, const OptionHelp *about, Error *error) {
  return append_begin(h, about, error) && append_first(h, "needed", true, error) &&
         append_first(h, "usual", false, error) && append_general(h, error) && append_topics(h, error);
}

static bool append_topic(const Help *h, const char *topic, Error *error) {
  const char *names[64];
  char sections[64][32];
  size_t count = 0;
  for (size_t i = 0; i < h->rows && count < 64; i++) {
    const int length = option_section(h->table[i].key);
    if (length == 0 || !option_opens_section(h->table, i)) continue;
    snprintf(sections[count], sizeof sections[count], "%.*s", length, h->table[i].key);
    if (strcmp(sections[count], topic) == 0) return append_section(h, i, error);
    names[count] = sections[count];
    count++;
  }
  const char *near = nearest_name(topic, names, count);
  return error_set(error, ERROR_USAGE, "--help %s: expected all or a section%s%s%s", topic,
                   near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
}

bool options_help(const Option *table, size_t rows, const OptionHelp *about, const char *topic, Buffer *out,
                  Error *error) {
  const Help h = {.table = table, .rows = rows, .column = column_of(table, rows), .out = out};
  const bool all = (topic && strcmp(topic, "all") == 0) || count_first(table, rows) == 0;
  if (all) return append_begin(&h, about, error) && append_general(&h, error) && append_all(&h, error);
  return topic ? append_topic(&h, topic, error) : append_short(&h, about, error);
}
