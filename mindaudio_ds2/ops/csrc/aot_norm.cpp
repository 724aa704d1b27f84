// Masked batch norm with clipping as MindSpore operators. x is (B, F, T, C) or (S, B, H), channels last; `settings` is
// (3,): epsilon, low, high; everything is zero at positions beyond the lengths.
//   NormForward: x, lengths (B,) int32, gamma (C,), beta (C,), settings -> y like x, mean (C,), variance (C,)
//   NormBackward: dy, x, y, lengths, gamma, mean, variance, settings -> dx, dgamma, dbeta
//   NormScale: x, lengths, gamma, beta, settings, mean, variance -> y by these
#include <new>
#include <vector>

#include "aot.h"
#include "dispatch.h"

namespace ds2 {
namespace {

bool describe_rows(const Call& call, int x, int lengths, Rows& rows) {
    const int64_t* shape = call.shapes[x];
    const int32_t* values = call.integers(lengths);
    if (call.ranks[x] == 4) {
        rows = {shape[0] * shape[1] * shape[2], shape[3], shape[2], shape[1] * shape[2], true, values};
        return call.has_shape(lengths, {shape[0]});
    }
    rows = {shape[0] * shape[1], shape[2], shape[1], 0, false, values};
    return call.ranks[x] == 3 && call.has_shape(lengths, {shape[1]});
}

bool are_channels(const Call& call, std::initializer_list<int> arrays, int64_t num_channels) {
    for (int i : arrays) {
        if (!call.has_shape(i, {num_channels})) return false;
    }
    return true;
}

int run_norm(const float* settings, NormArguments a, RunNorm run, bool is_measured) noexcept {
    try {
        const int64_t C = a.rows.channels, num_chunks = is_measured ? kNormChunks : 0;
        std::vector<double> sums(num_chunks * 3 * C);
        std::vector<int64_t> counts(num_chunks);
        std::vector<float> floats((num_chunks + 1) * 3 * C);
        a.sums = sums.data();
        a.counts = counts.data();
        a.floats = floats.data();
        a.epsilon = settings[0];
        a.low = settings[1];
        a.high = settings[2];
        run(a);
        return 0;
    } catch (const std::bad_alloc&) {
        return 1;
    }
}

int forward(const Call& call, RunNorm run) {
    NormArguments a{};
    if (!describe_rows(call, 0, 1, a.rows) || !are_channels(call, {2, 3}, a.rows.channels)) return 1;
    a.x = call.input(0);
    a.gamma = call.input(2);
    a.beta = call.input(3);
    a.y = call.output(5);
    a.mean = call.output(6);
    a.variance = call.output(7);
    return run_norm(call.input(4), a, run, true);
}

int scale(const Call& call, RunNorm run) {
    NormArguments a{};
    if (!describe_rows(call, 0, 1, a.rows) || !are_channels(call, {2, 3, 5, 6}, a.rows.channels)) return 1;
    a.x = call.input(0);
    a.gamma = call.input(2);
    a.beta = call.input(3);
    a.mean = call.output(5);  // only read, as the next
    a.variance = call.output(6);
    a.y = call.output(7);
    return run_norm(call.input(4), a, run, false);
}

int backward(const Call& call, RunNorm run) {
    NormArguments a{};
    if (!describe_rows(call, 1, 3, a.rows) || !are_channels(call, {4, 5, 6}, a.rows.channels)) return 1;
    a.dy = call.input(0);
    a.x = call.input(1);
    a.y = call.output(2);
    a.gamma = call.input(4);
    a.mean = call.output(5);
    a.variance = call.output(6);
    a.dx = call.output(8);
    a.dgamma = call.output(9);
    a.dbeta = call.output(10);
    return run_norm(call.input(7), a, run, true);
}

std::vector<Shape> infer(const int* ranks, int64_t* const* shapes, int x) {
    const Shape like_x(shapes[x], shapes[x] + ranks[x]);
    const Shape channels{like_x.back()};
    return {like_x, channels, channels};
}

}  // namespace
}  // namespace ds2

#define DS2_ARGUMENTS int nparam, void **params, int *ndims, int64_t **shapes, const char **, void *, void *

DS2_EXPORT int NormForward(DS2_ARGUMENTS) {
    return ds2::forward({nparam, params, ndims, shapes}, ds2::kernels().norm.forward);
}

DS2_EXPORT int NormBackward(DS2_ARGUMENTS) {
    return ds2::backward({nparam, params, ndims, shapes}, ds2::kernels().norm.backward);
}

DS2_EXPORT int NormScale(DS2_ARGUMENTS) {
    return ds2::scale({nparam, params, ndims, shapes}, ds2::kernels().norm.scale);
}

DS2_EXPORT std::vector<ds2::Shape> NormForwardInferShape(int* ranks, int64_t** shapes, void*) {
    return ds2::infer(ranks, shapes, 0);
}

DS2_EXPORT std::vector<ds2::Shape> NormBackwardInferShape(int* ranks, int64_t** shapes, void*) {
    return ds2::infer(ranks, shapes, 1);
}

DS2_EXPORT ds2::Shape NormScaleInferShape(int* ranks, int64_t** shapes, void*) {
    return ds2::infer(ranks, shapes, 0)[0];
}

DS2_EXPORT std::vector<mindspore::TypeId> NormForwardInferType(std::vector<mindspore::TypeId> types, void*) {
    return {types[0], types[0], types[0]};
}

DS2_EXPORT std::vector<mindspore::TypeId> NormBackwardInferType(std::vector<mindspore::TypeId> types, void*) {
    return {types[0], types[0], types[0]};
}

DS2_EXPORT mindspore::TypeId NormScaleInferType(std::vector<mindspore::TypeId> types, void*) { return types[0]; }
