// Picks the kernels of the widest instruction set that this processor has.
#pragma once

#include "convolution_arguments.h"
#include "ctc_arguments.h"
#include "int8_arguments.h"
#include "lookahead_arguments.h"
#include "matmul_arguments.h"
#include "norm_arguments.h"
#include "recurrent_arguments.h"

namespace ds2 {

struct Kernels {
    const char* isa;
    RecurrentKernels recurrent;
    NormKernels norm;
    ConvKernels convolution;
    RunCtc ctc;
    LookaheadKernels lookahead;
    RunMatMul matmul;
};

// Kernels that multiply in bfloat16; what they do not have, `Kernels` does.
struct Bfloat16Kernels {
    const char* isa;
    RecurrentKernels recurrent;
    ConvKernels convolution;
    RunMatMul matmul;
};

const Kernels& kernels();

const Bfloat16Kernels* bfloat16_kernels();  // null where this processor has no instructions for them

const Int8Kernels& int8_kernels();  // multiply in eight bits

// One of each is defined by isa_*.cpp, through isa_table.h.
namespace generic {
extern const Kernels kKernels;
extern const Int8Kernels kInt8Kernels;
}  // namespace generic
#if defined(__x86_64__)
namespace avx2 {
extern const Kernels kKernels;
extern const Int8Kernels kInt8Kernels;
}  // namespace avx2
namespace avx512 {
extern const Kernels kKernels;
}
namespace avx512_bf16 {
extern const Bfloat16Kernels kKernels;
}
#if !defined(DS2_WITHOUT_AMX)  // where the compiler does not know it
namespace amx {
extern const Bfloat16Kernels kKernels;
}
#endif
namespace avx512_vnni {
extern const Int8Kernels kInt8Kernels;
}
#endif

}  // namespace ds2
