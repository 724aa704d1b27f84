// The table of kernels of one instruction set. Included once by each isa_*.cpp, which defines ISA.
//
// No template or inline function of the standard library that is not certain to be inlined may be used in here: the
// linker keeps one copy of it for all units, which could be that of an instruction set that the processor lacks.
#include "dispatch.h"
#include "convolution.h"
#include "ctc.h"
#include "lookahead.h"
#include "matmul.h"
#include "norm.h"
#include "recurrent.h"

#define DS2_QUOTE(name) #name
#define DS2_QUOTE_VALUE(name) DS2_QUOTE(name)

namespace ds2::ISA {

extern const Kernels kKernels = {
    DS2_QUOTE_VALUE(ISA),
    find_recurrent<Float32>(),
    {run_norm_forward, run_norm_backward, run_norm_scale},
    find_convolution<Float32>(),
    run_ctc,
    {run_lookahead_forward, run_lookahead_backward},
    matmul::run_matmul<Float32>,
};

}  // namespace ds2::ISA
