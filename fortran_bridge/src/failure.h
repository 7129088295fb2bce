/* Failures: their sentences, what becomes of a model that does not listen, and the end of the job. */
#ifndef HALOCLINE_FAILURE_H
#define HALOCLINE_FAILURE_H

#include <stdbool.h>

#include "backend.h"

/* Hands a status to the model. A failure is remembered: the model must end now. */
int halocline_answer(int status);

/* Ends the job if an earlier failure was not followed by the model's end. `verb`: what it called instead. */
void halocline_check_answered(const char *verb);

/* Tells who speaks first when all ranks have the same failure. */
void halocline_set_rank(int rank);

/* Whether a run is open: a process that leaves with an open run, or finalises MPI, ends the job. Registers the handlers
 * at the first call. */
void halocline_set_open(bool open);

/* For the Fortran module: fails on behalf of a verb. */
HALOCLINE_EXPORT int halocline_refuse(int status, const char *sentence);

#endif
