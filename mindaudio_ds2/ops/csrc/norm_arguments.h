// What aot_norm.cpp hands to the kernels of norm.h; knows of no instruction set.
//
// x is (B, F, T, C) behind a convolution or (S, B, H) between recurrent layers, channels last; a row is all channels of
// one position.
#pragma once

#include <cstdint>

namespace ds2 {

// Rows are cut into chunks that do not depend on the number of threads and are summed in their order, so that results
// do not depend on it either.
constexpr int64_t kNormChunks = 64;

struct Rows {
    int64_t count, channels;
    int64_t period, group;  // (B, F, T, C): T and F * T; (S, B, H): B and unused
    bool time_is_inner;
    const int32_t* lengths;  // (B,)
};

struct NormArguments {
    Rows rows;
    float epsilon, low, high;  // the result is clipped to [low, high]
    const float* x;
    const float *gamma, *beta;     // (C,)
    float *y, *mean, *variance;    // results of the forward pass, read by the backward pass and by NormScale
    const float* dy;               // backward only, and what follows
    float *dx, *dgamma, *dbeta;
    double* sums;                  // scratch: kNormChunks * 3 * C
    int64_t* counts;               // scratch: kNormChunks
    float* floats;                 // scratch: (kNormChunks + 1) * 3 * C; NormScale has C of it, and no other
};

using RunNorm = void (*)(const NormArguments&);

struct NormKernels {
    RunNorm forward, backward, scale;
};

}  // namespace ds2
