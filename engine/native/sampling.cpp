// Passes over logits: see sampling.h. A pass reads and writes memory once, whatever it computes on the way.
#include "sampling.h"

#include "threads.h"
#include "vectors.h"

namespace {
constexpr int kPiece = 128;  // groups that a thread takes at a time

inline int num_groups(int vocab_size) { return (vocab_size + kGroup - 1) / kGroup; }

// Calls work(row, first group, last group) over all pieces of all rows.
template <class Work> void for_each_piece(int num_rows, int vocab_size, int threads, const Work &work) {
  const int groups = num_groups(vocab_size), pieces = (groups + kPiece - 1) / kPiece;
  for_each(num_rows * pieces, kPiece * kGroup, threads, [&](int i) {
    const int first = i % pieces * kPiece, last = first + kPiece;
    work(i / pieces, first, last < groups ? last : groups);
  });
}

void weigh(const WeightArgs &a) {
  const int64_t groups = num_groups(a.vocab_size);
  for_each_piece(a.num_rows, a.vocab_size, a.num_threads, [&](int row, int first, int last) {
    const float *logits = a.logits + a.rows[row] * a.vocab_size;
    float *weights = a.weights + (int64_t)row * a.vocab_size;
    const Vec largest = fill(a.largest[row]), temperature = fill(a.temperatures[row]);
    const auto weight = [&](const float *x) { return exp_of(div(sub(load(x), largest), temperature)); };
    for (int g = first; g < last; g++) {
      const int begin = g * kGroup, end = begin + kGroup;
      Vec sum = fill(0.f);
      if (end <= a.vocab_size) {
        for (int i = begin; i < end; i += 16) {
          const Vec w = weight(logits + i);
          store(weights + i, w);
          sum = add(sum, w);
        }
      } else {
        for (int i = begin; i < a.vocab_size; i += 16) {  // the last ones through a copy
          const int left = a.vocab_size - i, count = left < 16 ? left : 16;
          float x[16], w[16];
          for (int k = 0; k < 16; k++) x[k] = k < count ? logits[i + k] : -kInf;
          store(w, weight(x));
          for (int k = 0; k < count; k++) weights[i + k] = w[k];
          sum = add(sum, load(w));
        }
      }
      a.sums[row * groups + g] = sum_of(sum);
    }
  });
}
}  // namespace

#define SPECSERVE_JOIN(a, b) a##b
#define SPECSERVE_NAME(name, isa) SPECSERVE_JOIN(name, isa)
extern "C" int SPECSERVE_NAME(specserve_weigh_, SPECSERVE_ISA)(const WeightArgs *a) {
  weigh(*a);
  return 0;
}
