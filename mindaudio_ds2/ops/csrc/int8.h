// Products of whole numbers of eight bits, summed in int32.
//
// A line of floats becomes numbers from -127 to 127, its largest magnitude 127, rounded to nearest, ties to even. Sums of
// their products are exact, so every instruction set comes to the same ones; it chooses how numbers stand: four bytes in
// an element for AVX512-VNNI, two of 16 bits for AVX2 and SSE2, whose products of bytes would saturate, one elsewhere.
#pragma once

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "float32.h"
#include "recurrent_arguments.h"

namespace ds2::ISA {

constexpr float kLargest = 127.0f;

// To nearest, ties to even.
inline IntVec round_to_integers(Vec x) {
#if defined(__AVX512F__)
    return (IntVec)_mm512_maskz_cvtps_epi32(0xffff, (__m512)x);  // without a mask g++ warns
#elif defined(__AVX2__)
    return (IntVec)_mm256_cvtps_epi32((__m256)x);
#elif defined(__SSE2__)
    return (IntVec)_mm_cvtps_epi32((__m128)x);
#else
    IntVec rounded;
    for (int lane = 0; lane < kLanes; ++lane) rounded[lane] = static_cast<int32_t>(__builtin_lrintf(x[lane]));
    return rounded;
#endif
}

// A vector of sums as floats: times the scales of the rows of weights and that of what was multiplied with them.
inline Vec scale_sums(const float* sums, const float* offsets, const float* scales, int num_units, float scale) {
    const IntVec exact = load_as<IntVec>(sums) + load_as<IntVec>(offsets);
    return __builtin_convertvector(exact, Vec) * (load_upto(scales, num_units) * scale);
}

// See Float32.
struct Int8 {
    using Sum = IntVec;
    static constexpr int kStep = 1;
    static constexpr bool kIsStored = false;

    struct Registers {};

    static Vec spread(const float* element) {
        int32_t bits;
        std::memcpy(&bits, element, sizeof bits);
        return (Vec)(bits - IntVec{});
    }

#if defined(__AVX512VNNI__)
    using Number = int8_t;
    // Of the first factor, whose bytes have no sign: sums are too large by so many times those of the second.
    static constexpr int32_t kOffset = 128;

    static IntVec add_product(IntVec sum, Vec x, Vec y) {
        return (IntVec)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)x, (__m512i)y);
    }

    static void store_integers(float* out, IntVec numbers) {
        const __m128i bytes = _mm512_cvtepi32_epi8((__m512i)(numbers + kOffset));
        std::memcpy(out, &bytes, sizeof bytes);
    }
#elif defined(__AVX2__)
    using Number = int16_t;
    static constexpr int32_t kOffset = 0;

    static IntVec add_product(IntVec sum, Vec x, Vec y) {
        return sum + (IntVec)_mm256_madd_epi16((__m256i)x, (__m256i)y);
    }

    static void store_integers(float* out, IntVec numbers) {
        const __m256i all = (__m256i)numbers;
        const __m128i pairs = _mm_packs_epi32(_mm256_castsi256_si128(all), _mm256_extracti128_si256(all, 1));
        std::memcpy(out, &pairs, sizeof pairs);
    }
#elif defined(__SSE2__)
    using Number = int16_t;
    static constexpr int32_t kOffset = 0;

    static IntVec add_product(IntVec sum, Vec x, Vec y) { return sum + (IntVec)_mm_madd_epi16((__m128i)x, (__m128i)y); }

    static void store_integers(float* out, IntVec numbers) {
        const __m128i pairs = _mm_packs_epi32((__m128i)numbers, (__m128i)numbers);
        std::memcpy(out, &pairs, kLanes * sizeof(Number));
    }
#else
    using Number = int32_t;
    static constexpr int32_t kOffset = 0;

    static IntVec add_product(IntVec sum, Vec x, Vec y) { return sum + (IntVec)x * (IntVec)y; }

    static void store_integers(float* out, IntVec numbers) { store(out, numbers); }
#endif
    static constexpr int kDepth = 4 / sizeof(Number);

    // Hidden states, which are from -1 to 1; a caller's may be more, and saturate.
    static void store_elements(float* out, Vec states) {
        const Vec one = broadcast(1.0f);
        states = states > one ? one : states < -one ? -one : states;
        store_integers(out, round_to_integers(states * kLargest));
    }

    // As Float32's.
    static void put(int32_t number, int64_t k, float* packed, int64_t width) {
        const auto stored = static_cast<Number>(number);
        std::memcpy(reinterpret_cast<char*>(packed + k / kDepth * width) + k % kDepth * sizeof stored, &stored,
                    sizeof stored);
    }

    // Makes floats of the totals (num_rows, G * kLanes) of a vector of hidden units. Behind the packed weights stands
    // what makes up for kOffset, [unit vector][gate][lane].
    template <int G>
    static void finish_totals(const ForwardArguments& p, int d, int64_t vector, int64_t num_rows, float* totals) {
        const int64_t H = p.sequences.num_hidden, unit = vector * kLanes;
        const float* offsets = p.packed[d] + (ceil_divide(H, kLanes) * ceil_divide(H, kDepth) + vector) * G * kLanes;
        const int num_units = static_cast<int>(smaller(kLanes, H - unit));
        for (int64_t row = 0; row < num_rows; ++row) {
            for (int gate = 0; gate < G; ++gate, totals += kLanes) {
                const float* scales = p.scales[d] + gate * H + unit;
                store(totals, scale_sums(totals, offsets + gate * kLanes, scales, num_units, 1.0f / kLargest));
            }
        }
    }
};

}  // namespace ds2::ISA
