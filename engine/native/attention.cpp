// Paged attention for x86 CPUs behind a C ABI; decode, speculative rows and chunked prefill share one kernel.
//
// Compiled once per instruction set (SPECSERVE_ISA names it: avx2, avx512, avx512_bf16) and linked into one
// library; the caller chooses at run time. So nothing here may be an inline function that variants share by name:
// everything lives in an anonymous namespace and the C++ library is not used. Pages: see attention.h.
//
// Sources: online softmax, Milakov and Gimelshein 2018; paged layout, Kwon et al. 2023.
#include "attention.h"

#include "attention_int8.h"
#include "attention_tile.h"
namespace {
constexpr int kRows = 112, kQueries = 64;  // of one work item: query rows (tokens times heads of the group); tokens
constexpr int kPart = 512;                 // keys that are summed up by themselves, wherever a context begins and ends

template <class S, int R>
void attend_rows(int count, const Shape &shape, const typename S::Word *query, const Tile &tile, Rows rows) {
  if constexpr (R > 0) {
    if (count == R) {
      if constexpr (S::kIsInt8) return attend_int8_tile<R>(shape, query, tile, rows);
      else return attend_tile<S, R>(shape, query, tile, rows);
    }
    attend_rows<S, R - 1>(count, shape, query, tile, rows);
  }
}

// ---- work items ----------------------------------------------------------------------------------------------
// Queries [query, query + num_queries) of one sequence and one key-value head against keys [lo, hi). Keys are summed
// up in parts that begin at multiples of kPart, and the parts' sums are merged in order: so a row's result does not
// depend on what is computed beside it. A context that would keep one thread busy while others wait is cut into an
// item for each of its `parts`, and whoever finishes last merges.
struct Item { int32_t seq, head, query, num_queries, lo, hi, parts, part; int64_t partial; int32_t group; };
struct Job {
  const AttendArgs *args;
  Shape shape;
  Item *items;
  int32_t *pending;    // per split group: items still running
  float *partials, *scratch;
  int64_t scratch_words;
  int32_t num_items, next, max_rows;
};

template <class S>
void finish(const Job &job, const Item &item, int rows, const float *acc, const float *max, const float *sum) {
  const AttendArgs &a = *job.args;
  const int group = a.num_heads / a.num_kv_heads;
  for (int i = 0; i < rows; i++) {
    const int head = item.head * group + i % group;
    float total = sum[i], factor = 1.f;
    if (a.sinks) {
      const float sink = a.sinks[head] * kLog2e, peak = max[i] > sink ? max[i] : sink;
      factor = exp2_of(max[i] - peak);
      total = total * factor + exp2_of(sink - peak);
    }
    const int64_t at = (int64_t)(item.query + i / group) * a.num_heads + head;
    auto *out = (typename S::Element *)a.out + at * a.value_head_size;
    const float norm = total > 0 || total != total ? factor / total : 0.f;
    for (int d = 0; d < a.value_head_size; d += 16) {
      const Vec y = mul(load(acc + i * job.shape.width + d), fill(norm));
      const int left = a.value_head_size - d;
      if (left >= 16) {
        S::put_result(out + d, y);
        continue;
      }
      typename S::Element some[16];
      S::put_result(some, y);
      memcpy(out + d, some, left * sizeof *out);
    }
  }
}

struct Sums { float *acc, *max, *sum; };  // [rows, width], [rows], [rows], one after the other in memory
inline Sums sums_at(float *memory, int rows, int width) {
  return {memory, memory + (int64_t)rows * width, memory + (int64_t)rows * (width + 1)};
}

void merge(Sums into, Sums other, int rows, int width) {
  for (int i = 0; i < rows; i++) {
    const float peak = into.max[i] > other.max[i] ? into.max[i] : other.max[i];
    if (peak == -kInf) continue;
    const float keep = exp2_of(into.max[i] - peak), take = exp2_of(other.max[i] - peak);
    for (int d = i * width; d < (i + 1) * width; d++) into.acc[d] = into.acc[d] * keep + other.acc[d] * take;
    into.sum[i] = into.sum[i] * keep + other.sum[i] * take;
    into.max[i] = peak;
  }
}

// Behind the last key that a query sees which looks ahead; `next` is the position behind the query's.
inline int end_of_sight(const AttendArgs &a, int next, int seq_len) {
  return a.window > 0 && next - 1 + a.window < seq_len ? next - 1 + a.window : seq_len;
}

inline int64_t page_of(const AttendArgs &a, const Item &item, int index) {
  const int32_t *table = a.block_tables + (int64_t)item.seq * a.table_stride;
  if (a.block_size == kPage) return (int64_t)table[index] * a.num_kv_heads + item.head;
  const int per_block = a.block_size / kPage;
  return ((int64_t)table[index / per_block] * per_block + index % per_block) * a.num_kv_heads + item.head;
}

// The page to be fetched while one is attended to: pages are scattered, so the hardware cannot tell. Behind the item's
// last page it is one of the item that this thread is likely to take next.
inline int64_t page_ahead(const Job &job, const Item &item, int index) {
  const AttendArgs &a = *job.args;
  const int ahead = index + kTile / kPage, beyond = ahead - (item.hi + kPage - 1) / kPage;
  if (beyond < 0) return page_of(a, item, ahead);
  const int taken = __atomic_load_n(&job.next, __ATOMIC_RELAXED);
  if (taken >= job.num_items) return page_of(a, item, index);
  const Item &next = job.items[job.num_items - 1 - taken];
  const int first = next.lo / kPage + beyond, end = (next.hi + kPage - 1) / kPage;
  return first < end ? page_of(a, next, first) : page_of(a, item, index);
}

template <class S> void run_item(const Job &job, const Item &item, float *scratch) {
  const AttendArgs &a = *job.args;
  const Shape &shape = job.shape;
  const int group = a.num_heads / a.num_kv_heads, rows = item.num_queries * group;
  const int64_t key_words = S::page_words(shape.key_rows);
  const int64_t value_words = S::page_words(kPage / S::kPair * shape.width / 16);
  const int64_t size = (int64_t)rows * (shape.width + 2);
  const Sums sums = sums_at(item.parts > 1 ? job.partials + item.partial + item.part * size : scratch, rows, shape.width);
  const Sums next = sums_at(scratch + size, rows, shape.width);
  auto *query = (typename S::Word *)(scratch + 2 * (int64_t)job.max_rows * (shape.width + 2));
  int *first = (int *)(query + (int64_t)job.max_rows * shape.query_words), *last = first + job.max_rows;
  float *factor = (float *)(last + job.max_rows);
  const int position = a.seq_lens[item.seq] - a.query_start[item.seq + 1] + item.query;
  for (int i = 0; i < rows; i++) {
    last[i] = position + i / group + 1;
    first[i] = a.window > 0 && last[i] > a.window ? last[i] - a.window : 0;
    if (a.looks_ahead) last[i] = end_of_sight(a, last[i], a.seq_lens[item.seq]);
    const int64_t token = item.query + i / group, head = item.head * group + i % group;
    const auto *from = (const typename S::Element *)a.query + token * a.query_token_stride;
    factor[i] = S::put_query(query + (int64_t)i * shape.query_words, from + head * a.query_head_stride, a.head_size);
  }
  const auto attend_part = [&](int lo, int hi, Sums to) {
    memset(to.acc, 0, (size_t)rows * shape.width * 4);
    for (int i = 0; i < rows; i++) to.max[i] = -kInf, to.sum[i] = 0.f;
    for (int t = lo / kPage * kPage, end; t < hi; t = end) {  // tiles end at multiples of kTile
      end = (t / kTile + 1) * kTile;
      Tile tile;
      tile.start = t;
      for (int g = 0; t + g * kPage < (hi < end ? hi : end); g++) {
        const int64_t page = page_of(a, item, t / kPage + g), ahead = page_ahead(job, item, t / kPage + g);
        tile.keys[g] = (const uint32_t *)a.keys + page * key_words;
        tile.values[g] = (const uint32_t *)a.values + page * value_words;
        tile.next_keys[g] = (const uint32_t *)a.keys + ahead * key_words;
        tile.next_values[g] = (const uint32_t *)a.values + ahead * value_words;
      }
      const int behind = hi < end ? hi : end;
      for (int r = 0; r < rows; r += kBlock) {
        const int count = rows - r < kBlock ? rows - r : kBlock, seen = last[r + count - 1];
        if (seen <= t || first[r] >= behind) continue;  // rows are in order of position
        tile.size = (seen < behind ? seen : behind) - t;
        attend_rows<S, kBlock>(count, shape, query + (int64_t)r * shape.query_words, tile,
                               {first + r, last + r, factor + r, to.acc + (int64_t)r * shape.width, to.max + r, to.sum + r});
        if (r + kBlock < rows) tile.fetch_nothing_new();
      }
    }
  };
  const auto end_of_part = [&](int from) {
    const int end = (from / kPart + 1) * kPart;
    return end < item.hi ? end : item.hi;
  };
  attend_part(item.lo, end_of_part(item.lo), sums);
  if (item.parts > 1) {
    if (__atomic_sub_fetch(&job.pending[item.group], 1, __ATOMIC_ACQ_REL) > 0) return;
    const Sums merged = sums_at(job.partials + item.partial, rows, shape.width);
    for (int p = 1; p < item.parts; p++)
      merge(merged, sums_at(job.partials + item.partial + p * size, rows, shape.width), rows, shape.width);
    return finish<S>(job, item, rows, merged.acc, merged.max, merged.sum);
  }
  for (int lo = end_of_part(item.lo); lo < item.hi; lo = end_of_part(lo)) {
    attend_part(lo, end_of_part(lo), next);
    merge(sums, next, rows, shape.width);
  }
  finish<S>(job, item, rows, sums.acc, sums.max, sums.sum);
}

template <class S> void run_share(void *data) {
  Job &job = *(Job *)data;
  const int me = job.num_items == 1 ? 0 : omp_get_thread_num();
  for (int i; (i = __atomic_fetch_add(&job.next, 1, __ATOMIC_RELAXED)) < job.num_items;)
    run_item<S>(job, job.items[job.num_items - 1 - i], job.scratch + me * job.scratch_words);
}

// Cuts the batch into items; with `items` null it only counts. Returns the floats that partial results take.
int64_t cut(const AttendArgs &a, int64_t part_cost, int width, Item *items, int32_t *pending, int *num_items) {
  const int group = a.num_heads / a.num_kv_heads;
  const int most = kRows / group < 1 ? 1 : kRows / group < kQueries ? kRows / group : kQueries;
  int n = 0, groups = 0;
  int64_t partial = 0;
  for (int b = 0; b < a.num_seqs; b++) {
    for (int q = a.query_start[b]; q < a.query_start[b + 1]; q += most) {
      const int left = a.query_start[b + 1] - q, count = left < most ? left : most, rows = count * group;
      const int first = a.seq_lens[b] - left;
      const int hi = a.looks_ahead ? end_of_sight(a, first + count, a.seq_lens[b]) : first + count;
      const int lo = a.window > 0 && first + 1 > a.window ? first + 1 - a.window : 0;
      const bool is_long = (int64_t)(hi - lo) * (rows + 8) > part_cost;
      const int parts = is_long ? (hi - 1) / kPart - lo / kPart + 1 : 1;
      for (int h = 0; h < a.num_kv_heads; h++) {
        for (int p = 0; p < parts && items; p++) {
          const int from = p == 0 ? lo : (lo / kPart + p) * kPart, end = (lo / kPart + p + 1) * kPart;
          const int to = p + 1 == parts ? hi : end;
          items[n + p] = {b, h, q, count, from, to, parts, p, partial, groups};
        }
        n += parts;
        if (parts > 1) {
          if (items) pending[groups] = parts;
          groups++, partial += (int64_t)parts * rows * (width + 2);
        }
      }
    }
  }
  *num_items = n;
  return partial;
}

template <class S> int attend(const AttendArgs &a) {
  const int group = a.num_heads / a.num_kv_heads;
  Job job = {};
  job.args = &a;
  job.shape.key_rows = (a.head_size + S::kPair - 1) / S::kPair;
  job.shape.query_words = (job.shape.key_rows * S::kWords + 7) / 8 * 8;
  job.shape.width = (a.value_head_size + 15) / 16 * 16;
  job.shape.scale = a.softcap > 0 ? a.scale / a.softcap : a.scale * kLog2e, job.shape.softcap = a.softcap * kLog2e;
  job.max_rows = group > kRows ? group : kRows;
  int64_t cost = 0, tokens = 0;
  for (int b = 0; b < a.num_seqs; b++) {
    const int queries = a.query_start[b + 1] - a.query_start[b], seen = a.seq_lens[b];
    const int context = a.window > 0 && seen > a.window + queries ? a.window + queries : seen;
    const int tiles = (queries * group + kRows - 1) / kRows;
    tokens += (int64_t)context * tiles * a.num_kv_heads;
    cost += (int64_t)context * a.num_kv_heads * (queries * group + 8 * tiles);
  }
  // Waking the pool costs more than a few pages do. Never some of the threads: libgomp would end the others.
  const int threads = tokens * (a.head_size + a.value_head_size) < 16384 ? 1 : a.num_threads;
  const int64_t part_cost = cost / threads + 1;
  const int64_t partial = cut(a, part_cost, job.shape.width, 0, 0, &job.num_items);
  if (job.num_items == 0) return 0;
  job.scratch_words = ((int64_t)job.max_rows * (2 * (job.shape.width + 2) + 3 + job.shape.query_words) + 15) / 16 * 16;
  const int64_t floats = job.scratch_words * threads + (partial + 15) / 16 * 16;
  void *memory;
  const size_t bytes = floats * sizeof(float) + job.num_items * (sizeof(Item) + sizeof(int32_t));
  if (posix_memalign(&memory, 64, bytes)) return 1;
  job.scratch = (float *)memory;
  job.partials = job.scratch + job.scratch_words * threads;
  job.items = (Item *)(job.scratch + floats);
  job.pending = (int32_t *)(job.items + job.num_items);
  cut(a, part_cost, job.shape.width, job.items, job.pending, &job.num_items);
  if (threads == 1)
    run_share<S>(&job);
  else
    GOMP_parallel(run_share<S>, &job, threads, 0);
  free(memory);
  return 0;
}
}  // namespace

#define SPECSERVE_JOIN(a, b) a##b
#define SPECSERVE_NAME(isa) SPECSERVE_JOIN(specserve_attend_, isa)
// Returns 0, or 1 when memory for the scratch space cannot be had.
extern "C" int SPECSERVE_NAME(SPECSERVE_ISA)(const AttendArgs *a) {
  if (a->is_int8) return a->is_bf16 ? attend<Int8<uint16_t>>(*a) : attend<Int8<float>>(*a);
  if (!a->is_bf16) return attend<Float32>(*a);
#ifdef __AVX512BF16__
  return attend<Bfloat16>(*a);
#else
  return attend<Bfloat16Widened>(*a);
#endif
}
