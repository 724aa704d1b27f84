// Row convolution: y[s] = sum over k of taps[k] * x[s + k], feature by feature, within each utterance's length; and its
// gradients. Frames beyond a length are neither read nor anything but zero in a result.
#pragma once

#include "lookahead_arguments.h"
#include "simd.h"

namespace ds2::ISA {

inline int64_t lookahead_length(const LookaheadArguments& a, int64_t b) {
    return a.lengths[b] < a.num_frames ? a.lengths[b] : a.num_frames;
}

// to[h] = sum over k < count of taps[k][h] * from[k * step + h].
inline void sum_taps(const LookaheadArguments& a, float* to, const float* from, int64_t step, int64_t count) {
    for (int64_t h = 0; h < a.hidden; h += kLanes) {
        const int n = static_cast<int>(a.hidden - h < kLanes ? a.hidden - h : kLanes);
        Vec sum{};
        for (int64_t k = 0; k < count; ++k) {
            sum += load_upto(a.taps + k * a.hidden + h, n) * load_upto(from + k * step + h, n);
        }
        store_upto(to + h, sum, n);
    }
}

inline void run_lookahead_forward(const LookaheadArguments& a) {
    const int64_t row = a.batch * a.hidden;
#pragma omp parallel for schedule(static)
    for (int64_t s = 0; s < a.num_frames; ++s) {
        for (int64_t b = 0; b < a.batch; ++b) {
            const int64_t left = lookahead_length(a, b) - s, at = s * row + b * a.hidden;
            sum_taps(a, a.y + at, a.x + at, row, left < 0 ? 0 : (left < a.reach ? left : a.reach));
        }
    }
}

// dx[t] = sum over k of taps[k] * dy[t - k].
inline void lookahead_input_gradient(const LookaheadArguments& a) {
    const int64_t row = a.batch * a.hidden;
#pragma omp parallel for schedule(static)
    for (int64_t t = 0; t < a.num_frames; ++t) {
        for (int64_t b = 0; b < a.batch; ++b) {
            const int64_t at = t * row + b * a.hidden, seen_by = t + 1 < a.reach ? t + 1 : a.reach;
            sum_taps(a, a.dx + at, a.dy + at, -row, t < lookahead_length(a, b) ? seen_by : 0);
        }
    }
}

// dtaps[k] = sum over s and b of dy[s] * x[s + k]. Each thread has features of its own, so that the order of a sum does
// not depend on the number of threads; it is a float over a stretch of frames, and then a double.
inline void lookahead_tap_gradient(const LookaheadArguments& a) {
    constexpr int64_t kBlock = 4 * kLanes, kStretch = 64;
    const int64_t row = a.batch * a.hidden, num_blocks = (a.hidden + kBlock - 1) / kBlock;
#pragma omp parallel for schedule(static)
    for (int64_t block = 0; block < num_blocks; ++block) {
        const int64_t first = block * kBlock, end = first + kBlock < a.hidden ? first + kBlock : a.hidden;
        for (int64_t begin = 0; begin < a.num_frames; begin += kStretch) {
            const int64_t stop = begin + kStretch < a.num_frames ? begin + kStretch : a.num_frames;
            for (int64_t k = 0; k < a.reach; ++k) set_zero(a.sums + k * a.hidden + first, end - first);
            for (int64_t s = begin; s < stop; ++s) {
                for (int64_t b = 0; b < a.batch; ++b) {
                    const int64_t left = lookahead_length(a, b) - s, at = s * row + b * a.hidden;
                    for (int64_t k = 0; k < a.reach && k < left; ++k) {
                        float* sums = a.sums + k * a.hidden;
                        const float *gradient = a.dy + at, *seen = a.x + at + k * row;
                        for (int64_t h = first; h < end; ++h) sums[h] += gradient[h] * seen[h];
                    }
                }
            }
            for (int64_t k = 0; k < a.reach; ++k) {
                for (int64_t i = k * a.hidden + first; i < k * a.hidden + end; ++i) a.dtaps[i] += a.sums[i];
            }
        }
    }
}

inline void run_lookahead_backward(const LookaheadArguments& a) {
    lookahead_input_gradient(a);
    lookahead_tap_gradient(a);
}

}  // namespace ds2::ISA
