/* What was written beside what another library wrote. Failures fail the running cmocka test. */
#ifndef TESTS_SUPPORT_SAVED_H
#define TESTS_SUPPORT_SAVED_H

/* The safetensors files STEM in both directories have the same tensors: names, types, shapes, bytes. Mask buffers in the
 * original count for nothing. */
void assert_same_tensors(const char *saved, const char *original, const char *stem);

#endif
