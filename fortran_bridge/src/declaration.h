/* Checks of what one rank declares, before any backend sees it. All are local. */
#ifndef HALOCLINE_DECLARATION_H
#define HALOCLINE_DECLARATION_H

#include "backend.h"

/* Sizes, rectangle, and a mask with strides under which cells do not overlap. */
int halocline_check_grid(const struct halocline_declared_grid *grid);

/* A text that fits into a name. `what`: name, point or unit. */
int halocline_check_text(const char *what, const char *text);

/* Checks a field and keeps it in the model's table: a new one, if `may_add`, or a new address of a known one. */
int halocline_keep_field(struct halocline_model *model, const struct halocline_declared_field *given, bool may_add,
                         struct halocline_declared_field **kept);

#endif
