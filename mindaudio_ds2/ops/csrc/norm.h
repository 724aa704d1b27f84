// Batch norm over the real frames of a batch, and the clipped ReLU behind it, in one pass each way.
//
// Statistics are taken over real rows only, and padded rows of every result are zero.
#pragma once

#include "norm_arguments.h"
#include "simd.h"

namespace ds2::ISA {

inline bool is_real(const Rows& rows, int64_t row) {
    return rows.time_is_inner ? row % rows.period < rows.lengths[row / rows.group]
                              : row / rows.period < rows.lengths[row % rows.period];
}

inline int64_t chunk_begin(const Rows& rows, int64_t chunk) { return rows.count * chunk / kNormChunks; }

// Adds what `add(row, sums)` contributes for each real row of a chunk: float sums over short stretches, then double.
// Returns how many rows were real.
template <typename Add>
inline int64_t sum_chunk(const Rows& rows, int64_t chunk, int64_t num_sums, float* sums, double* totals, Add add) {
    constexpr int64_t kStretch = 128;
    int64_t num_real = 0;
    const int64_t end = chunk_begin(rows, chunk + 1);
    for (int64_t i = 0; i < num_sums; ++i) totals[i] = 0.0;
    for (int64_t begin = chunk_begin(rows, chunk); begin < end; begin += kStretch) {
        const int64_t stop = begin + kStretch < end ? begin + kStretch : end;
        set_zero(sums, num_sums);
        for (int64_t row = begin; row < stop; ++row) {
            if (is_real(rows, row)) {
                add(row, sums);
                ++num_real;
            }
        }
        for (int64_t i = 0; i < num_sums; ++i) totals[i] += static_cast<double>(sums[i]);
    }
    return num_real;
}

// Mean, what float32 cuts off of it, and biased variance of each channel.
//
// What is summed are differences: from a chunk's first real row for its mean, then from that mean for its variance, whose
// rounding is taken away again (Chan, Golub and LeVeque 1983). So digits are kept however large the mean is, and a
// constant channel has exactly its value and variance 0. Chunks are joined as by Chan et al. 1979.
inline void measure_rows(const NormArguments& a, float* remainder) {
    const int64_t C = a.rows.channels;
    double* means = a.sums;
    double* squares = a.sums + kNormChunks * C;
#pragma omp parallel for schedule(static)
    for (int64_t chunk = 0; chunk < kNormChunks; ++chunk) {
        float* sums = a.floats + chunk * 2 * C;
        float* centre = sums + C;
        double *mean = means + chunk * C, *square = squares + chunk * C;
        int64_t first = chunk_begin(a.rows, chunk);
        const int64_t end = chunk_begin(a.rows, chunk + 1);
        while (first < end && !is_real(a.rows, first)) ++first;
        a.counts[chunk] = 0;
        if (first == end) continue;
        for (int64_t c = 0; c < C; ++c) centre[c] = a.x[first * C + c];
        a.counts[chunk] = sum_chunk(a.rows, chunk, C, sums, mean, [&](int64_t row, float* to) {
            const float* values = a.x + row * C;
            for (int64_t c = 0; c < C; ++c) to[c] += values[c] - centre[c];
        });
        const double count = static_cast<double>(a.counts[chunk]);
        for (int64_t c = 0; c < C; ++c) {
            mean[c] = static_cast<double>(centre[c]) + mean[c] / count;
            centre[c] = static_cast<float>(mean[c]);
        }
        sum_chunk(a.rows, chunk, C, sums, square, [&](int64_t row, float* to) {
            const float* values = a.x + row * C;
            for (int64_t c = 0; c < C; ++c) to[c] += (values[c] - centre[c]) * (values[c] - centre[c]);
        });
        for (int64_t c = 0; c < C; ++c) {
            const double rounding = mean[c] - static_cast<double>(centre[c]);
            square[c] -= count * rounding * rounding;
        }
    }
    for (int64_t c = 0; c < C; ++c) {
        double mean = 0, square = 0, count = 0;
        for (int64_t chunk = 0; chunk < kNormChunks; ++chunk) {
            if (a.counts[chunk] == 0) continue;
            const double added = static_cast<double>(a.counts[chunk]);
            const double difference = means[chunk * C + c] - mean;
            mean += count > 0 ? difference * added / (count + added) : means[chunk * C + c];
            square += squares[chunk * C + c] + difference * difference * count * added / (count + added);
            count += added;
        }
        const double variance = count > 0 ? square / count : 0.0;
        a.mean[c] = static_cast<float>(mean);
        remainder[c] = static_cast<float>(mean - static_cast<double>(a.mean[c]));
        a.variance[c] = static_cast<float>(variance < 0 ? 0 : variance);  // NaN stays NaN
    }
}

// y = clip((x - mean) * scale + shift), zero in padded rows; NaN stays NaN.
inline void scale_rows(const NormArguments& a, const float* scale, const float* shift) {
    const int64_t C = a.rows.channels;
#pragma omp parallel for schedule(static)
    for (int64_t chunk = 0; chunk < kNormChunks; ++chunk) {
        for (int64_t row = chunk_begin(a.rows, chunk); row < chunk_begin(a.rows, chunk + 1); ++row) {
            const float* in = a.x + row * C;
            float* out = a.y + row * C;
            if (!is_real(a.rows, row)) {
                set_zero(out, C);
                continue;
            }
            for (int64_t c = 0; c < C; ++c) {
                const float value = (in[c] - a.mean[c]) * scale[c] + shift[c];
                out[c] = value < a.low ? a.low : (value > a.high ? a.high : value);
            }
        }
    }
}

inline void run_norm_scale(const NormArguments& a) {
    for (int64_t c = 0; c < a.rows.channels; ++c) {
        a.floats[c] = a.gamma[c] / __builtin_sqrtf(a.variance[c] + a.epsilon);
    }
    scale_rows(a, a.floats, a.beta);
}

inline void run_norm_forward(const NormArguments& a) {
    float* scale = a.floats + kNormChunks * 2 * a.rows.channels;
    float *shift = scale + a.rows.channels, *remainder = shift + a.rows.channels;
    measure_rows(a, remainder);
    for (int64_t c = 0; c < a.rows.channels; ++c) {
        scale[c] = a.gamma[c] / __builtin_sqrtf(a.variance[c] + a.epsilon);
        shift[c] = a.beta[c] - remainder[c] * scale[c];
    }
    scale_rows(a, scale, shift);
}

// Gradients of x, gamma and beta. A clipped position passes none. What float32 cut off of the mean is found again as the
// mean of x - mean.
inline void run_norm_backward(const NormArguments& a) {
    const int64_t C = a.rows.channels;
    const Vec low = broadcast(a.low), high = broadcast(a.high);
    float* scale = a.floats + kNormChunks * 3 * C;
    float *slope = scale + C, *offset = scale + 2 * C;
#pragma omp parallel for schedule(static)
    for (int64_t chunk = 0; chunk < kNormChunks; ++chunk) {
        float* sums = a.floats + chunk * 3 * C;
        double* totals = a.sums + chunk * 3 * C;
        a.counts[chunk] = sum_chunk(a.rows, chunk, 3 * C, sums, totals, [&](int64_t row, float* to) {
            const float *g = a.dy + row * C, *in = a.x + row * C, *out = a.y + row * C;
            for (int64_t c = 0; c < C; c += kLanes) {  // compilers leave these comparisons to branches
                const int n = static_cast<int>(smaller(kLanes, C - c));
                const Vec result = load_upto(out + c, n);
                const Vec passed = (result > low) & (result < high) ? load_upto(g + c, n) : Vec{};
                const Vec difference = load_upto(in + c, n) - load_upto(a.mean + c, n);
                store_upto(to + c, load_upto(to + c, n) + passed, n);
                store_upto(to + C + c, load_upto(to + C + c, n) + passed * difference, n);
                store_upto(to + 2 * C + c, load_upto(to + 2 * C + c, n) + difference, n);
            }
        });
    }
    double count = 0;
    for (int64_t chunk = 0; chunk < kNormChunks; ++chunk) count += static_cast<double>(a.counts[chunk]);
    if (count < 1) count = 1;
    for (int64_t c = 0; c < C; ++c) {
        double sum = 0, product = 0, remainder = 0;
        for (int64_t chunk = 0; chunk < kNormChunks; ++chunk) {
            sum += a.sums[chunk * 3 * C + c];
            product += a.sums[chunk * 3 * C + C + c];
            remainder += a.sums[chunk * 3 * C + 2 * C + c];
        }
        remainder /= count;
        product -= remainder * sum;
        const double inverse = 1.0 / __builtin_sqrt(static_cast<double>(a.variance[c]) + a.epsilon);
        a.dbeta[c] = static_cast<float>(sum);
        a.dgamma[c] = static_cast<float>(product * inverse);
        scale[c] = static_cast<float>(a.gamma[c] * inverse);
        const double gradient = product * inverse * inverse / count;
        slope[c] = static_cast<float>(gradient);
        offset[c] = static_cast<float>(sum / count - remainder * gradient);
    }
#pragma omp parallel for schedule(static)
    for (int64_t chunk = 0; chunk < kNormChunks; ++chunk) {
        for (int64_t row = chunk_begin(a.rows, chunk); row < chunk_begin(a.rows, chunk + 1); ++row) {
            const float *g = a.dy + row * C, *in = a.x + row * C, *out = a.y + row * C;
            float* result = a.dx + row * C;
            if (!is_real(a.rows, row)) {
                set_zero(result, C);
                continue;
            }
            for (int64_t c = 0; c < C; ++c) {
                const float passed = out[c] > a.low && out[c] < a.high ? g[c] : 0.0f;
                result[c] = (passed - offset[c] - (in[c] - a.mean[c]) * slope[c]) * scale[c];
            }
        }
    }
}

}  // namespace ds2::ISA
