// Vectors of floats, as wide as the instruction set that this translation unit is compiled for.
//
// Every kernel is compiled several times, each time inside another namespace ISA (isa_avx2.cpp and its like), and
// dispatch.cpp picks one when the library is loaded. Nothing here may be called from outside such a namespace.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#ifndef ISA
#error "include this from a file that defines ISA"
#endif

namespace ds2::ISA {

#if defined(__AVX512F__)
constexpr int kLanes = 16;
constexpr int kRegisters = 32;
#elif defined(__AVX2__)
constexpr int kLanes = 8;
constexpr int kRegisters = 16;
#else
constexpr int kLanes = 4;
#if defined(__aarch64__)
constexpr int kRegisters = 32;
#else
constexpr int kRegisters = 16;
#endif
#endif

typedef float Vec __attribute__((vector_size(kLanes * sizeof(float))));
typedef int32_t IntVec __attribute__((vector_size(kLanes * sizeof(int32_t))));

inline Vec load(const float* p) {
    Vec v;
    std::memcpy(&v, p, sizeof v);
    return v;
}

inline void store(float* p, Vec v) { std::memcpy(p, &v, sizeof v); }

// Whole numbers may stand where floats could: Vector is Vec or IntVec.
template <typename Vector>
Vector load_as(const float* p) {
    return (Vector)load(p);
}

inline void store(float* p, IntVec v) { store(p, (Vec)v); }

// x - 0, which the compiler drops; 0 + x it would have to compute, because of x = -0.
inline Vec broadcast(float x) { return x - Vec{}; }

inline void set_zero(float* values, int64_t count) {
    for (int64_t i = 0; i < count; ++i) values[i] = 0.0f;
}

inline int64_t ceil_divide(int64_t a, int64_t b) { return (a + b - 1) / b; }
inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

// The first n < kLanes floats; the other lanes are zero.
inline Vec load_partial(const float* p, int n) {
    Vec v{};
    std::memcpy(&v, p, n * sizeof(float));
    return v;
}

inline void store_partial(float* p, Vec v, int n) { std::memcpy(p, &v, n * sizeof(float)); }

// Like load and store for n <= kLanes floats, quick where n is kLanes.
inline Vec load_upto(const float* p, int n) { return n == kLanes ? load(p) : load_partial(p, n); }

inline void store_upto(float* p, Vec v, int n) { n == kLanes ? store(p, v) : store_partial(p, v, n); }

#if defined(__AVX512F__)
// kLanes rows of kLanes floats, `stride` apart, across: what stood in a row stands in a column of `out`. Fetches the kLanes
// rows that follow: rows are too short for the hardware to notice that one is read.
inline void transpose(const float* rows, int64_t stride, float* out, int64_t out_stride) {
    Vec v[kLanes];
    for (int i = 0; i < kLanes; ++i) {
        v[i] = load(rows + i * stride);
        __builtin_prefetch(rows + (i + kLanes) * stride);
    }
    // In squares of twice the size at each stage, the two that are off the diagonal change places.
#pragma GCC unroll 4
    for (int size = 1; size < kLanes; size *= 2) {
        IntVec upper, lower;
        for (int lane = 0; lane < kLanes; ++lane) {
            upper[lane] = lane & size ? kLanes + lane - size : lane;
            lower[lane] = lane & size ? kLanes + lane : lane + size;
        }
#pragma GCC unroll 16
        for (int i = 0; i < kLanes; ++i) {
            if (i & size) continue;
            const __m512 first = (__m512)v[i], second = (__m512)v[i + size];
            v[i] = (Vec)_mm512_permutex2var_ps(first, (__m512i)upper, second);
            v[i + size] = (Vec)_mm512_permutex2var_ps(first, (__m512i)lower, second);
        }
    }
    for (int i = 0; i < kLanes; ++i) store(out + i * out_stride, v[i]);
}
#endif

// e^x to a relative error of 2e-7 for |x| <= 87; saturates beyond it.
inline Vec exp(Vec x) {
    const Vec low = broadcast(-87.0f), high = broadcast(87.0f);
    x = x < low ? low : (x > high ? high : x);
    // x = n ln 2 + r with |r| <= ln 2 / 2; adding and subtracting 1.5 * 2^23 rounds to the nearest integer.
    const Vec magic = broadcast(12582912.0f);
    const Vec shifted = x * broadcast(1.44269504088896f) + magic;
    const Vec n = shifted - magic;
    const Vec r = x - n * broadcast(0.693359375f) - n * broadcast(-2.12194440e-4f);
    Vec p = broadcast(1.9875691500e-4f);
    p = p * r + broadcast(1.3981999507e-3f);
    p = p * r + broadcast(8.3334519073e-3f);
    p = p * r + broadcast(4.1665795894e-2f);
    p = p * r + broadcast(1.6666665459e-1f);
    p = p * r + broadcast(5.0000001201e-1f);
    p = p * r * r + r + 1.0f;
    IntVec bits;
    std::memcpy(&bits, &shifted, sizeof bits);
    bits <<= 23;  // n stands in the low bits of `shifted`
    IntVec result;
    std::memcpy(&result, &p, sizeof result);
    result += bits;  // p * 2^n
    std::memcpy(&p, &result, sizeof p);
    return p;
}

inline Vec sigmoid(Vec x) { return 1.0f / (1.0f + exp(-x)); }

// tanh x to a relative error of 3e-7 everywhere: a polynomial near 0, where the exponential loses digits.
inline Vec tanh(Vec x) {
    IntVec bits;
    std::memcpy(&bits, &x, sizeof bits);
    const IntVec sign = bits & INT32_MIN;
    bits ^= sign;
    Vec magnitude;
    std::memcpy(&magnitude, &bits, sizeof magnitude);
    Vec large = 1.0f - 2.0f / (exp(2.0f * magnitude) + 1.0f);
    std::memcpy(&bits, &large, sizeof bits);
    bits |= sign;
    std::memcpy(&large, &bits, sizeof large);
    const Vec square = x * x;
    Vec p = broadcast(-5.70498872745e-3f);
    p = p * square + broadcast(2.06390887954e-2f);
    p = p * square + broadcast(-5.37397155531e-2f);
    p = p * square + broadcast(1.33314422036e-1f);
    p = p * square + broadcast(-3.33332819422e-1f);
    const Vec small = x + x * square * p;
    return magnitude < broadcast(0.625f) ? small : large;
}

}  // namespace ds2::ISA
