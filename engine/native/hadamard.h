// Turning a head of a key or a query, so that one large number becomes many of ordinary size before it is rounded.
#pragma once

namespace {
constexpr int kMostTurned = 1024;  // numbers of a head

// Length of the pieces that are turned: the largest power of two that divides the head size.
inline int turned_length(int size) { return size & -size; }

// Multiplies each piece by the Hadamard matrix of its length L, in Sylvester's order and not normalized: products of
// two turned heads are L times those of the heads. Sums and differences only, in one order: the same on any processor.
inline void turn(float *x, int size) {
  const int length = turned_length(size);
  for (int half = 1; half < length; half *= 2)
    for (int i = 0; i < size; i += 2 * half)
      for (int j = i; j < i + half; j++) {
        const float a = x[j], b = x[j + half];
        x[j] = a + b, x[j + half] = a - b;
      }
}
}  // namespace
