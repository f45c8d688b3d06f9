/* Fibres: threads of a block, each on a stack of its own, that give way to one another by hand. */
#ifndef TESTS_CUDA_HOST_FIBRE_H
#define TESTS_CUDA_HOST_FIBRE_H

#include <cstddef>

typedef struct Fibre Fibre;

/* The fibres of one OS thread. */
typedef struct FibrePool FibrePool;

/* Every fibre does work(argument) each time it is taken from the pool and switched to; what that returns is
 * switched to next (NULL: the OS thread's own stack), and the fibre is back in the pool. */
FibrePool *fibre_pool_new(Fibre *(*work)(void *argument), void *argument);
void fibre_pool_free(FibrePool *pool); /* no fibre may be inside work; NULL is allowed */

Fibre *fibre_take(FibrePool *pool);
Fibre *fibre_running(const FibrePool *pool); /* NULL: the OS thread's own stack */

/* Goes on with another fibre; returns when somebody switches back here. NULL as above. */
void fibre_switch(FibrePool *pool, Fibre *to);

#endif
