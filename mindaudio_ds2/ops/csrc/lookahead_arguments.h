// What aot_lookahead.cpp hands to the kernels of lookahead.h; knows of no instruction set.
#pragma once

#include <cstdint>

namespace ds2 {

struct LookaheadArguments {
    int64_t num_frames, batch, hidden, reach;  // S, B, H, and K: the frames that each frame sees, its own included
    const int32_t* lengths;                    // (B,)
    const float* x;                            // (S, B, H)
    const float* taps;                         // (K, H): the weights, transposed
    float* y;                                  // (S, B, H): forward only
    const float* dy;                           // (S, B, H): backward only, and what follows
    float* dx;                                 // (S, B, H)
    double* dtaps;                             // (K, H), zero at first
    float* sums;                               // scratch: (K, H)
};

using RunLookahead = void (*)(const LookaheadArguments&);

struct LookaheadKernels {
    RunLookahead forward, backward;
};

}  // namespace ds2
