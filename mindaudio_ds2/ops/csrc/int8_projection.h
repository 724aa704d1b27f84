// Weights in eight bits, and the product of a layer's inputs and its weights: each row of either has its own scale.
#pragma once

#include <omp.h>

#include "int8.h"
#include "int8_arguments.h"
#include "recurrent.h"

namespace ds2::ISA {

constexpr float kLeastMagnitude = 1e-12f;  // stands for that of a row of zeros

// The largest magnitude of a row; not a number where one of the row's is not, or infinite.
inline float find_largest(const float* row, int64_t count) {
    Vec largest = broadcast(kLeastMagnitude), spoiled{};
    for (int64_t i = 0; i < count; i += kLanes) {
        const Vec x = load_upto(row + i, static_cast<int>(smaller(kLanes, count - i)));
        const Vec magnitude = x < 0.0f ? -x : x;
        largest = magnitude > largest ? magnitude : largest;
        spoiled += x * 0.0f;
    }
    float found = 0.0f, nothing = 0.0f;
    for (int lane = 0; lane < kLanes; ++lane) {
        found = largest[lane] > found ? largest[lane] : found;
        nothing += spoiled[lane];
    }
    return found + nothing;
}

// Panels as in recurrent_packing.h, and what stands behind them.
template <typename Cell>
void pack_rows(const PackArguments& p) {
    constexpr int64_t kWidth = Cell::kGates * kLanes;
    const int64_t num_vectors = ceil_divide(p.num_hidden, kLanes);
    const int64_t panel_floats = ceil_divide(p.num_inputs, Int8::kDepth) * kWidth;
    set_zero(p.packed, num_vectors * (panel_floats + kWidth));
    for (int64_t row = 0; row < Cell::kGates * p.num_hidden; ++row) {
        const int64_t gate = row / p.num_hidden, unit = row % p.num_hidden;
        const int64_t vector = unit / kLanes, column = gate * kLanes + unit % kLanes;
        const float* weights = p.weights + row * p.num_inputs;
        p.scales[row] = find_largest(weights, p.num_inputs) / kLargest;
        int32_t offset = 0;
        for (int64_t k = 0; k < p.num_inputs; ++k) {
            const int32_t number = round_to_integers(broadcast(weights[k] / p.scales[row]))[0];
            Int8::put(number, k, p.packed + vector * panel_floats + column, kWidth);
            offset -= Int8::kOffset * number;
        }
        std::memcpy(p.packed + num_vectors * panel_floats + vector * kWidth + column, &offset, sizeof offset);
    }
}

// A row of inputs as one of an operand's; returns its scale.
inline float quantize_row(const float* x, int64_t num_inputs, int64_t row, float* operand) {
    const float largest = find_largest(x, num_inputs), factor = kLargest / largest;
    for (int64_t k = 0; k < num_inputs; k += kLanes) {
        const Vec numbers = load_upto(x + k, static_cast<int>(smaller(kLanes, num_inputs - k))) * factor;
        Int8::store_integers(operand + element_index<Int8>(row, k, kProjectionRows), round_to_integers(numbers));
    }
    return largest / kLargest;
}

// The rows first .. first + num_rows - 1.
template <typename Cell>
void project_block(const ProjectArguments& p, int64_t first, int64_t num_rows, float* operand, float* totals) {
    constexpr int64_t G = Cell::kGates, kWidth = G * kLanes;
    float scales[kProjectionRows];
    for (int64_t row = 0; row < num_rows; ++row) {
        scales[row] = quantize_row(p.x + (first + row) * p.num_inputs, p.num_inputs, row, operand);
    }
    const int64_t num_vectors = ceil_divide(p.num_hidden, kLanes), num_k = ceil_divide(p.num_inputs, Int8::kDepth);
    const float* offsets = p.packed + num_vectors * num_k * kWidth;
    for (int64_t vector = 0; vector < num_vectors; ++vector) {
        const float* panel = p.packed + vector * num_k * kWidth;
        const float* next = vector + 1 < num_vectors ? panel + num_k * kWidth : p.packed;
        const int num_units = static_cast<int>(smaller(kLanes, p.num_hidden - vector * kLanes));
        set_zero(totals, num_rows * kWidth);
        multiply_panel<Int8, G>(operand, kProjectionRows, num_rows, panel, num_k, totals, next);
        for (int64_t row = 0; row < num_rows; ++row) {
            for (int64_t gate = 0; gate < G; ++gate) {
                const int64_t column = gate * p.num_hidden + vector * kLanes;
                const Vec y = scale_sums(totals + row * kWidth + gate * kLanes, offsets + vector * kWidth + gate * kLanes,
                                         p.scales + column, num_units, scales[row]);
                store_upto(p.projected + (first + row) * G * p.num_hidden + column, y, num_units);
            }
        }
    }
}

template <typename Cell>
void project_rows(const ProjectArguments& p) {
    const int64_t num_operand = kProjectionRows * ceil_divide(p.num_inputs, kOperandChunk) * kOperandChunk;
#pragma omp parallel for schedule(static) num_threads(p.num_threads)
    for (int64_t first = 0; first < p.num_rows; first += kProjectionRows) {
        const int64_t thread = omp_get_thread_num(), num_rows = smaller(kProjectionRows, p.num_rows - first);
        project_block<Cell>(p, first, num_rows, p.operands + thread * num_operand,
                            p.totals + thread * kProjectionRows * Cell::kGates * kMaxLanes);
    }
}

extern const Int8Kernels kInt8Kernels = {
    kLanes,           Int8::kDepth,     run_forward<Int8, Lstm>, run_forward<Int8, Gru>,
    pack_rows<Lstm>,  pack_rows<Gru>,   project_rows<Lstm>,      project_rows<Gru>,
};

}  // namespace ds2::ISA
