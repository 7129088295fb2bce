#include "failure.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* Each thread has its own, so that a refused call from a wrong thread does not disturb the model's. */
static _Thread_local char message[HALOCLINE_MAX_TEXT];

static atomic_int first_failure; /* that the model heard of; 0: none */
static char first_message[HALOCLINE_MAX_TEXT];
static atomic_bool ending;
static bool run_is_open;
static int own_rank = -1; /* in the model's communicator; -1: not known yet */

static void watch_exit(void);

int halocline_fail(int status, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(message, sizeof message, format, arguments);
  va_end(arguments);
  return status;
}

const char *halocline_message(void) {
  return message;
}

const char *halocline_status_name(int status) {
  static const char *const names[] = {"success", "usage", "start", "exception", "contract", "peer", "deadline"};
  return status >= 0 && status <= HALOCLINE_DEADLINE ? names[status] : "unknown";
}

int halocline_answer(int status) {
  int none = 0;
  if (status && atomic_compare_exchange_strong(&first_failure, &none, status)) {
    memcpy(first_message, message, sizeof first_message);
    watch_exit();
  }
  return status;
}

int halocline_refuse(int status, const char *sentence) {
  halocline_check_answered("the Fortran module");
  return halocline_answer(halocline_fail(status, "%s", sentence));
}

int halocline_agree(MPI_Comm comm, int status) {
  struct {
    int status, rank;
  } own = {status, 0}, worst;
  MPI_Comm_rank(comm, &own.rank);
  MPI_Allreduce(&own, &worst, 1, MPI_2INT, MPI_MAXLOC, comm);
  if (worst.status) MPI_Bcast(message, sizeof message, MPI_CHAR, worst.rank, comm);
  return worst.status;
}

static bool mpi_is_alive(void) {
  int initialized, finalized, main_thread = 0;
  MPI_Initialized(&initialized);
  MPI_Finalized(&finalized);
  if (initialized && !finalized) MPI_Is_thread_main(&main_thread);
  return main_thread;
}

/* Tells the sentence and ends the job with a code other than 0. Ranks other than the first wait for a moment: where all
 * have the same failure, it is told once. */
static _Noreturn void end_job(int code, const char *sentence) {
  if (atomic_exchange(&ending, true)) _exit(code);
  bool alive = mpi_is_alive();
  int rank = own_rank;
  if (rank < 0 && alive) MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  if (rank > 0) nanosleep(&(struct timespec){1, 0}, NULL);
  fflush(NULL);
  fprintf(stderr, "halocline: rank %d: %s\n", rank < 0 ? 0 : rank, sentence);
  if (alive) MPI_Abort(MPI_COMM_WORLD, code);
  _exit(code);
}

void halocline_abort(int status) {
  int first = atomic_load(&first_failure);
  if (status < HALOCLINE_USAGE || status > HALOCLINE_DEADLINE) status = first ? first : HALOCLINE_USAGE;
  const char *sentence = message[0] ? message : first_message;
  end_job(80 + status, sentence[0] ? sentence : "The model called halocline_abort without a failure.");
}

void halocline_check_answered(const char *verb) {
  int status = atomic_load(&first_failure);
  if (!status) return;
  char sentence[HALOCLINE_MAX_TEXT + 256];
  snprintf(sentence, sizeof sentence,
           "The model called %s after a failure (%s): %s Look at the status of every call, and end after a failure.",
           verb, halocline_status_name(status), first_message);
  end_job(80 + status, sentence);
}

void halocline_set_rank(int rank) {
  own_rank = rank;
}

/* The process leaves, or finalises MPI: with a failure that it did not end for, or in the midst of a run, other ranks
 * may be waiting, and the job must not look like a success. A code other than 0 is kept. */
static void leave(int code, const char *how) {
  int status = atomic_load(&first_failure);
  if (atomic_load(&ending) || (!status && !run_is_open)) return;
  char sentence[HALOCLINE_MAX_TEXT + 256];
  if (status)
    snprintf(sentence, sizeof sentence, "The model %s after a failure (%s): %s", how, halocline_status_name(status),
             first_message);
  else
    snprintf(sentence, sizeof sentence, "The model %s without halocline_finalize.", how);
  end_job(code ? code : 80 + (status ? status : HALOCLINE_USAGE), sentence);
}

static void leave_process(int code, void *unused) {
  (void)unused;
  leave(code, "ended");
}

static void watch_exit(void) {
  static atomic_bool registered;
  if (!atomic_exchange(&registered, true)) on_exit(leave_process, NULL);
}

static int leave_mpi(MPI_Comm comm, int key, void *value, void *extra) {
  (void)comm, (void)key, (void)value, (void)extra;
  leave(0, "called MPI_Finalize");
  return MPI_SUCCESS;
}

void halocline_set_open(bool open) {
  static bool registered;
  run_is_open = open;
  if (registered) return;
  registered = true;
  watch_exit();
  /* MPI_Finalize first deletes the attributes of MPI_COMM_SELF: the last moment before it waits for the other ranks. */
  int key;
  MPI_Comm_create_keyval(MPI_COMM_NULL_COPY_FN, leave_mpi, &key, NULL);
  MPI_Comm_set_attr(MPI_COMM_SELF, key, NULL);
}
