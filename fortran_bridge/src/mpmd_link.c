#include "mpmd_link.h"

#include <sched.h>
#include <time.h>

/* A waiting rank first gives its core away at every turn, then sleeps: there may be more ranks than cores, and what is
 * waited for may take minutes. Short enough naps not to slow down a message that needs both sides to move on. */
static void rest(int *turns) {
  enum { BUSY_TURNS = 2000, NAP_NS = 100000 };
  if (++*turns < BUSY_TURNS)
    sched_yield();
  else
    nanosleep(&(struct timespec){0, NAP_NS}, NULL);
}

struct halocline_header halocline_header(enum halocline_kind kind, int64_t sequence, int64_t step) {
  return (struct halocline_header){.magic = HALOCLINE_MAGIC, .kind = kind, .sequence = sequence, .step = step};
}

bool halocline_wait_all(int count, MPI_Request requests[], double expiry) {
  for (int turns = 0, through = 0;; rest(&turns)) {
    MPI_Testall(count, requests, &through, MPI_STATUSES_IGNORE);
    if (through) return true;
    if (halocline_clock() > expiry) return false;
  }
}

bool halocline_wait_message(MPI_Comm comm, int source, int tag, double expiry, MPI_Status *message) {
  for (int turns = 0, there = 0;; rest(&turns)) {
    MPI_Iprobe(source, tag, comm, &there, message);
    if (there) return true;
    if (halocline_clock() > expiry) return false;
  }
}

bool halocline_take_message(MPI_Comm comm, const MPI_Status *message, void *buffer, int bytes, double expiry) {
  MPI_Request request;
  MPI_Irecv(buffer, bytes, MPI_BYTE, message->MPI_SOURCE, message->MPI_TAG, comm, &request);
  return halocline_wait_all(1, &request, expiry);
}
