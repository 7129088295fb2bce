/* The emulator in the model's own process: the object `Bridge` of halocline.run.bridge. Built as halocline_python.so,
 * which libhalocline.so opens only when the model has no emulator ranks beside it. The interpreter is started once and
 * never ended: numpy and torch do not survive that. */
#include <signal.h>
#include <stdio.h>

#include "python_interpreter.h"

static PyObject *bridge;
static PyObject *observe_method, *generate_method; /* bound: looked up once, not at every step */

/* The same for a collective call. If Python does not say that every rank has raised, others may be waiting for this
 * one: the job ends here. */
static int keep_collective(const struct halocline_model *model, const char *verb, int64_t step, int otherwise) {
  bool agreed = false;
  int status = halocline_python_exception(model, verb, step, otherwise, &agreed);
  if (!agreed && model->size > 1) halocline_abort(status);
  return status;
}

static int read_settings(struct halocline_model *model) {
  model->continue_on_fault = halocline_python_number(bridge, "on_fault", 0) == 1;
  PyObject *deadline = PyObject_GetAttrString(bridge, "deadline");
  PyObject *longer = deadline ? PyObject_GetAttrString(bridge, "generate_deadline") : NULL;
  if (longer) {
    model->deadline = PyFloat_AsDouble(deadline);
    model->generate_deadline = PyFloat_AsDouble(longer);
  }
  Py_XDECREF(deadline);
  Py_XDECREF(longer);
  return PyErr_Occurred() ? -1 : 0;
}

static int start_bridge(struct halocline_model *model, PyObject *module) {
  bridge = PyObject_CallMethod(module, "start", "is", (int)MPI_Comm_c2f(model->comm), model->config);
  observe_method = bridge ? PyObject_GetAttrString(bridge, "observe") : NULL;
  generate_method = observe_method ? PyObject_GetAttrString(bridge, "generate") : NULL;
  if (!generate_method || read_settings(model)) return keep_collective(model, "init", 0, HALOCLINE_START);
  if (model->rank == 0) halocline_python_help("name_openmp");
  return HALOCLINE_SUCCESS;
}

static int start_python(struct halocline_model *model) {
  PyObject *module = NULL;
  int status = halocline_agree(model->comm, halocline_python_open(model, &module));
  if (status) return status;
  PyGILState_STATE lock = PyGILState_Ensure();
  status = start_bridge(model, module);
  Py_DECREF(module);
  PyGILState_Release(lock);
  return status;
}

/* Signals are the model's, but Python's module `signal`, which torch imports, takes SIGINT even from an interpreter
 * that was told to install no handlers. It does so once, at its import, so it is enough to put everything back after
 * the start. */
static int python_init(struct halocline_model *model) {
  struct sigaction before[NSIG];
  bool ours = !Py_IsInitialized(), known[NSIG] = {false};
  for (int s = 1; ours && s < NSIG; s++) known[s] = !sigaction(s, NULL, &before[s]);
  int status = start_python(model);
  for (int s = 1; s < NSIG; s++)
    if (known[s]) sigaction(s, &before[s], NULL);
  return status;
}

/* The numbers from the first cell to the last, as bytes; None without cells. */
static PyObject *view(const struct halocline_model *model, const void *data, int bytes, int levels,
                      const int64_t stride[3], int access) {
  if (!data) Py_RETURN_NONE;
  const struct halocline_declared_grid *g = &model->grid;
  int64_t last = (g->nx - 1) * stride[0] + (g->ny - 1) * stride[1] + (levels - 1) * stride[2];
  return PyMemoryView_FromMemory((char *)(uintptr_t)data, (Py_ssize_t)((last + 1) * bytes), access);
}

static int python_grid(struct halocline_model *model) {
  const struct halocline_declared_grid *g = &model->grid;
  PyGILState_STATE lock = PyGILState_Ensure();
  PyObject *mask = view(model, g->mask, (int)sizeof *g->mask, g->nk, g->stride, PyBUF_READ), *done = NULL;
  if (mask)
    done = PyObject_CallMethod(bridge, "grid", "iiiiiiiO(LLL)", g->ni, g->nj, g->nk, g->i0, g->j0, g->nx, g->ny, mask,
                               (long long)g->stride[0], (long long)g->stride[1], (long long)g->stride[2]);
  int status = done ? HALOCLINE_SUCCESS : halocline_python_exception(model, "grid", 0, HALOCLINE_EXCEPTION, NULL);
  Py_XDECREF(done);
  Py_XDECREF(mask);
  PyGILState_Release(lock);
  return status;
}

static int python_field(struct halocline_model *model, struct halocline_declared_field *f) {
  PyGILState_STATE lock = PyGILState_Ensure();
  PyObject *data = view(model, f->data, f->bytes, f->levels, f->stride, PyBUF_WRITE), *done = NULL;
  if (data)
    done = PyObject_CallMethod(bridge, "field", "sssiiO(LLL)", f->name, f->point, f->unit, f->bytes, f->levels, data,
                               (long long)f->stride[0], (long long)f->stride[1], (long long)f->stride[2]);
  int status = done ? HALOCLINE_SUCCESS : halocline_python_exception(model, "field", 0, HALOCLINE_EXCEPTION, NULL);
  Py_XDECREF(done);
  Py_XDECREF(data);
  PyGILState_Release(lock);
  return status;
}

static int python_ready(struct halocline_model *model) {
  PyGILState_STATE lock = PyGILState_Ensure();
  PyObject *done = PyObject_CallMethod(bridge, "ready", "sdLi", model->calendar, model->time_step,
                                       (long long)model->start_step, model->start_date);
  int status = done ? HALOCLINE_SUCCESS : keep_collective(model, "ready", model->start_step, HALOCLINE_EXCEPTION);
  Py_XDECREF(done);
  PyGILState_Release(lock);
  return status;
}

/* Copies what Python answers: (level, action, step, reason), or None where nothing was due. Returns 0 or -1. */
static int read_verdict(PyObject *answer, halocline_verdict *verdict) {
  if (!answer) return -1;
  if (answer == Py_None) return 0;
  long long step;
  const char *reason;
  if (!PyTuple_Check(answer)) {
    PyErr_Format(PyExc_TypeError, "A verdict is a tuple (level, action, step, reason), got %R.", answer);
    return -1;
  }
  if (!PyArg_ParseTuple(answer, "iiLs", &verdict->level, &verdict->action, &step, &reason)) return -1;
  verdict->step = step;
  snprintf(verdict->reason, sizeof verdict->reason, "%s", reason);
  return 0;
}

static int python_generate(struct halocline_model *model, halocline_verdict *verdict) {
  PyGILState_STATE lock = PyGILState_Ensure();
  PyObject *answer = PyObject_CallNoArgs(generate_method);
  int status = read_verdict(answer, verdict)
                   ? keep_collective(model, "generate", model->start_step, HALOCLINE_EXCEPTION)
                   : HALOCLINE_SUCCESS;
  Py_XDECREF(answer);
  PyGILState_Release(lock);
  return status;
}

/* Called at every time step: no lookup by name, no tuple of arguments. */
static int python_observe(struct halocline_model *model, int64_t step, halocline_verdict *verdict) {
  PyGILState_STATE lock = PyGILState_Ensure();
  PyObject *arguments[2] = {NULL, PyLong_FromLongLong(step)}, *answer = NULL;
  if (arguments[1])
    answer = PyObject_Vectorcall(observe_method, arguments + 1, 1 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
  int status =
      read_verdict(answer, verdict) ? keep_collective(model, "observe", step, HALOCLINE_EXCEPTION) : HALOCLINE_SUCCESS;
  Py_XDECREF(answer);
  Py_XDECREF(arguments[1]);
  PyGILState_Release(lock);
  return status;
}

static int python_finalize(struct halocline_model *model, halocline_verdict *verdict) {
  if (model->alone) return HALOCLINE_SUCCESS;
  PyGILState_STATE lock = PyGILState_Ensure();
  PyObject *answer = PyObject_CallMethod(bridge, "finalize", NULL);
  int status = read_verdict(answer, verdict)
                   ? keep_collective(model, "finalize", model->start_step, HALOCLINE_EXCEPTION)
                   : HALOCLINE_SUCCESS;
  halocline_python_help("flush");
  if (!status) {
    Py_CLEAR(observe_method);
    Py_CLEAR(generate_method);
    Py_CLEAR(bridge);
  }
  Py_XDECREF(answer);
  PyGILState_Release(lock);
  return status;
}

HALOCLINE_EXPORT const struct halocline_backend halocline_python_backend = {
    .name = "in-process",
    .slack = 0,
    .init = python_init,
    .grid = python_grid,
    .field = python_field,
    .ready = python_ready,
    .generate = python_generate,
    .observe = python_observe,
    .finalize = python_finalize,
};
