// Convolutions as MindSpore operators, channels last. A stride stands in the shape of a float32 array (SF, ST).
// All exist with the prefix Bf16, too: the same, multiplied in bfloat16.
//   ConvForward: x (B, F, T, Ci), weights (Co, Ci, KF, KT), stride -> y (B, F', T', Co)
//   ConvInputGradient: dy (B, F', T', Co), weights, x (only its shape counts), stride -> dx (B, F, T, Ci)
//   ConvWeightGradient: dy, x, weights (only their shape counts), stride -> dw (Co, Ci, KF, KT)
#include <omp.h>

#include <algorithm>
#include <new>

#include "aot.h"
#include "dispatch.h"

namespace ds2 {
namespace {

int64_t count_outputs(int64_t size, int64_t stride) { return size < 0 ? -1 : (size - 1) / stride + 1; }

int64_t round_up(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

// Whether y has the shape that x, weights and stride give it, and kernels are odd.
bool describe(const Call& call, int x, int weights, int stride, int y, ConvSizes& s) {
    if (call.ranks[x] != 4 || call.ranks[weights] != 4 || call.ranks[stride] != 2) return false;
    const int64_t *in = call.shapes[x], *w = call.shapes[weights], *step = call.shapes[stride];
    s = {in[0], in[1], in[2], in[3], 0, 0, w[0], w[2], w[3], step[0], step[1]};
    if (s.SF < 1 || s.ST < 1 || s.KF % 2 == 0 || s.KT % 2 == 0) return false;
    s.F_out = count_outputs(s.F, s.SF);
    s.T_out = count_outputs(s.T, s.ST);
    return w[1] == s.Ci && call.has_shape(y, {s.B, s.F_out, s.T_out, s.Co});
}

// What amx_convolution.h needs. A line of either array with zeros around it, in bfloat16, as long as whole blocks of
// output frames see: in floats, a whole number of cache lines.
int64_t count_lines(const ConvSizes& s) {
    const int64_t num_frames = s.T_out + kConvBlock;
    const int64_t most = std::max((num_frames * s.ST + s.KT) * s.Ci, (num_frames + 2 * s.KT) * s.Co);
    return round_up(most + 2 * kConvBlock, 2 * kConvBlock) / 2;
}

// Of the weight gradient: a line of x, and as many of dy as the kernel has rows.
int64_t count_gradient_line(const ConvSizes& s) {
    const int64_t num_frames = round_up(s.T_out, kConvBlock);
    const int64_t num_x = (num_frames * s.ST + 2 * s.KT) * s.Ci + kConvBlock;
    return Scratch::rounded(num_x) + s.KF * num_frames * round_up(s.Co, kConvBlock) / 2;
}

int run_conv(ConvArguments a, bool is_bfloat16, RunConv ConvKernels::*choice) noexcept {
    if (is_bfloat16 && bfloat16_kernels() == nullptr) return 1;
    const ConvKernels& run = is_bfloat16 ? bfloat16_kernels()->convolution : kernels().convolution;
    const ConvSizes& s = a.sizes;
    const bool is_weight_gradient = a.x != nullptr && a.dy != nullptr;
    const int64_t most = std::max(s.Ci, s.Co);
    a.num_threads = omp_get_max_threads();
    a.num_packed = s.KF * round_up(s.KT * s.Ci, kMaxConvRows) * round_up(s.Co, kMaxConvPanel);
    a.num_line = s.T_out * round_up(s.Co, kMaxConvPanel) + (s.T + s.KT) * s.Ci + kMaxConvRows;
    if (!is_weight_gradient) {
        a.num_packed = s.KF * s.KT * round_up(s.Ci, kMaxConvPanel) * round_up(s.Co, kMaxConvPanel);
        a.num_tile = Scratch::rounded(kMaxConvRows * kMaxConvPanel + ((kMaxConvRows - 1) * s.ST + s.KT) * most);
        a.num_line = a.num_tile + (is_bfloat16 ? std::max((s.T + s.KT) * s.Ci, (s.T_out + s.KT) * s.Co) : 0);
    }
    if (is_bfloat16) {
        a.num_packed = std::max(a.num_packed, s.KF * round_up(s.KT * s.Ci, kConvBlock) * round_up(s.Co, kConvBlock));
        a.num_line = std::max(a.num_line, is_weight_gradient ? count_gradient_line(s) : s.KF * count_lines(s));
    }
    a.num_line = Scratch::rounded(a.num_line);
    a.num_packed = Scratch::rounded(a.num_packed);
    try {
        const int64_t num_packs = is_weight_gradient ? kConvParts : 1;
        const int64_t num_lines = is_weight_gradient ? kConvParts : a.num_threads;
        Scratch scratch(num_packs * a.num_packed + num_lines * a.num_line);
        a.packed = scratch.take(num_packs * a.num_packed);
        a.lines = scratch.take(num_lines * a.num_line);
        (run.*choice)(a);
        return 0;
    } catch (const std::bad_alloc&) {
        return 1;
    }
}

int forward(const Call& call, bool is_bfloat16) {
    ConvArguments a{};
    if (call.num_arrays != 4 || !describe(call, 0, 1, 2, 3, a.sizes)) return 1;
    a.x = call.input(0);
    a.weights = call.input(1);
    a.result = call.output(3);
    return run_conv(a, is_bfloat16, &ConvKernels::forward);
}

int differentiate_input(const Call& call, bool is_bfloat16) {
    ConvArguments a{};
    if (call.num_arrays != 5 || !describe(call, 2, 1, 3, 0, a.sizes)) return 1;
    a.dy = call.input(0);
    a.weights = call.input(1);
    a.result = call.output(4);
    return run_conv(a, is_bfloat16, &ConvKernels::input_gradient);
}

int differentiate_weight(const Call& call, bool is_bfloat16) {
    ConvArguments a{};
    if (call.num_arrays != 5 || !describe(call, 1, 2, 3, 0, a.sizes)) return 1;
    a.dy = call.input(0);
    a.x = call.input(1);
    a.result = call.output(4);
    return run_conv(a, is_bfloat16, &ConvKernels::weight_gradient);
}

Shape infer_forward(int64_t* const* shapes) {
    const int64_t *x = shapes[0], *stride = shapes[2];
    return {x[0], count_outputs(x[1], stride[0]), count_outputs(x[2], stride[1]), shapes[1][0]};
}

using Types = std::vector<mindspore::TypeId>;

}  // namespace
}  // namespace ds2

#define DS2_ARGUMENTS int nparam, void **params, int *ndims, int64_t **shapes, const char **, void *, void *

#define DS2_CONV(prefix, is_bfloat16)                                                                              \
    DS2_EXPORT int prefix##Forward(DS2_ARGUMENTS) {                                                                \
        return ds2::forward({nparam, params, ndims, shapes}, is_bfloat16);                                         \
    }                                                                                                              \
    DS2_EXPORT int prefix##InputGradient(DS2_ARGUMENTS) {                                                          \
        return ds2::differentiate_input({nparam, params, ndims, shapes}, is_bfloat16);                             \
    }                                                                                                              \
    DS2_EXPORT int prefix##WeightGradient(DS2_ARGUMENTS) {                                                         \
        return ds2::differentiate_weight({nparam, params, ndims, shapes}, is_bfloat16);                            \
    }                                                                                                              \
    DS2_EXPORT ds2::Shape prefix##ForwardInferShape(int*, int64_t** shapes, void*) {                               \
        return ds2::infer_forward(shapes);                                                                         \
    }                                                                                                              \
    DS2_EXPORT ds2::Shape prefix##InputGradientInferShape(int*, int64_t** shapes, void*) {                         \
        return ds2::Shape(shapes[2], shapes[2] + 4);                                                               \
    }                                                                                                              \
    DS2_EXPORT ds2::Shape prefix##WeightGradientInferShape(int*, int64_t** shapes, void*) {                        \
        return ds2::Shape(shapes[2], shapes[2] + 4);                                                               \
    }                                                                                                              \
    DS2_EXPORT mindspore::TypeId prefix##ForwardInferType(ds2::Types types, void*) { return types[0]; }            \
    DS2_EXPORT mindspore::TypeId prefix##InputGradientInferType(ds2::Types types, void*) { return types[0]; }      \
    DS2_EXPORT mindspore::TypeId prefix##WeightGradientInferType(ds2::Types types, void*) { return types[0]; }

DS2_CONV(Conv, false)
DS2_CONV(Bf16Conv, true)
