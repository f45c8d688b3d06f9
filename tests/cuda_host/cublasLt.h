/* Placeholder: the emulated products are still to come. */
#ifndef TESTS_CUDA_HOST_CUBLASLT_H
#define TESTS_CUDA_HOST_CUBLASLT_H
typedef struct cublasLtContext *cublasLtHandle_t;
#endif
