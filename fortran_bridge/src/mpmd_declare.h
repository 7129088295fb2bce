/* What the model says of itself at the start. */
#ifndef HALOCLINE_MPMD_DECLARE_H
#define HALOCLINE_MPMD_DECLARE_H

#include "mpmd_link.h"

/* Bits of the mask, cell after cell along i, then j, then k, the first in the lowest bit of a byte. Allocated; NULL
 * without memory. */
unsigned char *halocline_pack_mask(const struct halocline_declared_grid *grid, size_t *bytes);

/* Payload of HALOCLINE_HELLO on rank 0. Allocated; NULL without memory. */
char *halocline_make_hello(const struct halocline_model *model, struct halocline_header *head, size_t *bytes);

/* All that this rank says of itself, a whole frame. Allocated; NULL without memory. */
char *halocline_make_declaration(const struct halocline_model *model, int64_t sequence, const unsigned char *mask,
                                 size_t mask_bytes, size_t *bytes);

#endif
