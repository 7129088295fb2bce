/* The words on a test host's command line, and what is not portable in its set-up. */
#ifndef HOST_WORDS_H
#define HOST_WORDS_H

#include <stdbool.h>
#include <string.h>
#ifdef __SSE__
#include <xmmintrin.h>
#endif

static int word_count;
static char **words;
static const char *const words_long =
    "a unit that is a good deal longer than what fits into the sixty-three characters of a name";

static inline void words_are(int argc, char **argv) {
  word_count = argc;
  words = argv;
}

static inline bool wants(const char *word) {
  for (int w = 3; w < word_count; w++)
    if (!strcmp(words[w], word)) return true;
  return false;
}

#ifdef __SSE__
static inline void flush_small_numbers(void) {
  _MM_SET_FLUSH_ZERO_MODE(_MM_FLUSH_ZERO_ON);
}
static inline bool flushes(void) {
  return _MM_GET_FLUSH_ZERO_MODE() == _MM_FLUSH_ZERO_ON;
}
#else
static inline void flush_small_numbers(void) {
}
static inline bool flushes(void) {
  return true;
}
#endif

#endif
