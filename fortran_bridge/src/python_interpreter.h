/* CPython in the model's process: its start, and what becomes of its exceptions. All functions but
 * halocline_python_open are called with the interpreter's lock. */
#ifndef HALOCLINE_PYTHON_INTERPRETER_H
#define HALOCLINE_PYTHON_INTERPRETER_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdbool.h>
#include <stdint.h>

#include "backend.h"

/* Starts the interpreter, unless the model is Python itself, checks that its environment and its mpi4py are the right
 * ones, and imports the emulator. Waits for no other rank. */
int halocline_python_open(const struct halocline_model *model, PyObject **module);

/* Turns the pending exception into status and message; what it was raised for: `verb`, `step`. `otherwise`: the status
 * if the exception has no attribute halocline_status. `agreed`: whether every rank has raised; may be NULL. */
int halocline_python_exception(const struct halocline_model *model, const char *verb, int64_t step, int otherwise,
                               bool *agreed);

/* An attribute that is an integer, or `otherwise`. */
long halocline_python_number(PyObject *object, const char *name, long otherwise);

/* Calls one of the helpers "name_openmp" and "flush"; a failure does not matter. */
void halocline_python_help(const char *name);

#endif
