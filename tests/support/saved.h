/* What was written beside what another library wrote. Failures fail the running cmocka test. */
#ifndef TESTS_SUPPORT_SAVED_H
#define TESTS_SUPPORT_SAVED_H

/* The safetensors files STEM in both directories have the same tensors: names, types, shapes, bytes. Mask buffers in the
 * original count for nothing. */
void assert_same_tensors(const char *saved, const char *original, const char *stem);
/* The same, but that the bytes of the tensor `changed` differ. NULL = none. */
void assert_same_tensors_but(const char *saved, const char *original, const char *stem, const char *changed);

#endif
