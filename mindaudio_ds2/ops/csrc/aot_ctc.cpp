// The CTC loss as a MindSpore operator.
//   CtcLoss: logits (S, B, V), logit_lengths (B,) int32, labels (B, L) int32, label_lengths (B,) int32,
//       blank (1,) int32 -> losses (B,) in nats, their gradients (S, B, V) by the logits, zero beyond the lengths
// Labels that cannot be aligned, that are no classes, and lengths outside the arrays give an infinite loss and a
// gradient of zero; logits that are not finite give NaN and zero.
#include <omp.h>

#include <algorithm>
#include <new>

#include "aot.h"
#include "dispatch.h"

namespace ds2 {
namespace {

// The most frames and labels of any utterance whose lengths are inside the arrays.
void find_longest(const CtcArguments& a, int64_t& num_frames, int64_t& num_labels) {
    num_frames = num_labels = 0;
    for (int64_t b = 0; b < a.B; ++b) {
        if (a.num_frames[b] <= a.S) num_frames = std::max<int64_t>(num_frames, a.num_frames[b]);
        if (a.num_labels[b] <= a.L) num_labels = std::max<int64_t>(num_labels, a.num_labels[b]);
    }
}

int run_ctc(const Call& call) noexcept try {
    if (call.num_arrays != 7 || call.ranks[0] != 3 || call.ranks[2] != 2) return 1;
    CtcArguments a{};
    a.S = call.shapes[0][0];
    a.B = call.shapes[0][1];
    a.V = call.shapes[0][2];
    a.L = call.shapes[2][1];
    if (!call.has_shape(1, {a.B}) || !call.has_shape(2, {a.B, a.L}) || !call.has_shape(3, {a.B})) return 1;
    if (!call.has_shape(4, {1}) || a.V < 1) return 1;
    a.logits = call.input(0);
    a.num_frames = call.integers(1);
    a.labels = call.integers(2);
    a.num_labels = call.integers(3);
    a.blank = call.integers(4)[0];
    a.losses = call.output(5);
    a.gradient = call.output(6);
    a.num_threads = static_cast<int>(std::clamp<int64_t>(a.B, 1, omp_get_max_threads()));
    int64_t num_frames, num_labels;
    find_longest(a, num_frames, num_labels);
    a.num_scratch = CtcSizes(a.V, num_labels).count(num_frames);
    Scratch scratch(2 * a.num_threads * a.num_scratch);  // a double takes the room of two floats
    a.scratch = reinterpret_cast<double*>(scratch.take(2 * a.num_threads * a.num_scratch));
    kernels().ctc(a);
    return 0;
} catch (const std::bad_alloc&) {
    return 1;
}

}  // namespace
}  // namespace ds2

DS2_EXPORT int CtcLoss(int nparam, void** params, int* ndims, int64_t** shapes, const char**, void*, void*) {
    return ds2::run_ctc({nparam, params, ndims, shapes});
}

DS2_EXPORT std::vector<ds2::Shape> CtcLossInferShape(int*, int64_t** shapes, void*) {
    const int64_t* logits = shapes[0];
    return {{logits[1]}, {logits[0], logits[1], logits[2]}};
}

DS2_EXPORT std::vector<mindspore::TypeId> CtcLossInferType(std::vector<mindspore::TypeId> types, void*) {
    return {types[0], types[0]};
}
