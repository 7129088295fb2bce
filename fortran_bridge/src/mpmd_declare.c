#include "mpmd_declare.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

unsigned char *halocline_pack_mask(const struct halocline_declared_grid *g, size_t *bytes) {
  *bytes = ((size_t)g->nx * (size_t)g->ny * (size_t)g->nk + 7) / 8;
  unsigned char *bits = calloc(*bytes + 1, 1);
  size_t cell = 0;
  for (int k = 0; bits && k < g->nk; k++)
    for (int j = 0; j < g->ny; j++)
      for (int i = 0; i < g->nx; i++, cell++)
        if (g->mask[i * g->stride[0] + j * g->stride[1] + k * g->stride[2]] > 0.5)
          bits[cell / 8] |= (unsigned char)(1u << cell % 8);
  return bits;
}

/* Ranks of the model in the joint communicator. */
static bool translate_ranks(const struct halocline_model *model, int64_t *ranks) {
  int *own = calloc((size_t)model->size, sizeof *own), *there = calloc((size_t)model->size, sizeof *there);
  bool made = own && there;
  if (made) {
    MPI_Group model_group, joint_group;
    MPI_Comm_group(model->comm, &model_group);
    MPI_Comm_group(halocline_joint_comm(), &joint_group);
    for (int r = 0; r < model->size; r++) own[r] = r;
    MPI_Group_translate_ranks(model_group, model->size, own, joint_group, there);
    MPI_Group_free(&model_group);
    MPI_Group_free(&joint_group);
    for (int r = 0; r < model->size; r++) ranks[r] = there[r];
  }
  free(own);
  free(there);
  return made;
}

char *halocline_make_hello(const struct halocline_model *model, struct halocline_header *head, size_t *bytes) {
  const size_t ranks = sizeof(int64_t) * (size_t)model->size;
  const size_t path = strlen(model->config), text = strlen(model->config_text);
  *bytes = ranks + path + text;
  char *hello = malloc(*bytes + 1);
  if (!hello || !translate_ranks(model, (int64_t *)(void *)hello)) {
    free(hello);
    return NULL;
  }
  memcpy(hello + ranks, model->config, path);
  memcpy(hello + ranks + path, model->config_text, text);
  head->level = model->size;
  head->action = (int64_t)path;
  return hello;
}

static char *put(char *next, const void *what, size_t bytes) {
  memcpy(next, what, bytes);
  return next + bytes;
}

char *halocline_make_declaration(const struct halocline_model *model, int64_t sequence, const unsigned char *mask,
                                 size_t mask_bytes, size_t *bytes) {
  const struct halocline_declared_grid *g = &model->grid;
  struct halocline_header head = halocline_header(HALOCLINE_DECLARE, sequence, model->start_step);
  struct halocline_declaration said = {g->ni,
                                       g->nj,
                                       g->nk,
                                       g->i0,
                                       g->j0,
                                       g->nx,
                                       g->ny,
                                       model->field_count,
                                       model->start_step,
                                       model->start_date,
                                       model->time_step,
                                       ""};
  snprintf(said.calendar, sizeof said.calendar, "%s", model->calendar);
  head.bytes = (int64_t)(sizeof said + (size_t)model->field_count * sizeof(struct halocline_field_row) + mask_bytes);
  *bytes = sizeof head + (size_t)head.bytes;
  char *frame = malloc(*bytes);
  if (!frame) return NULL;
  char *next = put(put(frame, &head, sizeof head), &said, sizeof said);
  for (const struct halocline_declared_field *f = model->fields; f < model->fields + model->field_count; f++) {
    struct halocline_field_row row = {.bytes = f->bytes, .levels = f->levels};
    strcpy(row.name, f->name);
    strcpy(row.point, f->point);
    strcpy(row.unit, f->unit);
    next = put(next, &row, sizeof row);
  }
  put(next, mask, mask_bytes);
  return frame;
}
