/* The target of libFuzzer; target.sh builds and runs it. */
#include "tests/fuzz/weights.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size) {
  Error error = {0};
  weights_try(data, size, &error); /* either answer is fine, and what is not ends the program */
  return 0;
}
