// What aot_ctc.cpp hands to the kernel of ctc.h; knows of no instruction set.
#pragma once

#include <cstdint>

namespace ds2 {

struct CtcArguments {
    int64_t S, B, V, L;
    const float* logits;  // (S, B, V)
    const int32_t* num_frames;
    const int32_t* labels;  // (B, L)
    const int32_t* num_labels;
    int32_t blank;
    float* losses;    // (B,)
    float* gradient;  // (S, B, V)
    double* scratch;  // num_scratch of it for each thread
    int64_t num_scratch;
    int num_threads;
};

constexpr int64_t kMaxDoubles = 8;  // in a vector of any instruction set

// Doubles that one thread needs for utterances of at most T frames and U labels, of V classes; see CtcWorkspace.
struct CtcSizes {
    int64_t states;   // labels, or blanks, of an utterance, with room for whole vectors and one beyond
    int64_t row;      // forward probabilities of one frame: room in front, labels, room in front, blanks
    int64_t symbols;  // different classes of an utterance, the blank first, and one that is never likely
    int64_t classes;

    CtcSizes(int64_t V, int64_t U)
        : states(to_multiple(U + 1, kMaxDoubles) + 2 * kMaxDoubles),
          row(2 * (kMaxDoubles + states)),
          symbols((U + 1 < V ? U + 1 : V) + 1),
          classes(to_multiple(V, 2 * kMaxDoubles)) {}

    // A multiple of kMaxDoubles, so that each thread's memory begins as that of the first does.
    int64_t count(int64_t T) const {
        const int64_t of_frames = (T + 1) * row + T * symbols + 2 * T;
        return to_multiple(of_frames + 7 * states + 4 * symbols + 2 * classes + 2 * kMaxDoubles, kMaxDoubles);
    }

    static int64_t to_multiple(int64_t n, int64_t of) { return (n + of - 1) / of * of; }
};

using RunCtc = void (*)(const CtcArguments&);

}  // namespace ds2
