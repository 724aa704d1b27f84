// Products of bfloat16 numbers, summed in float32, with the instructions of AVX512-BF16.
//
// Those round to nearest, ties to even, and take and give zero for what is smaller than the least normal number.
#pragma once

#include <immintrin.h>

#include "float32.h"

namespace ds2::ISA {

// The first n of kLanes floats, as load_upto and store_upto, but quick for every n; there are none where n < 1.
inline __mmask16 choose_lanes(int64_t n) { return n >= kLanes ? 0xffff : n < 1 ? 0 : (1 << n) - 1; }

inline Vec load_lanes(const float* p, int64_t n) { return (Vec)_mm512_maskz_loadu_ps(choose_lanes(n), p); }

inline void store_lanes(float* p, Vec v, int64_t n) { _mm512_mask_storeu_ps(p, choose_lanes(n), (__m512)v); }

// 2 * kLanes floats as kLanes elements of two neighbours each.
inline Vec round_pairs(Vec low, Vec high) {
    return (Vec)_mm512_cvtne2ps_pbh((__m512)high, (__m512)low);
}

// The floats of two rows that stand below each other as kLanes elements.
inline Vec round_rows(Vec first, Vec second) {
    alignas(64) static constexpr int16_t kInTurn[2 * kLanes] = {
        0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
        8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    return (Vec)_mm512_permutexvar_epi16(_mm512_load_si512(kInTurn), (__m512i)round_pairs(first, second));
}

// See Float32. An element is two bfloat16 that follow each other along k, the first in the low half.
struct Bfloat16 {
    using Sum = Vec;
    static constexpr int kDepth = 2;
    static constexpr int kStep = 1;
    static constexpr bool kIsStored = false;

    struct Registers {};

    static Vec spread(const float* element) {
        int32_t bits;
        std::memcpy(&bits, element, sizeof bits);
        return (Vec)_mm512_set1_epi32(bits);
    }

    static Vec add_product(Vec sum, Vec x, Vec y) {
        return (Vec)_mm512_dpbf16_ps((__m512)sum, (__m512bh)x, (__m512bh)y);
    }

    static void store_elements(float* out, Vec numbers) {
        const __m256bh rounded = _mm512_cvtneps_pbh((__m512)numbers);
        std::memcpy(out, &rounded, sizeof rounded);
    }

    static void pack_line(const float* line, int64_t depth, float* out) {
        for (int64_t k = 0; k < depth; k += 2 * kLanes) {
            const Vec low = load_lanes(line + k, depth - k), high = load_lanes(line + k + kLanes, depth - k - kLanes);
            store(out + k / 2, round_pairs(low, high));
        }
    }

    // kLanes elements of each of kLanes lines, [line][element]; what is beyond num_lines and depth is zero.
    static void round_lines(const float* lines, int64_t stride, int64_t num_lines, int64_t depth, float* out) {
        for (int64_t line = 0; line < kLanes; ++line) {
            const float* values = lines + line * stride;
            const int64_t n = line < num_lines ? depth : 0;
            store(out + line * kLanes, round_pairs(load_lanes(values, n), load_lanes(values + kLanes, n - kLanes)));
        }
    }

    static void pack_lines(const float* lines, int64_t stride, int64_t num_lines, int64_t depth, float* out,
                           int64_t width) {
        alignas(64) float rounded[kLanes * kLanes], across[kLanes * kLanes];
        for (int64_t k = 0; k < depth; k += 2 * kLanes) {
            round_lines(lines + k, stride, num_lines, depth - k, rounded);
            transpose(rounded, kLanes, across, kLanes);
            const int64_t num_pairs = smaller(kLanes, ceil_divide(depth - k, 2));
            for (int64_t pair = 0; pair < num_pairs; ++pair, out += width) store(out, load(across + pair * kLanes));
        }
    }

    static void pack_rows(const float* rows, int64_t stride, int64_t num_rows, int64_t num_columns, float* out,
                          int64_t width) {
        for (int64_t column = 0; column < width; column += kLanes) {
            const int64_t first = num_rows > 0 ? num_columns - column : 0, second = num_rows > 1 ? first : 0;
            store(out + column,
                  round_rows(load_lanes(rows + column, first), load_lanes(rows + stride + column, second)));
        }
    }

    static void put(float number, int64_t k, float* packed, int64_t width) {
        const __m128bh rounded = _mm_cvtneps_pbh(_mm_set_ss(number));
        std::memcpy(reinterpret_cast<char*>(packed + k / 2 * width) + k % 2 * 2, &rounded, 2);
    }

    static void join_neighbours(float* values, int64_t count, int64_t distance) {
        for (int64_t i = 0; i < count; i += kLanes) {
            const Vec first = load_lanes(values + i, count - i);
            const Vec second = load_lanes(values + i + distance, count - i - distance);
            store_lanes(values + i, round_rows(first, second), count - i);
        }
    }
};

}  // namespace ds2::ISA
