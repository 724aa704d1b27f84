// Convolutions, convolution.h, in tiles of AMX.
//
// Rows of a tile may overlap in memory, so a line is only rounded, with zeros around it: what 16 output frames see of it is
// a tile read in place. All kernel rows are summed in registers. In the weight gradient frames are what is summed over: dy
// is the first factor, across, and the line, each number of which makes an element with what its tap sees next, the second.
#pragma once

#include "amx.h"
#include "convolution.h"

namespace ds2::ISA {

constexpr int64_t kBlock = 2 * kTile;  // frames, channels or taps: two tiles beside each other
static_assert(kBlock == kPanel && kBlock == kConvBlock);

// Lines of frames of `num_channels` bfloat16 each, times the packed weights of as many kernel rows, summed.
struct Lines {
    const uint16_t* first;  // what the first output frame sees of the first line
    int64_t num_lines, line_stride, num_channels;
    int64_t step, num_k;    // frames from output to output frame; numbers that each sees
    const float* packed;    // (panels, elements of num_k, kPanel) of the first line
    int64_t packed_stride, panel_stride;
    float* out;  // output frame i is at out + i * out_stride
    int64_t num_out, out_channels, out_stride;
};

// num_numbers of them, with zeros in front and behind, up to `end`.
inline void round_line(const float* numbers, int64_t num_numbers, int64_t num_before, int64_t end, uint16_t* out) {
    std::memset(out, 0, num_before * sizeof *out);
    uint16_t* to = out + num_before;
    for (int64_t i = 0; i < num_numbers; i += 2 * kLanes, to += 2 * kLanes) {
        const Vec low = load_lanes(numbers + i, num_numbers - i);
        const Vec high = load_lanes(numbers + i + kLanes, num_numbers - i - kLanes);
        const Vec pairs = round_pairs(low, high);
        std::memcpy(to, &pairs, sizeof pairs);
    }
    if (to < out + end) std::memset(to, 0, (out + end - to) * sizeof *out);
}

// Tiles 0 .. 3 to a block of 2 x 2 tiles.
inline void store_block(float* out, int64_t stride) {
    const int64_t num_bytes = stride * static_cast<int64_t>(sizeof(float));
    _tile_stored(0, out, num_bytes);
    _tile_stored(1, out + kTile, num_bytes);
    _tile_stored(2, out + kTile * stride, num_bytes);
    _tile_stored(3, out + kTile * stride + kTile, num_bytes);
}

// kBlock output frames of a panel, from `begin` on.
inline void multiply_block(const Lines& s, int64_t panel, int64_t begin) {
    const int64_t num_frames = smaller(kBlock, s.num_out - begin);
    const int64_t num_channels = smaller(kPanel, s.out_channels - panel * kPanel);
    const int64_t stride = s.step * s.num_channels, row_bytes = stride * static_cast<int64_t>(sizeof(uint16_t));
    constexpr int64_t kPanelBytes = kPanel * sizeof(float);
    const bool is_tall = num_frames > kTile, is_wide = num_channels > kTile;
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int64_t line = 0; line < s.num_lines; ++line) {
        const uint16_t* in = s.first + line * s.line_stride + begin * stride;
        const float* weights = s.packed + line * s.packed_stride + panel * s.panel_stride;
        for (int64_t k = 0; k < s.num_k; k += 2 * kTile, in += 2 * kTile, weights += kTile * kPanel) {
            _tile_loadd(4, in, row_bytes);
            _tile_loadd(6, weights, kPanelBytes);
            _tile_dpbf16ps(0, 4, 6);
            if (is_wide) {
                _tile_loadd(7, weights + kTile, kPanelBytes);
                _tile_dpbf16ps(1, 4, 7);
            }
            if (!is_tall) continue;
            _tile_loadd(5, in + kTile * stride, row_bytes);
            _tile_dpbf16ps(2, 5, 6);
            if (is_wide) _tile_dpbf16ps(3, 5, 7);
        }
    }
    float* out = s.out + begin * s.out_stride + panel * kPanel;
    if (num_frames == kBlock && num_channels == kPanel) return store_block(out, s.out_stride);
    alignas(64) float sums[kBlock * kPanel];
    store_block(sums, kPanel);
    for (int64_t frame = 0; frame < num_frames; ++frame) {
        store_lanes(out + frame * s.out_stride, load(sums + frame * kPanel), num_channels);
        store_lanes(out + frame * s.out_stride + kLanes, load(sums + frame * kPanel + kLanes), num_channels - kLanes);
    }
}

inline void multiply_lines(const Lines& s) {
    finish_writing();
    for (int64_t begin = 0; begin < s.num_out; begin += kBlock) {
        for (int64_t panel = 0; panel < ceil_divide(s.out_channels, kPanel); ++panel) multiply_block(s, panel, begin);
    }
}

template <>
inline void run_conv_forward<Bfloat16Tiles>(const ConvArguments& a) {
    const ConvSizes& s = a.sizes;
    pack_forward<Bfloat16Tiles>(s, a.weights, a.packed, a.num_threads);
    const int64_t row = count_row<Bfloat16Tiles>(s.KT * s.Ci), num_before = s.KT / 2 * s.Ci;
    const int64_t end = ((s.T_out - 1) * s.ST + s.KT) * s.Ci + kBlock;
    const int64_t line_stride = a.num_line / s.KF / kLineFloats * kLineFloats * 2;
#pragma omp parallel num_threads(a.num_threads)
    {
        const Bfloat16Tiles::Registers registers;
        auto* lines = reinterpret_cast<uint16_t*>(a.lines + omp_get_thread_num() * a.num_line);
#pragma omp for schedule(dynamic)
        for (int64_t i = 0; i < s.B * s.F_out; ++i) {
            const int64_t b = i / s.F_out, low = i % s.F_out * s.SF - s.KF / 2;
            const int64_t first = larger(0, -low), num_lines = smaller(s.KF, s.F - low) - first;
            for (int64_t line = 0; line < num_lines; ++line) {
                const float* x = a.x + (b * s.F + low + first + line) * s.T * s.Ci;
                round_line(x, s.T * s.Ci, num_before, end, lines + line * line_stride);
            }
            multiply_lines({lines, num_lines, line_stride, s.Ci, s.ST, s.KT * s.Ci, a.packed + first * row, row,
                            row * s.KF, a.result + i * s.T_out * s.Co, s.T_out, s.Co, s.Co});
        }
    }
}

template <>
inline void run_conv_input_gradient<Bfloat16Tiles>(const ConvArguments& a) {
    const ConvSizes& s = a.sizes;
    pack_backward<Bfloat16Tiles>(s, a.weights, a.packed);
    const int64_t num_before = s.KT * s.Co, end = (s.KT + s.T_out + s.KT) * s.Co + kBlock;
    const int64_t line_stride = a.num_line / s.KF / kLineFloats * kLineFloats * 2;
#pragma omp parallel num_threads(a.num_threads)
    {
        const Bfloat16Tiles::Registers registers;
        auto* lines = reinterpret_cast<uint16_t*>(a.lines + omp_get_thread_num() * a.num_line);
#pragma omp for schedule(dynamic)
        for (int64_t i = 0; i < s.B * s.F; ++i) {
            const int64_t b = i / s.F, f = i % s.F + s.KF / 2;
            // Kernel row kf sees (f - kf) / SF, from the last output frequency that there is downwards.
            int64_t first = f % s.SF, num_lines = 0;
            while ((f - first) / s.SF >= s.F_out) first += s.SF;
            for (int64_t kf = first; kf < s.KF && kf <= f; kf += s.SF, ++num_lines) {
                const float* dy = a.dy + (b * s.F_out + (f - kf) / s.SF) * s.T_out * s.Co;
                round_line(dy, s.T_out * s.Co, num_before, end, lines + num_lines * line_stride);
            }
            const float* packed = a.packed;
            for (int64_t phase = 0; phase < s.ST; ++phase) {
                const Phase p(s, phase);
                const int64_t row = count_row<Bfloat16Tiles>(p.num_taps * s.Co);
                const int64_t num_out = phase < s.T ? (s.T - 1 - phase) / s.ST + 1 : 0;
                multiply_lines({lines + num_before + p.offset * s.Co, num_lines, line_stride, s.Co, 1,
                                p.num_taps * s.Co, packed + first * row, s.SF * row, row * s.KF,
                                a.result + i * s.T * s.Ci + phase * s.Ci, num_out, s.Ci, s.ST * s.Ci});
                packed += ceil_divide(s.Ci, kPanel) * s.KF * row;
            }
        }
    }
}

// The frames of a line of dy across: [kBlock frames][channel of a panel][element], with zeros behind both.
inline void pack_frames(const float* dy, int64_t num_frames, int64_t stride, int64_t num_channels, float* out) {
    alignas(64) float rounded[kTile * kTile];
    for (int64_t t = 0; t < num_frames; t += kBlock) {
        for (int64_t channel = 0; channel < kPanel; channel += kTile, out += kTile * kTile) {
            for (int64_t pair = 0; pair < kTile; ++pair) {
                const int64_t frame = t + 2 * pair;
                Bfloat16::pack_rows(dy + frame * stride + channel, stride, num_frames - frame, num_channels - channel,
                                    rounded + pair * kTile, kTile);
            }
            transpose(rounded, kTile, out, kTile);
        }
    }
}

// sums (kPanel, num_taps rounded up) += dy, packed by pack_frames, x what the taps see, `stride` elements from frame to
// frame.
inline void add_products(const float* frames, int64_t num_frames, const float* x, int64_t stride, int64_t num_taps,
                         float* sums) {
    const int64_t x_bytes = 2 * stride * static_cast<int64_t>(sizeof(float));
    const int64_t num_k = ceil_divide(num_taps, kBlock) * kBlock;
    const int64_t sum_bytes = num_k * static_cast<int64_t>(sizeof(float));
    finish_writing();
    for (int64_t k = 0; k < num_k; k += kBlock, x += kBlock, sums += kBlock) {
        _tile_loadd(0, sums, sum_bytes);
        _tile_loadd(1, sums + kTile, sum_bytes);
        _tile_loadd(2, sums + kTile * num_k, sum_bytes);
        _tile_loadd(3, sums + kTile * num_k + kTile, sum_bytes);
        const bool is_wide = num_taps - k > kTile;
        for (int64_t t = 0; t < num_frames; t += kBlock) {
            const float* dy = frames + t * kTile;
            _tile_loadd(4, dy, kTile * sizeof(float));
            _tile_loadd(5, dy + kTile * kTile, kTile * sizeof(float));
            _tile_loadd(6, x + t * stride, x_bytes);
            _tile_dpbf16ps(0, 4, 6);
            _tile_dpbf16ps(2, 5, 6);
            if (!is_wide) continue;
            _tile_loadd(7, x + t * stride + kTile, x_bytes);
            _tile_dpbf16ps(1, 4, 7);
            _tile_dpbf16ps(3, 5, 7);
        }
        store_block(sums, num_k);
    }
}

// One part of the utterances' lines. sums: [panel of Co][KF][channel of the panel][taps KT * Ci, rounded up].
inline void add_weight_gradient(const ConvArguments& a, int64_t begin, int64_t end, float* sums, float* scratch) {
    const ConvSizes& s = a.sizes;
    const int64_t num_k = ceil_divide(s.KT * s.Ci, kBlock) * kBlock, stride = s.ST * s.Ci, padding = s.KT / 2 * s.Ci;
    const int64_t num_x = ceil_divide(s.T_out, kBlock) * kBlock * stride + num_k + 2 * padding;
    float* x = scratch;
    float* frames = scratch + ceil_divide(num_x, kLineFloats) * kLineFloats;
    const int64_t num_panels = ceil_divide(s.Co, kPanel), num_frames = ceil_divide(s.T_out, kBlock) * kBlock * kTile;
    int64_t next = 0;  // line of dy, of all utterances, that no kernel row has seen yet
    const Bfloat16Tiles::Registers registers;
    for (int64_t i = begin; i < end; ++i) {
        const int64_t b = i / s.F, f = i % s.F + s.KF / 2, num_real = s.T * s.Ci;
        const int64_t lowest = larger(0, ceil_divide(f - s.KF + 1, s.SF)), highest = smaller(s.F_out - 1, f / s.SF);
        for (next = larger(next, b * s.F_out + lowest); next <= b * s.F_out + highest; ++next) {
            for (int64_t panel = 0; panel < num_panels; ++panel) {
                pack_frames(a.dy + next * s.T_out * s.Co + panel * kPanel, s.T_out, s.Co, s.Co - panel * kPanel,
                            frames + (next % s.KF * num_panels + panel) * num_frames);
            }
        }
        set_zero(x, padding);
        std::memcpy(x + padding, a.x + i * num_real, num_real * sizeof(float));
        set_zero(x + padding + num_real, num_x - padding - num_real);
        Bfloat16::join_neighbours(x, num_x, stride);
        for (int64_t kf = f % s.SF; kf < s.KF && kf <= f; kf += s.SF) {
            const int64_t f_out = (f - kf) / s.SF;
            if (f_out >= s.F_out) continue;
            const float* dy = frames + (b * s.F_out + f_out) % s.KF * num_panels * num_frames;
            for (int64_t panel = 0; panel < num_panels; ++panel) {
                add_products(dy + panel * num_frames, s.T_out, x, stride, s.KT * s.Ci,
                             sums + (panel * s.KF + kf) * kPanel * num_k);
            }
        }
    }
}

template <>
inline void run_conv_weight_gradient<Bfloat16Tiles>(const ConvArguments& a) {
    const ConvSizes& s = a.sizes;
    const int64_t num_lines = s.B * s.F, num_k = ceil_divide(s.KT * s.Ci, kBlock) * kBlock;
#pragma omp parallel for schedule(static) num_threads(a.num_threads)
    for (int64_t part = 0; part < kConvParts; ++part) {
        float* sums = a.packed + part * a.num_packed;
        set_zero(sums, a.num_packed);
        add_weight_gradient(a, num_lines * part / kConvParts, num_lines * (part + 1) / kConvParts, sums,
                            a.lines + part * a.num_line);
    }
    for (int64_t co = 0; co < s.Co; ++co) {
        for (int64_t ci = 0; ci < s.Ci; ++ci) {
            for (int64_t i = 0; i < s.KF * s.KT; ++i) {
                const int64_t kf = i / s.KT, kt = i % s.KT;
                const int64_t row = (co / kPanel * s.KF + kf) * kPanel + co % kPanel;
                float sum = 0;
                for (int64_t part = 0; part < kConvParts; ++part) {
                    sum += a.packed[part * a.num_packed + row * num_k + kt * s.Ci + ci];
                }
                a.result[(co * s.Ci + ci) * s.KF * s.KT + i] = sum;
            }
        }
    }
}

}  // namespace ds2::ISA
