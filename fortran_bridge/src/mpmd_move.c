#include "mpmd_move.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

enum { WORD = 8 };

static size_t padded(size_t bytes) {
  return (bytes + WORD - 1) / WORD * WORD;
}

static size_t cells_of(const struct halocline_part *p) {
  return (size_t)((p->j1 - p->j0) * (p->i1 - p->i0));
}

static bool lies_within(const struct halocline_part *p, const struct halocline_declared_grid *g) {
  return g->j0 <= p->j0 && p->j0 < p->j1 && p->j1 <= g->j0 + g->ny && g->i0 <= p->i0 && p->i0 < p->i1 &&
         p->i1 <= g->i0 + g->nx;
}

static int check_plan(const struct halocline_model *model, const int64_t *order, const struct halocline_part *parts,
                      int64_t count, int joint_size) {
  for (int f = 0; f < model->field_count; f++)
    if (order[f] < 0 || order[f] >= model->field_count)
      return halocline_fail(HALOCLINE_PEER, "The emulator's plan names field %lld of %d.", (long long)order[f],
                            model->field_count);
  for (int64_t p = 0; p < count; p++)
    if (!lies_within(&parts[p], &model->grid) || parts[p].rank < 0 || parts[p].rank >= joint_size)
      return halocline_fail(HALOCLINE_PEER,
                            "The emulator's plan has cells j %lld to %lld, i %lld to %lld on rank %lld, which are not "
                            "this rank's: is the emulator of the same version?",
                            (long long)parts[p].j0, (long long)parts[p].j1 - 1, (long long)parts[p].i0,
                            (long long)parts[p].i1 - 1, (long long)parts[p].rank);
  return HALOCLINE_SUCCESS;
}

/* Size of the message of one peer. */
static size_t message_bytes(const struct halocline_model *model, const struct halocline_peer *peer) {
  size_t cells = 0, bytes = 4 * sizeof(int64_t);
  for (int p = 0; p < peer->parts; p++) cells += cells_of(&peer->part[p]);
  for (int f = 0; f < model->field_count; f++)
    bytes += padded(cells * (size_t)model->fields[f].levels * (size_t)model->fields[f].bytes);
  return bytes;
}

int halocline_moves_read(struct halocline_moves *moves, const struct halocline_model *model, const int64_t *payload,
                         int64_t numbers, int64_t longest) {
  const int fields = model->field_count;
  const int64_t width = (int64_t)(sizeof(struct halocline_part) / sizeof(int64_t)), count = (numbers - fields) / width;
  int joint_size;
  MPI_Comm_size(halocline_joint_comm(), &joint_size);
  if (numbers < fields || (numbers - fields) % width || longest < WORD || longest > INT_MAX)
    return halocline_fail(HALOCLINE_PEER,
                          "The emulator's plan of %lld numbers cannot be read: is it of the same version?",
                          (long long)numbers);
  moves->parts = calloc((size_t)count + 1, sizeof *moves->parts);
  moves->peer = calloc((size_t)count + 1, sizeof *moves->peer);
  if (!moves->parts || !moves->peer) return halocline_fail(HALOCLINE_START, "No memory for the emulator's plan.");
  memcpy(moves->parts, payload + fields, (size_t)count * sizeof *moves->parts);
  int status = check_plan(model, payload, moves->parts, count, joint_size);
  if (status) return status;

  for (int f = 0; f < fields; f++) moves->order[f] = (int)payload[f];
  for (int64_t p = 0; p < count; p++) {
    if (!p || moves->parts[p].rank != moves->parts[p - 1].rank)
      moves->peer[moves->peers++] =
          (struct halocline_peer){.rank = (int)moves->parts[p].rank, .part = &moves->parts[p]};
    moves->peer[moves->peers - 1].parts++;
  }
  moves->longest = (size_t)longest / WORD * WORD;
  for (struct halocline_peer *peer = moves->peer; peer < moves->peer + moves->peers; peer++) {
    peer->first = moves->bytes;
    peer->bytes = message_bytes(model, peer);
    moves->bytes += peer->bytes;
    moves->requests += (int)((peer->bytes + moves->longest - 1) / moves->longest);
  }
  return HALOCLINE_SUCCESS;
}

void halocline_moves_free(struct halocline_moves *moves) {
  free(moves->parts);
  free(moves->peer);
  *moves = (struct halocline_moves){0};
}

/* One row of a field; strides in numbers. memcpy of a number keeps clear of types and alignment, and costs nothing. */
static void copy_row(char *to, int64_t to_stride, const char *from, int64_t from_stride, int bytes, int64_t count) {
  if (count == 1 || (to_stride == 1 && from_stride == 1))
    memcpy(to, from, (size_t)(count * bytes));
  else if (bytes == 8)
    for (int64_t i = 0; i < count; i++) memcpy(to + i * to_stride * 8, from + i * from_stride * 8, 8);
  else
    for (int64_t i = 0; i < count; i++) memcpy(to + i * to_stride * 4, from + i * from_stride * 4, 4);
}

/* One level of one part of a field; returns what follows it in the message. */
static char *copy_level(char *message, const struct halocline_model *model,
                        const struct halocline_declared_field *field, const struct halocline_part *part, int64_t k,
                        bool filling) {
  const int64_t *stride = field->stride, count = part->i1 - part->i0;
  for (int64_t j = part->j0 - model->grid.j0; j < part->j1 - model->grid.j0; j++) {
    int64_t first = (part->i0 - model->grid.i0) * stride[0] + j * stride[1] + k * stride[2];
    char *row = (char *)field->data + first * field->bytes;
    if (filling)
      copy_row(row, stride[0], message, 1, field->bytes, count);
    else
      copy_row(message, 1, row, stride[0], field->bytes, count);
    message += count * field->bytes;
  }
  return message;
}

/* A message on its way out: chunks leave while the next ones are filled. */
struct outgoing {
  const struct halocline_peer *peer;
  MPI_Comm joint;
  char *message;
  size_t longest, posted;
  MPI_Request *request;
};

/* Sends the chunks that are full when the message is filled up to `end`, at its end also the last one. */
static void post_full(struct outgoing *out, const char *end) {
  size_t filled = (size_t)(end - out->message), whole = out->peer->bytes;
  while (out->posted < whole && (filled - out->posted >= out->longest || filled == whole)) {
    size_t rest = whole - out->posted, bytes = rest < out->longest ? rest : out->longest;
    MPI_Isend(out->message + out->posted, (int)bytes, MPI_BYTE, out->peer->rank, HALOCLINE_TAG_OBSERVED, out->joint,
              out->request++);
    out->posted += bytes;
  }
}

static void copy_peer(const struct halocline_moves *moves, const struct halocline_model *model,
                      const struct halocline_peer *peer, char *message, struct outgoing *out) {
  char *start = message, *next = message + 4 * sizeof(int64_t);
  for (int f = 0; f < model->field_count; f++) {
    const struct halocline_declared_field *field = &model->fields[moves->order[f]];
    for (int p = 0; p < peer->parts; p++)
      for (int64_t k = 0; k < field->levels; k++) {
        next = copy_level(next, model, field, &peer->part[p], k, !out);
        if (out) post_full(out, next);
      }
    size_t used = (size_t)(next - start), whole = padded(used);
    if (out) memset(next, 0, whole - used);
    next = start + whole;
  }
  if (out) post_full(out, next);
}

void halocline_send_cells(const struct halocline_moves *moves, const struct halocline_model *model, MPI_Comm joint,
                          int64_t sequence, int64_t step, char *buffer, MPI_Request requests[]) {
  struct outgoing out = {.joint = joint, .longest = moves->longest, .request = requests};
  for (const struct halocline_peer *peer = moves->peer; peer < moves->peer + moves->peers; peer++) {
    const int64_t head[4] = {HALOCLINE_MAGIC, sequence, step, (int64_t)peer->bytes};
    out.peer = peer;
    out.message = buffer + peer->first;
    out.posted = 0;
    memcpy(out.message, head, sizeof head);
    copy_peer(moves, model, peer, out.message, &out);
  }
}

void halocline_receive_cells(const struct halocline_moves *moves, MPI_Comm joint, char *buffer,
                             MPI_Request requests[]) {
  for (const struct halocline_peer *peer = moves->peer; peer < moves->peer + moves->peers; peer++)
    for (size_t first = 0; first < peer->bytes; first += moves->longest) {
      size_t rest = peer->bytes - first, bytes = rest < moves->longest ? rest : moves->longest;
      MPI_Irecv(buffer + peer->first + first, (int)bytes, MPI_BYTE, peer->rank, HALOCLINE_TAG_GENERATED, joint,
                requests++);
    }
}

int halocline_check_cells(const struct halocline_moves *moves, int64_t sequence, const char *buffer) {
  for (const struct halocline_peer *peer = moves->peer; peer < moves->peer + moves->peers; peer++) {
    int64_t head[4];
    memcpy(head, buffer + peer->first, sizeof head);
    if (head[0] == HALOCLINE_MAGIC && head[1] == sequence && head[3] == (int64_t)peer->bytes) continue;
    return halocline_fail(
        HALOCLINE_PEER, "Rank %d of the emulator sent %lld bytes for exchange %lld, expected %lld for exchange %lld.",
        peer->rank, (long long)head[3], (long long)head[1], (long long)peer->bytes, (long long)sequence);
  }
  return HALOCLINE_SUCCESS;
}

static void clear_field(const struct halocline_declared_grid *grid, const struct halocline_declared_field *field) {
  for (int64_t k = 0; k < field->levels; k++)
    for (int64_t j = 0; j < grid->ny; j++)
      for (int64_t i = 0; i < grid->nx; i++) {
        int64_t cell = i * field->stride[0] + j * field->stride[1] + k * field->stride[2];
        memset((char *)field->data + cell * field->bytes, 0, (size_t)field->bytes);
      }
}

void halocline_fill_fields(const struct halocline_moves *moves, const struct halocline_model *model,
                           const char *buffer) {
  for (int f = 0; f < model->field_count; f++) clear_field(&model->grid, &model->fields[f]);
  for (const struct halocline_peer *peer = moves->peer; peer < moves->peer + moves->peers; peer++)
    copy_peer(moves, model, peer, (char *)(uintptr_t)buffer + peer->first, NULL);
}
