/* One thread that ends the process when a verb does not end. It calls no MPI, so any thread level will do. */
#ifndef HALOCLINE_WATCHDOG_H
#define HALOCLINE_WATCHDOG_H

#include <stdint.h>

/* Starts the thread, once per process; returns 0 or an error number. */
int halocline_watchdog_start(void);

/* From now on `verb` has `seconds`. `verb` must stay valid; `rank` is told in the message. */
void halocline_watchdog_arm(const char *verb, int64_t step, int rank, double seconds);
void halocline_watchdog_disarm(void);

#endif
