/* Entry points of the compiled kernels. Plain C; nothing here knows of Python, MPI or the ocean. */
#ifndef HALOCLINE_KERNELS_H
#define HALOCLINE_KERNELS_H

#include <stdint.h>

/* One machine file for all x86-64 processors: the loader picks the widest version that runs. Every version computes the
 * same bits, because nothing is contracted or reassociated. Elsewhere the compiler's default target is used. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && defined(__gnu_linux__)
#define ANY_WIDTH __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define ANY_WIDTH
#endif

/* Philox4x32 with ten rounds: the four output words replace the counter. */
void philox4x32(uint32_t counter[4], const uint32_t key[2]);

/* Normal values keyed by (seed, member; cell, forecast step, solver step, channel / 4).
 * out is [member][tile][channel][cell]; cells is [tile][cell], negative where the value shall be 0. */
void normal_fill(float *out, const int64_t *cells, int64_t members, int64_t tiles, int64_t channels, int64_t size,
                 uint32_t seed, const uint32_t *member, uint32_t forecast_step, uint32_t solver_step);

/* A run is a piece of a row that moves as a whole: (first target, first source, length, kind). */
enum { RUN_TARGET, RUN_SOURCE, RUN_LENGTH, RUN_KIND, RUN_COLUMNS };
enum { KIND_REVERSED = 1, KIND_FLIPPED = 2, KIND_ZERO = 4 };
/* A channel: (offset in the target, offset in the source, sign taken where a run is flipped). */
enum { CHANNEL_TARGET, CHANNEL_SOURCE, CHANNEL_SIGN, CHANNEL_COLUMNS };
/* A group applies its runs to each of its channels and members. A base counts values per member of what lies before. */
enum {
  GROUP_RUN_FIRST, GROUP_RUN_LAST, GROUP_CHANNEL_FIRST, GROUP_CHANNEL_LAST, GROUP_TARGET_BASE, GROUP_TARGET_STRIDE,
  GROUP_SOURCE_BASE, GROUP_SOURCE_STRIDE, GROUP_ORIGIN, GROUP_COLUMNS
};

struct moves {
  const int64_t *groups;   /* [group_count][GROUP_COLUMNS] */
  const int64_t *channels; /* [.][CHANNEL_COLUMNS] */
  const int32_t *runs;     /* [.][RUN_COLUMNS] */
  int64_t group_count;
};

/* Moves values from the sources into target, group after group; adds instead of writing if `add`. */
void move_float(float *target, const float *const sources[2], const struct moves *moves, int64_t members, int add);
void move_double(double *target, const double *const sources[2], const struct moves *moves, int64_t members, int add);

#endif
