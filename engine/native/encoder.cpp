// A whole encoder over texts that lie one behind the other, and the norm of those whose products are made elsewhere.
//
// Tokens are cut into blocks of one or several short texts, or of a part of a long one, whose activations stay in a
// core's cache from one end of a layer to the other: attention, product into the residual stream, norm, inner layer,
// norm, and the next layer's queries, keys and values. Only those and the residual stream, in float32, leave it.
// Blocks are taken in order, layer by layer; before a layer a block waits until all blocks of its text are through the
// one before, which they nearly always are, so that no thread waits for the slowest at the end of each layer.
// What is computed for a token does not depend on the blocks.
#include "encoder.h"

#include <math.h>
#include <sched.h>
#include <stdlib.h>

#include "encoder_attention.h"
#include "linear_tiles.h"
#include "page_turns.h"

namespace {
constexpr int kRows = 8;               // of a product: with 32 features 16 sums in registers
constexpr int kMostTokens = 160, kLeastTokens = 32;  // of a block
constexpr int kInnerBytes = 512 << 10;  // of a block's inner activations: half of a usual second-level cache
constexpr int kBlocksEach = 3;         // blocks a thread gets at least, where there are enough tokens

inline void put(uint16_t *to, Vec x) { _mm256_storeu_si256((__m256i *)to, (__m256i)_mm512_cvtneps_pbh(x)); }
inline Vec get(const uint16_t *from) { return widen(_mm256_loadu_si256((const __m256i *)from)); }

// x := norm(x), in float32 there and rounded; `sum` is that of x. Mean and variance in two passes over the row.
inline void normalize(float *x, Vec sum, int size, const NormWeight &norm, float epsilon, uint16_t *rounded) {
  const Vec mean = fill(sum_of(sum) / size);
  Vec squares = fill(0.f);
  for (int i = 0; i < size; i += 16) {
    const Vec d = sub(load(x + i), mean);
    squares = fma(d, d, squares);
  }
  const Vec factor = fill(1.f / sqrtf(sum_of(squares) / size + epsilon));
  for (int i = 0; i < size; i += 16) {
    const Vec y = fma(mul(sub(load(x + i), mean), factor), load(norm.weight + i), load(norm.bias + i));
    store(x + i, y);
    put(rounded + i, y);
  }
}

inline Vec sum_of_row(const float *x, int size) {
  Vec sum = fill(0.f);
  for (int i = 0; i < size; i += 16) sum = add(sum, load(x + i));
  return sum;
}

void add_norm(const AddNormArgs &a, int t) {
  const int size = a.hidden_size;
  float *x = a.hidden + (int64_t)t * size;
  if (a.added)
    for (int i = 0; i < size; i += 16) store(x + i, add(load(x + i), get(a.added + (int64_t)t * size + i)));
  normalize(x, sum_of_row(x, size), size, a.norm, a.epsilon, a.rounded + (int64_t)t * size);
}

// ---- products ------------------------------------------------------------------------------------------------
// Rows [first, first + M) of x times 32 features; done(row, column, left half, right half) gets sums with their bias.
template <int M, class Done>
inline void multiply(const LinearWeight &w, const uint16_t *x, int first, int block, const Done &done) {
  const int pairs = w.k / 2;
  const auto *weights = (const uint32_t *)w.packed + (int64_t)block * pairs * kFeatures;
  const auto *rows = (const uint32_t *)x + (int64_t)first * pairs;
  Vec sums[M][2];
  for (int r = 0; r < M; r++) sums[r][0] = sums[r][1] = fill(0.f);
  for (int p = 0; p < pairs; p++, weights += kFeatures) {
    __builtin_prefetch((const char *)weights + kAhead);
    __builtin_prefetch((const char *)weights + kAhead + 64);
    const __m512bh left = (__m512bh)_mm512_loadu_si512(weights);
    const __m512bh right = (__m512bh)_mm512_loadu_si512(weights + kFeatures / 2);
    for (int r = 0; r < M; r++) {
      const __m512bh pair = (__m512bh)_mm512_set1_epi32((int)rows[r * pairs + p]);
      sums[r][0] = _mm512_dpbf16_ps(sums[r][0], left, pair);
      sums[r][1] = _mm512_dpbf16_ps(sums[r][1], right, pair);
    }
  }
  const int column = block * kFeatures;
  const Vec left = w.bias ? load(w.bias + column) : fill(0.f), right = w.bias ? load(w.bias + column + 16) : fill(0.f);
  for (int r = 0; r < M; r++) done(first + r, column, add(sums[r][0], left), add(sums[r][1], right));
}

template <int M, class Done>
void multiply_pass(const LinearWeight &w, const uint16_t *x, Pass pass, int block, const Done &done) {
  if constexpr (M > 0)
    pass.count == M ? multiply<M>(w, x, pass.first, block, done) : multiply_pass<M - 1>(w, x, pass, block, done);
}

// x [m, K], one row behind the other. 32 features' weights are read once and stay in the first-level cache.
template <class Done> void product(const LinearWeight &w, const uint16_t *x, int m, const Done &done) {
  for (int block = 0; block < w.n / kFeatures; block++)
    for (int i = 0; i < num_passes(m, kRows); i++) multiply_pass<kRows>(w, x, pass_at(m, kRows, i), block, done);
}

template <class Function> void inner_product(const LinearWeight &w, const uint16_t *x, int m, uint16_t *to, const Function &f) {
  const int size = w.n;
  product(w, x, m, [=](int r, int column, Vec left, Vec right) {
    put(to + (int64_t)r * size + column, f(left)), put(to + (int64_t)r * size + column + 16, f(right));
  });
}

inline Vec gelu_tanh_of(Vec x) {
  const Vec inner = mul(mul(x, fill(0.7978845608f)), fma(mul(x, x), fill(0.044715f), fill(1.f)));
  return mul(mul(x, fill(0.5f)), add(fill(1.f), tanh_of(inner)));
}

// ---- blocks --------------------------------------------------------------------------------------------------
struct Block { int first, count, text, texts, group; };  // tokens, the text of the first one, how many texts, see Group
struct Group { int blocks, finished; };                  // blocks that see each other, and those that went through a layer
struct Encoding {
  const EncoderArgs *args;
  Block *blocks;
  Group *groups;
  int *pages;              // [B + 1] pages before each text
  int num_blocks, num_groups, next, has_failed;
  int64_t own_bytes;
};

inline int most_tokens(const EncoderArgs &a) {
  const int tokens = a.starts[a.num_texts], share = tokens / (kBlocksEach * a.num_threads);
  const int fitting = kInnerBytes / 2 / a.inner_size, most = fitting < kMostTokens ? fitting : kMostTokens;
  const int wanted = share < most ? share : most;
  return wanted < kLeastTokens ? kLeastTokens : wanted / kPage * kPage;
}

// Long texts are cut evenly, where pages end; short ones share a block.
void cut(Encoding &job) {
  const EncoderArgs &a = *job.args;
  const int most = most_tokens(a);
  for (int b = 0; b < a.num_texts; b++) {
    const int first = a.starts[b], length = a.starts[b + 1] - first;
    job.pages[b + 1] = job.pages[b] + (length + kPage - 1) / kPage;
    Block *before = job.num_blocks ? &job.blocks[job.num_blocks - 1] : nullptr;
    if (before && job.groups[before->group].blocks == 1 && before->count + length <= most) {
      before->count += length, before->texts++;
      continue;
    }
    const int parts = (length + most - 1) / most, pages = job.pages[b + 1] - job.pages[b];
    for (int i = 0; i < parts; i++) {
      const int from = pages * i / parts * kPage, to = i + 1 < parts ? pages * (i + 1) / parts * kPage : length;
      job.blocks[job.num_blocks++] = {first + from, to - from, b, 1, job.num_groups};
    }
    job.groups[job.num_groups++] = {parts, 0};
  }
}

struct Own { uint16_t *rounded, *wide; };  // a thread's scratch: [most tokens, H], [most tokens, max(3 H, I)] bfloat16
inline int64_t scratch_bytes(const EncoderArgs &a) {
  const int wide = a.inner_size > 3 * a.hidden_size ? a.inner_size : 3 * a.hidden_size;
  return ((int64_t)most_tokens(a) * (a.hidden_size + wide) * 2 + 4095) / 4096 * 4096;
}

// Of one text: tokens [from, from + count), from at the beginning of a page, as rows of queries, keys and values.
void keep_text(const EncoderArgs &a, int64_t first_page, int num_pages, int from, int count, int token, int parity,
               int64_t all_pages, const uint16_t *qkv) {
  const int size = a.hidden_size, words = a.head_size / 2;
  const int64_t start = ((int64_t)parity * all_pages + first_page) * kPage * size / 2;
  uint32_t *keys = (uint32_t *)a.keys + start, *values = (uint32_t *)a.values + start;
  alignas(64) static const uint16_t nothing[32] = {};
  for (int t = 0; t < count; t++) memcpy(a.queries + (int64_t)(token + t) * size, qkv + (int64_t)t * 3 * size, size * 2);
  for (int t = 0; t < count; t += kPage) {
    const uint16_t *key[kPage];
    const int page = (from + t) / kPage, stride = 3 * size;
    for (int i = 0; i < kPage; i++) key[i] = t + i < count ? qkv + (int64_t)(t + i) * stride + size : nullptr;
    for (int w = 0; w < size / 2; w += 16) {
      __m512i rows[kPage];
      for (int i = 0; i < kPage; i++) rows[i] = key[i] ? _mm512_loadu_si512(key[i] + 2 * w) : _mm512_setzero_si512();
      transpose(rows);
      for (int p = 0; p < 16; p++) {
        const int head = (w + p) / words, d = (w + p) % words;
        _mm512_storeu_si512(keys + (((int64_t)head * num_pages + page) * words + d) * kPage, rows[p]);
      }
    }
    for (int i = 0; i < kPage; i += 2)
      for (int d = 0; d < size; d += 16) {
        const uint16_t *even = key[i] ? key[i] + size + d : nothing, *odd = key[i + 1] ? key[i + 1] + size + d : nothing;
        const int64_t head = d / a.head_size, at = ((head * num_pages + page) * kPage + i) / 2 * a.head_size;
        pair_values(even, odd, values + at + d % a.head_size);
      }
  }
}

// Calls of(text, its first token within the block's rows, tokens before it of the same text, count).
template <class Of> void for_texts(const EncoderArgs &a, const Block &block, const Of &of) {
  for (int b = block.text, row = 0; b < block.text + block.texts; b++) {
    const int from = block.first + row - a.starts[b];
    const int left = a.starts[b + 1] - a.starts[b] - from, count = left < block.count - row ? left : block.count - row;
    of(b, row, from, count);
    row += count;
  }
}

void keep(const Encoding &job, const Block &block, int layer, Own own) {
  const EncoderArgs &a = *job.args;
  const int size = a.hidden_size;
  uint16_t *qkv = own.wide;
  product(a.layers[layer].qkv, own.rounded, block.count, [=](int r, int column, Vec left, Vec right) {
    put(qkv + (int64_t)r * 3 * size + column, left), put(qkv + (int64_t)r * 3 * size + column + 16, right);
  });
  for_texts(a, block, [&](int b, int row, int from, int count) {
    keep_text(a, job.pages[b], job.pages[b + 1] - job.pages[b], from, count, block.first + row, layer % 2,
              job.pages[a.num_texts], qkv + (int64_t)row * 3 * size);
  });
}

void attend(const Encoding &job, const Block &block, int layer, uint16_t *out) {
  const EncoderArgs &a = *job.args;
  const int size = a.hidden_size;
  for_texts(a, block, [&](int b, int row, int, int count) {
    const int pages = job.pages[b + 1] - job.pages[b];
    const int64_t start = ((int64_t)(layer % 2) * job.pages[a.num_texts] + job.pages[b]) * kPage * size / 2;
    for (int head = 0; head < size / a.head_size; head++) {
      const int64_t at = start + (int64_t)head * pages * kPage * a.head_size / 2;
      const HeadKeys keys = {(const uint32_t *)a.keys + at, (const uint32_t *)a.values + at, a.seen[b], a.head_size};
      attend_text(count, a.queries + (int64_t)(block.first + row) * size + head * a.head_size, size, keys, a.scale,
                  out + (int64_t)row * size + head * a.head_size, size);
    }
  });
}

void normalize_block(const EncoderArgs &a, const Block &block, const NormWeight &norm, uint16_t *rounded) {
  for (int t = 0; t < block.count; t++) {
    float *x = a.hidden + (int64_t)(block.first + t) * a.hidden_size;
    normalize(x, sum_of_row(x, a.hidden_size), a.hidden_size, norm, a.epsilon, rounded + (int64_t)t * a.hidden_size);
  }
}

void add_product(const EncoderArgs &a, const Block &block, const LinearWeight &w, const uint16_t *x) {
  float *hidden = a.hidden + (int64_t)block.first * a.hidden_size;
  const int size = a.hidden_size;
  product(w, x, block.count, [=](int r, int column, Vec left, Vec right) {
    float *y = hidden + (int64_t)r * size + column;
    store(y, add(load(y), left)), store(y + 16, add(load(y + 16), right));
  });
}

inline const uint16_t *row_of(const EmbeddingTable &table, int64_t at, int size) {
  return table.rows && at >= 0 && at < table.count ? table.rows + at * size : nullptr;
}

bool embed(const EncoderArgs &a, const Block &block) {
  const int size = a.hidden_size;
  for (int t = block.first; t < block.first + block.count; t++) {
    const uint16_t *word = row_of(a.words, a.ids[t], size), *place = row_of(a.positions, a.places[t], size);
    const uint16_t *kind = row_of(a.types, a.kinds ? a.kinds[t] : 0, size);
    if (!word || !place || (a.types.rows && !kind)) return false;
    float *x = a.hidden + (int64_t)t * size;
    for (int i = 0; i < size; i += 16) {
      const Vec sum = add(get(word + i), get(place + i));
      store(x + i, kind ? add(sum, get(kind + i)) : sum);
    }
  }
  return true;
}

// The end of layer `stage` - 1 and the beginning of the next one.
void run_stage(Encoding &job, const Block &block, int stage, Own own) {
  const EncoderArgs &a = *job.args;
  if (stage == 0) {
    if (!embed(a, block)) {
      __atomic_store_n(&job.has_failed, 1, __ATOMIC_RELAXED);
      return;
    }
    normalize_block(a, block, a.norm, own.rounded);
  } else {
    const EncoderLayer &layer = a.layers[stage - 1];
    attend(job, block, stage - 1, own.wide);
    add_product(a, block, layer.out, own.wide);
    normalize_block(a, block, layer.attention_norm, own.rounded);
    switch (a.activation) {
      case kGelu: inner_product(layer.inner, own.rounded, block.count, own.wide, [](Vec x) { return gelu_of(x); }); break;
      case kGeluTanh: inner_product(layer.inner, own.rounded, block.count, own.wide, [](Vec x) { return gelu_tanh_of(x); }); break;
      default: inner_product(layer.inner, own.rounded, block.count, own.wide, [](Vec x) { return max(x, fill(0.f)); });
    }
    add_product(a, block, layer.down, own.wide);
    normalize_block(a, block, layer.output_norm, own.rounded);
  }
  if (stage < a.num_layers) keep(job, block, stage, own);
}

void run_share(void *data) {
  Encoding &job = *(Encoding *)data;
  const EncoderArgs &a = *job.args;
  const int me = a.num_threads == 1 ? 0 : omp_get_thread_num();
  auto *memory = (uint16_t *)(a.own + me * job.own_bytes);
  const Own own = {memory, memory + (int64_t)most_tokens(a) * a.hidden_size};
  const int tasks = job.num_blocks * (a.num_layers + 1);
  for (int i; (i = __atomic_fetch_add(&job.next, 1, __ATOMIC_RELAXED)) < tasks;) {
    const int stage = i / job.num_blocks;
    const Block &block = job.blocks[i % job.num_blocks];
    Group &group = job.groups[block.group];
    for (int spins = 0; __atomic_load_n(&group.finished, __ATOMIC_ACQUIRE) < stage * group.blocks; spins++)
      spins < 64 ? _mm_pause() : (void)sched_yield();  // the other thread may have lost its core
    if (!__atomic_load_n(&job.has_failed, __ATOMIC_RELAXED)) run_stage(job, block, stage, own);
    __atomic_add_fetch(&group.finished, 1, __ATOMIC_RELEASE);
  }
}
}  // namespace

extern "C" int specserve_add_norm_avx512_bf16(const AddNormArgs *args) {
  const AddNormArgs &a = *args;
  for_each(a.num_tokens, a.hidden_size, a.num_threads, [&](int t) { add_norm(a, t); });
  return 0;
}

extern "C" int64_t specserve_encoder_scratch(const EncoderArgs *a) { return scratch_bytes(*a); }

extern "C" int specserve_encode_avx512_bf16(const EncoderArgs *args) {
  const EncoderArgs &a = *args;
  const int64_t most = a.starts[a.num_texts] / kPage + 2 * (int64_t)a.num_texts + 1;  // of blocks, and of groups
  auto *memory = (char *)calloc(1, most * (sizeof(Block) + sizeof(Group)) + (a.num_texts + 1) * sizeof(int));
  if (!memory) return 1;
  Encoding job = {};
  job.args = args, job.own_bytes = scratch_bytes(a);
  job.blocks = (Block *)memory, job.groups = (Group *)(memory + most * sizeof(Block));
  job.pages = (int *)(memory + most * (sizeof(Block) + sizeof(Group)));
  cut(job);
  a.num_threads == 1 ? run_share(&job) : GOMP_parallel(run_share, &job, a.num_threads, 0);
  free(memory);
  return job.has_failed ? 2 : 0;
}
