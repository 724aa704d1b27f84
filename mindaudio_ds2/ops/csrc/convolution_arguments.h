// What aot_convolution.cpp hands to the kernels of convolution.h; knows of no instruction set.
//
// Channels last: x (B, F, T, Ci), y and dy (B, F', T', Co), weights (Co, Ci, KF, KT) as MindSpore keeps them. Kernels are
// odd and inputs are padded with zeros by half of them, so F' = (F - 1) / SF + 1 and T' likewise.
#pragma once

#include <cstdint>

namespace ds2 {

struct ConvSizes {
    int64_t B, F, T, Ci;
    int64_t F_out, T_out, Co;
    int64_t KF, KT, SF, ST;
};

struct ConvArguments {
    ConvSizes sizes;
    const float* x;        // null in the input gradient
    const float* weights;  // null in the weight gradient
    const float* dy;       // null forward
    float* result;         // y, dx or dw
    float* packed;         // scratch: num_packed of it; the weight gradient needs as much for each part
    float* lines;          // scratch: num_line for each thread, in the weight gradient for each part
    int64_t num_packed, num_line;
    int64_t num_tile;      // of a thread's scratch come before the copy of a line; not in the weight gradient
    int num_threads;
};

constexpr int64_t kMaxConvPanel = 32;  // channels computed side by side, of any instruction set
constexpr int64_t kConvBlock = 32;     // frames, channels or taps computed at once, of any instruction set
constexpr int64_t kConvParts = 8;      // into which a batch is cut for the weight gradient, whatever the threads
constexpr int64_t kMaxConvRows = 12;   // frames, or taps, of a register tile

using RunConv = void (*)(const ConvArguments&);

struct ConvKernels {
    RunConv forward, input_gradient, weight_gradient;
};

}  // namespace ds2
