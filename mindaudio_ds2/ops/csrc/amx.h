// Products of bfloat16 numbers in tiles of 16 x 16 elements, summed in float32, with the instructions of AMX-BF16.
//
// Elements are those of Bfloat16, and so are packed matrices: a tile of the second factor is 16 elements along k of a vector
// of columns. Only numbers of elements are rounded up, with zeros, to what a tile takes.
#pragma once

#include "bfloat16.h"
#include "panel.h"
#include "recurrent_arguments.h"

namespace ds2::ISA {

constexpr int64_t kTile = 16;  // rows of a tile, and elements of its rows
static_assert(kTile == kMaxStep && kTile == kLanes && kChunk % kTile == 0);

// Tiles are loaded behind the compiler's back: what was written before stands in memory from here on.
inline void finish_writing() { asm volatile("" ::: "memory"); }

// See Float32 and Bfloat16.
struct Bfloat16Tiles : Bfloat16 {
    static constexpr int kStep = kTile;

    // While it lives, all eight tiles of this thread have kTile rows of kTile elements.
    class Registers {
    public:
        Registers() {
            struct Configuration {
                uint8_t palette = 1, start_row = 0, reserved[14] = {};
                uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
                uint8_t num_rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
            };
            alignas(64) static constexpr Configuration kConfiguration;
            static_assert(sizeof(Configuration) == 64);
            _tile_loadconfig(&kConfiguration);
        }
        ~Registers() { _tile_release(); }
        Registers(const Registers&) = delete;
        Registers& operator=(const Registers&) = delete;
    };

    static void pack_lines(const float* lines, int64_t stride, int64_t num_lines, int64_t depth, float* out,
                           int64_t width) {
        alignas(64) float rounded[kLanes * kLanes];
        for (int64_t k = 0; k < depth; k += 2 * kLanes, out += kLanes * width) {
            round_lines(lines + k, stride, num_lines, depth - k, rounded);
            transpose(rounded, kLanes, out, width);
        }
    }

    // totals (kTile, V * kLanes) += rows (kTile, num_k) x panel.
    template <int V>
    static void multiply_tiles(const float* rows, int64_t operand_rows, const float* panel, int64_t num_k,
                               float* totals) {
        constexpr int64_t kStride = V * kLanes * sizeof(float);
        finish_writing();
        _tile_loadd(0, totals, kStride);
        if constexpr (V > 1) _tile_loadd(1, totals + kLanes, kStride);
        if constexpr (V > 2) _tile_loadd(2, totals + 2 * kLanes, kStride);
        if constexpr (V > 3) _tile_loadd(3, totals + 3 * kLanes, kStride);
        for (int64_t k = 0; k < num_k; k += kTile, panel += kTile * V * kLanes) {
            _tile_loadd(4, rows + operand_index(0, k, operand_rows), kChunk * sizeof(float));
            _tile_loadd(5, panel, kStride);
            _tile_dpbf16ps(0, 4, 5);
            if constexpr (V > 1) {
                _tile_loadd(6, panel + kLanes, kStride);
                _tile_dpbf16ps(1, 4, 6);
            }
            if constexpr (V > 2) {
                _tile_loadd(7, panel + 2 * kLanes, kStride);
                _tile_dpbf16ps(2, 4, 7);
            }
            if constexpr (V > 3) {
                _tile_loadd(5, panel + 3 * kLanes, kStride);
                _tile_dpbf16ps(3, 4, 5);
            }
        }
        _tile_stored(0, totals, kStride);
        if constexpr (V > 1) _tile_stored(1, totals + kLanes, kStride);
        if constexpr (V > 2) _tile_stored(2, totals + 2 * kLanes, kStride);
        if constexpr (V > 3) _tile_stored(3, totals + 3 * kLanes, kStride);
    }

    // multiply_panel of panel.h. Where fewer than kTile rows are left, what stands behind them in the operand is
    // multiplied, too, and thrown away: it has room for as many.
    template <int V>
    static void multiply_panel(const float* operand, int64_t operand_rows, int64_t num_rows, const float* panel,
                               int64_t num_k, float* totals) {
        constexpr int64_t kFloats = V * kLanes;
        for (int64_t row = 0; row < num_rows; row += kTile, totals += kTile * kFloats) {
            const float* rows = operand + row * kChunk;
            const int64_t num_floats = smaller(kTile, num_rows - row) * kFloats;
            if (num_floats == kTile * kFloats) {
                multiply_tiles<V>(rows, operand_rows, panel, num_k, totals);
                continue;
            }
            alignas(64) float all[kTile * kFloats];
            std::memcpy(all, totals, num_floats * sizeof(float));
            multiply_tiles<V>(rows, operand_rows, panel, num_k, all);
            std::memcpy(totals, all, num_floats * sizeof(float));
        }
    }
};

}  // namespace ds2::ISA
