#include "python_interpreter.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static PyObject *helpers; /* the functions below */

/* What is easier said in Python. Needs nothing but the standard library until `prepare` imports mpi4py. */
static const char helper_source[] =
    "import importlib, os, signal, sys, traceback\n"
    "\n"
    "def prepare(python, mpi_version, module):\n"
    "    if python:\n"
    "        expected = os.path.realpath(os.path.dirname(os.path.dirname(python)))\n"
    "        if os.path.realpath(sys.prefix) != expected:\n"
    "            raise RuntimeError(f'{python} gives the environment {sys.prefix}, expected {expected}: '\n"
    "                               'set HALOCLINE_PYTHON to bin/python of the environment that has halocline.')\n"
    "    import mpi4py\n"
    "    mpi4py.rc.initialize = mpi4py.rc.finalize = False\n"
    "    from mpi4py import MPI\n"
    "    if MPI.Get_library_version().rstrip('\\0') != mpi_version:\n"
    "        raise RuntimeError(f'mpi4py in {sys.prefix} calls another MPI library ({MPI.Get_library_version()}) '\n"
    "                           f'than the model ({mpi_version}): rebuild it for that of the model, with '\n"
    "                           'MPICC=mpicc pip install --force-reinstall --no-binary mpi4py mpi4py.')\n"
    "    return importlib.import_module(module)\n"
    "\n"
    "def name_openmp():\n"
    "    with open('/proc/self/maps') as maps:\n"
    "        paths = {line.split()[-1] for line in maps}\n"
    "    runtimes = sorted(p for p in paths if os.path.basename(p).startswith(('libgomp', 'libomp', 'libiomp')))\n"
    "    if len(runtimes) > 1:\n"
    "        print('halocline: this process holds more than one OpenMP runtime: ' + ', '.join(runtimes) +\n"
    "              '. If it crashes or is slow, link the model with the one that torch brings.', file=sys.stderr)\n"
    "\n"
    "def describe(error, rank, verb, step):\n"
    "    sentence = f'{type(error).__name__}: {error}'\n"
    "    path = getattr(error, 'traceback_file', None)\n"
    "    where = f'rank {rank}, {verb}, step {step}'\n"
    "    if path is None and rank and (verb == 'init' or getattr(error, 'agreed', False)):\n"
    "        return f'{sentence} ({where})'  # a thousand ranks need not leave a thousand files\n"
    "    if path is None:\n"
    "        path = os.path.abspath(f'halocline_traceback_rank_{rank:04d}.txt')\n"
    "        text = ''.join(traceback.format_exception(error))\n"
    "        try:\n"
    "            with open(path, 'w') as file:\n"
    "                file.write(f'rank {rank}, halocline_{verb}, step {step}\\n\\n{text}')\n"
    "        except OSError as problem:\n"
    "            return f'{sentence} ({where}; no traceback file: {problem})'\n"
    "    return f'{sentence} ({where}; traceback in {path})'\n"
    "\n"
    "def flush():\n"
    "    sys.stdout.flush()\n"
    "    sys.stderr.flush()\n";

static PyObject *take_exception(void) {
#if PY_VERSION_HEX >= 0x030C0000
  return PyErr_GetRaisedException();
#else
  PyObject *type, *value, *trace;
  PyErr_Fetch(&type, &value, &trace);
  PyErr_NormalizeException(&type, &value, &trace);
  if (value && trace) PyException_SetTraceback(value, trace);
  Py_XDECREF(type);
  Py_XDECREF(trace);
  return value;
#endif
}

long halocline_python_number(PyObject *object, const char *name, long otherwise) {
  PyObject *value = object ? PyObject_GetAttrString(object, name) : NULL;
  long number = value ? PyLong_AsLong(value) : otherwise;
  if (PyErr_Occurred()) number = otherwise;
  PyErr_Clear();
  Py_XDECREF(value);
  return number;
}

/* Never PyErr_Print: it would end the process for a SystemExit. */
int halocline_python_exception(const struct halocline_model *model, const char *verb, int64_t step, int otherwise,
                          bool *agreed) {
  PyObject *error = take_exception();
  long status = halocline_python_number(error, "halocline_status", otherwise);
  if (status < HALOCLINE_USAGE || status > HALOCLINE_DEADLINE) status = otherwise;
  if (agreed) *agreed = halocline_python_number(error, "agreed", 0);
  PyObject *text = NULL;
  if (helpers && error)
    text = PyObject_CallMethod(helpers, "describe", "OisL", error, model->rank, verb, (long long)step);
  const char *sentence = text ? PyUnicode_AsUTF8(text) : NULL;
  if (sentence)
    halocline_fail((int)status, "%s", sentence);
  else
    halocline_fail((int)status, "Python raised %s in halocline_%s and could not describe it.",
                   error ? Py_TYPE(error)->tp_name : "an error", verb);
  PyErr_Clear();
  Py_XDECREF(text);
  Py_XDECREF(error);
  return (int)status;
}

/* bin/python of the environment: as the user says, or that in which this library is installed
 * (lib/halocline_python.so). */
static int find_python(char path[PATH_MAX]) {
  const char *wanted = getenv("HALOCLINE_PYTHON");
  if (wanted && wanted[0]) {
    snprintf(path, PATH_MAX, "%s", wanted);
    if (path[0] != '/' || access(path, X_OK))
      return halocline_fail(HALOCLINE_START,
                            "HALOCLINE_PYTHON is '%s', expected the absolute path of an environment's "
                            "bin/python.",
                            wanted);
    return HALOCLINE_SUCCESS;
  }
  Dl_info here;
  char place[PATH_MAX] = "";
  if (dladdr(helper_source, &here) && realpath(here.dli_fname, place)) {
    *strrchr(place, '/') = 0;
    char *folder = strrchr(place, '/');
    if (folder) *folder = 0;
  }
  snprintf(path, PATH_MAX, "%.*s/bin/python", PATH_MAX - 16, place);
  if (!access(path, X_OK)) return HALOCLINE_SUCCESS;
  return halocline_fail(HALOCLINE_START,
                        "No Python at %s: set HALOCLINE_PYTHON to bin/python of the environment that has "
                        "halocline.",
                        path);
}

/* Extension modules expect libpython's symbols among the global ones, even if the model loaded us with RTLD_LOCAL. */
static void promote_libpython(void) {
  Dl_info library;
  if (dladdr(&PyFloat_Type, &library)) dlopen(library.dli_fname, RTLD_NOW | RTLD_GLOBAL | RTLD_NOLOAD);
}

static PyStatus configure(PyConfig *config, const char *python) {
  char *arguments[] = {(char *)"halocline"};
  config->install_signal_handlers = 0; /* signals, streams and locale are the model's */
  config->configure_c_stdio = 0;
  config->buffered_stdio = 0;
  config->parse_argv = 0;
  PyStatus status = PyConfig_SetBytesArgv(config, 1, arguments);
  /* CPython looks for pyvenv.cfg beside program_name: this chooses the environment. */
  if (!PyStatus_Exception(status)) status = PyConfig_SetBytesString(config, &config->program_name, python);
  return status;
}

static int start_interpreter(const char *python) {
  PyPreConfig early;
  PyPreConfig_InitPythonConfig(&early);
  early.parse_argv = 0;
  early.configure_locale = 0;
  early.coerce_c_locale = 0;
  early.utf8_mode = 1;
  PyStatus status = Py_PreInitialize(&early);
  if (!PyStatus_Exception(status)) {
    PyConfig config;
    PyConfig_InitPythonConfig(&config);
    status = configure(&config, python);
    if (!PyStatus_Exception(status)) status = Py_InitializeFromConfig(&config);
    PyConfig_Clear(&config);
  }
  if (PyStatus_Exception(status))
    return halocline_fail(HALOCLINE_START, "The Python of %s does not start: %s.", python,
                          status.err_msg ? status.err_msg : "no reason given");
  PyEval_SaveThread(); /* every call takes the lock for itself */
  return HALOCLINE_SUCCESS;
}

static PyObject *make_helpers(void) {
  PyObject *module = PyModule_New("_halocline_helpers");
  PyObject *names = module ? PyModule_GetDict(module) : NULL; /* borrowed */
  PyObject *done = NULL;
  if (names && !PyDict_SetItemString(names, "__builtins__", PyEval_GetBuiltins()))
    done = PyRun_String(helper_source, Py_file_input, names, names);
  if (!done) Py_CLEAR(module);
  Py_XDECREF(done);
  return module;
}

int halocline_python_open(const struct halocline_model *model, PyObject **module) {
  char python[PATH_MAX] = ""; /* "" where the model is Python itself: nothing to choose */
  promote_libpython();
  if (!Py_IsInitialized()) {
    int status = find_python(python);
    if (!status) status = start_interpreter(python);
    if (status) return status;
  }
  const char *name = getenv("HALOCLINE_PYTHON_MODULE"); /* a stand-in, for tests of the bridge alone */
  PyGILState_STATE lock = PyGILState_Ensure();
  helpers = make_helpers();
  if (helpers)
    *module = PyObject_CallMethod(helpers, "prepare", "sss", python, halocline_mpi_version(),
                                  name ? name : "halocline.run.bridge");
  int status = *module ? HALOCLINE_SUCCESS : halocline_python_exception(model, "init", 0, HALOCLINE_START, NULL);
  PyGILState_Release(lock);
  return status;
}

void halocline_python_help(const char *name) {
  PyObject *done = PyObject_CallMethod(helpers, name, NULL);
  if (!done) PyErr_Clear();
  Py_XDECREF(done);
}
