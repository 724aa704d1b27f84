// The product of two large matrices, summed in float32.
//
// A block of b, kMatMulElements deep and kMatMulColumns wide, is packed in panels of two vectors and shared by all threads
// through the caches; each thread packs tiles of some rows of a into its L1 cache. Groups of panels that fit the L2 cache
// are multiplied with all rows before the next. Each element is summed in the same order whatever the number of threads.
// Product is Float32, Bfloat16 or Bfloat16Tiles (amx_matmul.h).
#pragma once

#include <omp.h>

#include "float32.h"
#include "matmul_arguments.h"

namespace ds2::ISA::matmul {

constexpr int64_t kPanel = 2 * kLanes;               // columns of b of a register tile
constexpr int64_t kElements = kMatMulElements;
static_assert(kMatMulColumns % kPanel == 0);

// A part of a matrix that is summed over k: its lines, num_lines of `depth` k each, stand as rows or as columns.
struct Part {
    const float* values;
    int64_t stride;  // floats from line to line, or where they stand as columns from k to k
    int64_t num_lines, depth;
};

// The part of a matrix of `num_lines` times `depth` that begins at a line and a k.
template <typename Product>
Part find_part(const float* values, bool is_line_a_row, int64_t num_lines, int64_t depth, int64_t line, int64_t k,
               int64_t most_lines) {
    const int64_t stride = is_line_a_row ? depth : num_lines;
    const float* first = values + (is_line_a_row ? line * stride + k : k * stride + line);
    return {first, stride, smaller(most_lines, num_lines - line), smaller(kElements * Product::kDepth, depth - k)};
}

// [element][line], WIDTH lines, for lines that stand as columns. Up to a vector behind the end is overwritten.
template <typename Product, int WIDTH>
void pack_columns(const Part& part, float* out) {
    const int64_t depth = count_elements<Product>(part.depth) * Product::kDepth;
    for (int64_t k = 0; k < depth; k += Product::kDepth, out += WIDTH) {
        Product::pack_rows(part.values + k * part.stride, part.stride, part.depth - k, part.num_lines, out, WIDTH);
    }
}

// A panel of b, [element][kPanel].
template <typename Product>
void pack_panel(const Part& part, bool is_transposed, float* out) {
    if (!is_transposed) return pack_columns<Product, kPanel>(part, out);
    for (int64_t line = 0; line < kPanel; line += kLanes) {
        Product::pack_lines(part.values + line * part.stride, part.stride, part.num_lines - line, part.depth,
                            out + line, kPanel);
    }
}

// How a product packs rows of a and multiplies them with a panel.
template <typename Product>
struct Blocking {
    static constexpr int kRows = kRegisters >= 32 ? 12 : 6;  // of a register tile
    static constexpr int64_t kGroupPanels = 256 / kPanel;    // at most, of a group

    // [element][row] where they stand as columns, else [row][element] with kElements from row to row.
    static void pack(const Part& part, bool are_columns, float* out) {
        if (are_columns) return pack_columns<Product, kRows>(part, out);
        for (int64_t line = 0; line < part.num_lines; ++line) {
            Product::pack_line(part.values + line * part.stride, part.depth, out + line * kElements);
        }
    }

    // The same with rows ROW and elements ELEMENT floats apart.
    template <int ROW, int ELEMENT>
    static void multiply_tile(const float* a, const float* panel, int64_t num_elements, bool is_first, float* out,
                              int64_t stride, int64_t num_rows, int64_t num_columns) {
        Vec sums[kRows][2] = {};
        for (int64_t i = 0; i < num_elements; ++i) {
            const Vec first = load(panel + i * kPanel), second = load(panel + i * kPanel + kLanes);
#pragma GCC unroll 12
            for (int r = 0; r < kRows; ++r) {
                const Vec x = Product::spread(a + r * ROW + i * ELEMENT);
                sums[r][0] = Product::add_product(sums[r][0], x, first);
                sums[r][1] = Product::add_product(sums[r][1], x, second);
            }
        }
#pragma GCC unroll 12
        for (int r = 0; r < kRows; ++r) {
            if (r >= num_rows) break;
            for (int v = 0; v < 2 && v * kLanes < num_columns; ++v) {
                const int n = static_cast<int>(smaller(kLanes, num_columns - v * kLanes));
                float* to = out + r * stride + v * kLanes;
                store_upto(to, is_first ? sums[r][v] : load_upto(to, n) + sums[r][v], n);
            }
        }
    }

    // out (num_rows, num_columns) = or += packed rows x a panel.
    static void multiply(const float* a, bool were_columns, const float* panel, int64_t num_elements, bool is_first,
                         float* out, int64_t stride, int64_t num_rows, int64_t num_columns) {
        const auto run = were_columns ? multiply_tile<1, kRows> : multiply_tile<kElements, 1>;
        run(a, panel, num_elements, is_first, out, stride, num_rows, num_columns);
    }
};

// Rows of a times the panels begin .. end - 1 of the packed block whose first column is `column`.
template <typename Product>
void multiply_rows(const MatMulArguments& p, int64_t row, int64_t column, int64_t begin, int64_t end, int64_t k,
                   float* tile) {
    using Tile = Blocking<Product>;
    const Part part = find_part<Product>(p.a, !p.is_a_transposed, p.M, p.K, row, k, Tile::kRows);
    const int64_t num_elements = count_elements<Product>(part.depth);
    Tile::pack(part, p.is_a_transposed, tile);
    for (int64_t panel = begin; panel < end; ++panel) {
        const int64_t n = column + panel * kPanel;
        Tile::multiply(tile, p.is_a_transposed, p.block + panel * kPanel * kElements, num_elements, k == 0,
                       p.result + row * p.N + n, p.N, part.num_lines, smaller(kPanel, p.N - n));
    }
}

template <typename Product>
void run_matmul(const MatMulArguments& p) {
    if (p.K == 0) set_zero(p.result, p.M * p.N);
    using Tile = Blocking<Product>;
    static_assert(Tile::kRows <= kMatMulRows && kElements % Product::kStep == 0);
    const int64_t num_tiles = ceil_divide(p.M, Tile::kRows);
#pragma omp parallel num_threads(p.num_threads)
    {
        [[maybe_unused]] const typename Product::Registers registers{};
        float* tile = p.tiles + omp_get_thread_num() * kMatMulTile;
        set_zero(tile, kMatMulTile);  // rows that are not there are read and thrown away
        for (int64_t k = 0; k < p.K; k += kElements * Product::kDepth) {
            for (int64_t column = 0; column < p.N; column += kMatMulColumns) {
                const int64_t num_panels = ceil_divide(smaller(kMatMulColumns, p.N - column), kPanel);
                const int64_t num_groups = ceil_divide(num_panels, Tile::kGroupPanels);
#pragma omp for schedule(static)
                for (int64_t panel = 0; panel < num_panels; ++panel) {
                    const int64_t n = column + panel * kPanel;
                    const Part part = find_part<Product>(p.b, p.is_b_transposed, p.N, p.K, n, k, kPanel);
                    pack_panel<Product>(part, p.is_b_transposed, p.block + panel * kPanel * kElements);
                }
#pragma omp for schedule(static)
                for (int64_t i = 0; i < num_groups * num_tiles; ++i) {
                    const int64_t group = i / num_tiles, row = i % num_tiles * Tile::kRows;
                    multiply_rows<Product>(p, row, column, num_panels * group / num_groups,
                                           num_panels * (group + 1) / num_groups, k, tile);
                }
            }
        }
    }
}

}  // namespace ds2::ISA::matmul
