/* Keyed normal values: Philox4x32-10 and the Box-Muller transform, written so that compilers vectorise every loop.
 *
 * Philox: Salmon et al., 2011, Parallel random numbers: as easy as 1, 2, 3.
 * The polynomials are near-minimax fits made for this file (Lawson's method in float64); their errors, relative for the
 * logarithm and absolute for sine and cosine, are below 6e-9, a tenth of a unit in the last place of float32. */
#include <math.h>
#include <string.h>

#include "kernels.h"

enum { BLOCK = 256 }; /* cells worked on at once: nine arrays of this length stay in the first-level cache */

#define LOCAL static inline __attribute__((always_inline))

LOCAL void philox_block(uint32_t *restrict c0, uint32_t *restrict c1, uint32_t *restrict c2, uint32_t *restrict c3,
                        uint32_t key0, uint32_t key1, int64_t size) {
  for (int64_t k = 0; k < size; k++) {
    uint32_t a = c0[k], b = c1[k], c = c2[k], d = c3[k], s = key0, t = key1;
    for (int round = 0; round < 10; round++) {
      const uint64_t p = (uint64_t)0xD2511F53u * a, q = (uint64_t)0xCD9E8D57u * c;
      a = (uint32_t)(q >> 32) ^ b ^ s;
      c = (uint32_t)(p >> 32) ^ d ^ t;
      b = (uint32_t)q;
      d = (uint32_t)p;
      s += 0x9E3779B9u; /* golden ratio */
      t += 0xBB67AE85u; /* sqrt(3) - 1 */
    }
    c0[k] = a, c1[k] = b, c2[k] = c, c3[k] = d;
  }
}

LOCAL float as_float(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

LOCAL uint32_t as_bits(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

/* The uniform value (word + 1/2) / 2^32 in (0, 1], rounded to float32. Two halves of 16 bits, because not every
 * processor converts unsigned words; their sum rounds once. */
LOCAL float uniform(uint32_t word) {
  const float high = (float)(int32_t)(word >> 16) * 0x1p-16f;
  const float low = (float)(int32_t)(word & 0xFFFFu) * 0x1p-32f + 0x1p-33f;
  return high + low;
}

/* sqrt(-2 log u): the radius, for u = 2^e (1 + f) with 1 + f in [sqrt(1/2), sqrt(2)). */
LOCAL float radius(float u) {
  const uint32_t bits = as_bits(u) - 0x3F3504F3u; /* sqrt(1/2) becomes the lower end of the octave */
  const float e = (float)((int32_t)bits >> 23);
  const float f = as_float((bits & 0x007FFFFFu) + 0x3F3504F3u) - 1.0f;
  float p = -0.07634500723948905f;
  p = p * f + 0.12761582180662698f;
  p = p * f - 0.13160183262200242f;
  p = p * f + 0.14201757375729063f;
  p = p * f - 0.16623357199871827f;
  p = p * f + 0.20001226897258773f;
  p = p * f - 0.2500082103847766f;
  p = p * f + 0.33333331707533975f;
  const float square = f * f;
  const float small = f * square * p + e * 1.42860677e-06f - 0.5f * square; /* log 2 in two parts */
  const float minus_two_log = -2.0f * (e * 0.693145752f + (f + small));
  return sqrtf(minus_two_log > 0.0f ? minus_two_log : 0.0f);
}

/* Cosine and sine of 2 pi word / 2^32. The nearest quarter turn is taken off in integers, hence exactly. */
LOCAL void direction(uint32_t word, float *cosine, float *sine) {
  const uint32_t quarter = (word + 0x20000000u) >> 30;
  const float x = (float)(int32_t)(word - (quarter << 30)) * 1.4629180792671596e-09f; /* 2 pi / 2^32 */
  const float y = x * x;
  const float s = x + x * y * (-0.16666654943662046f + y * (0.008332178143666678f - y * 0.0001951729864256003f));
  const float c = 1.0f - y * (0.5f - y * (0.041666646866383786f +
                                          y * (-0.0013887367512820867f + y * 2.4438451253743623e-05f)));
  const uint32_t swap = 0u - (quarter & 1u);
  const uint32_t sb = as_bits(s), cb = as_bits(c);
  *cosine = as_float(((cb & ~swap) | (sb & swap)) ^ (((quarter + 1u) & 2u) << 30));
  *sine = as_float(((sb & ~swap) | (cb & swap)) ^ ((quarter & 2u) << 30));
}

/* Two words to two independent normal values (Box and Muller, 1958). */
LOCAL void normal_pair(const uint32_t *restrict first, const uint32_t *restrict second, const uint32_t *restrict keep,
                       float *restrict even, float *restrict odd, int64_t size) {
  for (int64_t k = 0; k < size; k++) {
    float cosine, sine;
    const float length = radius(uniform(first[k]));
    direction(second[k], &cosine, &sine);
    even[k] = as_float(as_bits(length * cosine) & keep[k]);
    odd[k] = as_float(as_bits(length * sine) & keep[k]);
  }
}

/* One block of cells, all channels; the planes of the channels lie `plane` values apart. */
ANY_WIDTH static void block_fill(float *restrict out, const int64_t *restrict cells, int64_t size, int64_t channels,
                                 int64_t plane, const uint32_t *restrict words) {
  uint32_t keep[BLOCK], c0[BLOCK], c1[BLOCK], c2[BLOCK], c3[BLOCK];
  float values[4][BLOCK];
  for (int64_t k = 0; k < size; k++) keep[k] = cells[k] < 0 ? 0u : ~0u;
  for (int64_t first = 0; first < channels; first += 4) {
    for (int64_t k = 0; k < size; k++) {
      c0[k] = (uint32_t)cells[k];
      c1[k] = words[2];
      c2[k] = words[3];
      c3[k] = (uint32_t)(first / 4);
    }
    philox_block(c0, c1, c2, c3, words[0], words[1], size);
    normal_pair(c0, c1, keep, values[0], values[1], size);
    normal_pair(c2, c3, keep, values[2], values[3], size);
    for (int64_t c = first; c < channels && c < first + 4; c++)
      memcpy(out + c * plane, values[c - first], (size_t)size * sizeof *out);
  }
}

void normal_fill(float *out, const int64_t *cells, int64_t members, int64_t tiles, int64_t channels, int64_t size,
                 uint32_t seed, const uint32_t *member, uint32_t forecast_step, uint32_t solver_step) {
  for (int64_t m = 0; m < members; m++) {
    const uint32_t words[4] = {seed, member[m], forecast_step, solver_step};
    for (int64_t t = 0; t < tiles; t++)
      for (int64_t k = 0; k < size; k += BLOCK)
        block_fill(out + (m * tiles + t) * channels * size + k, cells + t * size + k,
                   size - k < BLOCK ? size - k : BLOCK, channels, size, words);
  }
}

void philox4x32(uint32_t counter[4], const uint32_t key[2]) {
  philox_block(counter, counter + 1, counter + 2, counter + 3, key[0], key[1], 1);
}
