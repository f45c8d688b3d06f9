/* A folder of its own for each test: TEST(f) by cmocka_unit_test_setup_teardown(f, open_folder, close_folder). */
#ifndef TESTS_FOLDER_H
#define TESTS_FOLDER_H

#include "tests/temporary.h"

static Temporary folder;

static inline int open_folder(void **state) {
  (void)state;
  temporary_open(&folder);
  return 0;
}

static inline int close_folder(void **state) {
  (void)state;
  temporary_close(&folder);
  return 0;
}

#endif
