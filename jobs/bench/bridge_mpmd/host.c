/* Times handing over a field to an emulator rank against a plain MPI_Send of the same bytes, one after the other.
 *   host CONFIG ROUNDS NI NJ NK
 * Prints one line of JSON: seconds of each round. Both times end with a short answer of the other side. */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>

#include "halocline.h"

enum { TAG = 99 };

static void check(int status) {
  if (status) halocline_abort(status);
}

static double time_observe(int64_t step) {
  halocline_verdict verdict;
  double start = MPI_Wtime();
  check(halocline_observe(step, &verdict));
  return MPI_Wtime() - start;
}

static double time_send(const double *field, int count, int emulator) {
  double start = MPI_Wtime();
  MPI_Send(field, count, MPI_DOUBLE, emulator, TAG, MPI_COMM_WORLD);
  MPI_Recv(NULL, 0, MPI_BYTE, emulator, TAG, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
  return MPI_Wtime() - start;
}

static void print(const char *name, const double *seconds, int count) {
  printf("\"%s\": [", name);
  for (int n = 0; n < count; n++) printf("%s%.6f", n ? ", " : "", seconds[n]);
  printf("]");
}

int main(int argc, char **argv) {
  MPI_Init(&argc, &argv);
  int rounds = atoi(argv[2]), ni = atoi(argv[3]), nj = atoi(argv[4]), nk = atoi(argv[5]), count = ni * nj * nk, model;
  int64_t stride[3] = {1, ni, (int64_t)ni * nj};
  double *mask = malloc((size_t)count * sizeof *mask), *field = malloc((size_t)count * sizeof *field);
  double *observe = calloc((size_t)rounds, sizeof *observe), *send = calloc((size_t)rounds, sizeof *send);
  for (int n = 0; n < count; n++) mask[n] = 1, field[n] = n;

  check(halocline_split(MPI_Comm_c2f(MPI_COMM_WORLD), "host", &model));
  check(halocline_init(model, argv[1]));
  check(halocline_grid(ni, nj, nk, 0, 0, ni, nj, mask, stride));
  check(halocline_field("temperature", "T", "degC", 8, nk, field, stride));
  check(halocline_ready("360_day", 3600, 0, 10101));
  for (int n = -1; n < rounds; n++) { /* the first round of both touches the memory */
    double seconds = time_observe(n + 2);
    if (n >= 0) observe[n] = seconds;
    seconds = time_send(field, count, 1);
    if (n >= 0) send[n] = seconds;
  }
  check(halocline_finalize(NULL));
  printf("{"), print("observe", observe, rounds), printf(", "), print("send", send, rounds), printf("}\n");
  free(mask), free(field), free(observe), free(send);
  MPI_Finalize();
  return 0;
}
