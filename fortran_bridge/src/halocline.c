/* The verbs: order, threads and arguments are checked here, once for every way to reach the emulator. */
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend.h"
#include "declaration.h"
#include "failure.h"
#include "guard.h"
#include "watchdog.h"

/* How far the model has come; bits, so that a verb can name all phases in which it may be called. */
enum phase { FRESH = 1, DIVIDED = 2, ATTACHED = 4, PLACED = 8, READY = 16, ENDED = 32 };

enum verb { SPLIT, INIT, GRID, FIELD, MAKE_READY, GENERATE, OBSERVE, FINALIZE };

static const struct {
  const char *name;
  int phases;
} verbs[] = {
  [SPLIT] = {"split", FRESH},
  [INIT] = {"init", FRESH | DIVIDED},
  [GRID] = {"grid", ATTACHED},
  [FIELD] = {"field", PLACED | READY},
  [MAKE_READY] = {"ready", PLACED},
  [GENERATE] = {"generate", READY},
  [OBSERVE] = {"observe", READY},
  [FINALIZE] = {"finalize", ATTACHED | PLACED | READY},
};

static struct halocline_model model;
static const struct halocline_backend *backend;
static enum phase phase = FRESH;
static pthread_t owner;          /* the thread of the first call */
static int (*in_parallel)(void); /* omp_in_parallel, if the model has OpenMP */
static int64_t stop_told_at;     /* step of the verdict that asked the model to stop */
static bool stop_told;

static const char *phase_text(void) {
  switch (phase) {
    case FRESH: return "before halocline_init";
    case DIVIDED: return "after halocline_split";
    case ATTACHED: return "after halocline_init";
    case PLACED: return "after halocline_grid";
    case READY: return "after halocline_ready";
    default: return "after halocline_finalize";
  }
}

/* First call: who may call from now on. Nothing is refused if MPI is not there yet: the caller says so. */
static int remember_caller(enum verb verb) {
  int initialized, finalized, main_thread = 0;
  MPI_Initialized(&initialized);
  MPI_Finalized(&finalized);
  if (!initialized || finalized)
    return halocline_fail(
        HALOCLINE_USAGE,
        "halocline_%s was called %s: the model initialises MPI, then calls Halocline, then finalises MPI.",
        verbs[verb].name, finalized ? "after MPI_Finalize" : "before MPI_Init");
  MPI_Is_thread_main(&main_thread);
  if (!main_thread)
    return halocline_fail(HALOCLINE_USAGE,
                          "halocline_%s was called from another thread than the one that initialised MPI.",
                          verbs[verb].name);
  owner = pthread_self();
  void *symbol = dlsym(RTLD_DEFAULT, "omp_in_parallel");
  memcpy(&in_parallel, &symbol, sizeof symbol); /* ISO C has no cast from an object's to a function's address */
  halocline_set_open(false);
  double seconds;
  int status = halocline_start_deadline(&seconds);
  if (status) return status;
  model.deadline = model.generate_deadline = seconds;
  int error = halocline_watchdog_start();
  return error ? halocline_fail(HALOCLINE_START, "The thread that watches deadlines cannot be started: %s.",
                                strerror(error))
               : HALOCLINE_SUCCESS;
}

static int check_caller(enum verb verb) {
  if (in_parallel && in_parallel())
    return halocline_fail(HALOCLINE_USAGE,
                          "halocline_%s was called inside an OpenMP parallel region: call it outside, from the thread "
                          "that initialised MPI.",
                          verbs[verb].name);
  if (!pthread_equal(pthread_self(), owner))
    return halocline_fail(HALOCLINE_USAGE,
                          "halocline_%s was called from another thread than the verbs before: call all from the thread "
                          "that initialised MPI.",
                          verbs[verb].name);
  if (!(verbs[verb].phases & phase))
    return halocline_fail(
        HALOCLINE_USAGE,
        "halocline_%s was called %s. The order is split (with emulator ranks only), init, grid, field "
        "for each field, ready, then generate and observe as often as wanted, finalize.",
        verbs[verb].name, phase_text());
  return HALOCLINE_SUCCESS;
}

/* Every verb begins here. A refused one changes nothing. */
static int enter(enum verb verb, int64_t step, double seconds, fenv_t *host) {
  static bool known;
  halocline_check_answered(verbs[verb].name);
  int status = HALOCLINE_SUCCESS;
  if (!known) status = remember_caller(verb);
  known = known || !status;
  if (!status) status = check_caller(verb);
  if (status) return halocline_answer(status);
  /* Waits for emulator ranks have deadlines of their own, with better messages. */
  bool apart = verb == SPLIT || halocline_has_emulators();
  double slack = backend ? backend->slack : apart ? 10 : 0;
  halocline_watchdog_arm(verbs[verb].name, step, model.rank, (seconds > 0 ? seconds : model.deadline) + slack);
  halocline_guard_enter(host);
  return HALOCLINE_SUCCESS;
}

/* ... and ends here. */
static int leave(int status, const fenv_t *host) {
  halocline_guard_leave(host);
  halocline_watchdog_disarm();
  return halocline_answer(status);
}

int halocline_start_deadline(double *seconds) {
  const char *text = getenv("HALOCLINE_START_DEADLINE");
  char *end = NULL;
  *seconds = text ? strtod(text, &end) : 300.0;
  if (text && (end == text || *end || !(*seconds > 0 && *seconds < 1e9)))
    return halocline_fail(
        HALOCLINE_START,
        "The environment variable HALOCLINE_START_DEADLINE is '%s', expected a number of seconds above 0.", text);
  return HALOCLINE_SUCCESS;
}

int halocline_split(int world, const char *name, int *divided) {
  fenv_t host;
  int status = enter(SPLIT, 0, 0, &host);
  if (status) return status;
  MPI_Comm all = MPI_Comm_f2c(world), part = MPI_COMM_NULL;
  if (all == MPI_COMM_NULL || !divided)
    status = halocline_fail(HALOCLINE_USAGE, "halocline_split got no communicator, or no place for the model's.");
  else if (!name || !name[0] || strlen(name) >= HALOCLINE_MAX_NAME)
    status = halocline_fail(HALOCLINE_USAGE, "halocline_split got the name '%s', expected 1 to %d characters.",
                            name ? name : "", HALOCLINE_MAX_NAME - 1);
  else
    status = halocline_split_world(all, name, &part);
  if (!status) {
    *divided = MPI_Comm_c2f(part);
    phase = DIVIDED;
  }
  return leave(status, &host);
}

/* The whole file, for the rank that may have to show it to the other side. */
static int read_configuration(void) {
  FILE *file = fopen(model.config, "rb");
  if (!file)
    return halocline_fail(HALOCLINE_START, "Configuration %s cannot be opened: %s.", model.config, strerror(errno));
  enum { MOST = 1 << 20 };
  char *text = calloc(MOST + 1, 1);
  size_t length = text ? fread(text, 1, MOST + 1, file) : 0;
  bool bad = !text || ferror(file) || length > MOST;
  fclose(file);
  if (bad) {
    free(text);
    return halocline_fail(HALOCLINE_START, "Configuration %s cannot be read, or is longer than %d bytes.", model.config,
                          MOST);
  }
  model.config_text = text;
  return HALOCLINE_SUCCESS;
}

static int attach(int communicator, const char *config) {
  MPI_Comm comm = MPI_Comm_f2c(communicator);
  if (comm == MPI_COMM_NULL || !config || !config[0])
    return halocline_fail(HALOCLINE_USAGE,
                          "halocline_init got no communicator, or no configuration: give the Fortran handle "
                          "of the model's communicator and the path of a YAML file.");
  MPI_Comm_dup(comm, &model.comm);
  MPI_Comm_rank(model.comm, &model.rank);
  MPI_Comm_size(model.comm, &model.size);
  halocline_set_rank(model.rank);
  halocline_set_open(true);
  model.config = strdup(config);
  int status = model.rank == 0 ? read_configuration() : HALOCLINE_SUCCESS;
  if (halocline_has_emulators())
    backend = &halocline_mpmd_backend;
  else if (!status)
    status = halocline_inprocess_open(&backend);
  status = halocline_agree(model.comm, status);
  return status ? status : backend->init(&model);
}

int halocline_init(int communicator, const char *config) {
  fenv_t host;
  int status = enter(INIT, 0, 0, &host);
  if (status) return status;
  status = attach(communicator, config);
  if (!status) phase = ATTACHED;
  return leave(status, &host);
}

int halocline_grid(int ni, int nj, int nk, int i0, int j0, int nx, int ny, const double *mask,
                   const int64_t stride[3]) {
  fenv_t host;
  int status = enter(GRID, 0, 0, &host);
  if (status) return status;
  struct halocline_declared_grid *g = &model.grid;
  *g = (struct halocline_declared_grid){ni, nj, nk, i0, j0, nx, ny, nx ? mask : NULL, {0, 0, 0}};
  if (g->mask && !stride) status = halocline_fail(HALOCLINE_USAGE, "halocline_grid got no strides of the mask.");
  if (!status && g->mask) memcpy(g->stride, stride, sizeof g->stride);
  if (!status) status = halocline_check_grid(g);
  if (!status) status = backend->grid(&model);
  g->mask = NULL;
  if (!status) phase = PLACED;
  return leave(status, &host);
}

int halocline_field(const char *name, const char *point, const char *unit, int bytes, int levels, void *data,
                    const int64_t stride[3]) {
  fenv_t host;
  int status = enter(FIELD, 0, 0, &host);
  if (status) return status;
  struct halocline_declared_field *kept, given = {.bytes = bytes, .levels = levels};
  if (model.grid.nx) given.data = data;
  status = halocline_check_text("name", name);
  if (!status) status = halocline_check_text("point", point);
  if (!status) status = halocline_check_text("unit", unit);
  if (!status && given.data && !stride) status = halocline_fail(HALOCLINE_USAGE, "Field %s got no strides.", name);
  if (!status) {
    strcpy(given.name, name), strcpy(given.point, point), strcpy(given.unit, unit);
    if (given.data) memcpy(given.stride, stride, sizeof given.stride);
    status = halocline_keep_field(&model, &given, phase == PLACED, &kept);
  }
  if (!status && !model.alone) status = backend->field(&model, kept);
  return leave(status, &host);
}

static int make_ready(const char *calendar, double time_step, int64_t step, int date) {
  if (!model.field_count)
    return halocline_fail(HALOCLINE_USAGE, "halocline_ready was called without a field: register some.");
  if (!calendar || !calendar[0] || !(time_step > 0 && time_step < 1e9))
    return halocline_fail(HALOCLINE_USAGE,
                          "halocline_ready got the calendar '%s' and a time step of %g s, expected a name and "
                          "a number above 0.",
                          calendar ? calendar : "", time_step);
  model.calendar = strdup(calendar);
  model.time_step = time_step;
  model.start_step = step;
  model.start_date = date;
  return backend->ready(&model);
}

int halocline_ready(const char *calendar, double time_step, int64_t step, int date) {
  fenv_t host;
  int status = enter(MAKE_READY, step, 0, &host);
  if (status) return status;
  status = make_ready(calendar, time_step, step, date);
  if (!status) phase = READY;
  return leave(status, &host);
}

static void clear(halocline_verdict *verdict) {
  verdict->level = HALOCLINE_UNJUDGED;
  verdict->action = HALOCLINE_GO_ON;
  verdict->step = -1;
  verdict->reason[0] = 0;
}

/* A fault after which the model goes on alone, if the user wants that. `action`: what the model does instead. */
static int settle(int status, int action, halocline_verdict *verdict) {
  bool fault = status == HALOCLINE_EXCEPTION || status == HALOCLINE_PEER || status == HALOCLINE_DEADLINE;
  if (!fault || !model.continue_on_fault) return status;
  if (!model.alone && model.rank == 0)
    fprintf(stderr, "halocline: rank 0: The model goes on alone (on_fault: continue) after a failure (%s): %s\n",
            halocline_status_name(status), halocline_message());
  model.alone = true;
  clear(verdict);
  verdict->action = action;
  snprintf(verdict->reason, sizeof verdict->reason, "%s", halocline_message());
  return HALOCLINE_SUCCESS;
}

/* What the model may not overlook. `given`: the model's own place for the verdict, or NULL. */
static void insist(const char *verb, const halocline_verdict *verdict, const halocline_verdict *given) {
  if (verdict->action == HALOCLINE_STOP && !stop_told) {
    stop_told = true;
    stop_told_at = verdict->step;
  }
  if (verdict->action == HALOCLINE_GO_ON || given) return;
  halocline_fail(
      HALOCLINE_USAGE,
      "halocline_%s was called without a verdict, but the policy asks the model to %s at step %lld: %s Give a "
      "halocline_verdict and do what its action says.",
      verb, verdict->action == HALOCLINE_STOP ? "stop" : "fall back", (long long)verdict->step, verdict->reason);
  halocline_abort(HALOCLINE_USAGE);
}

int halocline_generate(halocline_verdict *given) {
  fenv_t host;
  int status = enter(GENERATE, model.start_step, model.generate_deadline, &host);
  if (status) return status;
  halocline_verdict own, *verdict = given ? given : &own;
  clear(verdict);
  if (model.alone)
    verdict->action = HALOCLINE_FALL_BACK;
  else
    status = settle(backend->generate(&model, verdict), HALOCLINE_FALL_BACK, verdict);
  if (!status) insist("generate", verdict, given);
  return leave(status, &host);
}

int halocline_observe(int64_t step, halocline_verdict *given) {
  fenv_t host;
  int status = enter(OBSERVE, step, 0, &host);
  if (status) return status;
  if (stop_told) {
    halocline_fail(
        HALOCLINE_USAGE,
        "The model was asked to stop by the verdict of step %lld, and went on to step %lld: write a restart and end.",
        (long long)stop_told_at, (long long)step);
    halocline_abort(HALOCLINE_USAGE);
  }
  halocline_verdict own, *verdict = given ? given : &own;
  clear(verdict);
  if (!model.alone) status = settle(backend->observe(&model, step, verdict), HALOCLINE_GO_ON, verdict);
  if (!status) insist("observe", verdict, given);
  return leave(status, &host);
}

int halocline_finalize(halocline_verdict *given) {
  fenv_t host;
  int status = enter(FINALIZE, model.start_step, 0, &host);
  if (status) return status;
  halocline_verdict own, *verdict = given ? given : &own;
  clear(verdict);
  status = settle(backend->finalize(&model, verdict), HALOCLINE_GO_ON, verdict);
  if (!status) {
    phase = ENDED;
    halocline_set_open(false);
    MPI_Comm_free(&model.comm);
    free(model.config), free(model.config_text), free((char *)model.calendar);
    model.config = model.config_text = NULL, model.calendar = NULL;
  }
  return leave(status, &host);
}

const char *halocline_version(void) {
  return HALOCLINE_VERSION;
}

const char *halocline_mpi_version(void) {
  static char text[MPI_MAX_LIBRARY_VERSION_STRING];
  int length;
  MPI_Get_library_version(text, &length);
  return text;
}
