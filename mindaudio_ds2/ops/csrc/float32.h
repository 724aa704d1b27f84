// What products are made of: operands of elements as long as a float, and what they are summed in.
//
// Kernels that multiply take Float32 or, where the instruction set has it, Bfloat16 (bfloat16.h, amx.h) as an argument; those of
// recurrent layers take Int8 (int8.h), too.
#pragma once

#include "simd.h"

namespace ds2::ISA {

constexpr int64_t kLineFloats = 16;  // of a cache line

// How many elements stand for num_k numbers along k, with zeros at the end where the product takes several at once.
template <typename Product>
int64_t count_elements(int64_t num_k) {
    return ceil_divide(ceil_divide(num_k, Product::kDepth), Product::kStep) * Product::kStep;
}

// An element is a float.
struct Float32 {
    using Sum = Vec;
    static constexpr int kDepth = 1;  // k of an element
    static constexpr int kStep = 1;   // elements along k that are multiplied at once
    static constexpr bool kIsStored = true;  // an operand is what the cells store as hidden states

    struct Registers {};  // what a thread needs while it multiplies

    static Vec spread(const float* element) { return broadcast(*element); }
    static Vec add_product(Vec sum, Vec x, Vec y) { return sum + x * y; }

    // kLanes numbers that follow each other along k.
    static void store_elements(float* out, Vec numbers) { store(out, numbers); }

    // A line of `depth` k as elements that follow each other; up to a vector behind the end may be overwritten.
    static void pack_line(const float* line, int64_t depth, float* out) {
        std::memcpy(out, line, depth * sizeof(float));
    }

    // kLanes lines of `depth` k each, `stride` floats apart, across: [element][line], `width` from element to element.
    // Lines from num_lines on are zero.
    static void pack_lines(const float* lines, int64_t stride, int64_t num_lines, int64_t depth, float* out,
                           int64_t width) {
        int64_t first = 0;
#if defined(__AVX512F__)
        for (; num_lines >= kLanes && first + kLanes <= depth; first += kLanes) {
            transpose(lines + first, stride, out + first * width, width);
        }
#endif
        for (; first < depth; first += kLineFloats) {
            const int64_t end = first + kLineFloats < depth ? first + kLineFloats : depth;
            for (int64_t line = 0; line < kLanes; ++line) {
                const float* values = lines + line * stride;
                for (int64_t k = first; k < end; ++k) out[k * width + line] = line < num_lines ? values[k] : 0.0f;
            }
        }
    }

    // The kDepth rows from `rows` on, `stride` floats apart, as a row of `width` elements; what is beyond num_rows and
    // num_columns is zero. Where `width` is no whole number of vectors, up to a vector behind it may be overwritten.
    [[gnu::always_inline]] static void pack_rows(const float* rows, int64_t /* stride */, int64_t num_rows,
                                                 int64_t num_columns, float* out, int64_t width) {
        if (num_rows >= 1 && num_columns >= width) {  // where `width` is a constant, a few moves and no call
            std::memcpy(out, rows, width * sizeof(float));
            return;
        }
        std::memset(out, 0, width * sizeof(float));
        if (num_rows >= 1 && num_columns > 0) std::memcpy(out, rows, num_columns * sizeof(float));
    }

    // One number of a packed matrix that is zero so far, with `width` from element to element.
    static void put(float number, int64_t k, float* packed, int64_t width) { packed[k * width] = number; }

    // Makes elements of floats in their place: each takes in its neighbours along k, which are `distance` apart.
    static void join_neighbours(float*, int64_t, int64_t) {}
};

}  // namespace ds2::ISA
