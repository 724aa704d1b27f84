// Kernels for any processor.
#define ISA generic
#include "isa_table.h"
#include "int8_projection.h"
