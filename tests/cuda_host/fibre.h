/* Fibres: threads of a block, each on a stack of its own, that give way to one another by hand. */
#ifndef TESTS_CUDA_HOST_FIBRE_H
#define TESTS_CUDA_HOST_FIBRE_H

#include <cstddef>

typedef struct Fibre Fibre;

/* The fibres of one OS thread. */
typedef struct FibrePool FibrePool;

/* Every fibre runs work(argument) each time it is taken from the pool and entered. */
FibrePool *fibre_pool_new(void (*work)(void *argument), void *argument);
void fibre_pool_free(FibrePool *pool); /* no fibre may be inside work; NULL is allowed */

Fibre *fibre_take(FibrePool *pool);
/* From the OS thread's own stack: goes on with the fibre until it waits or its work is done. Tells which: when
 * done, the fibre is back in the pool. */
bool fibre_enter(FibrePool *pool, Fibre *fibre);
/* From within the fibre that was entered last: back to the OS thread's own stack. */
void fibre_wait(FibrePool *pool);

#endif
