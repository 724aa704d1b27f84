// One utterance of the CTC loss, the memory that its sweeps use, and vectors of doubles.
#pragma once

#include <cassert>

#include "ctc_arguments.h"
#include "simd.h"

namespace ds2::ISA {

constexpr int kDoubles = kLanes / 2;
typedef double DoubleVec __attribute__((vector_size(kDoubles * sizeof(double))));
typedef int64_t LongVec __attribute__((vector_size(kDoubles * sizeof(int64_t))));
typedef float HalfVec __attribute__((vector_size(kDoubles * sizeof(float))));

inline DoubleVec load_doubles(const double* p) {
    DoubleVec v;
    std::memcpy(&v, p, sizeof v);
    return v;
}

inline void store_doubles(double* p, DoubleVec v) { std::memcpy(p, &v, sizeof v); }

inline DoubleVec broadcast_double(double x) { return x - DoubleVec{}; }

inline double sum_lanes(DoubleVec v) {
    double sum = v[0];
    for (int i = 1; i < kDoubles; ++i) sum += v[i];
    return sum;
}

struct CtcUtterance {
    const float* logits;  // frame t is at logits + t * stride
    float* gradient;      // likewise
    int64_t stride, num_classes, num_frames;
    const int32_t* labels;
    int64_t num_labels;
    int32_t blank;
};

inline void clear_frame(const CtcUtterance& u, int64_t t) {
    std::memset(u.gradient + t * u.stride, 0, u.num_classes * sizeof(float));
}

// States are the labels and, one more, the blanks before, between and behind them. "Symbols" number the classes that
// occur: the blank is 0, and the last one is that of no label. Everything has room for vectors that reach too far.
struct CtcWorkspace {
    int64_t states, row, num_symbols = 0;
    double* forward;                        // (T + 1, row): row t + 1 is frame t
    double* likely;                         // (T, num_symbols) of the largest in the frame, times the pace
    double *highest, *inverse_sums;         // (T,) logit, and what makes a softmax of the exponentials
    double *staying, *skipping;             // (states,) factor of staying in a label, 1 where no blank need come before
    double *emissions, *of_labels;          // (states,)
    double *behind_labels, *behind_blanks;  // (states,)
    double *pace, *inverse_paces, *posteriors;  // (num_symbols,)
    double* exponentials;                       // (classes,)
    float* logits;                              // (classes,)
    int32_t* symbol_of;                         // (classes,) -1 where a class does not occur
    int32_t *symbols, *classes;                 // (states,) of each label; (num_symbols,) of each symbol

    CtcWorkspace(double* memory, const CtcUtterance& u) {
        const CtcSizes sizes(u.num_classes, u.num_labels);
        const auto take = [&memory](int64_t count) {
            double* taken = memory;
            memory += count;
            return taken;
        };
        states = sizes.states;
        row = sizes.row;
        forward = take((u.num_frames + 1) * row);
        staying = take(states);
        skipping = take(states);
        emissions = take(states);
        of_labels = take(states);
        behind_labels = take(states);
        behind_blanks = take(states);
        exponentials = take(sizes.classes);
        logits = reinterpret_cast<float*>(take(sizes.classes / 2));
        symbol_of = reinterpret_cast<int32_t*>(take(sizes.classes / 2));
        symbols = reinterpret_cast<int32_t*>(take(kMaxDoubles + states / 2));
        classes = reinterpret_cast<int32_t*>(take((sizes.symbols + 1) / 2));
        pace = take(sizes.symbols);
        inverse_paces = take(sizes.symbols);
        posteriors = take(sizes.symbols);
        highest = take(u.num_frames);
        inverse_sums = take(u.num_frames);
        [[maybe_unused]] const double* begin = forward;
        likely = take(u.num_frames * sizes.symbols);
        assert(memory - begin <= sizes.count(u.num_frames));
    }

    double* forward_labels(int64_t r) const { return forward + r * row + kMaxDoubles; }
    double* forward_blanks(int64_t r) const { return forward + r * row + 2 * kMaxDoubles + states; }

    // Numbers the classes of the labels. False where no path of num_frames frames has these labels.
    bool set_labels(const CtcUtterance& u) {
        for (int64_t v = 0; v < u.num_classes; ++v) symbol_of[v] = -1;
        for (int64_t i = 0; i < states; ++i) staying[i] = skipping[i] = 0.0;
        if (u.blank < 0 || u.blank >= u.num_classes) return refuse(u);
        num_symbols = 0;
        classes[num_symbols++] = u.blank;
        int64_t num_needed = u.num_labels;
        for (int64_t i = 0; i < u.num_labels; ++i) {
            const int32_t label = u.labels[i];
            if (label < 0 || label >= u.num_classes || label == u.blank) return refuse(u);
            if (symbol_of[label] < 0) {
                classes[num_symbols] = label;
                symbol_of[label] = static_cast<int32_t>(num_symbols++);
            }
            symbols[i] = symbol_of[label];
            const bool is_repeat = i > 0 && label == u.labels[i - 1];
            num_needed += is_repeat;
            skipping[i] = i > 0 && !is_repeat ? 1.0 : 0.0;
        }
        for (int64_t i = u.num_labels; i < states; ++i) symbols[i] = static_cast<int32_t>(num_symbols);
        ++num_symbols;
        return num_needed <= u.num_frames || refuse(u);
    }

private:
    static bool refuse(const CtcUtterance& u) {
        for (int64_t t = 0; t < u.num_frames; ++t) clear_frame(u, t);
        return false;
    }
};

}  // namespace ds2::ISA
