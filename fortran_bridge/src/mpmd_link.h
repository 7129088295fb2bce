/* What goes between the ranks of a model and the emulator ranks beside it, and waits that end. The other side is
 * python/halocline/run/peer_wire.py: change both, and the number of the protocol. */
#ifndef HALOCLINE_MPMD_LINK_H
#define HALOCLINE_MPMD_LINK_H

#include "backend.h"

#ifndef HALOCLINE_PROTOCOL
#define HALOCLINE_PROTOCOL 1
#endif
#define HALOCLINE_MAGIC (INT64_C(0x48414c4f434c0000) + HALOCLINE_PROTOCOL) /* "HALOCL", protocol */
#define HALOCLINE_EMULATOR_NAME "halocline" /* by which `halocline serve` calls halocline_split */

enum halocline_tag {
  HALOCLINE_TAG_REQUEST =
      1,                  /* rank 0 of the model -> root of the emulator: HELLO, GENERATE, OBSERVE, FAREWELL, FAULT */
  HALOCLINE_TAG_ANSWER,   /* root of the emulator -> rank 0 of the model; FAULT from any emulator rank */
  HALOCLINE_TAG_DECLARE,  /* every rank of the model -> root of the emulator */
  HALOCLINE_TAG_PLAN,     /* root of the emulator -> every rank of the model */
  HALOCLINE_TAG_OBSERVED, /* cells, model -> emulator */
  HALOCLINE_TAG_GENERATED /* cells, emulator -> model */
};

enum halocline_kind {
  HALOCLINE_HELLO = 1, /* payload: joint ranks of the model (level of them), path (action bytes), configuration */
  HALOCLINE_WELCOME,   /* payload: struct halocline_settings */
  HALOCLINE_DECLARE,   /* payload: struct halocline_declaration, rows of fields, bits of the mask */
  HALOCLINE_ACCEPT,
  HALOCLINE_PLAN, /* payload: order of the fields, parts; see mpmd_move.h */
  HALOCLINE_GENERATE,
  HALOCLINE_OBSERVE,
  HALOCLINE_VERDICT,  /* payload: reason */
  HALOCLINE_FAREWELL, /* level: 1 if the model went on alone */
  HALOCLINE_BYE,
  HALOCLINE_FAULT /* payload: message */
};

struct halocline_header {
  int64_t magic, kind;
  int64_t sequence; /* of the request that is made or answered, from 1 */
  int64_t step, status;
  int64_t level, action;
  int64_t bytes; /* of the payload */
};

/* A frame whose payload is short; of an answer it is the longest there is. */
struct halocline_frame {
  struct halocline_header header;
  char payload[HALOCLINE_MAX_TEXT];
};

struct halocline_settings {
  double deadline, generate_deadline;             /* s */
  int64_t every, lag, continue_on_fault, longest; /* longest: bytes of one message of cells */
};

/* What one rank of the model says. `bytes` of the row of a field: per number. */
struct halocline_declaration {
  int64_t ni, nj, nk, i0, j0, nx, ny, fields, step, date;
  double time_step;
  char calendar[HALOCLINE_MAX_NAME];
};

struct halocline_field_row {
  int64_t bytes, levels;
  char name[HALOCLINE_MAX_NAME], point[HALOCLINE_MAX_NAME], unit[HALOCLINE_MAX_NAME];
};

/* split.c: the ranks of all programs, and where the emulator's root is among them. */
MPI_Comm halocline_joint_comm(void);
int halocline_emulator_root(void);
bool halocline_is_emulator(void);

/* split.c, for `halocline serve`: the communicator of all programs, and how many of their ranks may run on the cores of
 * this one. */
HALOCLINE_EXPORT void halocline_joint(int *comm, int *sharing_cores);

/* Fills the header of a frame without payload. */
struct halocline_header halocline_header(enum halocline_kind kind, int64_t sequence, int64_t step);

/* Waits until all messages are through; false if `expiry` (of halocline_clock) comes first. */
bool halocline_wait_all(int count, MPI_Request requests[], double expiry);

/* Waits until a message can be received; false if `expiry` comes first. */
bool halocline_wait_message(MPI_Comm comm, int source, int tag, double expiry, MPI_Status *message);

/* Receives a message that is there; false if `expiry` comes first. */
bool halocline_take_message(MPI_Comm comm, const MPI_Status *message, void *buffer, int bytes, double expiry);

#endif
