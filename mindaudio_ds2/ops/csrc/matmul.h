// The product of two large matrices in bfloat16, summed in float32.
//
// A block of b, kMatMulDepth deep and kMatMulColumns wide, is rounded and packed in panels of two vectors and shared by
// all threads through the caches; each thread rounds tiles of kMatMulRows rows of a into its L1 cache. Each element is
// summed in the same order whatever the number of threads.
#pragma once

#include <omp.h>

#include "bfloat16.h"
#include "matmul_arguments.h"

namespace ds2::ISA::matmul {

constexpr int64_t kPanel = 2 * kLanes;        // columns of b of a register tile
constexpr int64_t kPairs = kMatMulDepth / 2;  // in a block, at most
constexpr int64_t kStep = 2 * kLanes;         // k rounded by one instruction
static_assert(kMatMulColumns % kPanel == 0 && kMatMulDepth % kStep == 0);

// A part of a matrix that is summed over k: its lines, num_lines of `depth` k each, stand as rows or as columns.
struct Part {
    const float* values;
    int64_t stride;  // floats from line to line, or where they stand as columns from k to k
    int64_t num_lines, depth;

    Vec load_line(int64_t line, int64_t k) const { return load_lanes(values + line * stride + k, depth - k); }

    Vec load_across(int64_t line, int64_t k) const {
        return load_lanes(values + k * stride + line, k < depth ? num_lines - line : 0);
    }
};

// The part of a matrix of `num_lines` times `depth` that begins at a line and a k.
inline Part find_part(const float* values, bool is_line_a_row, int64_t num_lines, int64_t depth, int64_t line,
                      int64_t k, int64_t most_lines) {
    const int64_t stride = is_line_a_row ? depth : num_lines;
    const float* first = values + (is_line_a_row ? line * stride + k : k * stride + line);
    return {first, stride, smaller(most_lines, num_lines - line), smaller(kMatMulDepth, depth - k)};
}

// Rows of pairs [line][pair], kPairs from line to line.
inline void round_lines(const Part& part, float* out) {
    for (int64_t line = 0; line < part.num_lines; ++line) {
        for (int64_t k = 0; k < part.depth; k += kStep) {
            store(out + line * kPairs + k / 2, round_pairs(part.load_line(line, k), part.load_line(line, k + kLanes)));
        }
    }
}

// [pair][line], `num_lines` elements from pair to pair, for lines that stand as columns.
inline void round_columns(const Part& part, int64_t num_lines, float* out) {
    for (int64_t k = 0; k < part.depth; k += 2, out += num_lines) {
        for (int64_t line = 0; line < num_lines; line += kLanes) {
            const Vec pairs = round_rows(part.load_across(line, k), part.load_across(line, k + 1));
            store_lanes(out + line, pairs, num_lines - line);
        }
    }
}

// A panel of b, [pair][kPanel].
inline void pack_panel(const Part& part, bool is_transposed, float* out) {
    if (!is_transposed) return round_columns(part, kPanel, out);
    for (int64_t line = 0; line < kPanel; line += kLanes) {
        Bfloat16::pack_lines(part.values + line * part.stride, part.stride, part.num_lines - line, part.depth,
                             out + line, kPanel);
    }
}

// out (num_rows, num_columns) = or += a tile of a, its rows ROW elements and its pairs PAIR elements apart, x a panel.
template <int ROW, int PAIR>
void multiply_tile(const float* a, const float* panel, int64_t num_pairs, bool is_first, float* out, int64_t stride,
                   int64_t num_rows, int64_t num_columns) {
    constexpr int R = kMatMulRows;
    Vec sums[R][2] = {};
    for (int64_t pair = 0; pair < num_pairs; ++pair) {
        const Vec first = load(panel + pair * kPanel), second = load(panel + pair * kPanel + kLanes);
#pragma GCC unroll 12
        for (int r = 0; r < R; ++r) {
            const Vec x = Bfloat16::spread(a + r * ROW + pair * PAIR);
            sums[r][0] = Bfloat16::add_product(sums[r][0], x, first);
            sums[r][1] = Bfloat16::add_product(sums[r][1], x, second);
        }
    }
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r) {
        if (r >= num_rows) break;
        for (int v = 0; v < 2; ++v) {
            const int64_t n = num_columns - v * kLanes;
            float* to = out + r * stride + v * kLanes;
            store_lanes(to, is_first ? sums[r][v] : load_lanes(to, n) + sums[r][v], n);
        }
    }
}

// A tile of a times the panels of a packed block of b.
inline void multiply_rows(const MatMulArguments& p, int64_t row, int64_t column, int64_t k, float* tile) {
    const Part part = find_part(p.a, !p.is_a_transposed, p.M, p.K, row, k, kMatMulRows);
    const int64_t num_pairs = (part.depth + 1) / 2, end = smaller(p.N, column + kMatMulColumns);
    p.is_a_transposed ? round_columns(part, kMatMulRows, tile) : round_lines(part, tile);
    for (int64_t n = column; n < end; n += kPanel) {
        const float* panel = p.block + (n - column) * kPairs;
        float* out = p.result + row * p.N + n;
        const auto multiply = p.is_a_transposed ? multiply_tile<1, kMatMulRows> : multiply_tile<kPairs, 1>;
        multiply(tile, panel, num_pairs, k == 0, out, p.N, part.num_lines, smaller(kPanel, end - n));
    }
}

inline void run_matmul(const MatMulArguments& p) {
    if (p.K == 0) set_zero(p.result, p.M * p.N);
    constexpr int64_t kTile = kMatMulRows * kPairs;
#pragma omp parallel num_threads(p.num_threads)
    {
        float* tile = p.tiles + omp_get_thread_num() * kTile;
        for (int64_t i = 0; i < kTile; ++i) tile[i] = 0.0f;  // rows that are not there are read and thrown away
        for (int64_t k = 0; k < p.K; k += kMatMulDepth) {
            for (int64_t column = 0; column < p.N; column += kMatMulColumns) {
                const int64_t num_columns = smaller(kMatMulColumns, p.N - column);
#pragma omp for schedule(static)
                for (int64_t n = 0; n < num_columns; n += kPanel) {
                    const Part part = find_part(p.b, p.is_b_transposed, p.N, p.K, column + n, k, kPanel);
                    pack_panel(part, p.is_b_transposed, p.block + n * kPairs);
                }
#pragma omp for schedule(static)
                for (int64_t row = 0; row < p.M; row += kMatMulRows) multiply_rows(p, row, column, k, tile);
            }
        }
    }
}

}  // namespace ds2::ISA::matmul
