// What aot_matmul.cpp hands to the product of matrices in matmul.h; knows of no instruction set.
//
// result (M, N) = a (M, K) x b (K, N), all float32; either may stand transposed.
#pragma once

#include <cstdint>

namespace ds2 {

constexpr int64_t kMatMulElements = 512;  // of k, summed in registers: 512 numbers, or pairs of them in bfloat16
constexpr int64_t kMatMulColumns = 1024;  // of b that share a packed block; a multiple of 32
constexpr int64_t kMatMulRows = 32;       // of a that are packed at a time, of any instruction set, or fewer
constexpr int64_t kMatMulTile = (kMatMulRows + 2) * kMatMulElements;  // floats, with room for whole vectors at the end

struct MatMulArguments {
    int64_t M, N, K;
    const float* a;
    bool is_a_transposed;  // a stands as (K, M)
    const float* b;
    bool is_b_transposed;  // b stands as (N, K)
    float* result;
    float* block;  // scratch: kMatMulColumns * kMatMulElements floats
    float* tiles;  // scratch: kMatMulTile floats a thread
    int num_threads;
};

using RunMatMul = void (*)(const MatMulArguments&);

}  // namespace ds2
