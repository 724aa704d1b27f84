// The CTC loss as a MindSpore operator.
//   CtcLoss: logits (S, B, V), logit_lengths (B,) int32, labels (B, L) int32, label_lengths (B,) int32, blank (1,) int32
//       -> losses (B,) in nats, their gradients (S, B, V) by the logits, zero beyond the lengths
#include <algorithm>
#include <atomic>
#include <limits>
#include <new>

#include "aot.h"
#include "ctc.h"

namespace ds2 {
namespace {

// Loss and gradient of utterance b; lengths outside the arrays cannot be aligned. False where memory is short.
bool compute_utterance(const Call& call, int64_t b, Ctc& ctc) noexcept try {
    const int64_t S = call.shapes[0][0], B = call.shapes[0][1], V = call.shapes[0][2], L = call.shapes[2][1];
    const int64_t num_frames = call.integers(1)[b], num_labels = call.integers(3)[b];
    float* gradient = call.output(6) + b * V;
    for (int64_t t = 0; t < S; ++t) std::fill_n(gradient + t * B * V, V, 0.0f);
    float& loss = call.output(5)[b];
    loss = std::numeric_limits<float>::infinity();
    if (num_frames < 0 || num_frames > S || num_labels < 0 || num_labels > L) return true;
    loss = static_cast<float>(ctc.compute({call.input(0) + b * V, gradient, B * V, V, num_frames,
                                           call.integers(2) + b * L, num_labels, call.integers(4)[0]}));
    return true;
} catch (const std::bad_alloc&) {
    return false;
}

int run(const Call& call) {
    if (call.num_arrays != 7 || call.ranks[0] != 3 || call.ranks[2] != 2) return 1;
    const int64_t B = call.shapes[0][1], L = call.shapes[2][1];
    if (!call.has_shape(1, {B}) || !call.has_shape(2, {B, L}) || !call.has_shape(3, {B}) || !call.has_shape(4, {1})) {
        return 1;
    }
    std::atomic<bool> has_failed{false};
#pragma omp parallel
    {
        Ctc ctc;
#pragma omp for schedule(dynamic)
        for (int64_t b = 0; b < B; ++b) {
            if (!compute_utterance(call, b, ctc)) has_failed = true;
        }
    }
    return has_failed ? 1 : 0;
}

}  // namespace
}  // namespace ds2

DS2_EXPORT int CtcLoss(int nparam, void** params, int* ndims, int64_t** shapes, const char**, void*, void*) {
    return ds2::run({nparam, params, ndims, shapes});
}

DS2_EXPORT std::vector<ds2::Shape> CtcLossInferShape(int*, int64_t** shapes, void*) {
    const int64_t* logits = shapes[0];
    return {{logits[1]}, {logits[0], logits[1], logits[2]}};
}

DS2_EXPORT std::vector<mindspore::TypeId> CtcLossInferType(std::vector<mindspore::TypeId> types, void*) {
    return {types[0], types[0]};
}
