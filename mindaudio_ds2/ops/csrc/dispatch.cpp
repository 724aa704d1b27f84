#include "dispatch.h"

#include <atomic>

#ifndef DS2_SOURCE_HASH
#define DS2_SOURCE_HASH "unknown"
#endif

namespace ds2 {
namespace {

constexpr int kNumLevels = 3;  // 0: generic, 1: avx2, 2: avx512

// Null where this processor cannot run the level.
const Kernels* find_level(int level) {
    if (level == 0) return &generic::kKernels;
#if defined(__x86_64__)
    const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    const bool has_avx512 = has_avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
                            __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw");
    if (level == 1 && has_avx2) return &avx2::kKernels;
    if (level == 2 && has_avx512) return &avx512::kKernels;
#endif
    return nullptr;
}

const Kernels* find_widest() {
    for (int level = kNumLevels - 1; level > 0; --level) {
        if (const Kernels* found = find_level(level)) return found;
    }
    return find_level(0);
}

std::atomic<const Kernels*>& chosen() {
    static std::atomic<const Kernels*> kernels{find_widest()};
    return kernels;
}

}  // namespace

const Kernels& kernels() { return *chosen().load(std::memory_order_acquire); }

const Bfloat16Kernels* bfloat16_kernels() {
#if defined(__x86_64__)
    static const bool has_bfloat16 = find_level(2) != nullptr && __builtin_cpu_supports("avx512bf16");
    if (has_bfloat16) return &avx512_bf16::kKernels;
#endif
    return nullptr;
}

// AVX-512 without VNNI multiplies no faster than AVX2 does.
const Int8Kernels& int8_kernels() {
#if defined(__x86_64__)
    static const bool has_vnni = find_level(2) != nullptr && __builtin_cpu_supports("avx512vnni");
    const Kernels* level = &kernels();
    if (level == find_level(2) && has_vnni) return avx512_vnni::kInt8Kernels;
    if (level != find_level(0)) return avx2::kInt8Kernels;
#endif
    return generic::kInt8Kernels;
}

}  // namespace ds2

#define DS2_EXPORT extern "C" __attribute__((visibility("default")))

// For tests: 0 generic, 1 AVX2, 2 AVX-512. Returns 1, and changes nothing, where the processor lacks it.
DS2_EXPORT int ds2_set_isa(int level) {
    const ds2::Kernels* found = ds2::find_level(level);
    if (found == nullptr) return 1;
    ds2::chosen().store(found, std::memory_order_release);
    return 0;
}

DS2_EXPORT int ds2_has_bfloat16() { return ds2::bfloat16_kernels() != nullptr; }

DS2_EXPORT const char* ds2_isa() { return ds2::kernels().isa; }

// Of the sources and flags this was compiled from; tells a library beside newer sources from one that belongs to them.
DS2_EXPORT const char* ds2_source_hash() { return DS2_SOURCE_HASH; }
