/* What a program settles before anything else. */
#ifndef BASE_PROCESS_H
#define BASE_PROCESS_H

/* First thing in the main of a program that computes: a thread that waits for others spins for a moment, then sleeps.
 *
 * The OpenMP runtime reads OMP_WAIT_POLICY and GOMP_SPINCOUNT when it is loaded, before main, and its default is to
 * spin for milliseconds. On cores that are shared with anything else that is ruinous: a waiting thread takes the time of
 * the thread it waits for. To sleep at once is slow on cores of one's own: waking takes some 70 microseconds, and a step
 * of decoding waits 500 times. Some tens of microseconds of spinning have the best of both (measured in
 * docs/performance.md). So, unless the user has set one of the two, the program sets OMP_WAIT_POLICY=passive and
 * GOMP_SPINCOUNT=2000 and starts itself again. */
void process_begin(char **argv);

#endif
