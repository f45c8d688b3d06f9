#include "train/best.h"

#include <math.h>
#include <string.h>

Best best_of(const char *const *choices, int choice, int standard) {
  return (Best){.choices = choices, .measure = choice == BEST_AUTO ? standard : choice, .step = -1};
}

const char *best_measure(const Best *best) {
  return best->choices[best->measure];
}

static bool is_better(const Best *best, double value) {
  if (!isfinite(value) || best->step < 0) return isfinite(value);
  return strcmp(best_measure(best), "loss") == 0 ? value < best->value : value > best->value;
}

void best_take(Best *best, int64_t step, double value) {
  if (is_better(best, value)) {
    best->step = step;
    best->value = value;
    best->waited = 0;
    best->unsaved = true;
  } else {
    best->waited++;
  }
}
