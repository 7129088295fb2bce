/* A model for tests of the MPMD mode: fields whose numbers tell field, step and cell, and faults on demand.
 *   model CONFIG [key=value ...]
 * What it sees wrong ends it with 9; a status of Halocline ends it as halocline_abort does. */
#include <mpi.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "halocline.h"

enum { FIELDS = 2, GENERATED_STEP = 7 };
static const double HALO = -77.0;

static int argument_count;
static char **arguments;
static int rank, size;
static int ni, nj, nk, i0, j0, nx, ny, halo, gap; /* gap: numbers between two cells along i */

static const char *text(const char *key, const char *otherwise) {
  size_t length = strlen(key);
  for (int a = 2; a < argument_count; a++)
    if (!strncmp(arguments[a], key, length) && arguments[a][length] == '=') return arguments[a] + length + 1;
  return otherwise;
}

static int number(const char *key, int otherwise) {
  const char *found = text(key, NULL);
  return found ? atoi(found) : otherwise;
}

static void check(int status) {
  if (status) halocline_abort(status);
}

/* The lower left corner is land. */
static bool is_sea(int i, int j) {
  return i >= number("land_i", 0) || j >= number("land_j", 0);
}

static double value(int field, int64_t step, int k, int j, int i) {
  return (double)((((field * 8 + step % 8) * nk + k) * nj + j) * ni + i + 1);
}

/* ---- one rank's rectangle and its fields ------------------------------------------------------------------------ */

/* Bound n of `parts` unequal stretches of `cells`. */
static int bound(int cells, int parts, int n) {
  return n == parts ? cells : cells * n / parts + (n > 0 && cells > 2 * parts ? number("uneven", 0) : 0);
}

/* This rank's rectangle: the one of its number among those with sea; no cells if there are fewer. */
static void place(void) {
  int px = number("px", 1), py = number("py", 1), found = 0;
  for (int p = 0; p < px * py; p++) {
    int left = bound(ni, px, p % px), right = bound(ni, px, p % px + 1);
    int low = bound(nj, py, p / px), high = bound(nj, py, p / px + 1);
    bool sea = false;
    for (int j = low; j < high; j++)
      for (int i = left; i < right; i++) sea = sea || is_sea(i, j);
    if (sea && found++ == rank) i0 = left, nx = right - left, j0 = low, ny = high - low;
  }
}

struct field {
  const char *name, *unit;
  int bytes, levels;
  size_t numbers;
  int64_t stride[3];
  void *data;
};

static struct field fields[FIELDS] = {{.name = "temperature", .unit = "degC"}, {.name = "sea_level", .unit = "m"}};

static double get(const struct field *f, size_t n) {
  return f->bytes == 8 ? ((double *)f->data)[n] : (double)((float *)f->data)[n];
}

static void set(const struct field *f, size_t n, double x) {
  if (f->bytes == 8)
    ((double *)f->data)[n] = x;
  else
    ((float *)f->data)[n] = (float)x;
}

static size_t cell(const struct field *f, int k, int j, int i) {
  return (size_t)((i + halo) * f->stride[0] + (j + halo) * f->stride[1] + k * f->stride[2]);
}

/* An array with a halo, and other numbers between its cells. */
static void allocate(struct field *f) {
  f->stride[0] = gap;
  f->stride[1] = (int64_t)gap * (nx + 2 * halo);
  f->stride[2] = f->stride[1] * (ny + 2 * halo);
  f->numbers = (size_t)(f->stride[2] * f->levels);
  f->data = malloc(f->numbers * (size_t)f->bytes + 8);
  for (size_t n = 0; n < f->numbers; n++) set(f, n, HALO);
}

static void register_field(const struct field *f) {
  char *first = (char *)f->data + cell(f, 0, 0, 0) * (size_t)f->bytes;
  check(halocline_field(f->name, "T", text("unit", f->unit), f->bytes, f->levels, first, f->stride));
}

static void fill(const struct field *f, int which, int64_t step) {
  for (int k = 0; k < f->levels; k++)
    for (int j = 0; j < ny; j++)
      for (int i = 0; i < nx; i++) set(f, cell(f, k, j, i), value(which, step, k, j0 + j, i0 + i));
}

/* Every cell holds the generated value, zero on land; nothing else in memory has changed. */
static void expect_generated(const struct field *f, int which) {
  double *expected = malloc(f->numbers * sizeof *expected + 8);
  for (size_t n = 0; n < f->numbers; n++) expected[n] = HALO;
  for (int k = 0; k < f->levels; k++)
    for (int j = 0; j < ny; j++)
      for (int i = 0; i < nx; i++)
        expected[cell(f, k, j, i)] = is_sea(i0 + i, j0 + j) ? value(which, GENERATED_STEP, k, j0 + j, i0 + i) : 0.0;
  for (size_t n = 0; n < f->numbers; n++)
    if (get(f, n) != expected[n]) {
      printf("rank %d: %s: number %zu is %g, expected %g\n", rank, f->name, n, get(f, n), expected[n]);
      exit(9);
    }
  free(expected);
}

/* Nothing in memory has changed. */
static void expect_untouched(const struct field *f) {
  for (size_t n = 0; n < f->numbers; n++)
    if (get(f, n) != HALO) {
      printf("rank %d: %s: number %zu is %g, expected it untouched\n", rank, f->name, n, get(f, n));
      exit(9);
    }
}

static void swap(int *one, int *other) {
  int kept = *one;
  *one = *other;
  *other = kept;
}

static void declare(void) {
  if (number("swap", 0)) swap(&ni, &nj), swap(&i0, &j0), swap(&nx, &ny);
  double *mask = calloc((size_t)nx * (size_t)ny * (size_t)nk + 1, sizeof *mask);
  const int64_t stride[3] = {nk, (int64_t)nk * nx, 1}; /* k runs fastest: strides are the model's own business */
  for (int j = 0; j < ny; j++)
    for (int i = 0; i < nx; i++)
      for (int k = 0; k < nk; k++) mask[i * stride[0] + j * stride[1] + k] = is_sea(i0 + i, j0 + j);
  if (number("drown", -1) == rank) mask[0] = 1 - mask[0];
  check(halocline_grid(ni, nj, nk, i0, j0, nx, ny, mask, stride));
  free(mask);
  for (int f = 0; f < FIELDS; f++) {
    struct field *field = &fields[rank % 2 ? FIELDS - 1 - f : f]; /* the order is each rank's own */
    field->levels = field == &fields[0] ? nk : 1;
    field->bytes = number("bytes", field == &fields[0] ? 8 : 4);
    allocate(field);
    register_field(field);
  }
}

/* ---- what it does ----------------------------------------------------------------------------------------------- */

/* Leaves a file that others can wait for. */
static void note(const char *file, int n) {
  char path[4096];
  if (!text("notes", NULL)) return;
  snprintf(path, sizeof path, "%s/%s_%d_%d", text("notes", "."), file, rank, n);
  FILE *out = fopen(path, "w");
  fclose(out);
}

static void tell(const char *verb, int64_t step, const halocline_verdict *v) {
  if (number("speak", 0) == rank)
    printf("%s %lld: level %d action %d step %lld: %s\n", verb, (long long)step, v->level, v->action, (long long)v->step,
           v->reason);
  fflush(stdout);
}

static void start_over(void) {
  for (int f = 0; f < FIELDS; f++) {
    free(fields[f].data);
    allocate(&fields[f]);
    register_field(&fields[f]);
  }
}

/* Returns whether to go on. */
static bool observe(int64_t step) {
  halocline_verdict verdict;
  if (number("leave", 0) == step) exit(0);
  if (number("kill", 0) == step && rank == number("who", 0)) raise(SIGKILL);
  if (number("sleep", 0) == step && rank == number("who", 0)) sleep(60);
  if (number("move", 0)) start_over();
  for (int f = 0; f < FIELDS; f++) fill(&fields[f], f, step);
  check(halocline_observe(step, &verdict));
  for (int f = 0; f < FIELDS; f++) fill(&fields[f], f, step + 1); /* the model goes on at once */
  note("observed", (int)step);
  tell("observe", step, &verdict);
  return verdict.action != HALOCLINE_STOP;
}

/* Resident memory, kB. */
static long memory(void) {
  long pages = 0;
  FILE *file = fopen("/proc/self/statm", "r");
  if (!file || fscanf(file, "%*s %ld", &pages) != 1) pages = 0;
  if (file) fclose(file);
  return pages * sysconf(_SC_PAGESIZE) / 1024;
}

static void run(void) {
  halocline_verdict verdict;
  long before = 0;
  if (number("generate", 0)) {
    check(halocline_generate(&verdict));
    tell("generate", 0, &verdict);
    for (int f = 0; f < FIELDS; f++)
      if (verdict.action == HALOCLINE_FALL_BACK)
        expect_untouched(&fields[f]);
      else
        expect_generated(&fields[f], f);
  }
  for (int64_t step = 1; step <= number("steps", 0) && observe(step); step++)
    if (step == 1000) before = memory();
  if (before) printf("model grew by %ld kB\n", memory() - before);
  check(halocline_finalize(&verdict));
  tell("finalize", -1, &verdict);
}

int main(int argc, char **argv) {
  argument_count = argc;
  arguments = argv;
  MPI_Init(&argc, &argv);
  int world = MPI_Comm_c2f(MPI_COMM_WORLD), part;
  if (number("ignore", 0)) { /* a program that knows nothing of Halocline */
    sleep(60);
    return 0;
  }
  check(halocline_split(world, text("name", "model"), &part));
  MPI_Comm_rank(MPI_Comm_f2c(part), &rank);
  MPI_Comm_size(MPI_Comm_f2c(part), &size);
  if (!strcmp(argv[1], "-")) {
    printf("%s: rank %d of %d\n", text("name", "model"), rank, size);
    fflush(stdout);
    MPI_Finalize();
    return 0;
  }
  ni = number("ni", 19), nj = number("nj", 13), nk = number("nk", 3);
  halo = number("halo", 1), gap = number("gap", 1);
  check(halocline_init(part, argv[1]));
  place();
  if (number("early", 0)) {
    check(halocline_finalize(NULL));
    MPI_Finalize();
    return 0;
  }
  declare();
  check(halocline_ready(text("calendar", "360_day"), 3600.0, 0, 10101));
  run();
  printf("rank %d: done\n", rank);
  MPI_Finalize();
  return 0;
}
