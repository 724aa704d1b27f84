// Kernels for avx2; compiled with its flags.
#define ISA avx2
#include "isa_table.h"
#include "int8_projection.h"
