/* Times what the bridge costs a model in whose process it runs.
 *   bridge CONFIG NI NJ NK STEPS CALLS
 * Observes STEPS steps (the configuration judges each 1,000,000th and those below it by their number), then makes CALLS
 * calls at steps that are not due, ten times. Prints one line of JSON: best seconds of either. */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>

#include "halocline.h"

enum { EVERY = 1000000, ROUNDS = 10 };

static double observe(int64_t first, int64_t stride, int count) {
  halocline_verdict verdict;
  double start = MPI_Wtime();
  for (int n = 0; n < count; n++) {
    int status = halocline_observe(first + n * stride, &verdict);
    if (status) halocline_abort(status);
  }
  return (MPI_Wtime() - start) / count;
}

static void check(int status) {
  if (status) halocline_abort(status);
}

int main(int argc, char **argv) {
  MPI_Init(&argc, &argv);
  int ni = atoi(argv[2]), nj = atoi(argv[3]), nk = atoi(argv[4]), count = ni * nj * nk;
  int steps = atoi(argv[5]), calls = atoi(argv[6]);
  const int64_t stride[3] = {1, ni, (int64_t)ni * nj};
  double *mask = malloc((size_t)count * sizeof *mask), *field = malloc((size_t)count * sizeof *field);
  for (int n = 0; n < count; n++) mask[n] = 1, field[n] = 10;

  check(halocline_init(MPI_Comm_c2f(MPI_COMM_WORLD), argv[1]));
  check(halocline_grid(ni, nj, nk, 0, 0, ni, nj, mask, stride));
  check(halocline_field("temperature", "T", "degC", 8, nk, field, stride));
  check(halocline_ready("360_day", 3600, 0, 10101));
  double due = 1e30, idle = 1e30;
  for (int n = 1; n <= steps; n++) {
    double seconds = observe((int64_t)n * EVERY, 0, 1);
    if (seconds < due) due = seconds;
  }
  for (int n = 0; n < ROUNDS; n++) {
    double seconds = observe((int64_t)(steps + 1) * EVERY + 1, 0, calls);
    if (seconds < idle) idle = seconds;
  }
  printf("{\"observe\": %.9f, \"idle\": %.9f}\n", due, idle);
  check(halocline_finalize(NULL));
  free(mask), free(field);
  MPI_Finalize();
  return 0;
}
