#include "dpo/balance.h"

static const double least = 1, most = 4.0 / 3, slack = 0.01; /* weights are given with two digits */

void balance_say(const DpoTerms *terms, const Dataset *data, Log *log) {
  int64_t good = 0;
  for (uint64_t i = 0; i < data->count; i++) {
    const Example example = dataset_example(data, dataset_reference(data, i));
    good += example.answers->rank == 0;
  }
  const int64_t bad = (int64_t)data->count - good;
  char counts[2][32];
  log_info(log, "data.train: %s good answers, %s bad ones", grouped_number(good, counts[0]),
           grouped_number(bad, counts[1]));
  if (good == 0 || bad == 0) {
    log_warning(log, "data.train has no %s answers: dpo.loss %s learns from the difference of both kinds",
                good ? "bad" : "good", dpo_loss_names[terms->loss]);
    return;
  }
  const double ratio = (double)good / (double)bad;
  const double weighted = ratio * terms->desirable_weight / terms->undesirable_weight;
  if (weighted >= least - slack && weighted <= most + slack) return;
  log_warning(log,
              "good answers weigh %.2f times what bad ones do, and should 1 to 1.33 times: "
              "dpo.desirable_weight %.2f to %.2f, or "
              "dpo.undesirable_weight %.2f to %.2f",
              weighted, least * terms->undesirable_weight / ratio, most * terms->undesirable_weight / ratio,
              ratio * terms->desirable_weight / most, ratio * terms->desirable_weight / least);
}
