// Kernels that multiply in bfloat16 tiles; compiled with the flags for amx.
#define ISA amx
#include "amx.h"
#include "amx_convolution.h"
#include "amx_matmul.h"
#include "dispatch.h"
#include "recurrent.h"

namespace ds2::ISA {

extern const Bfloat16Kernels kKernels = {"amx", find_recurrent<Bfloat16Tiles>(),
                                         find_convolution<Bfloat16Tiles>(), matmul::run_matmul<Bfloat16Tiles>};

}  // namespace ds2::ISA
