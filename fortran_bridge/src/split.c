/* Divides the ranks of a job by program, by name: launchers tell programs apart in ways of their own, or not at all.
 *
 * Every rank of every program sends a record to rank 0, which compares them and lets all go. Until then nothing blocks,
 * so that a program that never comes is named when the deadline passes. */
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mpmd_link.h"

enum { TAG_RECORD = 28701, TAG_LEAVE, TEXT = 2048, MPI_TEXT = 256 };
enum { PATIENCE = 5 }; /* s that other ranks wait longer than rank 0, which knows who is missing */

/* Later versions may not change the layout of these two. */
struct record {
  int64_t magic, protocol, abi;
  char name[HALOCLINE_MAX_NAME], mpi[MPI_TEXT];
};

struct leave {
  int64_t magic, status;
  int64_t colour;          /* first rank of the same name */
  int64_t emulators, root; /* number of emulator ranks, the first of them */
  char text[TEXT];
};

static MPI_Comm joint = MPI_COMM_NULL;
static int64_t emulators, emulator_root;
static bool is_emulator;
static int sharing = 1;

MPI_Comm halocline_joint_comm(void) {
  return joint;
}

int halocline_emulator_root(void) {
  return (int)emulator_root;
}

bool halocline_is_emulator(void) {
  return is_emulator;
}

bool halocline_has_emulators(void) {
  return emulators > 0;
}

void halocline_joint(int *comm, int *sharing_cores) {
  *comm = MPI_Comm_c2f(joint);
  *sharing_cores = sharing;
}

static struct record own_record(const char *name) {
  struct record record = {
      .magic = HALOCLINE_MAGIC - HALOCLINE_PROTOCOL, .protocol = HALOCLINE_PROTOCOL, .abi = HALOCLINE_ABI};
  snprintf(record.name, sizeof record.name, "%s", name);
  snprintf(record.mpi, sizeof record.mpi, "%s", halocline_mpi_version());
  return record;
}

/* Adds to a sentence, as far as there is room. */
static void append(char *text, const char *more) {
  size_t length = strlen(text);
  snprintf(text + length, TEXT - length, "%s", more);
}

/* Names the ranks whose records are missing, as "1, 4-7". */
static void name_missing(int size, const struct record records[], char *text) {
  for (int first = 0; first < size; first++) {
    if (records[first].magic) continue;
    int last = first;
    while (last + 1 < size && !records[last + 1].magic) last++;
    char range[32];
    snprintf(range, sizeof range, last > first ? "%s%d-%d" : "%s%d", text[0] ? ", " : "", first, last);
    append(text, range);
    first = last;
  }
}

/* Names the programs that are there, as "'ocean', 'halocline'". */
static void name_programs(int size, const struct record records[], char *text) {
  for (int r = 0; r < size; r++) {
    int first = 0;
    while (first < r && strcmp(records[first].name, records[r].name)) first++;
    if (!records[r].magic || first < r) continue;
    append(text, text[0] ? ", '" : "'");
    append(text, records[r].name);
    append(text, "'");
  }
}

static void end_for_missing(int size, const struct record records[], double seconds) {
  char missing[TEXT] = "", there[TEXT] = "";
  name_missing(size, records, missing);
  name_programs(size, records, there);
  halocline_fail(HALOCLINE_DEADLINE,
                 "halocline_split: rank %s of %d did not call it within %g s; %s did. Every rank of every program of "
                 "the job must: link the other program with libhalocline and call it there, or start it apart.",
                 missing, size, seconds, there);
  halocline_abort(HALOCLINE_DEADLINE);
}

static void gather(MPI_Comm world, int size, struct record records[], double seconds) {
  MPI_Request *requests = calloc((size_t)size, sizeof *requests);
  requests[0] = MPI_REQUEST_NULL;
  for (int r = 1; r < size; r++) MPI_Irecv(&records[r], sizeof *records, MPI_BYTE, r, TAG_RECORD, world, &requests[r]);
  if (!halocline_wait_all(size, requests, halocline_clock() + seconds)) end_for_missing(size, records, seconds);
  free(requests);
}

/* What keeps a rank from working with rank 0; "" if nothing does. */
static int compare(int size, const struct record records[], char *text) {
  const struct record *mine = &records[0];
  for (int r = 1; r < size; r++) {
    const struct record *its = &records[r];
    if (its->magic != mine->magic || its->protocol != mine->protocol || its->abi != mine->abi)
      snprintf(
          text, TEXT,
          "halocline_split: rank %d ('%.63s') has interface %lld and protocol %lld, rank 0 ('%s') has %lld and %lld: "
          "link both programs with the libhalocline of one installation.",
          r, its->name, (long long)its->abi, (long long)its->protocol, mine->name, (long long)mine->abi,
          (long long)mine->protocol);
    else if (strcmp(its->mpi, mine->mpi))
      snprintf(
          text, TEXT,
          "halocline_split: rank %d ('%s') calls %s, rank 0 ('%s') %s: build both programs, and mpi4py, with one MPI "
          "library.",
          r, its->name, its->mpi, mine->name, mine->mpi);
    if (text[0]) return HALOCLINE_START;
  }
  return HALOCLINE_SUCCESS;
}

static void let_go(MPI_Comm world, int size, const struct record records[], struct leave *own) {
  struct leave *leaves = calloc((size_t)size, sizeof *leaves);
  MPI_Request *requests = calloc((size_t)size, sizeof *requests);
  requests[0] = MPI_REQUEST_NULL;
  leaves[0].status = compare(size, records, leaves[0].text);
  for (int r = size - 1; r >= 0; r--)
    if (!strcmp(records[r].name, HALOCLINE_EMULATOR_NAME)) leaves[0].emulators++, leaves[0].root = r;
  for (int r = 0; r < size; r++) {
    leaves[r] = leaves[0];
    leaves[r].magic = records[0].magic;
    /* Ranks of one name mostly stand beside each other, so the look back is short. */
    leaves[r].colour = r;
    for (int c = r - 1; c >= 0; c--)
      if (!strcmp(records[c].name, records[r].name)) {
        leaves[r].colour = leaves[c].colour;
        break;
      }
    if (r > 0) MPI_Isend(&leaves[r], sizeof *leaves, MPI_BYTE, r, TAG_LEAVE, world, &requests[r]);
  }
  *own = leaves[0];
  if (!halocline_wait_all(size, requests, halocline_clock() + PATIENCE)) {
    halocline_fail(HALOCLINE_DEADLINE, "halocline_split: a rank does not take the answer of rank 0.");
    halocline_abort(HALOCLINE_DEADLINE);
  }
  free(requests);
  free(leaves);
}

static void ask_leave(MPI_Comm world, const struct record *record, double seconds, struct leave *leave) {
  MPI_Request requests[2];
  MPI_Irecv(leave, sizeof *leave, MPI_BYTE, 0, TAG_LEAVE, world, &requests[0]);
  MPI_Isend(record, sizeof *record, MPI_BYTE, 0, TAG_RECORD, world, &requests[1]);
  if (halocline_wait_all(2, requests, halocline_clock() + seconds + PATIENCE)) return;
  halocline_fail(HALOCLINE_DEADLINE,
                 "halocline_split: rank 0 did not answer '%s' within %g s: it has not called halocline_split, or still "
                 "waits for others. Every rank of every program of the job must call it.",
                 record->name, seconds + PATIENCE);
  halocline_abort(HALOCLINE_DEADLINE);
}

/* Ranks of this node, whatever their program, that may run on the same cores as this one. */
static int count_sharing(MPI_Comm world) {
#ifdef __linux__
  MPI_Comm node;
  int size, same = 0;
  cpu_set_t own, *all;
  MPI_Comm_split_type(world, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &node);
  MPI_Comm_size(node, &size);
  CPU_ZERO(&own);
  sched_getaffinity(0, sizeof own, &own);
  all = calloc((size_t)size, sizeof *all);
  MPI_Allgather(&own, sizeof own, MPI_BYTE, all, sizeof own, MPI_BYTE, node);
  for (int r = 0; r < size; r++) same += CPU_EQUAL(&own, &all[r]) != 0;
  free(all);
  MPI_Comm_free(&node);
  return same;
#else
  (void)world;
  return 1;
#endif
}

static int handshake(MPI_Comm world, const char *name, struct leave *leave) {
  double seconds;
  int rank, size, status = halocline_start_deadline(&seconds);
  if (status) return status;
  MPI_Comm_rank(world, &rank);
  MPI_Comm_size(world, &size);
  struct record record = own_record(name);
  if (rank == 0) {
    struct record *records = calloc((size_t)size, sizeof *records);
    records[0] = record;
    gather(world, size, records, seconds);
    let_go(world, size, records, leave);
    free(records);
  } else {
    ask_leave(world, &record, seconds, leave);
  }
  if (!leave->status) return HALOCLINE_SUCCESS;
  leave->text[TEXT - 1] = 0;
  return halocline_fail((int)leave->status, "%s", leave->text);
}

int halocline_split_world(MPI_Comm world, const char *name, MPI_Comm *model) {
  struct leave leave = {0};
  int rank, status = handshake(world, name, &leave);
  if (status) return status;
  /* All ranks are here: from now on collectives may block, under the watchdog. */
  MPI_Comm_rank(world, &rank);
  MPI_Comm_split(world, (int)leave.colour, rank, model);
  MPI_Comm_dup(world, &joint);
  sharing = count_sharing(world);
  emulators = leave.emulators;
  emulator_root = leave.root;
  is_emulator = !strcmp(name, HALOCLINE_EMULATOR_NAME);
  return HALOCLINE_SUCCESS;
}
