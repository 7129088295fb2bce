#include "mpmd_answer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* s that the ranks of the model wait longer for each other than rank 0 for the emulator; in the end, at most. */
enum { PATIENCE = 10, SHORT_PATIENCE = 2 };

static struct halocline_frame *early; /* rank 0: verdicts that came before they were asked for; sequence 0: free */
static int64_t early_places;
static bool gave_up; /* the emulator has been told of a failure of ours */

bool halocline_keep_early(int64_t count) {
  early = calloc((size_t)count, sizeof *early);
  early_places = early ? count : 0;
  return early;
}

void halocline_drop_early(void) {
  free(early);
  early = NULL;
  early_places = 0;
}

static void make_fault(struct halocline_frame *frame, int status, const char *text) {
  frame->header = halocline_header(HALOCLINE_FAULT, 0, -1);
  frame->header.status = status;
  snprintf(frame->payload, sizeof frame->payload, "%s", text);
  frame->header.bytes = (int64_t)strlen(frame->payload);
}

/* Tells the emulator that this side has failed, so that it does not wait for it. Nobody waits for this message, so it
 * is short and stays where it is. */
static void give_up(int status, const char *text) {
  enum { SHORT = 512 };
  static struct halocline_frame last;
  if (gave_up) return;
  gave_up = true;
  make_fault(&last, status, text);
  if (last.header.bytes > SHORT) last.header.bytes = SHORT;
  MPI_Request request;
  MPI_Isend(&last, (int)sizeof last.header + (int)last.header.bytes, MPI_BYTE, halocline_emulator_root(),
            HALOCLINE_TAG_REQUEST, halocline_joint_comm(), &request);
  MPI_Request_free(&request);
}

void halocline_end_alone(int status) {
  give_up(status, halocline_message());
  halocline_abort(status);
}

static bool take_frame(const MPI_Status *message, double expiry, struct halocline_frame *frame) {
  int bytes = 0;
  MPI_Get_count(message, MPI_BYTE, &bytes);
  if (bytes < (int)sizeof frame->header || bytes >= (int)sizeof *frame) return false;
  if (!halocline_take_message(halocline_joint_comm(), message, frame, bytes, expiry)) return false;
  frame->payload[bytes - (int)sizeof frame->header] = 0;
  return frame->header.magic == HALOCLINE_MAGIC;
}

/* A failure that rank 0 finds itself, as if the emulator had told it. */
static void fail_for(struct halocline_frame *answer, int status, const char *text) {
  make_fault(answer, status, text);
  give_up(status, text);
}

static int fault_status(const struct halocline_frame *fault) {
  int64_t status = fault->header.status;
  return status < HALOCLINE_USAGE || status > HALOCLINE_DEADLINE ? HALOCLINE_PEER : (int)status;
}

/* Rank 0: the next frame of the emulator, or a fault. */
static void receive_frame(const struct halocline_call *call, double expiry, struct halocline_frame *frame) {
  char text[512];
  MPI_Status message;
  MPI_Comm joint = halocline_joint_comm();
  if (!halocline_wait_message(joint, MPI_ANY_SOURCE, HALOCLINE_TAG_ANSWER, expiry, &message)) {
    snprintf(text, sizeof text,
             "No answer from the emulator (rank %d of all programs) to halocline_%s, step %lld, within %g s: look at "
             "what its ranks printed; if it only takes long, raise the deadline in the configuration.",
             halocline_emulator_root(), call->verb, (long long)call->step, call->seconds);
    fail_for(frame, HALOCLINE_DEADLINE, text);
  } else if (!take_frame(&message, expiry, frame)) {
    snprintf(text, sizeof text,
             "Rank %d of all programs, an emulator, answered halocline_%s, step %lld, with a message that cannot be "
             "read: is it of the same version?",
             message.MPI_SOURCE, call->verb, (long long)call->step);
    fail_for(frame, HALOCLINE_PEER, text);
  }
}

static bool find_early(const struct halocline_call *call, struct halocline_frame *answer) {
  for (int64_t p = 0; p < early_places; p++)
    if (call->answer == HALOCLINE_VERDICT && early[p].header.sequence == call->sequence) {
      *answer = early[p];
      early[p].header.sequence = 0;
      return true;
    }
  return false;
}

static bool put_aside(const struct halocline_frame *answer) {
  if (answer->header.kind != HALOCLINE_VERDICT) return false;
  for (int64_t p = 0; p < early_places; p++)
    if (!early[p].header.sequence) {
      early[p] = *answer;
      return true;
    }
  return false;
}

/* Rank 0: the answer that is asked for, or a fault. */
static void receive_answer(const struct halocline_call *call, struct halocline_frame *answer) {
  const double expiry = halocline_clock() + call->seconds;
  const struct halocline_header *head = &answer->header;
  if (find_early(call, answer)) return;
  do {
    receive_frame(call, expiry, answer);
    if (head->kind == HALOCLINE_FAULT) return;
    if (head->kind == call->answer && head->sequence == call->sequence) return;
  } while (put_aside(answer));
  char text[256];
  snprintf(text, sizeof text,
           "The emulator answered halocline_%s, step %lld, with message %lld of kind %lld, expected message %lld of "
           "kind %d.",
           call->verb, (long long)call->step, (long long)head->sequence, (long long)head->kind,
           (long long)call->sequence, call->answer);
  fail_for(answer, HALOCLINE_PEER, text);
}

/* All ranks get what rank 0 has. If that is a fault after which the model ends, rank 0 does not wait long for ranks
 * that may never come. */
static void share(const struct halocline_model *model, const struct halocline_call *call,
                  struct halocline_frame *answer) {
  MPI_Request request;
  MPI_Ibcast(answer, sizeof *answer, MPI_BYTE, 0, model->comm, &request);
  const bool ends = model->rank == 0 && answer->header.kind == HALOCLINE_FAULT && !model->continue_on_fault;
  const double seconds = ends ? SHORT_PATIENCE : call->seconds + PATIENCE;
  if (halocline_wait_all(1, &request, halocline_clock() + seconds)) return;
  if (ends) {
    halocline_fail(fault_status(answer), "%s", answer->payload);
    halocline_abort(fault_status(answer));
  }
  halocline_fail(HALOCLINE_DEADLINE,
                 "Rank %d of the model waited %g s in halocline_%s, step %lld, for other ranks of the model.",
                 model->rank, seconds, call->verb, (long long)call->step);
  halocline_end_alone(HALOCLINE_DEADLINE);
}

int halocline_await(const struct halocline_model *model, struct halocline_call call, struct halocline_frame *answer) {
  if (model->rank == 0) receive_answer(&call, answer);
  share(model, &call, answer);
  if (answer->header.kind != HALOCLINE_FAULT) return HALOCLINE_SUCCESS;
  return halocline_fail(fault_status(answer), "%s", answer->payload);
}

/* Rank 0: ends the job if the emulator has told of a failure. */
static void hear_fault(void) {
  static struct halocline_frame frame;
  int there;
  MPI_Status message;
  MPI_Iprobe(MPI_ANY_SOURCE, HALOCLINE_TAG_ANSWER, halocline_joint_comm(), &there, &message);
  if (!there || !take_frame(&message, halocline_clock() + SHORT_PATIENCE, &frame) || put_aside(&frame)) return;
  if (frame.header.kind == HALOCLINE_FAULT) {
    halocline_fail(fault_status(&frame), "%s", frame.payload);
    halocline_abort(fault_status(&frame));
  }
}

bool halocline_wait_cells(const struct halocline_model *model, int count, MPI_Request requests[], double expiry) {
  const double look_every = 0.2; /* s */
  while (!halocline_wait_all(count, requests, fmin(expiry, halocline_clock() + look_every))) {
    if (model->rank == 0) hear_fault();
    if (halocline_clock() > expiry) return false;
  }
  return true;
}

int halocline_ask(const struct halocline_model *model, struct halocline_call call, struct halocline_header head,
                  const void *payload, size_t bytes, struct halocline_frame *answer) {
  char *frame = NULL; /* stays after a failure: the message may still be on its way */
  MPI_Request request = MPI_REQUEST_NULL;
  if (model->rank == 0 && (frame = malloc(sizeof head + bytes))) {
    head.bytes = (int64_t)bytes;
    memcpy(frame, &head, sizeof head);
    if (bytes) memcpy(frame + sizeof head, payload, bytes);
    MPI_Isend(frame, (int)(sizeof head + bytes), MPI_BYTE, halocline_emulator_root(), HALOCLINE_TAG_REQUEST,
              halocline_joint_comm(), &request);
  }
  int status = halocline_await(model, call, answer);
  if (!status && halocline_wait_all(1, &request, halocline_clock() + call.seconds)) free(frame);
  return status;
}

bool halocline_await_farewell(double seconds) {
  static struct halocline_frame frame;
  const double expiry = halocline_clock() + seconds;
  MPI_Status message;
  while (halocline_wait_message(halocline_joint_comm(), MPI_ANY_SOURCE, HALOCLINE_TAG_ANSWER, expiry, &message))
    if (take_frame(&message, expiry, &frame) && frame.header.kind == HALOCLINE_BYE) return true;
  return false;
}
