// Kernels that multiply in eight bits; compiled with the flags for avx512_vnni.
#define ISA avx512_vnni
#include "int8_projection.h"
