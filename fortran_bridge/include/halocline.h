/* Halocline for ocean and sea-ice models: start from a generated state, send the trajectory back, hear whether it is physical.
 *
 * The verbs work in the model's own process and on emulator ranks beside it; the configuration file decides, not the
 * model. Every verb returns a status: HALOCLINE_SUCCESS, or the reason for a failure with its sentence in
 * halocline_message(). A model that goes on after a failure is stopped at its next call, or at its end, with a non-zero
 * exit of the whole job. MPI must be initialised by the model. Communicators are Fortran handles: pass MPI_Comm_c2f(comm).
 * Call all verbs from the thread that initialised MPI.
 */
#ifndef HALOCLINE_H
#define HALOCLINE_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define HALOCLINE_ABI 1

/* Status of a call. A job that Halocline ends exits with 80 + status. */
enum {
  HALOCLINE_SUCCESS = 0,
  HALOCLINE_USAGE = 1,     /* a verb out of order, a wrong argument, a status that was ignored */
  HALOCLINE_START = 2,     /* Python, MPI or the configuration could not be set up */
  HALOCLINE_EXCEPTION = 3, /* Python raised; the traceback is in a file that the message names */
  HALOCLINE_CONTRACT = 4,  /* model and emulator do not agree on fields, grid, calendar or time step */
  HALOCLINE_PEER = 5,      /* the other side is gone, or says what was not expected */
  HALOCLINE_DEADLINE = 6   /* no answer within the deadline */
};

/* Level of a verdict. */
enum { HALOCLINE_OK = 0, HALOCLINE_SUSPECT = 1, HALOCLINE_REJECT = 2, HALOCLINE_UNJUDGED = 3 };

/* What the user's policy asks the model to do. */
enum {
  HALOCLINE_GO_ON = 0,
  HALOCLINE_STOP = 1,     /* write your restart and end; a further observe ends the job */
  HALOCLINE_FALL_BACK = 2 /* use your own state or scheme instead */
};

typedef struct {
  int level;        /* HALOCLINE_OK ... */
  int action;       /* HALOCLINE_GO_ON ... */
  int64_t step;     /* time step that was judged; -1: none yet (see lag) */
  char reason[512]; /* a sentence, always terminated */
} halocline_verdict;

/* Divides the ranks of a communicator by program, before the model uses it. Needed only where emulator ranks run beside
 * the model; harmless otherwise. `name`: of this program, up to 63 characters. Collective over `world`. */
int halocline_split(int world, const char *name, int *model);

/* Attaches to the model's communicator and reads the configuration (YAML). Collective over `model`. */
int halocline_init(int model, const char *config);

/* Declares the global grid of ni x nj x nk cells and this rank's rectangle of it: nx x ny cells from (i0, j0), which
 * count from 0, without halo; nx = ny = 0 for a rank without cells. `mask` is 1 in the sea and 0 on land at T points, the
 * address of cell (i0, j0, k = 0); cell (i, j, k) of the rectangle lies stride[0] i + stride[1] j + stride[2] k numbers
 * further. It is read here and not kept. Local. */
int halocline_grid(int ni, int nj, int nk, int i0, int j0, int nx, int ny, const double *mask, const int64_t stride[3]);

/* Registers a field: `data` is the address of cell (i0, j0, k = 0), which must stay valid; nothing is copied. `name`,
 * `point` ("T", "U", "V") and `unit` as in Halocline's table of variables; `bytes` 8 or 4 per number; `levels` nk or 1;
 * `stride` in numbers, as in halocline_grid. Registering a name again changes its address only. Local. */
int halocline_field(const char *name, const char *point, const char *unit, int bytes, int levels, void *data,
                    const int64_t stride[3]);

/* Compares what was declared with the emulator: names, points, units, shapes, mask, calendar, time step. `calendar`:
 * "360_day", "noleap" or "standard"; `time_step` in s; `step` and `date` (yyyymmdd): those of the start. Collective. */
int halocline_ready(const char *calendar, double time_step, int64_t step, int date);

/* Fills the registered fields with a generated state, zero on land; the model fills its halos. The state itself is judged.
 * With the action HALOCLINE_FALL_BACK the fields are left as they were. Collective. */
int halocline_generate(halocline_verdict *verdict);

/* Hands over the registered fields at the end of a step, and tells the newest verdict: that of this step, or with a lag of
 * n calls the one of the n-th call before. `verdict` may be NULL only if the policy never asks the model to stop or to fall
 * back. Collective. */
int halocline_observe(int64_t step, halocline_verdict *verdict);

/* Ends together. `verdict`: the worst of those not told yet; may be NULL. Collective. */
int halocline_finalize(halocline_verdict *verdict);

/* Sentence of the last failure on this rank, "" if none. */
const char *halocline_message(void);

/* Name of a status, such as "deadline". */
const char *halocline_status_name(int status);

/* Prints the message and ends the whole job with exit code 80 + status. Does not return. */
void halocline_abort(int status);

/* Version of the library, such as "0.1.0", and of the MPI library that it calls. */
const char *halocline_version(void);
const char *halocline_mpi_version(void);

#ifdef __cplusplus
}
#endif
#endif
