// Kernels that multiply in bfloat16; compiled with the flags for avx512_bf16.
#define ISA avx512_bf16
#include "bfloat16.h"
#include "convolution.h"
#include "dispatch.h"
#include "matmul.h"
#include "recurrent.h"

namespace ds2::ISA {

extern const Bfloat16Kernels kKernels = {"avx512_bf16", find_recurrent<Bfloat16>(),
                                         find_convolution<Bfloat16>(), matmul::run_matmul<Bfloat16>};

}  // namespace ds2::ISA
