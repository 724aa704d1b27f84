#include "threads.h"

#include <cassert>
#include <cstddef>
#include <cstdlib>
#include <new>
#include <thread>
#include <utility>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace ds2 {
namespace {

constexpr int kSpins = 1000;  // some 15 us
constexpr std::size_t kCacheLine = 64;
constexpr std::size_t kLargePage = std::size_t{1} << 21;
constexpr int64_t kMostKept = int64_t{8} << 20;  // floats: 32 MB

// The memory that a thread gave back last. Taken from the system anew, every page of it would be a fault and set to
// zero, which takes longer than a narrow layer's frames.
struct Kept {
    float* data = nullptr;
    int64_t size = 0;

    ~Kept() { std::free(data); }
};

thread_local Kept kept;

inline void relax() {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

}  // namespace

void Barrier::wait(int num_threads) {
    if (num_threads == 1) return;
    const uint32_t generation = generation_.load(std::memory_order_acquire);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == num_threads) {
        arrived_.store(0, std::memory_order_relaxed);
        generation_.store(generation + 1, std::memory_order_release);
        return;
    }
    for (int spin = 0; generation_.load(std::memory_order_acquire) == generation; ++spin) {
        if (spin < kSpins) {
            relax();
        } else {
            std::this_thread::yield();
            spin = kSpins;
        }
    }
}

Scratch::Scratch(int64_t num_floats) : size_(rounded(num_floats)) {
    if (kept.size >= size_ && kept.data != nullptr) {
        data_ = std::exchange(kept.data, nullptr);
        size_ = std::exchange(kept.size, 0);
        return;
    }
    const std::size_t num_bytes = static_cast<std::size_t>(size_) * sizeof(float);
    const std::size_t alignment = num_bytes >= kLargePage ? kLargePage : kCacheLine;
    data_ = static_cast<float*>(std::aligned_alloc(alignment, (num_bytes / alignment + 1) * alignment));
    if (data_ == nullptr) throw std::bad_alloc();
#if defined(__linux__)
    if (alignment == kLargePage) madvise(data_, num_bytes, MADV_HUGEPAGE);  // only a wish: it may well be refused
#endif
}

Scratch::~Scratch() {
    if (size_ <= kMostKept && size_ > kept.size) {
        std::swap(data_, kept.data);
        kept.size = size_;
    }
    std::free(data_);
}

float* Scratch::take(int64_t num_floats) {
    float* taken = data_ + taken_;
    taken_ += rounded(num_floats);
    assert(taken_ <= size_);
    return taken;
}

}  // namespace ds2
