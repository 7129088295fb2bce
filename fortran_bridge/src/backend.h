/* What the parts of libhalocline share: the model's declarations, and what a way to reach the emulator must offer.
 * Not installed. */
#ifndef HALOCLINE_BACKEND_H
#define HALOCLINE_BACKEND_H

#include <mpi.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#pragma GCC visibility push(default) /* the library is built with -fvisibility=hidden */
#include "halocline.h"
#pragma GCC visibility pop
#define HALOCLINE_EXPORT __attribute__((visibility("default")))

enum { HALOCLINE_MAX_FIELDS = 64, HALOCLINE_MAX_NAME = 64, HALOCLINE_MAX_TEXT = 8192 };

struct halocline_declared_grid {
  int ni, nj, nk;       /* global cells */
  int i0, j0, nx, ny;   /* this rank's rectangle, from 0; nx = ny = 0 without cells */
  const double *mask;   /* valid during the call of `grid` only; NULL without cells */
  int64_t stride[3];    /* of the mask, in numbers */
};

struct halocline_declared_field {
  char name[HALOCLINE_MAX_NAME], point[HALOCLINE_MAX_NAME], unit[HALOCLINE_MAX_NAME];
  int bytes, levels;
  void *data;           /* cell (i0, j0, k = 0); NULL without cells */
  int64_t stride[3];    /* in numbers, > 0 along axes of more than one cell */
};

/* One model per process. The core fills it and checks it before a backend sees it. */
struct halocline_model {
  MPI_Comm comm;        /* duplicate of the communicator given to halocline_init */
  int rank, size;       /* in comm */
  char *config;         /* path as the model gave it */
  char *config_text;    /* contents of the file, on rank 0 of comm; NULL elsewhere */
  struct halocline_declared_grid grid;
  struct halocline_declared_field fields[HALOCLINE_MAX_FIELDS]; /* in the order of their first registration */
  int field_count;
  const char *calendar; /* from halocline_ready on */
  double time_step;     /* s */
  int64_t start_step;
  int start_date;       /* yyyymmdd */
  /* Settings that a backend fills, at the latest in `ready`. They start with the value of HALOCLINE_START_DEADLINE. */
  double deadline, generate_deadline; /* s */
  /* on_fault: continue. After a failure with HALOCLINE_EXCEPTION, _PEER or _DEADLINE in generate, observe or finalize
   * the core tells the message, answers HALOCLINE_SUCCESS with HALOCLINE_UNJUDGED, and sets `alone`. From then on it
   * calls `finalize` and nothing else: say farewell if you can, and wait for nobody. */
  bool continue_on_fault, alone;
};

/* A way to reach the emulator. Every function returns a status and, if it is not HALOCLINE_SUCCESS, has called
 * halocline_fail. It runs in the thread that initialised MPI, with the default floating-point environment, under a
 * watchdog that ends the process when a verb takes longer than its deadline plus `slack`.
 * Verdicts come in with level HALOCLINE_UNJUDGED, action HALOCLINE_GO_ON, step -1 and an empty reason, never NULL; a
 * call that is not due leaves them so. When `generate` fails, the registered fields must be as they were, or the job be
 * ended with halocline_abort. A failure that not every model rank sees may leave others waiting: end the job with
 * halocline_abort instead of returning it. */
struct halocline_backend {
  const char *name;
  double slack; /* s */
  int (*init)(struct halocline_model *model);
  int (*grid)(struct halocline_model *model); /* local */
  int (*field)(struct halocline_model *model, struct halocline_declared_field *field); /* local; or a new address */
  int (*ready)(struct halocline_model *model);
  int (*generate)(struct halocline_model *model, halocline_verdict *verdict);
  int (*observe)(struct halocline_model *model, int64_t step, halocline_verdict *verdict);
  int (*finalize)(struct halocline_model *model, halocline_verdict *verdict);
};

/* Keeps a sentence (printf-like) as the message of this failure and returns `status`. */
HALOCLINE_EXPORT int halocline_fail(int status, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The same status on all ranks: the largest, with the message of the first rank that has it. Collective over `comm`. */
HALOCLINE_EXPORT int halocline_agree(MPI_Comm comm, int status);

/* Seconds of the monotonic clock. */
double halocline_clock(void);

/* Seconds from HALOCLINE_START_DEADLINE, 300 if it is not set; with HALOCLINE_START if it is no positive number. */
int halocline_start_deadline(double *seconds);

/* inprocess.c: opens halocline_python.so beside this library. Local. */
int halocline_inprocess_open(const struct halocline_backend **backend);

/* split.c: what halocline_split does once order and arguments are checked (the core has the public function). */
int halocline_split_world(MPI_Comm world, const char *name, MPI_Comm *model);
/* split.c: whether halocline_split found ranks of the name "halocline" beside the model. */
bool halocline_has_emulators(void);

/* mpmd.c */
extern const struct halocline_backend halocline_mpmd_backend;

#endif
