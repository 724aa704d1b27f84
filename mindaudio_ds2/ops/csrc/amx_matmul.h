// The product of large matrices, matmul.h, in tiles of AMX: 2 x 2 tiles of the result are summed in registers at a time.
#pragma once

#include "amx.h"
#include "matmul.h"

namespace ds2::ISA::matmul {

template <>
struct Blocking<Bfloat16Tiles> {
    static constexpr int kRows = 2 * kTile;
    static constexpr int64_t kGroupPanels = 512 / kPanel;
    static constexpr int64_t kTileElements = kRows * kTile;  // of two tiles below each other
    static_assert(kPanel == 2 * kTile);

    // [kTile elements of k][row][element]
    static void pack(const Part& part, bool are_columns, float* out) {
        for (int64_t k = 0; k < part.depth; k += 2 * kTile, out += kTileElements) {
            are_columns ? pack_columns_of_tile(part, k, out) : pack_rows_of_tile(part, k, out);
        }
    }

    static void pack_rows_of_tile(const Part& part, int64_t k, float* out) {
        const int64_t low = part.depth - k, high = low - kLanes;
        for (int64_t row = 0; row < part.num_lines; ++row) {
            const float* values = part.values + row * part.stride + k;
            store(out + row * kTile, round_pairs(load_lanes(values, low), load_lanes(values + kLanes, high)));
        }
    }

    static void pack_columns_of_tile(const Part& part, int64_t k, float* out) {
        alignas(64) float rounded[kTile * kTile];
        for (int64_t row = 0; row < part.num_lines; row += kTile) {
            for (int64_t pair = 0; pair < kTile; ++pair) {
                const int64_t first = k + 2 * pair;
                const float* values = part.values + first * part.stride + row;
                Bfloat16::pack_rows(values, part.stride, part.depth - first, part.num_lines - row,
                                    rounded + pair * kTile, kTile);
            }
            transpose(rounded, kTile, out + row * kTile, kTile);
        }
    }

    static void multiply(const float* tile, bool, const float* panel, int64_t num_elements, bool is_first, float* out,
                         int64_t stride, int64_t num_rows, int64_t num_columns) {
        constexpr int64_t kRowBytes = kTile * sizeof(float), kPanelBytes = kPanel * sizeof(float);
        finish_writing();
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
        for (int64_t k = 0; k < num_elements; k += kTile, tile += kTileElements, panel += kTile * kPanel) {
            _tile_loadd(4, tile, kRowBytes);
            _tile_loadd(6, panel, kPanelBytes);
            _tile_dpbf16ps(0, 4, 6);
            _tile_loadd(7, panel + kLanes, kPanelBytes);
            _tile_dpbf16ps(1, 4, 7);
            _tile_loadd(5, tile + kTile * kTile, kRowBytes);
            _tile_dpbf16ps(2, 5, 6);
            _tile_dpbf16ps(3, 5, 7);
        }
        if (is_first && num_rows == kRows && num_columns == kPanel) return store_sums(out, stride);
        alignas(64) float sums[kRows * kPanel];
        store_sums(sums, kPanel);
        add_sums(sums, is_first, out, stride, num_rows, num_columns);
    }

    // out (num_rows, num_columns) = or += sums (num_rows, kPanel).
    static void add_sums(const float* sums, bool is_first, float* out, int64_t stride, int64_t num_rows, int64_t num_columns) {
        for (int64_t r = 0; r < num_rows; ++r) {
            for (int64_t c = 0; c < num_columns; c += kLanes) {
                const int n = static_cast<int>(smaller(kLanes, num_columns - c));
                const Vec sum = load(sums + r * kPanel + c);
                float* to = out + r * stride + c;
                store_upto(to, is_first ? sum : load_upto(to, n) + sum, n);
            }
        }
    }

    static void store_sums(float* out, int64_t stride) {
        const int64_t num_bytes = stride * static_cast<int64_t>(sizeof(float));
        _tile_stored(0, out, num_bytes);
        _tile_stored(1, out + kLanes, num_bytes);
        _tile_stored(2, out + kTile * stride, num_bytes);
        _tile_stored(3, out + kTile * stride + kLanes, num_bytes);
    }
};

}  // namespace ds2::ISA::matmul
