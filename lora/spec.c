/* The description of an adapter, and which modules it means. */
#include "lora/modules.h"

#include "base/memory.h"

#include <stdio.h>
#include <string.h>

void lora_spec_free(LoraSpec *spec) {
  for (size_t i = 0; i < spec->target_count; i++) memory_free(spec->targets[i]);
  for (size_t i = 0; i < spec->override_count; i++) memory_free(spec->overrides[i].module);
  for (size_t i = 0; i < spec->copy_count; i++) memory_free(spec->copies[i]);
  for (size_t i = 0; i < spec->carried_count; i++) memory_free(spec->carried[i].module);
  memory_free(spec->targets);
  memory_free(spec->overrides);
  memory_free(spec->copies);
  memory_free(spec->carried);
  *spec = (LoraSpec){0};
}

static bool append_name(char ***names, size_t *count, const char *name, const char *what, Error *error) {
  char **longer = memory_resize(*names, (*count + 1) * sizeof *longer);
  if (longer) *names = longer;
  char *copy = longer ? memory_copy_string(name) : NULL;
  if (!copy) return error_out_of_memory(error, what, strlen(name));
  longer[(*count)++] = copy;
  return true;
}

bool lora_spec_target(LoraSpec *spec, const char *target, Error *error) {
  return append_name(&spec->targets, &spec->target_count, target, "adapter targets", error);
}

bool lora_spec_copied(LoraSpec *spec, const char *module, Error *error) {
  return append_name(&spec->copies, &spec->copy_count, module, "modules to save", error);
}

bool lora_spec_override(LoraSpec *spec, const char *module, int r, double alpha, Error *error) {
  LoraOverride *overrides = memory_resize(spec->overrides, (spec->override_count + 1) * sizeof *overrides);
  if (overrides) spec->overrides = overrides;
  char *copy = overrides ? memory_copy_string(module) : NULL;
  if (!copy) return error_out_of_memory(error, "adapter ranks", strlen(module));
  overrides[spec->override_count++] = (LoraOverride){.module = copy, .r = r, .alpha = alpha};
  return true;
}

bool lora_spec_carried(LoraSpec *spec, const char *module, bool base_layer, Error *error) {
  LoraCarried *carried = memory_resize(spec->carried, (spec->carried_count + 1) * sizeof *carried);
  if (carried) spec->carried = carried;
  char *copy = carried ? memory_copy_string(module) : NULL;
  if (!copy) return error_out_of_memory(error, "adapter modules", strlen(module));
  carried[spec->carried_count++] = (LoraCarried){.module = copy, .base_layer = base_layer};
  return true;
}

bool lora_spec_copy(LoraSpec *out, const LoraSpec *spec, Error *error) {
  LoraSpec copy = *spec;
  copy.targets = copy.copies = NULL;
  copy.overrides = NULL;
  copy.carried = NULL;
  copy.target_count = copy.override_count = copy.copy_count = copy.carried_count = 0;
  bool ok = true;
  for (size_t i = 0; ok && i < spec->target_count; i++) ok = lora_spec_target(&copy, spec->targets[i], error);
  for (size_t i = 0; ok && i < spec->copy_count; i++) ok = lora_spec_copied(&copy, spec->copies[i], error);
  for (size_t i = 0; ok && i < spec->override_count; i++) {
    const LoraOverride *o = &spec->overrides[i];
    ok = lora_spec_override(&copy, o->module, o->r, o->alpha, error);
  }
  for (size_t i = 0; ok && i < spec->carried_count; i++)
    ok = lora_spec_carried(&copy, spec->carried[i].module, spec->carried[i].base_layer, error);
  if (!ok) lora_spec_free(&copy);
  *out = copy;
  return ok;
}

/* ---- names ---- */

/* As PEFT matches targets: the name itself, or its end after a dot. */
static bool target_matches(const char *target, const char *name) {
  size_t length = strlen(target), whole = strlen(name);
  if (length > whole || strcmp(name + whole - length, target) != 0) return false;
  return length == whole || name[whole - length - 1] == '.';
}

/* As PEFT matches modules_to_save: by the end alone. */
static bool copy_matches(const char *copied, const char *name) {
  size_t length = strlen(copied), whole = strlen(name);
  return length <= whole && strcmp(name + whole - length, copied) == 0;
}

static bool is_all_linear(const char *target) {
  return strcasecmp(target, "all-linear") == 0;
}

bool lora_spec_adapts(const LoraSpec *spec, const LoraModule *module) {
  for (size_t i = 0; i < spec->target_count; i++) {
    if (is_all_linear(spec->targets[i]) ? module->kind == LORA_LINEAR
                                        : target_matches(spec->targets[i], module->name))
      return true;
  }
  return false;
}

bool lora_spec_copies(const LoraSpec *spec, const LoraModule *module) {
  for (size_t i = 0; i < spec->copy_count; i++)
    if (copy_matches(spec->copies[i], module->name)) return true;
  return false;
}

const LoraCarried *lora_spec_carries(const LoraSpec *spec, const LoraModule *module) {
  for (size_t i = 0; i < spec->carried_count; i++)
    if (strcmp(spec->carried[i].module, module->name) == 0) return &spec->carried[i];
  return NULL;
}

/* PEFT looks for the two commonest names alone, whatever the model calls its table and its head. */
static bool name_a_table(char *const *names, size_t count) {
  for (size_t i = 0; i < count; i++)
    if (target_matches("embed_tokens", names[i]) || target_matches("lm_head", names[i])) return true;
  return false;
}

LoraTie lora_spec_tie(const LoraSpec *spec) {
  if (!spec->tie) return LORA_TIE_NONE;
  if (name_a_table(spec->copies, spec->copy_count)) return LORA_TIE_COPY;
  return name_a_table(spec->targets, spec->target_count) ? LORA_TIE_PAIR : LORA_TIE_NONE;
}

/* Whether it is a name for anything but the LM head. */
static bool names_a_part(const char *name, bool (*matches)(const char *, const char *),
                         const LoraModule *modules, int count) {
  for (int i = 0; i < count; i++)
    if (modules[i].kind != LORA_HEAD && matches(name, modules[i].name)) return true;
  return is_all_linear(name);
}

static size_t keep_parts(char **names, size_t count, bool (*matches)(const char *, const char *),
                         const LoraModule *modules, int module_count) {
  size_t kept = 0;
  for (size_t i = 0; i < count; i++) {
    if (names_a_part(names[i], matches, modules, module_count))
      names[kept++] = names[i];
    else
      memory_free(names[i]);
  }
  return kept;
}

void lora_spec_leave_head(LoraSpec *spec, const LoraModule *modules, int count) {
  spec->target_count = keep_parts(spec->targets, spec->target_count, target_matches, modules, count);
  spec->copy_count = keep_parts(spec->copies, spec->copy_count, copy_matches, modules, count);
}

/* ---- checking ---- */

/* The names a user can write: the last parts of the modules' names, each once. */
static void list_names(const LoraModule *modules, int count, bool tables, char *out, size_t size) {
  out[0] = '\0';
  for (int i = 0; i < count; i++) {
    const char *dot = strrchr(modules[i].name, '.');
    const char *name = dot ? dot + 1 : modules[i].name;
    bool seen = tables && modules[i].kind == LORA_LINEAR;
    for (int j = 0; j < i && !seen; j++) seen = target_matches(name, modules[j].name);
    size_t used = strlen(out);
    if (!seen) snprintf(out + used, size - used, "%s%s", used ? ", " : "", name);
  }
}

static bool check_target(const LoraSpec *spec, const char *target, const LoraModule *modules, int count,
                         Error *error) {
  bool found = is_all_linear(target), head = false;
  for (int i = 0; i < count && !found; i++) {
    found = target_matches(target, modules[i].name);
    head = found && modules[i].kind == LORA_HEAD;
  }
  if (spec->names_shared) return true;
  if (head && spec->sequence_classification)
    return error_set(error, ERROR_MODEL, "adapter target \"%s\": a model that scores has no LM head", target);
  if (found) return true;
  char names[512];
  list_names(modules, count, false, names, sizeof names);
  return error_set(error, ERROR_MODEL, "adapter target \"%s\" is no linear of this model (there are: %s)%s",
                   target, names,
                   strcmp(target, "all") == 0 ? "; all-linear is all of them but the tables"
                   : strchr(target, ' ')      ? "; several are separated by commas"
                                              : "");
}

static bool check_copied(const LoraSpec *spec, const char *copied, const LoraModule *modules, int count,
                         Error *error) {
  const LoraModule *found = NULL;
  for (int i = 0; i < count && !found; i++)
    if (copy_matches(copied, modules[i].name)) found = &modules[i];
  if (found && found->kind == LORA_HEAD && spec->sequence_classification && !spec->names_shared)
    return error_set(error, ERROR_MODEL, "module to save \"%s\": a model that scores has no LM head", copied);
  if ((found && found->kind != LORA_LINEAR) || (!found && spec->names_shared)) return true;
  char names[128];
  list_names(modules, count, true, names, sizeof names);
  return error_set(error, ERROR_MODEL,
                   "module to save \"%s\": expected the embedding table or the LM head (there are: %s); "
                   "others are not supported",
                   copied, names);
}

bool lora_spec_check(const LoraSpec *spec, const LoraModule *modules, int count, Error *error) {
  if (spec->r < 1)
    return error_set(error, ERROR_MODEL, "adapter rank r: expected 1 or more, found %d", spec->r);
  if (!(spec->dropout >= 0 && spec->dropout < 1))
    return error_set(error, ERROR_MODEL, "adapter dropout: expected 0 or more and below 1, found %g",
                     (double)spec->dropout);
  for (size_t t = 0; t < spec->target_count; t++)
    if (!check_target(spec, spec->targets[t], modules, count, error)) return false;
  for (size_t t = 0; t < spec->copy_count; t++)
    if (!check_copied(spec, spec->copies[t], modules, count, error)) return false;
  return true;
}
