#include "base/process.h"

#include <stdlib.h>
#include <unistd.h>

void process_begin(char **argv) {
  if (getenv("OMP_WAIT_POLICY") || getenv("GOMP_SPINCOUNT")) return;
  /* Where either fails, the program runs on as it is. */
  if (setenv("OMP_WAIT_POLICY", "passive", 1) == 0 && setenv("GOMP_SPINCOUNT", "2000", 1) == 0) {
    execv("/proc/self/exe", argv);
  }
}
