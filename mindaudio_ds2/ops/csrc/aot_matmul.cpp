// Products of matrices in bfloat16 as MindSpore operators: Bf16MatMul{NN,NT,TN} (M, K) x (K, N) -> (M, N), float32.
//
// The letters say which matrix stands transposed: NT takes (M, K) and (N, K), TN (K, M) and (K, N).
#include <omp.h>

#include <new>

#include "aot.h"
#include "dispatch.h"

namespace ds2 {
namespace {

int multiply(const Call& call, bool is_a_transposed, bool is_b_transposed) noexcept {
    const Bfloat16Kernels* kernels = bfloat16_kernels();
    if (kernels == nullptr || call.num_arrays != 3 || call.ranks[0] != 2) return 1;
    const int64_t *a = call.shapes[0], *out = call.shapes[2];
    const int64_t K = a[is_a_transposed ? 0 : 1], M = a[is_a_transposed ? 1 : 0];
    if (call.ranks[1] != 2 || !call.has_shape(2, {M, out[1]})) return 1;
    const int64_t N = out[1];
    if (!(is_b_transposed ? call.has_shape(1, {N, K}) : call.has_shape(1, {K, N}))) return 1;
    const int num_threads = omp_get_max_threads();
    try {
        Scratch scratch((kMatMulColumns + num_threads * kMatMulRows) * kMatMulDepth / 2);
        kernels->matmul({M, N, K, call.input(0), is_a_transposed, call.input(1), is_b_transposed, call.output(2),
                         scratch.take(kMatMulColumns * kMatMulDepth / 2),
                         scratch.take(num_threads * kMatMulRows * kMatMulDepth / 2), num_threads});
        return 0;
    } catch (const std::bad_alloc&) {
        return 1;
    }
}

}  // namespace
}  // namespace ds2

#define DS2_MATMUL(name, is_a_transposed, is_b_transposed)                                                         \
    DS2_EXPORT int name(int nparam, void** params, int* ndims, int64_t** shapes, const char**, void*, void*) {     \
        return ds2::multiply({nparam, params, ndims, shapes}, is_a_transposed, is_b_transposed);                   \
    }                                                                                                              \
    DS2_EXPORT ds2::Shape name##InferShape(int*, int64_t** shapes, void*) {                                        \
        return {shapes[0][is_a_transposed ? 1 : 0], shapes[1][is_b_transposed ? 0 : 1]};                           \
    }                                                                                                              \
    DS2_EXPORT mindspore::TypeId name##InferType(std::vector<mindspore::TypeId> types, void*) { return types[0]; }

DS2_MATMUL(Bf16MatMulNN, false, false)
DS2_MATMUL(Bf16MatMulNT, false, true)
DS2_MATMUL(Bf16MatMulTN, true, false)
