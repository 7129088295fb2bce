/* The Python face of the kernels: takes buffers, checks their sizes, releases the interpreter while it works. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "kernels.h"

enum { BUFFERS = 6 };

/* Buffers held during one call, so that every way out releases them. */
struct held {
  Py_buffer view[BUFFERS];
  int count;
};

static void *hold(struct held *held, PyObject *object, int writable, Py_ssize_t *bytes) {
  Py_buffer *view = &held->view[held->count];
  if (PyObject_GetBuffer(object, view, writable ? PyBUF_WRITABLE : PyBUF_SIMPLE) != 0) return NULL;
  held->count++;
  *bytes = view->len;
  return view->buf;
}

static void release(struct held *held) {
  while (held->count > 0) PyBuffer_Release(&held->view[--held->count]);
}

static PyObject *size_error(const char *name, Py_ssize_t expected, Py_ssize_t got) {
  return PyErr_Format(PyExc_ValueError, "Buffer %s has %zd bytes instead of %zd: pass a contiguous array of that size.",
                      name, got, expected);
}

PyDoc_STRVAR(philox_doc, "philox(counter: bytes, key: bytes) -> bytes\n\n"
                         "Applies Philox4x32-10 to four uint32 counter words under two uint32 key words.");

static PyObject *philox(PyObject *self, PyObject *args) {
  const char *counter, *key;
  Py_ssize_t counter_bytes, key_bytes;
  (void)self;
  if (!PyArg_ParseTuple(args, "y#y#", &counter, &counter_bytes, &key, &key_bytes)) return NULL;
  if (counter_bytes != 16) return size_error("counter", 16, counter_bytes);
  if (key_bytes != 8) return size_error("key", 8, key_bytes);
  uint32_t words[4], keys[2];
  memcpy(words, counter, sizeof words);
  memcpy(keys, key, sizeof keys);
  philox4x32(words, keys);
  return PyBytes_FromStringAndSize((const char *)words, sizeof words);
}

PyDoc_STRVAR(normal_doc,
             "normal(out, cells, channels: int, seed: int, members, forecast_step: int, solver_step: int, tiles: int)\n\n"
             "Fills out, float32 [member][tile][channel][cell], with keyed normal values. cells is int64 [tile][cell],\n"
             "members uint32 [member]. The caller has checked that all words lie in [0, 2**32).");

static PyObject *normal(PyObject *self, PyObject *args) {
  PyObject *out_object, *cells_object, *members_object, *result = NULL;
  Py_ssize_t channels, tiles, out_bytes, cells_bytes, members_bytes;
  unsigned int seed, forecast_step, solver_step;
  struct held held = {.count = 0};
  (void)self;
  if (!PyArg_ParseTuple(args, "OOnIOIIn", &out_object, &cells_object, &channels, &seed, &members_object,
                        &forecast_step, &solver_step, &tiles))
    return NULL;
  float *out = hold(&held, out_object, 1, &out_bytes);
  const int64_t *cells = out ? hold(&held, cells_object, 0, &cells_bytes) : NULL;
  const uint32_t *members = cells ? hold(&held, members_object, 0, &members_bytes) : NULL;
  if (!members) goto done;
  const int64_t total = cells_bytes / (Py_ssize_t)sizeof *cells, count = members_bytes / (Py_ssize_t)sizeof *members;
  const Py_ssize_t expected = count * channels * total * (Py_ssize_t)sizeof *out;
  if (channels < 0 || tiles < 0 || (tiles > 0 && total % tiles != 0)) {
    PyErr_SetString(PyExc_ValueError, "The cells cannot be divided among the tiles: pass cells as (tile, cell).");
  } else if (out_bytes != expected) {
    size_error("out", expected, out_bytes);
  } else {
    Py_BEGIN_ALLOW_THREADS
    if (tiles > 0)
      normal_fill(out, cells, count, tiles, channels, total / tiles, seed, members, forecast_step, solver_step);
    Py_END_ALLOW_THREADS
    result = Py_NewRef(Py_None);
  }
done:
  release(&held);
  return result;
}

PyDoc_STRVAR(move_doc,
             "move(target, source, other, groups, channels, runs, members: int, width: int, add: bool)\n\n"
             "Moves runs of values of `width` bytes (4: float32, 8: float64) into target, group after group. Origin 0\n"
             "of a group is source, 1 is other. The tables are those of halocline.mesh.moves, which checked them.");

static PyObject *move(PyObject *self, PyObject *args) {
  PyObject *objects[BUFFERS], *result = NULL;
  void *data[BUFFERS] = {NULL};
  Py_ssize_t bytes[BUFFERS], members;
  int width, add;
  struct held held = {.count = 0};
  (void)self;
  if (!PyArg_ParseTuple(args, "OOOOOOnip", &objects[0], &objects[1], &objects[2], &objects[3], &objects[4],
                        &objects[5], &members, &width, &add))
    return NULL;
  for (int b = 0; b < BUFFERS; b++) {
    data[b] = hold(&held, objects[b], b == 0, &bytes[b]);
    if (!data[b] && PyErr_Occurred()) goto done;
  }
  if (width != 4 && width != 8) {
    PyErr_SetString(PyExc_ValueError, "Values to move have 4 or 8 bytes: convert the array to float32 or float64.");
    goto done;
  }
  const struct moves moves = {data[3], data[4], data[5],
                              bytes[3] / (Py_ssize_t)(GROUP_COLUMNS * sizeof(int64_t))};
  Py_BEGIN_ALLOW_THREADS
  if (width == 4)
    move_float(data[0], (const float *const[2]){data[1], data[2]}, &moves, members, add);
  else
    move_double(data[0], (const double *const[2]){data[1], data[2]}, &moves, members, add);
  Py_END_ALLOW_THREADS
  result = Py_NewRef(Py_None);
done:
  release(&held);
  return result;
}

static PyMethodDef methods[] = {
    {"philox", philox, METH_VARARGS, philox_doc},
    {"normal", normal, METH_VARARGS, normal_doc},
    {"move", move, METH_VARARGS, move_doc},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_kernels", "Compiled kernels: keyed normal values and movements of the halo exchange.", -1,
    methods, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__kernels(void) { return PyModule_Create(&definition); }
