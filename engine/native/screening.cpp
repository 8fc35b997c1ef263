// The highest logits of each row, exactly, without all products of an output head.
//
// First all logits are computed roughly, from the head in int8: half of the memory and half of the multiplications. By
// the inequality of Cauchy and Schwarz a rough logit ŵ·x̂ is not further from w·x than |w - ŵ| |x| + |ŵ| |x - x̂|. What
// may be the highest by these bounds is computed once more from the head itself, 32 features at a time and in the order
// of sums of every other product; so the highest logit has the same bits as ever, and every other one is below it,
// whether it is exact or rough.
//
// Both sums are made in float32: what rounding adds to the bounds is part of the difference's length (kRounding).
#include "screening.h"

#include <math.h>

#include "quantized_tiles.h"

namespace {
constexpr float kRounding = 1.5e-7f;  // of float32, for each of K products and sums
constexpr int kGroup = Int8::kGroup, kGroupPairs = kGroup / 2;

inline int num_blocks(const LinearWeight &w) { return (w.n + kFeatures - 1) / kFeatures; }
inline int padded_blocks(const LinearWeight &w) { return (num_blocks(w) + 15) / 16 * 16; }

// Lengths of a row of activations and of what is lost when it is rounded as QuantizedWeights does.
struct Lengths { float row, lost; };
Lengths lengths_of(const uint16_t *x, int size) {
  Vec row = fill(0.f), lost = row;
  for (int g = 0; g < size; g += kGroup) {
    Vec values[kGroup / 16], most = fill(0.f);
    for (int i = 0; i < kGroup / 16; i++) {
      values[i] = widen(_mm256_maskz_loadu_epi16(lanes(size - g - 16 * i), x + g + 16 * i));
      most = max(most, _mm512_abs_ps(values[i]));
    }
    const float largest = max_of(most), scale = largest < kLeast ? 0.f : largest / 127.f;
    const Vec factor = fill(largest < kLeast ? 0.f : 127.f / largest);
    for (const Vec value : values) {
      const Vec rest = sub(value, mul(round(mul(value, factor)), fill(scale)));
      row = fma(value, value, row), lost = fma(rest, rest, lost);
    }
  }
  const float more = 1.f + size * kRounding;
  return {sqrtf(sum_of(row)) * more, sqrtf(sum_of(lost)) * more};
}

// The int8 product, which notes for each block of 32 features between what bounds its highest logit lies.
struct Rough : QuantizedWeights<Int8> {
  const float *norms, *differences;
  const Lengths *lengths;
  float *bounds;
  int stride;  // blocks

  template <int M> void finish(const LinearArgs &a, int first, int block, Vec sums[M][2]) const {
    store_sums<M>(a, first, block, sums);
    const int column = block * kFeatures;
    const __mmask16 inside[2] = {lanes(a.weight.n - column), lanes(a.weight.n - column - 16)};
    const Vec nothing = fill(-kInf);
    for (int r = 0; r < M; r++) {
      Vec above[2], below[2];
      for (int h = 0; h < 2; h++) {
        const Vec norm = load(norms + column + 16 * h), difference = load(differences + column + 16 * h);
        const Vec off = fma(difference, fill(lengths[first + r].row), mul(norm, fill(lengths[first + r].lost)));
        above[h] = _mm512_mask_add_ps(nothing, inside[h], sums[r][h], off);
        below[h] = _mm512_mask_sub_ps(nothing, inside[h], sums[r][h], off);
      }
      float *bound = bounds + (int64_t)(first + r) * 2 * stride + block;
      bound[0] = max_of(max(above[0], above[1]));
      bound[stride] = max_of(max(below[0], below[1]));
    }
  }
};

float highest_of(const float *values, int count) {
  float highest = -kInf;
  for (int i = 0; i < count; i++) highest = values[i] > highest ? values[i] : highest;
  return highest;
}

void multiply_exactly(const ScreenArgs &s, int row, int count, int block, int num_features, int num_threads) {
  LinearWeight part = s.head;
  part.packed = (const uint16_t *)part.packed + (int64_t)block * kFeatures * part.k;
  part.n = num_features;
  const LinearArgs args = {part, s.x + (int64_t)row * part.k, count > 1 ? s.scratch : nullptr,
                           s.y + (int64_t)row * s.head.n + block * kFeatures, part.k, s.head.n,
                           count, kFloat32, num_threads};
  specserve_linear_avx512_bf16(&args);
}

// One block of 32 features of the head as int8: pairs of 16 features fill a vector.
void roughen(const RoughenArgs &a, int block) {
  const int pairs = a.head.k / 2, groups = (a.head.k + kGroup - 1) / kGroup, stride = num_blocks(a.head) * kFeatures;
  const auto *from = (const uint32_t *)a.head.packed + (int64_t)block * pairs * kFeatures;
  char *to = (char *)a.packed + (int64_t)block * groups * Int8::kGroupBytes;
  for (int h = 0; h < 2; h++) {
    Vec norm = fill(0.f), difference = norm;
    for (int g = 0; g < groups; g++) {
      const int here = pairs - g * kGroupPairs < kGroupPairs ? pairs - g * kGroupPairs : kGroupPairs;
      Vec values[kGroupPairs][2], most = fill(kLeast);
      for (int p = 0; p < kGroupPairs; p++) {
        const uint32_t *pair = from + ((int64_t)g * kGroupPairs + p) * kFeatures + 16 * h;
        values[p][0] = p < here ? low_halves(pair) : fill(0.f);
        values[p][1] = p < here ? high_halves(pair) : fill(0.f);
        most = max(most, max(_mm512_abs_ps(values[p][0]), _mm512_abs_ps(values[p][1])));
      }
      // Rounded up, so that no weight is cut off.
      const __m512i bits = _mm512_castps_si512(mul(most, fill(1.f / 127.f)));
      const __m512i above = _mm512_srli_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x10000)), 16);
      char *group = to + (int64_t)g * Int8::kGroupBytes;
      _mm256_storeu_si256((__m256i *)group + h, _mm512_cvtepi32_epi16(above));
      const Vec scale = _mm512_castsi512_ps(_mm512_slli_epi32(above, 16)), factor = div(fill(1.f), scale);
      for (int p = 0; p < kGroupPairs; p += 2) {
        __m512i bytes = _mm512_setzero_si512();
        for (int i = 0; i < 4; i++) {
          const Vec value = values[p + i / 2][i % 2], whole = round(mul(value, factor));
          const Vec rough = mul(whole, scale), rest = sub(value, rough);
          norm = fma(rough, rough, norm), difference = fma(rest, rest, difference);
          const __m512i byte = _mm512_add_epi32(_mm512_cvtps_epi32(whole), _mm512_set1_epi32(Int8::kZero));
          bytes = _mm512_or_si512(bytes, _mm512_sllv_epi32(byte, _mm512_set1_epi32(8 * i)));
        }
        _mm512_storeu_si512(group + 2 * kFeatures + (p / 2 * kFeatures + 16 * h) * 4, bytes);
      }
    }
    const float more = 1.f + a.head.k * kRounding;
    norm = mul(_mm512_sqrt_ps(norm), fill(more)), difference = mul(_mm512_sqrt_ps(difference), fill(more));
    const int column = block * kFeatures + 16 * h;
    store(a.norms + column, norm);
    store(a.norms + stride + column, fma(add(norm, difference), fill(a.head.k * kRounding), difference));
  }
}
}  // namespace

extern "C" int specserve_roughen_avx512_bf16(const RoughenArgs *a) {
  for_each(num_blocks(a->head), a->head.k * kFeatures, a->num_threads, [&](int block) { roughen(*a, block); });
  return 0;
}

// Returns 0, or 1 when there is no memory for the lengths of the rows.
extern "C" int specserve_screen_avx512_bf16(ScreenArgs *s) {
  const int blocks = num_blocks(s->head), stride = padded_blocks(s->head);
  auto *lengths = (Lengths *)__builtin_malloc(s->m * sizeof(Lengths) + s->m * sizeof(float));
  if (!lengths) return 1;
  auto *lowest = (float *)(lengths + s->m);
  for_each(s->m, s->head.k, s->num_threads,
           [&](int r) { lengths[r] = lengths_of(s->x + (int64_t)r * s->head.k, s->head.k); });
  Rough rough;
  rough.norms = s->rough.norms, rough.differences = s->rough.norms + blocks * kFeatures;
  rough.lengths = lengths, rough.bounds = s->bounds, rough.stride = stride;
  const LinearWeight weight = {s->rough.packed, nullptr, s->head.n, s->head.k, kInt8Weights};
  const LinearArgs args = {weight, s->x, s->scratch, s->y, s->head.k, s->head.n, s->m, kFloat32, s->num_threads};
  run_product(args, rough, (int64_t)s->m * s->head.k);

  const auto may_be_highest = [&](int r, int block) {
    return s->bounds[(int64_t)r * 2 * stride + block] >= lowest[r];
  };
  int64_t count = 0;
  bool is_bounded = true;
  for (int r = 0; r < s->m; r++) {
    lowest[r] = highest_of(s->bounds + ((int64_t)r * 2 + 1) * stride, blocks);
    is_bounded &= isfinite(lowest[r]);
    for (int block = 0; block < blocks; block++) count += may_be_highest(r, block);
  }
  if (is_bounded && count <= s->most) {
    for_each(blocks, count * s->head.k * kFeatures / blocks + 1, s->num_threads, [&](int block) {
      for (int r = 0; r < s->m; r++)
        if (may_be_highest(r, block)) {
          const int left = s->head.n - block * kFeatures;
          multiply_exactly(*s, r, 1, block, left < kFeatures ? left : kFeatures, 1);
        }
    });
    s->num_exact = (int32_t)count;
  } else {
    multiply_exactly(*s, 0, s->m, 0, s->head.n, s->num_threads);
    s->num_exact = s->m * blocks;
  }
  __builtin_free(lengths);
  return 0;
}
