/* What a call with nothing to do costs, and whether calls cost memory.
 *   overhead CONFIG CALLS
 * Prints nanoseconds per call (the least of ten rounds) and what the process grew by, in KiB. */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>

#include "halocline.h"

enum { N = 16, ROUNDS = 10 };

static long resident_kib(void) {
  long size = 0, pages = 0;
  FILE *file = fopen("/proc/self/statm", "r");
  if (!file || fscanf(file, "%ld %ld", &size, &pages) != 2) pages = -1;
  if (file) fclose(file);
  return pages * 4;
}

static void heed(int status) {
  if (status) halocline_abort(status);
}

static double observe(int first, int calls) {
  halocline_verdict verdict;
  double start = MPI_Wtime();
  for (int c = 0; c < calls; c++) heed(halocline_observe(first + c, &verdict));
  return (MPI_Wtime() - start) / calls * 1e9;
}

int main(int argc, char **argv) {
  static double field[N * N * N], mask[N * N * N];
  const int64_t stride[3] = {1, N, N * N};
  const int calls = argc > 2 ? atoi(argv[2]) : 100000;
  MPI_Init(&argc, &argv);
  heed(halocline_init(MPI_Comm_c2f(MPI_COMM_WORLD), argv[1]));
  heed(halocline_grid(N, N, N, 0, 0, N, N, mask, stride));
  heed(halocline_field("temperature", "T", "degC", 8, N, field, stride));
  heed(halocline_ready("noleap", 3600, 0, 10101));

  double least = observe(1, calls / ROUNDS);
  long before = resident_kib();
  for (int round = 1; round < ROUNDS; round++) {
    double time = observe(1 + round * (calls / ROUNDS), calls / ROUNDS);
    if (time < least) least = time;
  }
  printf("%.0f ns per call, grown by %ld KiB\n", least, resident_kib() - before);
  heed(halocline_finalize(NULL));
  MPI_Finalize();
  return 0;
}
