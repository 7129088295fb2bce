/* The floating-point environment of the model, put aside while Python and torch run. */
#ifndef HALOCLINE_GUARD_H
#define HALOCLINE_GUARD_H

#include <fenv.h>

/* Keeps the model's environment in `host` and installs the default one: no traps (division by zero and infinities are
 * legitimate arithmetic in numpy and torch), and neither flush-to-zero nor another rounding, so that the bits are those
 * of every other way to run the emulator. Threads started inside inherit it. */
void halocline_guard_enter(fenv_t *host);

/* Puts the model's environment back, its traps and flags included. */
void halocline_guard_leave(const fenv_t *host);

#endif
