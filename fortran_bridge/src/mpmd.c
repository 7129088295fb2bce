/* Reaches emulator ranks that run beside the model in one MPI job. No Python here.
 *
 * Cells go straight between every rank of the model and the emulator ranks that own them; requests and answers go
 * through rank 0. What is observed is copied and sent while the model goes on: `lag` calls later its verdict is told.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mpmd_answer.h"
#include "mpmd_declare.h"
#include "mpmd_move.h"
#include "watchdog.h"

enum { SLACK = 15 }; /* s after which the watchdog steps in: every wait here is shorter, with a better sentence */

/* An observation under way. */
struct observation {
  int64_t sequence, step;
  struct halocline_header request; /* rank 0 sends it */
  char *cells;
  MPI_Request *requests;
  int count;
};

static struct {
  MPI_Comm joint;
  struct halocline_settings settings;
  unsigned char *mask; /* bits */
  size_t mask_bytes;
  struct halocline_moves moves;
  int64_t sequence;
  struct observation *observations; /* lag + 1 places, used in turn */
  int64_t observed, told;
} beside;

static int64_t places(void) {
  return beside.settings.lag + 1;
}

static void read_verdict(const struct halocline_frame *answer, halocline_verdict *verdict) {
  verdict->level = (int)answer->header.level;
  verdict->action = (int)answer->header.action;
  verdict->step = answer->header.step;
  snprintf(verdict->reason, sizeof verdict->reason, "%.*s", (int)sizeof verdict->reason - 1, answer->payload);
}

static int mpmd_init(struct halocline_model *model) {
  beside.joint = halocline_joint_comm();
  if (halocline_is_emulator())
    return halocline_fail(HALOCLINE_START,
                          "The program called itself '%s' in halocline_split, the name of the emulator ranks: choose "
                          "another.",
                          HALOCLINE_EMULATOR_NAME);
  size_t bytes = 0;
  struct halocline_frame answer;
  struct halocline_call call = {"init", ++beside.sequence, model->start_step, HALOCLINE_WELCOME, model->deadline};
  struct halocline_header head = halocline_header(HALOCLINE_HELLO, call.sequence, call.step);
  char *hello = model->rank == 0 ? halocline_make_hello(model, &head, &bytes) : NULL;
  if (model->rank == 0 && !hello)
    halocline_end_alone(halocline_fail(HALOCLINE_START, "No memory to greet the emulator."));
  int status = halocline_ask(model, call, head, hello, bytes, &answer);
  free(hello);
  if (status) return status;
  memcpy(&beside.settings, answer.payload, sizeof beside.settings);
  model->deadline = beside.settings.deadline;
  model->generate_deadline = beside.settings.generate_deadline;
  model->continue_on_fault = beside.settings.continue_on_fault;
  return HALOCLINE_SUCCESS;
}

/* The mask is the model's again after the call, so it is kept, as bits. */
static int mpmd_grid(struct halocline_model *model) {
  beside.mask = halocline_pack_mask(&model->grid, &beside.mask_bytes);
  if (beside.mask) return HALOCLINE_SUCCESS;
  return halocline_fail(HALOCLINE_START, "No memory for %zu bytes of the mask.", beside.mask_bytes);
}

/* Addresses are read from the model's declarations at every exchange. */
static int mpmd_field(struct halocline_model *model, struct halocline_declared_field *field) {
  (void)model, (void)field;
  return HALOCLINE_SUCCESS;
}

/* Receives which cells go where. */
static int receive_plan(const struct halocline_model *model, double expiry) {
  MPI_Status message;
  int bytes = 0;
  const int head = (int)sizeof(struct halocline_header), root = halocline_emulator_root();
  if (!halocline_wait_message(beside.joint, root, HALOCLINE_TAG_PLAN, expiry, &message))
    return halocline_fail(HALOCLINE_DEADLINE,
                          "The emulator (rank %d of all programs) sent rank %d of the model no plan within %g s.", root,
                          model->rank, model->deadline);
  MPI_Get_count(&message, MPI_BYTE, &bytes);
  int64_t *plan = malloc((size_t)bytes + 1);
  int status = HALOCLINE_SUCCESS;
  if (!plan || bytes < head || bytes % 8 || !halocline_take_message(beside.joint, &message, plan, bytes, expiry))
    status = halocline_fail(HALOCLINE_PEER, "The emulator's plan of %d bytes for rank %d of the model cannot be read.",
                            bytes, model->rank);
  if (!status)
    status = halocline_moves_read(&beside.moves, model, plan + head / 8, (bytes - head) / 8, beside.settings.longest);
  free(plan);
  return status;
}

/* Places for the observations that may be under way at once. */
static int make_places(const struct halocline_model *model) {
  beside.observations = calloc((size_t)places(), sizeof *beside.observations);
  bool made = beside.observations && (model->rank > 0 || halocline_keep_early(places()));
  for (int64_t p = 0; made && p < places(); p++) {
    struct observation *o = &beside.observations[p];
    o->cells = malloc(beside.moves.bytes + 1);
    o->requests = calloc((size_t)beside.moves.requests + 1, sizeof *o->requests);
    made = o->cells && o->requests;
  }
  if (made) return HALOCLINE_SUCCESS;
  return halocline_fail(HALOCLINE_START,
                        "Rank %d of the model has no memory for %lld observations of %zu bytes: lower observe.lag.",
                        model->rank, (long long)places(), beside.moves.bytes);
}

static int mpmd_ready(struct halocline_model *model) {
  size_t bytes;
  MPI_Request request;
  struct halocline_frame answer;
  struct halocline_call call = {"ready", ++beside.sequence, model->start_step, HALOCLINE_ACCEPT, model->deadline};
  char *said = halocline_make_declaration(model, call.sequence, beside.mask, beside.mask_bytes, &bytes);
  if (!said || bytes > INT32_MAX)
    halocline_end_alone(halocline_fail(HALOCLINE_START,
                                       "Rank %d of the model declares %zu bytes, which are more than %d or than its "
                                       "memory: use more ranks.",
                                       model->rank, bytes, INT32_MAX));
  MPI_Isend(said, (int)bytes, MPI_BYTE, halocline_emulator_root(), HALOCLINE_TAG_DECLARE, beside.joint, &request);
  int status = halocline_await(model, call, &answer);
  if (status) return status; /* what was said may still be on its way, so it stays */
  double expiry = halocline_clock() + model->deadline;
  status = receive_plan(model, expiry);
  if (status) halocline_end_alone(status);
  if (halocline_wait_all(1, &request, expiry)) free(said);
  return halocline_agree(model->comm, make_places(model));
}

/* Receives a state and fills the fields with it, on all ranks or on none. */
static int take_state(const struct halocline_model *model, int64_t sequence) {
  char *cells = malloc(beside.moves.bytes + 1);
  MPI_Request *requests = calloc((size_t)beside.moves.requests + 1, sizeof *requests);
  if (!cells || !requests)
    halocline_end_alone(
        halocline_fail(HALOCLINE_START, "No memory for %zu bytes of a generated state.", beside.moves.bytes));
  halocline_receive_cells(&beside.moves, beside.joint, cells, requests);
  if (!halocline_wait_cells(model, beside.moves.requests, requests, halocline_clock() + model->deadline))
    halocline_end_alone(
        halocline_fail(HALOCLINE_DEADLINE,
                       "Rank %d of the model waited %g s in halocline_generate for the cells of the generated state.",
                       model->rank, model->deadline));
  int status = halocline_agree(model->comm, halocline_check_cells(&beside.moves, sequence, cells));
  if (!status) halocline_fill_fields(&beside.moves, model, cells);
  free(requests);
  free(cells);
  return status;
}

static int mpmd_generate(struct halocline_model *model, halocline_verdict *verdict) {
  struct halocline_frame answer;
  struct halocline_call call = {"generate", ++beside.sequence, model->start_step, HALOCLINE_VERDICT,
                                model->generate_deadline};
  struct halocline_header head = halocline_header(HALOCLINE_GENERATE, call.sequence, call.step);
  int status = halocline_ask(model, call, head, NULL, 0, &answer);
  if (status) return status;
  halocline_watchdog_arm("generate", model->start_step, model->rank, model->deadline + SLACK);
  read_verdict(&answer, verdict);
  return verdict->action == HALOCLINE_FALL_BACK ? HALOCLINE_SUCCESS : take_state(model, call.sequence);
}

/* Copies the fields and sends them off, behind the request. */
static void send_off(const struct halocline_model *model, struct observation *o, int64_t step) {
  o->sequence = ++beside.sequence;
  o->step = step;
  o->count = beside.moves.requests;
  if (model->rank == 0) {
    o->request = halocline_header(HALOCLINE_OBSERVE, o->sequence, step);
    MPI_Isend(&o->request, sizeof o->request, MPI_BYTE, halocline_emulator_root(), HALOCLINE_TAG_REQUEST, beside.joint,
              &o->requests[o->count++]);
  }
  halocline_send_cells(&beside.moves, model, beside.joint, o->sequence, step, o->cells, o->requests);
}

/* The verdict of the oldest observation that has not been told. */
static int tell_oldest(const struct halocline_model *model, const char *verb, halocline_verdict *verdict) {
  struct halocline_frame answer;
  const struct observation *o = &beside.observations[beside.told++ % places()];
  struct halocline_call call = {verb, o->sequence, o->step, HALOCLINE_VERDICT, model->deadline};
  int status = halocline_await(model, call, &answer);
  if (!status) read_verdict(&answer, verdict);
  return status;
}

/* Frees the place of an observation. Its verdict has been told, so its messages have arrived. */
static void end_sending(const struct halocline_model *model, struct observation *o) {
  if (halocline_wait_all(o->count, o->requests, halocline_clock() + model->deadline)) return;
  halocline_end_alone(
      halocline_fail(HALOCLINE_DEADLINE,
                     "Rank %d of the model waited %g s in halocline_observe for its messages of step %lld to arrive.",
                     model->rank, model->deadline, (long long)o->step));
}

static int mpmd_observe(struct halocline_model *model, int64_t step, halocline_verdict *verdict) {
  int there;
  if (beside.settings.every <= 0 || step % beside.settings.every) {
    /* A look at the messages keeps those under way going. */
    if (beside.observed)
      MPI_Iprobe(halocline_emulator_root(), HALOCLINE_TAG_PLAN, beside.joint, &there, MPI_STATUS_IGNORE);
    return HALOCLINE_SUCCESS;
  }
  struct observation *o = &beside.observations[beside.observed % places()];
  end_sending(model, o);
  send_off(model, o, step);
  if (++beside.observed - beside.told <= beside.settings.lag) return HALOCLINE_SUCCESS;
  return tell_oldest(model, "observe", verdict);
}

/* Unjudged counts for more than ok: the model should hear of it. Among equals the first stays. */
static bool is_worse(const halocline_verdict *one, const halocline_verdict *other) {
  static const int weight[] = {
      [HALOCLINE_OK] = 1, [HALOCLINE_UNJUDGED] = 2, [HALOCLINE_SUSPECT] = 3, [HALOCLINE_REJECT] = 4};
  return other->step < 0 || weight[one->level & 3] > weight[other->level & 3];
}

/* A model that went on alone must not hang in MPI_Finalize because an emulator rank is stuck and never comes there. */
static int leave_together(MPI_Comm self, int key, void *seconds, void *extra) {
  (void)self, (void)key, (void)extra;
  if (halocline_await_farewell(*(double *)seconds)) return MPI_SUCCESS;
  halocline_fail(HALOCLINE_DEADLINE, "The model has ended, but emulator ranks do not, %g s later, after their failure.",
                 *(double *)seconds);
  halocline_abort(HALOCLINE_DEADLINE);
  return MPI_SUCCESS;
}

/* The model went on without the emulator: says farewell and leaves the wait to MPI_Finalize. */
static int leave_alone(const struct halocline_model *model) {
  static struct halocline_header farewell;
  static double seconds;
  if (model->rank > 0) return HALOCLINE_SUCCESS;
  MPI_Request request;
  farewell = halocline_header(HALOCLINE_FAREWELL, ++beside.sequence, -1);
  farewell.level = 1;
  MPI_Isend(&farewell, sizeof farewell, MPI_BYTE, halocline_emulator_root(), HALOCLINE_TAG_REQUEST, beside.joint,
            &request);
  MPI_Request_free(&request);
  int key;
  seconds = model->deadline;
  MPI_Comm_create_keyval(MPI_COMM_NULL_COPY_FN, leave_together, &key, NULL);
  MPI_Comm_set_attr(MPI_COMM_SELF, key, &seconds);
  return HALOCLINE_SUCCESS;
}

static void free_places(const struct halocline_model *model) {
  for (int64_t p = 0; beside.observations && p < places(); p++) {
    end_sending(model, &beside.observations[p]);
    free(beside.observations[p].cells);
    free(beside.observations[p].requests);
  }
  free(beside.observations);
  free(beside.mask);
  halocline_drop_early();
  halocline_moves_free(&beside.moves);
  memset(&beside, 0, sizeof beside);
}

static int mpmd_finalize(struct halocline_model *model, halocline_verdict *verdict) {
  if (model->alone) return leave_alone(model);
  while (beside.told < beside.observed) {
    halocline_verdict next = *verdict;
    halocline_watchdog_arm("finalize", model->start_step, model->rank, model->deadline + SLACK);
    int status = tell_oldest(model, "finalize", &next);
    if (status) return status;
    if (is_worse(&next, verdict)) *verdict = next;
  }
  halocline_watchdog_arm("finalize", model->start_step, model->rank, 2 * model->deadline + SLACK);
  struct halocline_frame answer;
  struct halocline_call call = {"finalize", ++beside.sequence, -1, HALOCLINE_BYE, model->deadline};
  struct halocline_header head = halocline_header(HALOCLINE_FAREWELL, call.sequence, call.step);
  int status = halocline_ask(model, call, head, NULL, 0, &answer);
  if (status) return status;
  free_places(model);
  if (verdict->step < 0) snprintf(verdict->reason, sizeof verdict->reason, "Every verdict has been told.");
  return HALOCLINE_SUCCESS;
}

const struct halocline_backend halocline_mpmd_backend = {
    .name = "mpmd",
    .slack = SLACK,
    .init = mpmd_init,
    .grid = mpmd_grid,
    .field = mpmd_field,
    .ready = mpmd_ready,
    .generate = mpmd_generate,
    .observe = mpmd_observe,
    .finalize = mpmd_finalize,
};
