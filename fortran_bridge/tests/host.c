/* A model for tests: a plain host in C that runs all verbs, and does the wrong thing where its arguments say so.
 *   host CONFIG STEPS [word ...]
 * It prints what it sees; tests read that and the exit code. */
#include <fenv.h>
#include <mpi.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "halocline.h"
#include "host_words.h"

enum { NI = 12, NJ = 8, NK = 3, TRAPS = FE_INVALID | FE_DIVBYZERO | FE_OVERFLOW };

static double mask[NI * NJ * NK], temperature[NI * NJ * NK];
static float salinity[NI * NJ * NK], height[NI * NJ];
static int rank, size;

static void say(const char *verb, int status) {
  printf("rank %d: %s: %s: %s\n", rank, verb, halocline_status_name(status), halocline_message());
  fflush(stdout);
}

/* What a model does with a status. */
static void heed(const char *verb, int status) {
  if (!status || wants("deaf")) return;
  say(verb, status);
  if (wants("polite")) { /* reads the message, and leaves as if nothing had happened */
    if (!wants("unfinished-mpi")) MPI_Finalize();
    exit(0);
  }
  if (wants("own-code")) exit(7);
  halocline_abort(status);
}

/* Every verb leaves the floating-point environment as it was. */
static int kept(const char *verb, int status) {
  if (wants("traps") && fegetexcept() != TRAPS) printf("rank %d: %s changed the traps\n", rank, verb), exit(9);
  if (wants("traps") && fetestexcept(FE_ALL_EXCEPT & ~FE_INEXACT))
    printf("rank %d: %s left flags\n", rank, verb), exit(9);
  if (wants("upward") && fegetround() != FE_UPWARD) printf("rank %d: %s changed the rounding\n", rank, verb), exit(9);
  if (wants("flush") && !flushes()) printf("rank %d: %s changed flush-to-zero\n", rank, verb), exit(9);
  heed(verb, status);
  return status;
}

static void declare(void) {
  const int ny = NJ / size, j0 = rank * ny;
  const int64_t stride[3] = {1, NI, (int64_t)NI * ny}, crossed[3] = {1, ny, (int64_t)NI * ny};
  bool swapped = wants("swapped"); /* extents in the wrong order */
  for (int c = 0; c < NI * NJ * NK; c++) mask[c] = c % NI != 0;
  kept("grid", halocline_grid(NI, NJ, NK, 0, wants("outside") ? j0 + 1 : j0, swapped ? ny : NI, swapped ? NI : ny, mask,
                              stride));
  if (wants("twice")) kept("grid", halocline_grid(NI, NJ, NK, 0, j0, NI, ny, mask, stride));
  kept("field", halocline_field("temperature", "T", "degC", wants("half") ? 2 : 8, wants("levels") ? 2 : NK,
                                wants("null") ? NULL : temperature, wants("overlap") ? crossed : stride));
  kept("field", halocline_field("salinity", "T", wants("long") ? words_long : "g/kg", 4, NK, salinity, stride));
  kept("field", halocline_field("ssh", "T", "m", 4, 1, height, stride));
  if (wants("changed")) kept("field", halocline_field("ssh", "T", "cm", 4, 1, height, stride));
}

static void *observe_elsewhere(void *status) {
  halocline_verdict verdict;
  *(int *)status = halocline_observe(1, &verdict);
  if (*(int *)status) say("observe", *(int *)status);
  return NULL;
}

static void observe_wrongly(void) {
  int status = 0;
  if (wants("thread")) {
    pthread_t other;
    pthread_create(&other, NULL, observe_elsewhere, &status);
    pthread_join(other, NULL);
  } else if (wants("parallel")) {
#pragma omp parallel num_threads(2)
    {
#pragma omp master
      observe_elsewhere(&status);
    }
  } else {
    return;
  }
  if (!wants("deaf")) halocline_abort(status);
}

static void run(int steps) {
  halocline_verdict verdict;
  if (wants("generate")) {
    kept("generate", halocline_generate(&verdict));
    printf("rank %d: generate: level %d action %d step %lld: %s\n", rank, verdict.level, verdict.action,
           (long long)verdict.step, verdict.reason);
  }
  if (wants("early")) exit(0);
  observe_wrongly();
  for (int step = 1; step <= steps; step++) {
    if (wants("own-fault") && step == 2) exit(3);
    for (int c = 0; c < NI * NJ * NK; c++) temperature[c] = step;
    if (kept("observe", halocline_observe(step, wants("no-verdict") ? NULL : &verdict))) continue;
    if (wants("no-verdict")) continue;
    printf("rank %d: observe: level %d action %d step %lld: %s\n", rank, verdict.level, verdict.action,
           (long long)verdict.step, verdict.reason);
    if (verdict.action == HALOCLINE_STOP && !wants("stubborn")) break;
  }
}

static bool signals_are_default(void) {
  struct sigaction interrupt, pipe;
  sigaction(SIGINT, NULL, &interrupt);
  sigaction(SIGPIPE, NULL, &pipe);
  return interrupt.sa_handler == SIG_DFL && pipe.sa_handler == SIG_DFL;
}

int main(int argc, char **argv) {
  words_are(argc, argv);
  if (wants("before-mpi")) heed("init", halocline_init(0, argv[1]));
  MPI_Init(&argc, &argv);
  int before, after, finalized;
  MPI_Query_thread(&before);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  if (wants("traps")) feenableexcept(TRAPS);
  if (wants("upward")) fesetround(FE_UPWARD);
  if (wants("flush")) flush_small_numbers();
  if (wants("unstarted")) heed("observe", halocline_observe(1, NULL));

  kept("init", halocline_init(MPI_Comm_c2f(MPI_COMM_WORLD), argv[1]));
  declare();
  kept("ready", halocline_ready("noleap", 3600, 0, 10101));
  run(atoi(argv[2]));
  if (!wants("unfinished")) kept("finalize", halocline_finalize(NULL));

  MPI_Query_thread(&after);
  MPI_Finalized(&finalized);
  printf("rank %d: thread level %s, MPI %s, signals %s\n", rank, before == after ? "kept" : "changed",
         finalized ? "finalised" : "alive", signals_are_default() ? "default" : "taken");
  fflush(stdout);
  if (wants("unfinished-mpi")) exit(0);
  MPI_Finalize();
  return 0;
}
