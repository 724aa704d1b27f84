#include "dispatch.h"

#include <atomic>

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

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

// Whether this processor has the tiles of AMX and the system lets this process use them, which it has to be asked for.
[[maybe_unused]] bool may_use_tiles() {
#if defined(__x86_64__) && defined(__linux__)
    constexpr unsigned kAmxBf16 = 1u << 22, kAmxTile = 1u << 24;  // of EDX
    constexpr long kRequestPermission = 0x1023, kTileData = 18;   // of arch_prctl
    unsigned eax, ebx, ecx, edx;
    if (!__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx)) return false;
    if (!(edx & kAmxBf16) || !(edx & kAmxTile)) return false;
    return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
    return false;
#endif
}

// Null where this processor cannot run the level.
const Bfloat16Kernels* find_bfloat16_level(int level) {
#if defined(__x86_64__)
    static const bool has_bfloat16 = find_level(2) != nullptr && __builtin_cpu_supports("avx512bf16");
    if (level == 0 && has_bfloat16) return &avx512_bf16::kKernels;
#if !defined(DS2_WITHOUT_AMX)
    static const bool has_tiles = has_bfloat16 && may_use_tiles();
    if (level == 1 && has_tiles) return &amx::kKernels;
#endif
#endif
    return nullptr;
}

std::atomic<const Bfloat16Kernels*>& chosen_bfloat16() {
    static std::atomic<const Bfloat16Kernels*> kernels{find_bfloat16_level(1) ? find_bfloat16_level(1)
                                                                              : find_bfloat16_level(0)};
    return kernels;
}

}  // namespace

const Kernels& kernels() { return *chosen().load(std::memory_order_acquire); }

const Bfloat16Kernels* bfloat16_kernels() { return chosen_bfloat16().load(std::memory_order_acquire); }

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

// For tests: 0 AVX512-BF16, 1 AMX. As ds2_set_isa.
DS2_EXPORT int ds2_set_bfloat16(int level) {
    const ds2::Bfloat16Kernels* found = ds2::find_bfloat16_level(level);
    if (found == nullptr) return 1;
    ds2::chosen_bfloat16().store(found, std::memory_order_release);
    return 0;
}

DS2_EXPORT int ds2_has_bfloat16() { return ds2::bfloat16_kernels() != nullptr; }

DS2_EXPORT const char* ds2_isa() { return ds2::kernels().isa; }

// Of the products in bfloat16; empty where there are none.
DS2_EXPORT const char* ds2_bfloat16_isa() {
    const ds2::Bfloat16Kernels* chosen = ds2::bfloat16_kernels();
    return chosen == nullptr ? "" : chosen->isa;
}

// Of the sources and flags this was compiled from; tells a library beside newer sources from one that belongs to them.
DS2_EXPORT const char* ds2_source_hash() { return DS2_SOURCE_HASH; }
