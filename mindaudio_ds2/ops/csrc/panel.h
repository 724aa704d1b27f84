// The product of a few rows and a packed matrix that the recurrent layers run once a frame.
//
// A k is here an element of the product, Float32, Bfloat16 or Int8. The matrix is cut into panels of V vectors (V * kLanes
// columns), packed as [k][vector][lane]; the rows stand in an operand with the k of one chunk side by side. A chunk of a
// panel stays in the L1 cache over all rows. Every element is summed in the same order whatever the number of rows and
// panels: neither threads nor other rows change a result.
#pragma once

#include <algorithm>

#include "float32.h"

namespace ds2::ISA {

constexpr int64_t kChunk = 64;      // k summed in registers; a multiple of kLanes
constexpr int kMaxVectors = 4;      // of a panel
constexpr int64_t kGroupRows = 32;  // rows that share a chunk of the panel while it is in L1

// The most rows of a register tile: accumulators, V vectors of weights (or `rows` broadcasts) and one more fit.
template <int V>
constexpr int kTileRows = kRegisters >= 32 ? (V == 4 ? 6 : 8) : (V == 4 ? 3 : V == 3 ? 4 : V == 2 ? 6 : 8);

// Where element (row, k) of a matrix with num_rows rows stands: chunks of k, and in them the rows.
inline int64_t operand_index(int64_t row, int64_t k, int64_t num_rows) {
    return (k / kChunk * num_rows + row) * kChunk + k % kChunk;
}

inline int64_t round_up(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

// totals (R, V * kLanes) += rows (R, num_k) x panel (num_k, V * kLanes), fetching F cache lines from `next` on for
// each k.
template <typename Product, int R, int V, int F>
void multiply_tile(const float* rows, const float* panel, int64_t num_k, float* totals, const float* next) {
    typename Product::Sum sums[R][V] = {};
    for (int64_t k = 0; k < num_k; ++k) {
        if constexpr (V <= R) {
            Vec weights[V];
            for (int v = 0; v < V; ++v) weights[v] = load(panel + v * kLanes);
            for (int r = 0; r < R; ++r) {
                const Vec x = Product::spread(rows + r * kChunk + k);
                for (int v = 0; v < V; ++v) sums[r][v] = Product::add_product(sums[r][v], x, weights[v]);
            }
        } else {
            Vec x[R];
            for (int r = 0; r < R; ++r) x[r] = Product::spread(rows + r * kChunk + k);
            for (int v = 0; v < V; ++v) {
                const Vec weights = load(panel + v * kLanes);
                for (int r = 0; r < R; ++r) sums[r][v] = Product::add_product(sums[r][v], x[r], weights);
            }
        }
        panel += V * kLanes;
        for (int line = 0; line < F; ++line) __builtin_prefetch(next + line * kLineFloats);
        next += F * kLineFloats;
    }
#pragma GCC unroll 8  // else the sums go through the stack
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) {
            float* total = totals + (r * V + v) * kLanes;
            store(total, load_as<typename Product::Sum>(total) + sums[r][v]);
        }
    }
}

template <typename Product, int V, int F, int R = kTileRows<V>>
void multiply_rows(int64_t num_rows, const float* rows, const float* panel, int64_t num_k, float* totals,
                   const float* next) {
    if constexpr (R > 1) {
        if (num_rows < R) return multiply_rows<Product, V, F, R - 1>(num_rows, rows, panel, num_k, totals, next);
    }
    multiply_tile<Product, R, V, F>(rows, panel, num_k, totals, next);
}

// multiply_panel for one row: reading the panel is all the work, so the totals stay in registers and nothing interrupts.
// The hardware sees the next chunk coming; fetching it, too, would only cost.
template <typename Product, int V>
void multiply_row(const float* operand, int64_t operand_rows, const float* panel, int64_t num_k, float* totals) {
    constexpr int kFloats = V * kLanes;
    using Sum = typename Product::Sum;
    Sum sums[V], all[V];
    for (int v = 0; v < V; ++v) all[v] = load_as<Sum>(totals + v * kLanes);
    for (int64_t first = 0; first < num_k; first += kChunk) {
        const int64_t depth = std::min(kChunk, num_k - first);
        for (int v = 0; v < V; ++v) sums[v] = Sum{};
        for (int64_t k = 0; k < depth; ++k, panel += kFloats) {
            const Vec x = Product::spread(operand + k);
            for (int v = 0; v < V; ++v) sums[v] = Product::add_product(sums[v], x, load(panel + v * kLanes));
        }
        for (int v = 0; v < V; ++v) all[v] += sums[v];
        operand += operand_rows * kChunk;
    }
    for (int v = 0; v < V; ++v) store(totals + v * kLanes, all[v]);
}

// totals (num_rows, V * kLanes) += operand (num_rows, num_k) x panel; the operand has room for operand_rows rows.
// While it works on one chunk it fetches the next, and at the end the first of next_panel: the hardware does not see
// through the repeated passes over a chunk.
template <typename Product, int V>
void multiply_panel(const float* operand, int64_t operand_rows, int64_t num_rows, const float* panel, int64_t num_k,
                    float* totals, const float* next_panel) {
    if constexpr (Product::kStep > 1) {
        return Product::template multiply_panel<V>(operand, operand_rows, num_rows, panel, num_k, totals);
    }
    constexpr int64_t kFloats = V * kLanes, kLines = std::max<int64_t>(1, kFloats / kLineFloats);  // for each k
    if (num_rows == 1) return multiply_row<Product, V>(operand, operand_rows, panel, num_k, totals);
    for (int64_t first = 0; first < num_rows; first += kGroupRows) {
        const int64_t group_rows = std::min(kGroupRows, num_rows - first);
        const int64_t num_tiles = (group_rows + kTileRows<V> - 1) / kTileRows<V>;
        for (int64_t k = 0; k < num_k; k += kChunk) {
            const int64_t depth = std::min(kChunk, num_k - k);
            const float* chunk = panel + k * kFloats;
            const float* next = k + kChunk < num_k ? chunk + kChunk * kFloats : next_panel;
            for (int64_t tile = 0; tile < num_tiles; ++tile) {
                const int64_t row = first + group_rows * tile / num_tiles;
                const int64_t tile_rows = first + group_rows * (tile + 1) / num_tiles - row;
                const float* rows = operand + operand_index(row, k, operand_rows);
                float* to = totals + row * kFloats;
                if (num_tiles >= kLines) {
                    if (tile < kLines) {
                        const float* own_next = next + tile * kChunk * kLineFloats;
                        multiply_rows<Product, V, 1>(tile_rows, rows, chunk, depth, to, own_next);
                    } else {
                        multiply_rows<Product, V, 0>(tile_rows, rows, chunk, depth, to, next);
                    }
                } else if (num_tiles * 2 >= kLines) {
                    const float* own_next = next + 2 * tile * kChunk * kLineFloats;
                    multiply_rows<Product, V, 2>(tile_rows, rows, chunk, depth, to, own_next);
                } else {
                    multiply_rows<Product, V, 4>(tile_rows, rows, chunk, depth, to, next);
                }
            }
        }
    }
}

}  // namespace ds2::ISA
