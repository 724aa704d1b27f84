// Convolution over frequency and time, and its gradients, as matrix products with overlapping rows.
//
// For one output frequency and one row of the kernel, what an output frame sees of its input is KT * Ci consecutive
// floats, because channels come last. So a line of output frames is a product of a matrix whose rows overlap, read in
// place, with the packed weights of that kernel row. The input gradient is such a product too, of dy with the reversed
// kernel; where time is strided by ST, it is ST of them, one for each remainder of the frame divided by ST.
//
// Product is Float32 or Bfloat16; amx_convolution.h has it for Bfloat16Tiles. In bfloat16 a line is copied first, and each of its floats made an element of its own
// with what follows it along k, so that a pair may begin at any of them.
#pragma once

#include <omp.h>

#include "convolution_arguments.h"
#include "float32.h"

namespace ds2::ISA {

constexpr int64_t kPanel = 2 * kLanes;  // output channels of a register tile
constexpr int kTileFrames = kRegisters >= 32 ? 12 : 6;
constexpr int64_t kFrameBlock = 128;  // frames summed in registers before they join the weight gradient

// One line of frames times the packed weights of one kernel row, added to a line of outputs.
struct Line {
    const float* in;  // (num_in, in_channels)
    int64_t num_in, in_channels;
    int64_t step, offset, num_taps;  // output frame i sees input frames i * step + offset, num_taps of them
    const float* packed;             // (panels, elements of num_taps * in_channels, kPanel)
    int64_t panel_stride;            // floats from panel to panel
    float* out;                      // output frame i is at out + i * out_stride
    int64_t num_out, out_channels, out_stride;
};

template <typename Product>
inline void add_tile(const float* in, int64_t in_stride, const float* packed, int64_t num_k, float* out,
                     int64_t out_stride) {
    Vec sums[kTileFrames][2] = {};
    for (int64_t k = 0; k < num_k; k += Product::kDepth) {
        const float* weights = packed + k / Product::kDepth * kPanel;
        const Vec first = load(weights), second = load(weights + kLanes);
#pragma GCC unroll 12
        for (int r = 0; r < kTileFrames; ++r) {
            const Vec x = Product::spread(in + r * in_stride + k);
            sums[r][0] = Product::add_product(sums[r][0], x, first);
            sums[r][1] = Product::add_product(sums[r][1], x, second);
        }
    }
#pragma GCC unroll 12
    for (int r = 0; r < kTileFrames; ++r) {
        float* to = out + r * out_stride;
        store(to, load(to) + sums[r][0]);
        store(to + kLanes, load(to + kLanes) + sums[r][1]);
    }
}

// A tile at the ends of a line, or with fewer channels than a panel has: through scratch, with zeros around the input.
template <typename Product>
inline void add_edge_tile(const Line& line, int64_t panel, int64_t begin, float* scratch) {
    const int64_t num_frames = smaller(kTileFrames, line.num_out - begin);
    const int64_t num_channels = smaller(kPanel, line.out_channels - panel * kPanel);
    const int64_t window = (kTileFrames - 1) * line.step + line.num_taps, first = begin * line.step + line.offset;
    float* out = scratch;
    float* in = scratch + kTileFrames * kPanel;
    for (int64_t i = 0; i < kTileFrames * kPanel; ++i) out[i] = 0.0f;
    for (int64_t i = 0; i < window; ++i) {
        const int64_t frame = first + i;
        float* to = in + i * line.in_channels;
        const bool is_inside = frame >= 0 && frame < line.num_in;
        for (int64_t c = 0; c < line.in_channels; ++c) to[c] = is_inside ? line.in[frame * line.in_channels + c] : 0.0f;
    }
    add_tile<Product>(in, line.step * line.in_channels, line.packed + panel * line.panel_stride,
                      line.num_taps * line.in_channels, out, kPanel);
    for (int64_t i = 0; i < num_frames; ++i) {
        float* to = line.out + (begin + i) * line.out_stride + panel * kPanel;
        for (int64_t c = 0; c < num_channels; ++c) to[c] += out[i * kPanel + c];
    }
}

template <typename Product>
inline void add_prepared(const Line& line, float* scratch) {
    const int64_t num_panels = ceil_divide(line.out_channels, kPanel);
    for (int64_t panel = 0; panel < num_panels; ++panel) {
        const bool is_full = (panel + 1) * kPanel <= line.out_channels;
        for (int64_t begin = 0; begin < line.num_out; begin += kTileFrames) {
            const int64_t first = begin * line.step + line.offset;
            const int64_t last = first + (kTileFrames - 1) * line.step + line.num_taps;
            if (!is_full || first < 0 || last > line.num_in || begin + kTileFrames > line.num_out) {
                add_edge_tile<Product>(line, panel, begin, scratch);
                continue;
            }
            add_tile<Product>(line.in + first * line.in_channels, line.step * line.in_channels,
                              line.packed + panel * line.panel_stride, line.num_taps * line.in_channels,
                              line.out + begin * line.out_stride + panel * kPanel, line.out_stride);
        }
    }
}

// The line copied as elements, with zeros where there is no input.
template <typename Product>
inline Line prepare(const Line& line, float* scratch) {
    Line prepared = line;
    prepared.in = scratch;
    prepared.num_in = (line.num_out - 1) * line.step + line.num_taps;
    prepared.offset = 0;
    const int64_t before = larger(0, -line.offset), first = larger(0, line.offset);
    const int64_t num_real = larger(0, smaller(line.num_in - first, prepared.num_in - before));
    const int64_t count = prepared.num_in * line.in_channels;
    set_zero(scratch, count);
    if (num_real > 0) {
        std::memcpy(scratch + before * line.in_channels, line.in + first * line.in_channels,
                    num_real * line.in_channels * sizeof(float));
    }
    Product::join_neighbours(scratch, count, 1);
    return prepared;
}

template <typename Product>
inline void add_line(const Line& line, float* tile_scratch, float* line_scratch) {
    if constexpr (Product::kDepth == 1) {
        add_prepared<Product>(line, tile_scratch);
    } else {
        add_prepared<Product>(prepare<Product>(line, line_scratch), tile_scratch);
    }
}

// Floats of one kernel row of num_k in a packed panel.
template <typename Product>
inline int64_t count_row(int64_t num_k) {
    return count_elements<Product>(num_k) * kPanel;
}

// (Co, Ci, KF, KT) -> [panel of Co][KF][element of KT, Ci][kPanel]
template <typename Product>
inline void pack_forward(const ConvSizes& s, const float* weights, float* packed, int num_threads) {
    const int64_t row = count_row<Product>(s.KT * s.Ci), num_panels = ceil_divide(s.Co, kPanel);
#pragma omp parallel for schedule(static) num_threads(num_threads)
    for (int64_t kf = 0; kf < s.KF; ++kf) {
        for (int64_t panel = 0; panel < num_panels; ++panel) {
            float* out = packed + (panel * s.KF + kf) * row;
            const int64_t first = panel * kPanel, num_channels = smaller(kPanel, s.Co - first);
            set_zero(out, row);
            for (int64_t ci = 0; ci < s.Ci; ++ci) {
                for (int64_t kt = 0; kt < s.KT; ++kt) {
                    const float* taps = weights + ((first * s.Ci + ci) * s.KF + kf) * s.KT + kt;
                    for (int64_t co = 0; co < num_channels; ++co, taps += s.Ci * s.KF * s.KT) {
                        Product::put(*taps, kt * s.Ci + ci, out + co, kPanel);
                    }
                }
            }
        }
    }
}

template <typename Product>
inline void run_conv_forward(const ConvArguments& a) {
    const ConvSizes& s = a.sizes;
    pack_forward<Product>(s, a.weights, a.packed, a.num_threads);
    const int64_t row = count_row<Product>(s.KT * s.Ci);
#pragma omp parallel for schedule(dynamic) num_threads(a.num_threads)
    for (int64_t i = 0; i < s.B * s.F_out; ++i) {
        const int64_t b = i / s.F_out, low = i % s.F_out * s.SF - s.KF / 2;
        Line line{nullptr, s.T,    s.Ci,    s.ST, -(s.KT / 2), s.KT, nullptr, row * s.KF, a.result + i * s.T_out * s.Co,
                  s.T_out, s.Co, s.Co};
        float* scratch = a.lines + omp_get_thread_num() * a.num_line;
        set_zero(line.out, s.T_out * s.Co);
        for (int64_t kf = larger(0, -low); kf < smaller(s.KF, s.F - low); ++kf) {
            line.in = a.x + (b * s.F + low + kf) * s.T * s.Ci;
            line.packed = a.packed + kf * row;
            add_line<Product>(line, scratch, scratch + a.num_tile);
        }
    }
}

// The taps of the reversed kernel that reach input frames of one phase (frame % ST).
struct Phase {
    int64_t num_taps, last_tap, offset;  // KT - 1 or less; frame q * ST + phase sees dy from frame q + offset on

    Phase(const ConvSizes& s, int64_t phase) {
        const int64_t first = (phase + s.KT / 2) % s.ST;  // taps first, first + ST, ...
        num_taps = first < s.KT ? (s.KT - 1 - first) / s.ST + 1 : 0;
        last_tap = first + (num_taps - 1) * s.ST;
        offset = (phase + s.KT / 2 - first) / s.ST - (num_taps - 1);
    }
};

// (Co, Ci, KF, KT) -> [phase][panel of Ci][KF][element of tap, last first, and Co][kPanel]
template <typename Product>
inline void pack_backward(const ConvSizes& s, const float* weights, float* packed) {
    const int64_t num_panels = ceil_divide(s.Ci, kPanel);
    for (int64_t phase = 0; phase < s.ST; ++phase) {
        const Phase p(s, phase);
        const int64_t num_floats = count_row<Product>(p.num_taps * s.Co);
        set_zero(packed, num_panels * s.KF * num_floats);
        for (int64_t ci = 0; ci < s.Ci; ++ci) {
            for (int64_t kf = 0; kf < s.KF; ++kf) {
                float* row = packed + (ci / kPanel * s.KF + kf) * num_floats + ci % kPanel;
                for (int64_t tap = 0; tap < p.num_taps; ++tap) {
                    const int64_t kt = p.last_tap - tap * s.ST;
                    for (int64_t co = 0; co < s.Co; ++co) {
                        const float weight = weights[((co * s.Ci + ci) * s.KF + kf) * s.KT + kt];
                        Product::put(weight, tap * s.Co + co, row, kPanel);
                    }
                }
            }
        }
        packed += num_panels * s.KF * num_floats;
    }
}

template <typename Product>
inline void run_conv_input_gradient(const ConvArguments& a) {
    const ConvSizes& s = a.sizes;
    pack_backward<Product>(s, a.weights, a.packed);
#pragma omp parallel for schedule(dynamic) num_threads(a.num_threads)
    for (int64_t i = 0; i < s.B * s.F; ++i) {
        const int64_t b = i / s.F, f = i % s.F + s.KF / 2;
        float* out = a.result + i * s.T * s.Ci;
        float* scratch = a.lines + omp_get_thread_num() * a.num_line;
        set_zero(out, s.T * s.Ci);
        const float* packed = a.packed;
        for (int64_t phase = 0; phase < s.ST; ++phase) {
            const Phase p(s, phase);
            const int64_t row = count_row<Product>(p.num_taps * s.Co);
            const int64_t num_out = phase < s.T ? (s.T - 1 - phase) / s.ST + 1 : 0;
            Line line{nullptr, s.T_out, s.Co, 1, p.offset, p.num_taps, nullptr, row * s.KF, out + phase * s.Ci,
                      num_out, s.Ci,    s.ST * s.Ci};
            for (int64_t kf = f % s.SF; kf < s.KF && kf <= f; kf += s.SF) {
                const int64_t f_out = (f - kf) / s.SF;
                if (f_out >= s.F_out || p.num_taps == 0 || num_out == 0) continue;
                line.in = a.dy + (b * s.F_out + f_out) * s.T_out * s.Co;
                line.packed = packed + kf * row;
                add_line<Product>(line, scratch, scratch + a.num_tile);
            }
            packed += ceil_divide(s.Ci, kPanel) * s.KF * row;
        }
    }
}

// sums (kTileFrames taps, kPanel) += over frames: what the taps see, times dy.
template <typename Product>
inline void add_outer_tile(const float* in, int64_t in_stride, const float* dy, int64_t dy_stride, int64_t num_frames,
                    float* sums_out) {
    Vec sums[kTileFrames][2] = {};
    for (int64_t t = 0; t < num_frames; t += Product::kDepth) {
        const float* line = dy + t / Product::kDepth * dy_stride;
        const Vec first = load(line), second = load(line + kLanes);
#pragma GCC unroll 12
        for (int r = 0; r < kTileFrames; ++r) {
            const Vec x = Product::spread(in + t * in_stride + r);
            sums[r][0] = Product::add_product(sums[r][0], x, first);
            sums[r][1] = Product::add_product(sums[r][1], x, second);
        }
    }
#pragma GCC unroll 12
    for (int r = 0; r < kTileFrames; ++r) {
        float* to = sums_out + r * kPanel;
        store(to, load(to) + sums[r][0]);
        store(to + kLanes, load(to + kLanes) + sums[r][1]);
    }
}

// One part of the utterances' lines. sums: [panel of Co][KF][taps KT * Ci, rounded up][kPanel].
template <typename Product>
inline void add_weight_gradient(const ConvArguments& a, int64_t begin, int64_t end, float* sums, float* scratch) {
    const ConvSizes& s = a.sizes;
    const int64_t num_k = s.KT * s.Ci, rounded = ceil_divide(num_k, kTileFrames) * kTileFrames;
    const int64_t num_panels = ceil_divide(s.Co, kPanel), padding = s.KT / 2 * s.Ci;
    float* x = scratch;  // one line with zeros around it
    float* dy = scratch + 2 * padding + s.T * s.Ci + kMaxConvRows;  // one line, channels filled up to whole panels
    const int64_t num_x = 2 * padding + s.T * s.Ci + kMaxConvRows;
    set_zero(x, num_x);
    for (int64_t i = begin; i < end; ++i) {
        const int64_t b = i / s.F, f = i % s.F + s.KF / 2;
        if (Product::kDepth > 1) set_zero(x, num_x);  // of the line before
        for (int64_t j = 0; j < s.T * s.Ci; ++j) x[padding + j] = a.x[i * s.T * s.Ci + j];
        Product::join_neighbours(x, num_x, s.ST * s.Ci);
        for (int64_t kf = f % s.SF; kf < s.KF && kf <= f; kf += s.SF) {
            const int64_t f_out = (f - kf) / s.SF;
            if (f_out >= s.F_out) continue;
            const float* line = a.dy + (b * s.F_out + f_out) * s.T_out * s.Co;
            int64_t stride = s.Co;
            if (Product::kDepth > 1 || s.Co % kPanel) {
                stride = num_panels * kPanel;
                for (int64_t t = 0; t < s.T_out; t += Product::kDepth) {
                    float* packed = dy + t / Product::kDepth * stride;
                    Product::pack_rows(line + t * s.Co, s.Co, s.T_out - t, s.Co, packed, stride);
                }
                line = dy;
            }
            for (int64_t panel = 0; panel < num_panels; ++panel) {
                float* to = sums + (panel * s.KF + kf) * rounded * kPanel;
                for (int64_t t = 0; t < s.T_out; t += kFrameBlock) {
                    const int64_t num_frames = smaller(kFrameBlock, s.T_out - t);
                    for (int64_t k = 0; k < rounded; k += kTileFrames) {
                        const float* frames = line + t / Product::kDepth * stride + panel * kPanel;
                        add_outer_tile<Product>(x + t * s.ST * s.Ci + k, s.ST * s.Ci, frames, stride, num_frames,
                                                to + k * kPanel);
                    }
                }
            }
        }
    }
}

template <typename Product>
inline void run_conv_weight_gradient(const ConvArguments& a) {
    const ConvSizes& s = a.sizes;
    const int64_t num_lines = s.B * s.F, rounded = ceil_divide(s.KT * s.Ci, kTileFrames) * kTileFrames;
#pragma omp parallel for schedule(static) num_threads(a.num_threads)
    for (int64_t part = 0; part < kConvParts; ++part) {
        float* sums = a.packed + part * a.num_packed;
        set_zero(sums, a.num_packed);
        add_weight_gradient<Product>(a, num_lines * part / kConvParts, num_lines * (part + 1) / kConvParts, sums,
                                     a.lines + part * a.num_line);
    }
    for (int64_t co = 0; co < s.Co; ++co) {
        for (int64_t ci = 0; ci < s.Ci; ++ci) {
            for (int64_t i = 0; i < s.KF * s.KT; ++i) {
                const int64_t kf = i / s.KT, kt = i % s.KT;
                const int64_t at = ((co / kPanel * s.KF + kf) * rounded + kt * s.Ci + ci) * kPanel + co % kPanel;
                float sum = 0;
                for (int64_t part = 0; part < kConvParts; ++part) sum += a.packed[part * a.num_packed + at];
                a.result[(co * s.Ci + ci) * s.KF * s.KT + i] = sum;
            }
        }
    }
}

template <typename Product>
constexpr ConvKernels find_convolution() {
    return {run_conv_forward<Product>, run_conv_input_gradient<Product>, run_conv_weight_gradient<Product>};
}

}  // namespace ds2::ISA
