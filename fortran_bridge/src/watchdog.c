#include "watchdog.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "backend.h"

enum { LOOK_EVERY_NS = 250000000 };

static const char *verb;
static int64_t step;
static int rank;
static double seconds;
static _Atomic double
    expiry; /* of the monotonic clock; 0: nothing to watch. Written last, so it publishes the others. */

double halocline_clock(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* The main thread is inside a call that does not return: no MPI_Abort from here. The launcher ends the job when one
 * rank leaves with a non-zero code. */
static void end_process(void) {
  fprintf(stderr,
          "halocline: rank %d: halocline_%s (step %lld) did not end within %g s. Another rank may have stopped before "
          "its call; if it only takes long, raise the deadline in the configuration.\n",
          rank, verb, (long long)step, seconds);
  _exit(80 + HALOCLINE_DEADLINE);
}

static void *watch(void *unused) {
  const struct timespec pause = {0, LOOK_EVERY_NS};
  for (;;) {
    nanosleep(&pause, NULL);
    double limit = atomic_load(&expiry);
    if (limit > 0 && halocline_clock() > limit && atomic_load(&expiry) == limit) end_process();
  }
  return unused;
}

int halocline_watchdog_start(void) {
  static bool started;
  if (started) return 0;
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before); /* the thread inherits it: signals stay with the model's threads */
  pthread_t thread;
  int error = pthread_create(&thread, NULL, watch, NULL);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  if (error) return error;
  pthread_detach(thread);
  started = true;
  return 0;
}

void halocline_watchdog_arm(const char *name, int64_t at_step, int of_rank, double allowed) {
  verb = name;
  step = at_step;
  rank = of_rank;
  seconds = allowed;
  /* Rank 0 speaks first; the others follow if it does not. */
  atomic_store(&expiry, halocline_clock() + allowed + (of_rank > 0 ? 1.0 : 0.0));
}

void halocline_watchdog_disarm(void) {
  atomic_store(&expiry, 0.0);
}
