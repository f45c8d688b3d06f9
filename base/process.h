/* What a program settles before anything else. */
#ifndef BASE_PROCESS_H
#define BASE_PROCESS_H

/* First thing in the main of a program that computes: threads that wait for each other shall sleep, not spin.
 *
 * The OpenMP runtime reads OMP_WAIT_POLICY and GOMP_SPINCOUNT when it is loaded, before main, and its default is to
 * spin. On cores that are shared with anything else that is ruinous: a waiting thread takes the time of the thread it
 * waits for (measured: 6 to 15 times slower beside other work; docs/performance.md). So, unless the user has set one
 * of the two, the program sets OMP_WAIT_POLICY=passive and starts itself again. */
void process_begin(char **argv);

#endif
