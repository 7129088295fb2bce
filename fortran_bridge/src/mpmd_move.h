/* Cells on their way between one rank of the model and the emulator ranks.
 *
 * All that goes to one emulator rank in one exchange is one message, in chunks of at most `longest` bytes:
 *   int64_t magic, sequence, step, bytes
 *   for each field, in the order of the plan: for each part, in the order of the plan: [level][j][i] in the model's
 * type; then zeros up to a multiple of 8 bytes. */
#ifndef HALOCLINE_MPMD_MOVE_H
#define HALOCLINE_MPMD_MOVE_H

#include "mpmd_link.h"

/* Cells [j0, j1) x [i0, i1) of the global grid that this rank shares with one tile of an emulator rank. */
struct halocline_part {
  int64_t rank, j0, j1, i0, i1;
};

/* An emulator rank with which cells are shared. */
struct halocline_peer {
  int rank;
  int parts;
  const struct halocline_part *part;
  size_t first, bytes; /* of its message in a buffer */
};

struct halocline_moves {
  int order[HALOCLINE_MAX_FIELDS]; /* place of each field on the way in the model's list */
  struct halocline_part *parts;    /* peer after peer */
  int peers, requests;             /* requests: messages of an exchange, chunks counted */
  struct halocline_peer *peer;
  size_t bytes, longest; /* bytes: of a buffer for an exchange */
};

/* Reads the payload of a plan: order of the fields, parts. */
int halocline_moves_read(struct halocline_moves *moves, const struct halocline_model *model, const int64_t *payload,
                         int64_t numbers, int64_t longest);
void halocline_moves_free(struct halocline_moves *moves);

/* Copies the model's cells into a buffer and sends them; they may change when this returns. */
void halocline_send_cells(const struct halocline_moves *moves, const struct halocline_model *model, MPI_Comm joint,
                          int64_t sequence, int64_t step, char *buffer, MPI_Request requests[]);

/* Starts to receive cells into a buffer. */
void halocline_receive_cells(const struct halocline_moves *moves, MPI_Comm joint, char *buffer, MPI_Request requests[]);

/* Whether all messages in a buffer belong to this exchange. */
int halocline_check_cells(const struct halocline_moves *moves, int64_t sequence, const char *buffer);

/* Puts received cells into the model's fields, and zero where no tile has any. */
void halocline_fill_fields(const struct halocline_moves *moves, const struct halocline_model *model,
                           const char *buffer);

#endif
