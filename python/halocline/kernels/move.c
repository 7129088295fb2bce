/* Moves runs of values between tiles, windows and message buffers: the inner loops of the halo exchange.
 *
 * Rims are short (a few cells) along i and long along j, so a run is copied with a fixed length where it is short: the
 * compiler then emits one or two vector instructions instead of a call. */
#include <string.h>

#include "kernels.h"

#define COPY_CASE(N) \
  case N:            \
    memcpy(target, source, N * sizeof *target); \
    break;

#define DEFINE_MOVE(REAL, NAME)                                                                                    \
  static inline void copy_##NAME(REAL *restrict target, const REAL *restrict source, int64_t length) {             \
    switch (length) {                                                                                              \
      COPY_CASE(1) COPY_CASE(2) COPY_CASE(3) COPY_CASE(4) COPY_CASE(5) COPY_CASE(6) COPY_CASE(8) COPY_CASE(16)     \
      default:                                                                                                     \
        memcpy(target, source, (size_t)length * sizeof *target);                                                   \
    }                                                                                                              \
  }                                                                                                                \
                                                                                                                   \
  static inline void signed_##NAME(REAL *restrict target, const REAL *restrict source, int64_t length,             \
                                   int64_t step, REAL sign, int add) {                                             \
    if (add)                                                                                                       \
      for (int64_t k = 0; k < length; k++) target[k] += sign * source[k * step];                                   \
    else                                                                                                           \
      for (int64_t k = 0; k < length; k++) target[k] = sign * source[k * step];                                    \
  }                                                                                                                \
                                                                                                                   \
  static inline void run_##NAME(REAL *target, const REAL *source, const int32_t *run, REAL sign, int add) {        \
    const int kind = run[RUN_KIND];                                                                                \
    target += run[RUN_TARGET];                                                                                     \
    if (kind & KIND_ZERO) {                                                                                        \
      memset(target, 0, (size_t)run[RUN_LENGTH] * sizeof *target);                                                 \
      return;                                                                                                      \
    }                                                                                                              \
    source += run[RUN_SOURCE];                                                                                     \
    if (kind == 0 && !add)                                                                                         \
      copy_##NAME(target, source, run[RUN_LENGTH]);                                                                \
    else                                                                                                           \
      signed_##NAME(target, source, run[RUN_LENGTH], kind & KIND_REVERSED ? -1 : 1,                                \
                    kind & KIND_FLIPPED ? sign : (REAL)1, add);                                                    \
  }                                                                                                                \
                                                                                                                   \
  void move_##NAME(REAL *target, const REAL *const sources[2], const struct moves *moves, int64_t members,         \
                   int add) {                                                                                      \
    for (int64_t g = 0; g < moves->group_count; g++) {                                                             \
      const int64_t *group = moves->groups + g * GROUP_COLUMNS;                                                    \
      for (int64_t m = 0; m < members; m++) {                                                                      \
        REAL *to = target + members * group[GROUP_TARGET_BASE] + m * group[GROUP_TARGET_STRIDE];                   \
        const REAL *from = sources[group[GROUP_ORIGIN]] + members * group[GROUP_SOURCE_BASE] +                     \
                           m * group[GROUP_SOURCE_STRIDE];                                                         \
        for (int64_t c = group[GROUP_CHANNEL_FIRST]; c < group[GROUP_CHANNEL_LAST]; c++) {                         \
          const int64_t *channel = moves->channels + c * CHANNEL_COLUMNS;                                          \
          for (int64_t r = group[GROUP_RUN_FIRST]; r < group[GROUP_RUN_LAST]; r++)                                 \
            run_##NAME(to + channel[CHANNEL_TARGET], from + channel[CHANNEL_SOURCE],                               \
                       moves->runs + r * RUN_COLUMNS, (REAL)channel[CHANNEL_SIGN], add);                           \
        }                                                                                                          \
      }                                                                                                            \
    }                                                                                                              \
  }

DEFINE_MOVE(float, float)
DEFINE_MOVE(double, double)
