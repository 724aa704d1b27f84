// Products of matrices as MindSpore operators: MatMul{NN,NT,TN} (M, K) x (K, N) -> (M, N), and the same with the prefix
// Bf16, multiplied in bfloat16.
//
// The letters say which matrix stands transposed: NT takes (M, K) and (N, K), TN (K, M) and (K, N). What is a matrix's
// first dimension here may be several, as frames and utterances are; M's become those of the result.
#include <omp.h>

#include <new>

#include "aot.h"
#include "dispatch.h"

namespace ds2 {
namespace {

int64_t count_rows(int rank, const int64_t* shape) {
    int64_t count = 1;
    for (int i = 0; i + 1 < rank; ++i) count *= shape[i];
    return count;
}

int multiply(const Call& call, bool is_bfloat16, bool is_a_transposed, bool is_b_transposed) noexcept {
    if ((is_bfloat16 && bfloat16_kernels() == nullptr) || call.num_arrays != 3) return 1;
    for (int i = 0; i < 3; ++i) {
        if (call.ranks[i] < 2) return 1;
    }
    int64_t rows[3], columns[3];
    for (int i = 0; i < 3; ++i) {
        rows[i] = count_rows(call.ranks[i], call.shapes[i]);
        columns[i] = call.shapes[i][call.ranks[i] - 1];
    }
    const int64_t M = rows[2], N = columns[2], K = is_a_transposed ? rows[0] : columns[0];
    if ((is_a_transposed ? columns[0] : rows[0]) != M) return 1;
    if (rows[1] != (is_b_transposed ? N : K) || columns[1] != (is_b_transposed ? K : N)) return 1;
    const int num_threads = omp_get_max_threads();
    try {
        Scratch scratch(kMatMulColumns * kMatMulElements + num_threads * kMatMulTile);
        float* block = scratch.take(kMatMulColumns * kMatMulElements);
        const MatMulArguments arguments{M, N, K, call.input(0), is_a_transposed, call.input(1), is_b_transposed,
                                        call.output(2), block, scratch.take(num_threads * kMatMulTile), num_threads};
        (is_bfloat16 ? bfloat16_kernels()->matmul : kernels().matmul)(arguments);
        return 0;
    } catch (const std::bad_alloc&) {
        return 1;
    }
}

Shape infer(const int* ranks, int64_t* const* shapes, bool is_a_transposed, bool is_b_transposed) {
    const int64_t columns = is_b_transposed ? shapes[1][0] : shapes[1][ranks[1] - 1];
    if (is_a_transposed) return {shapes[0][ranks[0] - 1], columns};
    Shape result(shapes[0], shapes[0] + ranks[0]);
    result.back() = columns;
    return result;
}

}  // namespace
}  // namespace ds2

#define DS2_MATMUL(name, is_bfloat16, is_a_transposed, is_b_transposed)                                            \
    DS2_EXPORT int name(int nparam, void** params, int* ndims, int64_t** shapes, const char**, void*, void*) {     \
        return ds2::multiply({nparam, params, ndims, shapes}, is_bfloat16, is_a_transposed, is_b_transposed);      \
    }                                                                                                              \
    DS2_EXPORT ds2::Shape name##InferShape(int* ranks, int64_t** shapes, void*) {                                  \
        return ds2::infer(ranks, shapes, is_a_transposed, is_b_transposed);                                        \
    }                                                                                                              \
    DS2_EXPORT mindspore::TypeId name##InferType(std::vector<mindspore::TypeId> types, void*) { return types[0]; }

DS2_MATMUL(MatMulNN, false, false, false)
DS2_MATMUL(MatMulNT, false, false, true)
DS2_MATMUL(MatMulTN, false, true, false)
DS2_MATMUL(Bf16MatMulNN, true, false, false)
DS2_MATMUL(Bf16MatMulNT, true, false, true)
DS2_MATMUL(Bf16MatMulTN, true, true, false)
