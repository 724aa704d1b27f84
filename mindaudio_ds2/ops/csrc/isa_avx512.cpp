// Kernels for avx512; compiled with its flags.
#define ISA avx512
#include "isa_table.h"
