#include "tools/bench/bench.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* -- the machine ------------------------------------------------------------------------------------------ */

/* The value of a line "KEY : VALUE" of /proc/cpuinfo, the first of its kind. */
static bool cpuinfo(const char *key, char *out, size_t size) {
  FILE *file = fopen("/proc/cpuinfo", "r");
  char line[8192];
  bool found = false;
  while (file && !found && fgets(line, sizeof line, file)) {
    const char *value = strchr(line, ':');
    if (!value || strncmp(line, key, strlen(key)) != 0) continue;
    value++;
    value += strspn(value, " \t");
    snprintf(out, size, "%.*s", (int)strcspn(value, "\n"), value);
    found = true;
  }
  if (file) fclose(file);
  return found;
}

bool machine_has(const char *feature) {
  char flags[8192];
  if (!cpuinfo("flags", flags, sizeof flags)) return false;
  const size_t length = strlen(feature);
  for (const char *at = flags; (at = strstr(at, feature)); at += length) {
    if ((at == flags || at[-1] == ' ') && (at[length] == ' ' || at[length] == '\0')) return true;
  }
  return false;
}

json_t *machine_describe(const Bench *bench) {
  static const char *const features[] = {"avx2",        "fma",         "avx512f",  "avx512_bf16",
                                         "avx512_fp16", "avx512_vnni", "amx_bf16", "amx_int8"};
  char name[256] = "unknown";
  (void)!cpuinfo("model name", name, sizeof name);
  json_t *list = json_array();
  for (size_t i = 0; i < sizeof features / sizeof *features; i++) {
    if (machine_has(features[i])) json_array_append_new(list, json_string(features[i]));
  }
  const bool limited = bench->cores.quota < bench->cores.count;
  return json_pack("{s:s,s:o,s:i,s:o,s:i,s:I,s:s}", "cpu", name, "features", list, "cores",
                   bench->cores.count, "quota", limited ? json_real(bench->cores.quota) : json_null(),
                   "threads", bench->threads, "memory_bytes",
                   (json_int_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE), "compiler",
#ifdef __clang__
                   __VERSION__
#else
                   "gcc " __VERSION__
#endif
  );
}

/* -- a side ----------------------------------------------------------------------------------------------- */

static int compare(const void *a, const void *b) {
  const double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

double median(double *values, int count) {
  qsort(values, (size_t)count, sizeof *values, compare);
  return count ? 0.5 * (values[count / 2] + values[(count - 1) / 2]) : 0;
}

/* Rates of the quiet runs, or, where there are none, of all; how many. */
static int counted(const Side *side, double rates[MOST_RUNS], bool *disturbed) {
  int count = 0;
  for (int i = 0; i < side->count; i++) {
    if (side->others[i] * 100 <= QUIET_PERCENT) rates[count++] = side->rates[i];
  }
  *disturbed = count == 0;
  if (*disturbed) memcpy(rates, side->rates, (size_t)(count = side->count) * sizeof *rates);
  return count;
}

double side_median(const Side *side) {
  double rates[MOST_RUNS];
  bool disturbed;
  const int count = counted(side, rates, &disturbed);
  return median(rates, count);
}

bool side_measured(const Side *side) {
  return side->count > 0 && side->problem.code == 0;
}

json_t *side_json(const Side *side) {
  if (!side_measured(side)) { /* it failed, or we did before its turn came */
    const char *why = side->problem.code ? side->problem.message : "not measured";
    return json_pack("{s:s,s:s}", "name", side->name, "lacks", why);
  }
  double rates[MOST_RUNS];
  bool disturbed;
  const int count = counted(side, rates, &disturbed);
  const double rate = median(rates, count); /* they are in order now */
  json_t *runs = json_array();
  for (int i = 0; i < side->count; i++)
    json_array_append_new(runs, json_pack("{s:f,s:f}", "rate", side->rates[i], "others", side->others[i]));
  return json_pack("{s:s,s:f,s:f,s:f,s:I,s:b,s:o}", "name", side->name, "rate", rate, "least", rates[0],
                   "most", rates[count - 1], "peak_bytes", (json_int_t)side->peak, "disturbed",
                   (int)disturbed, "runs", runs);
}

/* -- the table ---------------------------------------------------------------------------------------------- */

static const char *text_of(const json_t *object, const char *key) {
  const char *text = json_string_value(json_object_get(object, key));
  return text ? text : "";
}

static double number_of(const json_t *object, const char *key) {
  return json_number_value(json_object_get(object, key));
}

/* Three digits, or all of them before the point. */
static const char *figure(double value, char out[32]) {
  snprintf(out, 32, value >= 100 ? "%.0f" : value >= 10 ? "%.1f" : "%.2f", value);
  return out;
}

static bool describe(const json_t *result, Buffer *out, Error *error) {
  const json_t *machine = json_object_get(result, "machine"), *ceilings = json_object_get(result, "ceilings");
  const json_t *quota = json_object_get(machine, "quota"), *model = json_object_get(result, "model");
  char limit[64] = "";
  if (json_is_number(quota)) snprintf(limit, sizeof limit, " (time for %.3g)", json_number_value(quota));
  bool ok = buffer_format(out, error, "%s, %d cores%s, %d threads\n", text_of(machine, "cpu"),
                          (int)number_of(machine, "cores"), limit, (int)number_of(machine, "threads"));
  size_t i;
  json_t *feature, *peer;
  json_array_foreach(json_object_get(machine, "features"), i, feature) {
    ok = ok && buffer_format(out, error, "%s%s", i ? " " : "", json_string_value(feature));
  }
  ok = ok && buffer_format(out, error, "\n%s, %.0f parameters\n%s, drover %s", text_of(model, "name"),
                           number_of(model, "parameters"), text_of(machine, "compiler"),
                           text_of(result, "version"));
  const char *name;
  json_object_foreach(json_object_get(result, "peers"), name, peer) {
    if (json_object_get(peer, "version"))
      ok = ok && buffer_format(out, error, ", %s %s", name, text_of(peer, "version"));
  }
  ok = ok && buffer_text(out, "\n", error);
  json_object_foreach(json_object_get(result, "peers"), name, peer) {
    if (json_object_get(peer, "lacks"))
      ok = ok && buffer_format(out, error, "%s: %s\n", name, text_of(peer, "lacks"));
  }
  return ok && buffer_format(out, error, "products %.0f GFLOP/s (bf16 %.0f), reading %.1f GB/s%s\n\n",
                             1e-9 * number_of(ceilings, "product_f32"),
                             1e-9 * number_of(ceilings, "product_bf16"), 1e-9 * number_of(ceilings, "memory"),
                             json_is_true(json_object_get(ceilings, "disturbed")) ? " *" : "");
}

/* A line of the table; peer may be NULL. */
static bool row(const json_t *work, const json_t *peer, bool *disturbed, Buffer *out, Error *error) {
  const json_t *ours = json_object_get(work, "ours");
  char mine[32] = "-", theirs[32] = "", ratio[32] = "", floor[32], reached[32] = "";
  figure(number_of(work, "floor"), floor);
  if (json_object_get(ours, "lacks")) {
    return buffer_format(out, error, "%-14s %8s   %s\n", text_of(work, "name"), mine, text_of(ours, "lacks"));
  }
  figure(number_of(ours, "rate"), mine);
  snprintf(reached, sizeof reached, "%.0f%%", 100 * number_of(work, "reached"));
  const bool missing = json_object_get(peer, "lacks") != NULL;
  if (peer) snprintf(theirs, sizeof theirs, "none"); /* why stands above or below the table */
  if (peer && !missing) {
    figure(number_of(peer, "rate"), theirs);
    snprintf(ratio, sizeof ratio, "%.2f", number_of(peer, "ratio"));
  }
  const bool noisy =
      json_is_true(json_object_get(ours, "disturbed")) || json_is_true(json_object_get(peer, "disturbed"));
  *disturbed |= noisy;
  return buffer_format(out, error, "%-14s %8s  %-14s %8s %6s %8s %7s%s\n", text_of(work, "name"), mine,
                       peer ? text_of(peer, "name") : "", theirs, ratio, floor, reached, noisy ? " *" : "");
}

bool report_table(const json_t *result, Buffer *out, Error *error) {
  bool disturbed = json_is_true(json_object_get(json_object_get(result, "ceilings"), "disturbed"));
  bool ok = describe(result, out, error) &&
            buffer_format(out, error, "%-14s %8s  %-14s %8s %6s %8s %7s\n", "tokens/s", "Drover", "peer",
                          "peer's", "ratio", "floor", "reached");
  size_t i, k;
  json_t *work, *peer;
  json_array_foreach(json_object_get(result, "workloads"), i, work) {
    const json_t *peers = json_object_get(work, "peers");
    if (json_array_size(peers) == 0) ok = ok && row(work, NULL, &disturbed, out, error);
    json_array_foreach(peers, k, peer) ok = ok && row(work, peer, &disturbed, out, error);
  }
  if (disturbed) {
    ok = ok &&
         buffer_format(out, error, "\n* disturbed: in every attempt others had more than %d%% of the cores\n",
                       QUIET_PERCENT);
  }
  json_array_foreach(json_object_get(result, "workloads"), i, work) {
    json_array_foreach(json_object_get(work, "peers"), k, peer) {
      const char *lacks = text_of(peer, "lacks"), *name = text_of(peer, "name");
      const json_t *known = json_object_get(json_object_get(json_object_get(result, "peers"), name), "lacks");
      if (*lacks && !known)
        ok = ok && buffer_format(out, error, "%s, %s: %s\n", text_of(work, "name"), name, lacks);
    }
  }
  if (ok && out->size) out->data[--out->size] = '\0'; /* who prints it ends the last line */
  return ok;
}
