/* Requests of the model and the emulator's answers. Rank 0 of the model asks and hears, and shares every answer with
 * the other ranks, so that all return the same status and verdict. */
#ifndef HALOCLINE_MPMD_ANSWER_H
#define HALOCLINE_MPMD_ANSWER_H

#include "mpmd_link.h"

/* Which request an answer belongs to, for messages and for comparison. */
struct halocline_call {
  const char *verb;
  int64_t sequence, step;
  enum halocline_kind answer; /* kind of the answer that is expected */
  double seconds;             /* longest wait */
};

/* Makes room for `count` verdicts that come before they are asked for; false without memory. */
bool halocline_keep_early(int64_t count);
void halocline_drop_early(void);

/* Waits for an answer; all ranks return the same. A fault of the emulator, or silence, becomes status and message. */
int halocline_await(const struct halocline_model *model, struct halocline_call call, struct halocline_frame *answer);

/* Rank 0 sends a request with a payload, then as above. */
int halocline_ask(const struct halocline_model *model, struct halocline_call call, struct halocline_header head,
                  const void *payload, size_t bytes, struct halocline_frame *answer);

/* Waits until all cells have come, as halocline_wait_all. The emulator may fail while it sends them, which rank 0 hears:
 * that ends the job, since other ranks may have theirs already. */
bool halocline_wait_cells(const struct halocline_model *model, int count, MPI_Request requests[], double expiry);

/* Ends the job for a failure that only this rank sees, while others may be waiting; the emulator is told. */
void halocline_end_alone(int status);

/* Waits until the emulator has said farewell, whatever else it has still to say; false if it does not. */
bool halocline_await_farewell(double seconds);

#endif
