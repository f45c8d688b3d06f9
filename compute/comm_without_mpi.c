#include "compute/comm_exchange.h"

bool comm_has_mpi(void) {
  return false;
}

bool comm_mpi_open(Comm *comm, const CommLaunch *launch, Error *error) {
  (void)comm;
  (void)launch;
  (void)error;
  ASSERT(!"a build with MPI");
  return false;
}
