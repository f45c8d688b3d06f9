/* What the sources said, for the run log. */
#include "scoring/source.h"
#include "train/program.h"

typedef struct Mean {
  double sum, count;
} Mean;

static void add(Mean *mean, double value) {
  if (isnan(value)) return;
  mean->sum += value;
  mean->count++;
}

void scoring_means(const Scoring *scoring, int64_t count, ScoringMean *tell, void *context) {
  for (size_t i = 0; i < scoring->count; i++) {
    const Source *source = &scoring->sources[i];
    Mean mean = {0};
    if (source->brief) continue;
    for (int64_t slot = 0; slot < count; slot++) add(&mean, source->score[slot]);
    tell(context, source->common->name, source->cost, mean.sum, mean.count);
    for (int p = 0; p < source->part_count; p++) {
      char name[160];
      mean = (Mean){0};
      for (int64_t slot = 0; slot < count; slot++) add(&mean, source->parts[p][slot]);
      snprintf(name, sizeof name, "%s/%s", source->common->name, source->part_names[p]);
      tell(context, name, source->cost, mean.sum, mean.count);
    }
  }
}

/* JSON has no NaN. */
static bool put_number(Buffer *out, double value, Error *error) {
  return isfinite(value) ? buffer_format(out, error, "%.7g", value) : buffer_text(out, "null", error);
}

static bool put_member(Buffer *out, const char *name, bool first, Error *error) {
  return (first || buffer_text(out, ", ", error)) && result_string(out, name, error) &&
         buffer_text(out, ": ", error);
}

/* Its score, or an object where that has parts. */
static bool put_source(const Source *source, int64_t slot, Buffer *out, Error *error) {
  bool parts = false, ok = true;
  for (int p = 0; p < source->part_count; p++) parts |= !isnan(source->parts[p][slot]);
  if (!parts) return put_number(out, source->score[slot], error);
  ok = buffer_text(out, "{\"score\": ", error) && put_number(out, source->score[slot], error);
  for (int p = 0; ok && p < source->part_count; p++) {
    const float value = source->parts[p][slot];
    if (isnan(value)) continue;
    ok = put_member(out, source->part_names[p], false, error) && put_number(out, value, error);
  }
  return ok && buffer_text(out, "}", error);
}

bool scoring_detail(const Scoring *scoring, int64_t slot, Buffer *out, Error *error) {
  bool ok = buffer_text(out, "{", error);
  for (size_t i = 0; ok && i < scoring->count; i++) {
    const Source *source = &scoring->sources[i];
    ok = put_member(out, source->common->name, i == 0, error) && put_source(source, slot, out, error);
  }
  return ok && buffer_text(out, "}", error);
}
