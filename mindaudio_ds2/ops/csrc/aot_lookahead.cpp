// The lookahead convolution of networks without backward direction as MindSpore operators. Frames beyond the lengths
// count as zero, and are zero in the results.
//   LookaheadForward: x (S, B, H), weight (H, 1, 1, K), lengths (B,) int32 -> y (S, B, H)
//   LookaheadBackward: dy, x, weight, lengths -> dx like x, dweight like weight
#include <new>
#include <vector>

#include "aot.h"
#include "dispatch.h"

namespace ds2 {
namespace {

// The arrays of a call from x on; false where a shape is wrong.
bool describe(const Call& call, int x, LookaheadArguments& a) {
    if (call.ranks[x] != 3 || call.ranks[x + 1] != 4) return false;
    const int64_t *shape = call.shapes[x], *weight = call.shapes[x + 1];
    a.num_frames = shape[0];
    a.batch = shape[1];
    a.hidden = shape[2];
    a.reach = weight[3];
    a.x = call.input(x);
    a.lengths = call.integers(x + 2);
    return call.has_shape(x + 1, {a.hidden, 1, 1, a.reach}) && call.has_shape(x + 2, {a.batch});
}

std::vector<float> transpose(const float* weight, const LookaheadArguments& a) {
    std::vector<float> taps(a.reach * a.hidden);
    for (int64_t h = 0; h < a.hidden; ++h) {
        for (int64_t k = 0; k < a.reach; ++k) taps[k * a.hidden + h] = weight[h * a.reach + k];
    }
    return taps;
}

int forward(const Call& call) noexcept {
    try {
        LookaheadArguments a{};
        if (!describe(call, 0, a)) return 1;
        const std::vector<float> taps = transpose(call.input(1), a);
        a.taps = taps.data();
        a.y = call.output(3);
        kernels().lookahead.forward(a);
        return 0;
    } catch (const std::bad_alloc&) {
        return 1;
    }
}

int backward(const Call& call) noexcept {
    try {
        LookaheadArguments a{};
        if (!describe(call, 1, a) || !call.has_shape(0, {a.num_frames, a.batch, a.hidden})) return 1;
        const std::vector<float> taps = transpose(call.input(2), a);
        std::vector<double> dtaps(taps.size());
        std::vector<float> sums(taps.size());
        a.taps = taps.data();
        a.dy = call.input(0);
        a.dx = call.output(4);
        a.dtaps = dtaps.data();
        a.sums = sums.data();
        kernels().lookahead.backward(a);
        float* dweight = call.output(5);
        for (int64_t h = 0; h < a.hidden; ++h) {
            for (int64_t k = 0; k < a.reach; ++k) {
                dweight[h * a.reach + k] = static_cast<float>(dtaps[k * a.hidden + h]);
            }
        }
        return 0;
    } catch (const std::bad_alloc&) {
        return 1;
    }
}

}  // namespace
}  // namespace ds2

#define DS2_ARGUMENTS int nparam, void **params, int *ndims, int64_t **shapes, const char **, void *, void *

DS2_EXPORT int LookaheadForward(DS2_ARGUMENTS) { return ds2::forward({nparam, params, ndims, shapes}); }

DS2_EXPORT int LookaheadBackward(DS2_ARGUMENTS) { return ds2::backward({nparam, params, ndims, shapes}); }

DS2_EXPORT ds2::Shape LookaheadForwardInferShape(int*, int64_t** shapes, void*) {
    return {shapes[0], shapes[0] + 3};
}

DS2_EXPORT std::vector<ds2::Shape> LookaheadBackwardInferShape(int*, int64_t** shapes, void*) {
    return {{shapes[1], shapes[1] + 3}, {shapes[2], shapes[2] + 4}};
}

DS2_EXPORT mindspore::TypeId LookaheadForwardInferType(std::vector<mindspore::TypeId> types, void*) { return types[0]; }

DS2_EXPORT std::vector<mindspore::TypeId> LookaheadBackwardInferType(std::vector<mindspore::TypeId> types, void*) {
    return {types[0], types[0]};
}
