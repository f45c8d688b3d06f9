#include "datasets/formats.h"

#include "base/json.h"

#include <stdio.h>
#include <string.h>

const char *const dataset_format_names[] = {
    "auto", "alpaca",     "messages", "sharegpt",  "dolly",    "oasst",   "prompt_completion",
    "text", "preference", "ranking",  "safe_pair", "unpaired", "prompts", NULL};
const char *const dataset_truncation_names[] = {"drop", "error", "truncate", NULL};
const char *const dataset_pair_label_names[] = {"better", "safer", NULL};

typedef struct FormatKeys {
  const char *needed[4]; /* all of them */
  const char *more[8];   /* and these, where they are there */
} FormatKeys;

static const FormatKeys format_keys[FORMAT_COUNT] = {
    [FORMAT_ALPACA] = {{"instruction", "output"}, {"input", "system", "history", "tools"}},
    [FORMAT_MESSAGES] = {{"messages"}, {"tools"}},
    [FORMAT_SHAREGPT] = {{"conversations"}, {"system", "tools"}},
    [FORMAT_DOLLY] = {{"instruction", "response"}, {"context"}},
    [FORMAT_OASST] = {{"prompt"}, {NULL}},
    [FORMAT_PROMPT_COMPLETION] = {{"prompt", "completion"}, {"tools"}},
    [FORMAT_TEXT] = {{"text"}, {NULL}},
    [FORMAT_PREFERENCE] = {{"chosen", "rejected"},
                           {"prompt", "context", "margin", "score_chosen", "score_rejected", "tools"}},
    [FORMAT_RANKING] = {{"prompt", "responses"}, {"scores", "rank", "ranking", "tools"}},
    [FORMAT_SAFE_PAIR] = {{"prompt", "response_0", "response_1"},
                          {"better_response_id", "safer_response_id", "is_response_0_safe",
                           "is_response_1_safe"}},
    [FORMAT_UNPAIRED] = {{"prompt", "completion", "label"}, {"tools"}},
    [FORMAT_PROMPTS] = {{"prompt"}, {"tools"}}};

static bool among(const char *const *keys, size_t count, const char *key) {
  for (size_t i = 0; i < count && keys[i]; i++) {
    if (strcmp(keys[i], key) == 0) return true;
  }
  return false;
}

static bool reads(const FormatKeys *keys, const char *key) {
  return among(keys->needed, 4, key) || among(keys->more, 8, key);
}

bool format_has_key(DatasetFormat format, const char *key) {
  if (format != FORMAT_AUTO) return reads(&format_keys[format], key);
  for (int f = 1; f < FORMAT_COUNT; f++) {
    if (reads(&format_keys[f], key)) return true;
  }
  return false;
}

size_t format_all_keys(DatasetFormat format, const char *keys[FORMAT_MOST_KEYS]) {
  size_t count = 0;
  for (int f = 1; f < FORMAT_COUNT; f++) {
    if (format != FORMAT_AUTO && (int)format != f) continue;
    for (size_t i = 0; i < 12; i++) {
      const char *key = i < 4 ? format_keys[f].needed[i] : format_keys[f].more[i - 4];
      if (key && count < FORMAT_MOST_KEYS && !among(keys, count, key)) keys[count++] = key;
    }
  }
  return count;
}

/* ---- kinds ---- */

const char *dataset_kind_name(DatasetKind kind) {
  switch (kind) {
    case DATASET_SFT:
      return "supervised";
    case DATASET_PREFERENCE:
      return "preference";
    case DATASET_PROMPT:
      return "prompt";
    case DATASET_TEXT:
      return "text";
    case DATASET_UNPAIRED:
      return "unpaired";
  }
  return "unknown";
}

DatasetKind record_kind(DatasetFormat format) {
  switch (format) {
    case FORMAT_PREFERENCE:
    case FORMAT_RANKING:
    case FORMAT_SAFE_PAIR:
      return DATASET_PREFERENCE;
    case FORMAT_UNPAIRED:
      return DATASET_UNPAIRED;
    case FORMAT_PROMPTS:
      return DATASET_PROMPT;
    case FORMAT_TEXT:
      return DATASET_TEXT;
    default:
      return DATASET_SFT;
  }
}

bool dataset_kind_takes(DatasetKind kind, DatasetFormat format) {
  if (format == FORMAT_AUTO) return false;
  const DatasetKind made_for = record_kind(format);
  switch (kind) {
    case DATASET_SFT:
    case DATASET_TEXT:
      return made_for == DATASET_SFT || made_for == DATASET_TEXT;
    case DATASET_PREFERENCE:
      return made_for == DATASET_PREFERENCE;
    case DATASET_PROMPT:
      return format != FORMAT_TEXT;
    case DATASET_UNPAIRED:
      return format == FORMAT_UNPAIRED || format == FORMAT_PREFERENCE || format == FORMAT_SAFE_PAIR;
  }
  return false;
}

/* ---- detection ---- */

typedef struct Readings {
  DatasetFormat items[FORMAT_COUNT];
  size_t count;
} Readings;

static bool has(const json_t *root, const char *key) {
  return json_object_get(root, key) != NULL;
}

static bool is_tree(const json_t *root) {
  const json_t *prompt = json_object_get(root, "prompt");
  return json_is_object(prompt) && has(prompt, "replies");
}

static bool fits(const json_t *root, DatasetKind kind, DatasetFormat format) {
  const FormatKeys *keys = &format_keys[format];
  if (format == FORMAT_OASST) return is_tree(root);
  if (format == FORMAT_UNPAIRED && !json_is_boolean(json_object_get(root, "label"))) return false;
  /* An instruction alone is a prompt; "context" beside it is Dolly's. */
  const bool asks =
      kind == DATASET_PROMPT && has(root, "instruction") && !has(root, "output") && !has(root, "response");
  if (asks && format == FORMAT_ALPACA) return !has(root, "context");
  if (asks && format == FORMAT_DOLLY) return has(root, "context");
  for (size_t i = 0; i < 4 && keys->needed[i]; i++) {
    if (!has(root, keys->needed[i])) return false;
  }
  return true;
}

/* Whether `whole` reads all that `part` needs. */
static bool covers(DatasetFormat whole, DatasetFormat part) {
  for (size_t i = 0; i < 4 && format_keys[part].needed[i]; i++) {
    if (!reads(&format_keys[whole], format_keys[part].needed[i])) return false;
  }
  return true;
}

static Readings find_readings(const json_t *root, DatasetKind kind) {
  Readings all = {0}, best = {0};
  for (int f = 1; f < FORMAT_COUNT; f++) {
    if (fits(root, kind, (DatasetFormat)f)) all.items[all.count++] = (DatasetFormat)f;
  }
  for (size_t i = 0; i < all.count; i++) {
    bool covered =
        is_tree(root) && all.items[i] != FORMAT_OASST && reads(&format_keys[all.items[i]], "prompt");
    for (size_t k = 0; k < all.count; k++) {
      covered |= k != i && covers(all.items[k], all.items[i]) && !covers(all.items[i], all.items[k]);
    }
    if (!covered) best.items[best.count++] = all.items[i];
  }
  return best;
}

static bool append_keys(Buffer *text, DatasetFormat format, Error *error) {
  const char *const *needed = format_keys[format].needed;
  bool ok = true;
  for (size_t i = 0; ok && i < 4 && needed[i]; i++) {
    ok = buffer_format(text, error, "%s%s", i ? ", " : "", needed[i]);
  }
  return ok;
}

static bool fail_ambiguous(const Readings *readings, RecordPlace place, Error *error) {
  Buffer text = {0};
  bool ok = true;
  for (size_t i = 0; ok && i < readings->count; i++) {
    ok = buffer_format(&text, error, "%s%s (", i ? " and " : "", dataset_format_names[readings->items[i]]) &&
         append_keys(&text, readings->items[i], error) && buffer_text(&text, ")", error);
  }
  if (ok) {
    error_set(error, ERROR_DATA,
              "%s:%llu: the keys fit more than one format: %s; say which is meant by data.format", place.file,
              (unsigned long long)place.line, text.data);
  }
  buffer_free(&text);
  return false;
}

static bool fail_unknown(const json_t *root, RecordPlace place, Error *error) {
  char keys[256] = "";
  const char *key;
  json_t *value;
  json_object_foreach((json_t *)root, key, value) {
    const size_t used = strlen(keys);
    if (used + strlen(key) + 8 > sizeof keys) {
      memcpy(keys + used, " ...", 5);
      break;
    }
    snprintf(keys + used, sizeof keys - used, "%s%s", used ? ", " : "", key);
  }
  return error_set(
      error, ERROR_DATA,
      "%s:%llu: no known format has these keys: %s; expected instruction + output, instruction + "
      "response, messages, conversations, prompt + completion, text, chosen + rejected, prompt + "
      "responses, prompt + response_0 + response_1, or prompt (data.columns can rename keys)",
      place.file, (unsigned long long)place.line, keys[0] ? keys : "(none)");
}

/* Which stages learn from such records. */
static const char *whose(DatasetFormat format) {
  if (dataset_kind_takes(DATASET_PREFERENCE, format)) return "reward and dpo learn from them";
  if (dataset_kind_takes(DATASET_SFT, format)) return "sft learns from them";
  return dataset_kind_takes(DATASET_TEXT, format)
             ? "sft learns from them, and ppo beside its rewards (data.ptx)"
             : "ppo answers them";
}

/* What records of prompts alone, by their known keys, lack for being learnt from. */
static const char *lacking(DatasetFormat format, DatasetKind kind) {
  if (format != FORMAT_PROMPTS) return "";
  if (kind == DATASET_PREFERENCE)
    return "; preferences have chosen and rejected too (data.columns can rename keys)";
  return kind == DATASET_SFT ? "; answers to learn are in completion (data.columns can rename keys)" : "";
}

/* What would be unpaired records with another label, or are conversations. */
static bool fail_unpaired(DatasetFormat format, RecordPlace place, Error *error) {
  const char *cure =
      format == FORMAT_PROMPT_COMPLETION
          ? "with a key 'label' that is true or false (data.columns can name another key)"
      : format == FORMAT_MESSAGES
          ? "'prompt', 'completion' and 'label': jq -c '. + {prompt: .messages[:-1], completion: "
            ".messages[-1:]} | del(.messages)'"
          : "'prompt', 'completion' and 'label'";
  return error_set(
      error, ERROR_DATA,
      "%s:%llu: the keys are those of %s records; answers with a verdict each (KTO) are expected %s",
      place.file, (unsigned long long)place.line, dataset_format_names[format], cure);
}

static bool fail_kind(DatasetFormat format, DatasetKind kind, RecordPlace place, Error *error) {
  const unsigned long long line = place.line;
  if (format == FORMAT_UNPAIRED && kind == DATASET_PREFERENCE) {
    return error_set(error, ERROR_DATA,
                     "%s:%llu: unpaired records (prompt, completion, label), which hold no two answers to "
                     "compare: drover dpo --dpo.loss kto learns from them",
                     place.file, line);
  }
  if (format == FORMAT_UNPAIRED) {
    return error_set(
        error, ERROR_DATA,
        "%s:%llu: unpaired records (prompt, completion, label), which drover dpo --dpo.loss kto "
        "learns from; data.format prompt_completion learns the answers labelled true, and refuses "
        "the others (jq -c 'select(.label)' leaves them out)",
        place.file, line);
  }
  if (kind == DATASET_UNPAIRED) return fail_unpaired(format, place, error);
  return error_set(error, ERROR_DATA, "%s:%llu: the keys are those of %s records, which are no %s data: %s%s",
                   place.file, line, dataset_format_names[format], dataset_kind_name(kind), whose(format),
                   lacking(format, kind));
}

static bool check_known(const json_t *root, RecordPlace place, Error *error) {
  if (!has(root, "message_id") || !has(root, "parent_id") || !has(root, "role")) return true;
  return error_set(error, ERROR_DATA,
                   "%s:%llu: a single message of Open-Assistant, not a conversation; take the file of trees "
                   "(....trees.jsonl.gz)",
                   place.file, (unsigned long long)place.line);
}

bool record_detect(const json_t *root, DatasetKind kind, RecordPlace place, DatasetFormat *format,
                   Error *error) {
  const Readings readings = find_readings(root, kind);
  Readings taken = {0};
  *format = FORMAT_AUTO;
  for (size_t i = 0; i < readings.count; i++) {
    if (dataset_kind_takes(kind, readings.items[i])) taken.items[taken.count++] = readings.items[i];
  }
  if (!check_known(root, place, error)) return false;
  if (taken.count > 1) return fail_ambiguous(&taken, place, error);
  if (taken.count == 1) {
    *format = taken.items[0];
    return true;
  }
  return readings.count ? fail_kind(readings.items[0], kind, place, error) : fail_unknown(root, place, error);
}

bool record_detect_kind(const json_t *root, RecordPlace place, DatasetFormat *format, DatasetKind *kind,
                        Error *error) {
  const Readings readings = find_readings(root, DATASET_SFT);
  if (readings.count > 1) return fail_ambiguous(&readings, place, error);
  *kind = readings.count ? record_kind(readings.items[0]) : DATASET_SFT;
  return record_detect(root, *kind, place, format, error);
}

const char *dataset_format_needs(DatasetFormat format, char out[128]) {
  size_t used = 0;
  *out = '\0';
  for (size_t i = 0; i < 4 && format_keys[format].needed[i]; i++) {
    used += (size_t)snprintf(out + used, 128 - used, "%s%s", i ? ", " : "", format_keys[format].needed[i]);
  }
  return out;
}
