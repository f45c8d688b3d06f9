#include "compute/comm_exchange.h"

bool exchange_open(Comm *comm, const CommLaunch *launch, Error *error) {
  (void)comm;
  return error_set(error, ERROR_USAGE,
                   "%s asks for %d ranks (%s), but this build has no MPI: install libopenmpi-dev and "
                   "openmpi-bin, then configure and build again",
                   launch->launcher, launch->size, launch->variable);
}

/* The rest is for worlds, of which there is none. */
void exchange_close(Comm *comm) {
  ASSERT(!comm->world);
}

void exchange_run(const Comm *comm, const char *what) {
  (void)what;
  ASSERT(!comm->world);
}

void exchange_abort(const Comm *comm, ErrorCode code, const char *message) {
  (void)comm;
  (void)code;
  assert_failed(__FILE__, __LINE__, message);
}
