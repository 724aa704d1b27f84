// What aot_int8.cpp hands to the kernels of int8_projection.h; knows of no instruction set.
//
// H hidden units, G gates, K inputs. Weights (G * H, K) are packed once, with a scale for each row: packed and scales
// together are what the products of a layer read.
#pragma once

#include <cstdint>

#include "recurrent_arguments.h"

namespace ds2 {

constexpr int64_t kProjectionRows = 32;     // of a block, which is what a thread works on
constexpr int64_t kMostInputs = 1 << 16;  // K whose sums cannot overflow: 255 * 127 * K < 2^31

struct PackArguments {
    int64_t num_hidden, num_inputs;
    const float* weights;  // (G * H, K)
    float* packed;
    float* scales;  // (G * H,)
};

struct ProjectArguments {
    int64_t num_rows, num_hidden, num_inputs;
    const float* x;  // (num_rows, K)
    const float* packed;
    const float* scales;
    float* projected;  // (num_rows, G * H)
    float* operands;   // scratch: kProjectionRows * num_inputs, rounded up to kOperandChunk, floats a thread
    float* totals;     // scratch: kProjectionRows * 4 * kMaxLanes floats a thread
    int num_threads;
};

using RunPack = void (*)(const PackArguments&);
using RunProject = void (*)(const ProjectArguments&);

struct Int8Kernels {
    int num_lanes, depth;  // of a vector; numbers in an element
    RunForward lstm_forward, gru_forward;
    RunPack lstm_pack, gru_pack;
    RunProject lstm_project, gru_project;

    // Floats that (G * H, K) takes, packed: panels of all gates, as in recurrent_packing.h, and for each row a whole number.
    int64_t count_packed(int64_t num_hidden, int64_t num_inputs, int64_t num_gates) const {
        const int64_t rounded = (num_hidden + num_lanes - 1) / num_lanes * num_lanes;
        return rounded * num_gates * ((num_inputs + depth - 1) / depth + 1);
    }
};

}  // namespace ds2
