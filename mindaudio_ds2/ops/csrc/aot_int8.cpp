// A layer's weights in eight bits, and its inputs times them, as MindSpore operators: Int8{Lstm,Gru}{Pack,Projection}.
//
//   ...Pack: weights (G * H, K) -> packed (P,), as the processor's kernels read it, and scales (G * H,); G = 4 for LSTM, 3
//       for GRU, K what the weights are multiplied with: inputs or hidden states
//   ...Projection: x (S, B, K), packed, scales -> (S, B, G * H)
#include <omp.h>

#include <new>

#include "aot.h"
#include "dispatch.h"

namespace ds2 {
namespace {

int64_t round_up(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

int pack(const Call& call, int num_gates) {
    if (call.num_arrays != 3 || call.ranks[0] != 2) return 1;
    const int64_t num_rows = call.shapes[0][0], K = call.shapes[0][1], H = num_rows / num_gates;
    if (H * num_gates != num_rows || K > kMostInputs) return 1;
    const Int8Kernels& run = int8_kernels();
    if (!call.has_shape(1, {run.count_packed(H, K, num_gates)}) || !call.has_shape(2, {num_rows})) return 1;
    (num_gates == 4 ? run.lstm_pack : run.gru_pack)({H, K, call.input(0), call.output(1), call.output(2)});
    return 0;
}

int project(const Call& call, int num_gates) noexcept {
    if (call.num_arrays != 4 || call.ranks[0] != 3 || call.ranks[2] != 1) return 1;
    const int64_t S = call.shapes[0][0], B = call.shapes[0][1], K = call.shapes[0][2];
    const int64_t num_columns = call.shapes[2][0], H = num_columns / num_gates;
    const Int8Kernels& run = int8_kernels();
    if (H * num_gates != num_columns || K > kMostInputs || !call.has_shape(3, {S, B, num_columns})) return 1;
    if (!call.has_shape(1, {run.count_packed(H, K, num_gates)})) return 1;
    const int num_threads = omp_get_max_threads();
    const int64_t num_operands = num_threads * kProjectionRows * round_up(K, kOperandChunk);
    const int64_t num_totals = num_threads * kProjectionRows * num_gates * kMaxLanes;
    try {
        Scratch scratch(num_operands + num_totals);
        float* operands = scratch.take(num_operands);
        (num_gates == 4 ? run.lstm_project : run.gru_project)(
            {S * B, H, K, call.input(0), call.input(1), call.input(2), call.output(3), operands,
             scratch.take(num_totals), num_threads});
        return 0;
    } catch (const std::bad_alloc&) {
        return 1;
    }
}

}  // namespace
}  // namespace ds2

#define DS2_OPERATOR(name, compute)                                                                                \
    DS2_EXPORT int name(int nparam, void** params, int* ndims, int64_t** shapes, const char**, void*, void*) {     \
        return compute;                                                                                            \
    }

#define DS2_INT8(kind, num_gates)                                                                                  \
    DS2_OPERATOR(Int8##kind##Pack, ds2::pack({nparam, params, ndims, shapes}, num_gates))                          \
    DS2_EXPORT std::vector<ds2::Shape> Int8##kind##PackInferShape(int*, int64_t** shapes, void*) {                 \
        const int64_t num_rows = shapes[0][0], K = shapes[0][1];                                                   \
        return {{ds2::int8_kernels().count_packed(num_rows / num_gates, K, num_gates)}, {num_rows}};               \
    }                                                                                                              \
    DS2_EXPORT std::vector<mindspore::TypeId> Int8##kind##PackInferType(                                           \
        std::vector<mindspore::TypeId> types, void*) {                                                             \
        return {types[0], types[0]};                                                                               \
    }                                                                                                              \
    DS2_OPERATOR(Int8##kind##Projection, ds2::project({nparam, params, ndims, shapes}, num_gates))                 \
    DS2_EXPORT ds2::Shape Int8##kind##ProjectionInferShape(int*, int64_t** shapes, void*) {                        \
        return {shapes[0][0], shapes[0][1], shapes[2][0]};                                                         \
    }                                                                                                              \
    DS2_EXPORT mindspore::TypeId Int8##kind##ProjectionInferType(std::vector<mindspore::TypeId> types, void*) {    \
        return types[0];                                                                                           \
    }

DS2_INT8(Lstm, 4)
DS2_INT8(Gru, 3)

// For tests, which choose instruction sets: floats that the packed weights of a layer take.
DS2_EXPORT int64_t ds2_count_int8(int64_t num_hidden, int64_t num_inputs, int64_t num_gates) {
    return ds2::int8_kernels().count_packed(num_hidden, num_inputs, num_gates);
}
