#include "declaration.h"

#include <stdio.h>
#include <string.h>

/* Strides of an array of n[0] x n[1] x n[2] numbers: positive, and no two cells at one place. The axes are visited from
 * the smallest stride on. */
static int check_stride(const char *what, const int n[3], const int64_t stride[3]) {
  bool seen[3] = {false, false, false};
  int64_t span = 1; /* numbers from the first cell to behind the last, over the axes seen */
  for (int visit = 0; visit < 3; visit++) {
    int axis = -1;
    for (int a = 0; a < 3; a++)
      if (!seen[a] && n[a] > 1 && (axis < 0 || stride[a] < stride[axis])) axis = a;
    if (axis < 0) break;
    if (stride[axis] < span)
      return halocline_fail(
          HALOCLINE_USAGE,
          "%s of %d x %d x %d cells has the strides %lld, %lld, %lld (in numbers, along i, j, k), with which "
          "cells overlap: give the extents in the order i, j, k, and strides above 0.",
          what, n[0], n[1], n[2], (long long)stride[0], (long long)stride[1], (long long)stride[2]);
    span += (n[axis] - 1) * stride[axis];
    seen[axis] = true;
  }
  return HALOCLINE_SUCCESS;
}

int halocline_check_grid(const struct halocline_declared_grid *g) {
  if (g->ni < 1 || g->nj < 1 || g->nk < 1)
    return halocline_fail(HALOCLINE_USAGE,
                          "The global grid has %d x %d x %d cells (i, j, k), expected at least one each.", g->ni, g->nj,
                          g->nk);
  if (g->nx == 0 && g->ny == 0) return HALOCLINE_SUCCESS;
  if (g->nx < 1 || g->ny < 1 || g->i0 < 0 || g->j0 < 0 || g->nx > g->ni - g->i0 || g->ny > g->nj - g->j0)
    return halocline_fail(
        HALOCLINE_USAGE,
        "This rank's rectangle has i from %d, %d cells, and j from %d, %d cells (from 0, without halo); it "
        "must lie in the global grid of %d x %d cells. A rank without cells has nx = ny = 0.",
        g->i0, g->nx, g->j0, g->ny, g->ni, g->nj);
  if (!g->mask)
    return halocline_fail(HALOCLINE_USAGE, "halocline_grid got no mask: give the mask at T points, 1 in the sea.");
  return check_stride("The mask", (const int[3]){g->nx, g->ny, g->nk}, g->stride);
}

int halocline_check_text(const char *what, const char *text) {
  if (text && text[0] && strlen(text) < HALOCLINE_MAX_NAME) return HALOCLINE_SUCCESS;
  return halocline_fail(HALOCLINE_USAGE, "halocline_field got the %s '%s', expected 1 to %d characters.", what,
                        text ? text : "", HALOCLINE_MAX_NAME - 1);
}

/* The field of that name, or the place for a new one. */
static struct halocline_declared_field *find_field(struct halocline_model *model, const char *name) {
  int f = 0;
  while (f < model->field_count && strcmp(model->fields[f].name, name)) f++;
  return &model->fields[f];
}

static int check_field(const struct halocline_declared_grid *grid, const struct halocline_declared_field *f) {
  if (f->bytes != 4 && f->bytes != 8)
    return halocline_fail(HALOCLINE_USAGE, "Field %s has numbers of %d bytes, expected 4 or 8.", f->name, f->bytes);
  if (f->levels != 1 && f->levels != grid->nk)
    return halocline_fail(HALOCLINE_USAGE, "Field %s has %d levels, expected 1 or those of the grid, %d.", f->name,
                          f->levels, grid->nk);
  if (!grid->nx) return HALOCLINE_SUCCESS;
  if (!f->data || (uintptr_t)f->data % (unsigned)f->bytes)
    return halocline_fail(HALOCLINE_USAGE, "Field %s has the address %p, expected that of its first cell.", f->name,
                          f->data);
  char what[HALOCLINE_MAX_NAME + 8];
  snprintf(what, sizeof what, "Field %s", f->name);
  return check_stride(what, (const int[3]){grid->nx, grid->ny, f->levels}, f->stride);
}

/* Name, point and unit stay; only the address may be another one. */
static int check_same(const struct halocline_declared_field *kept, const struct halocline_declared_field *given) {
  if (!strcmp(kept->point, given->point) && !strcmp(kept->unit, given->unit) && kept->bytes == given->bytes &&
      kept->levels == given->levels)
    return HALOCLINE_SUCCESS;
  return halocline_fail(HALOCLINE_USAGE,
                        "Field %s was registered at point %s in '%s' with %d levels of %d bytes, and now at point %s "
                        "in '%s' with %d of %d: only its address may change.",
                        given->name, kept->point, kept->unit, kept->levels, kept->bytes, given->point, given->unit,
                        given->levels, given->bytes);
}

int halocline_keep_field(struct halocline_model *model, const struct halocline_declared_field *given, bool may_add,
                         struct halocline_declared_field **kept) {
  *kept = find_field(model, given->name);
  bool known = *kept < model->fields + model->field_count;
  if (!known && (!may_add || model->field_count == HALOCLINE_MAX_FIELDS))
    return halocline_fail(HALOCLINE_USAGE,
                          "Field %s is not known: after halocline_ready, and beyond %d fields, only the address of a "
                          "registered field can be changed.",
                          given->name, HALOCLINE_MAX_FIELDS);
  int status = known ? check_same(*kept, given) : HALOCLINE_SUCCESS;
  if (!status) status = check_field(&model->grid, given);
  if (status) return status;
  **kept = *given;
  model->field_count += !known;
  return HALOCLINE_SUCCESS;
}
