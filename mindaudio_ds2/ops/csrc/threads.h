// What the threads of one kernel need: a barrier that costs little when all of them run, and scratch memory.
#pragma once

#include <atomic>
#include <cstdint>

namespace ds2 {

// All threads of a team meet here, as often as they like. They spin at first, which costs little when each has a core,
// and then yield, so that a machine with fewer free cores than threads goes on. They never sleep: on virtual machines
// waking an idle core can take longer than a whole frame's work.
class Barrier {
public:
    void wait(int num_threads);

private:
    alignas(64) std::atomic<int32_t> arrived_{0};
    alignas(64) std::atomic<uint32_t> generation_{0};
};

// Uninitialised floats, aligned to a cache line and in large pages where the system has them. The thread keeps what is not
// too large for its next Scratch.
class Scratch {
public:
    explicit Scratch(int64_t num_floats);  // throws std::bad_alloc
    ~Scratch();
    Scratch(const Scratch&) = delete;
    Scratch& operator=(const Scratch&) = delete;

    // The next num_floats of it, which begin on a cache line.
    float* take(int64_t num_floats);

    // What take(num_floats) uses up.
    static int64_t rounded(int64_t num_floats) { return (num_floats + 15) / 16 * 16; }

private:
    float* data_;
    int64_t size_;
    int64_t taken_ = 0;
};

}  // namespace ds2
