// The CTC loss computed with logarithms: slow, and right for any finite logits. For utterances that ctc.h cannot do.
#pragma once

#include <cmath>

#include "ctc_workspace.h"

namespace ds2::ISA {

inline double add_logarithms(double a, double b) {
    const double high = a > b ? a : b, low = a > b ? b : a;
    return low == -HUGE_VAL ? high : high + std::log1p(std::exp(low - high));
}

// States in their order in time: even ones are blanks, odd ones labels.
struct CtcStates {
    const CtcUtterance& u;
    const CtcWorkspace& w;

    int64_t count() const { return 2 * u.num_labels + 1; }
    int32_t symbol(int64_t s) const { return s % 2 ? w.symbols[s / 2] : 0; }
    bool may_skip_to(int64_t s) const { return s % 2 && w.skipping[s / 2] > 0.0; }
    double log_probability(int64_t t, int64_t s) const {
        const double logit = u.logits[t * u.stride + w.classes[symbol(s)]];
        return logit - w.highest[t] + std::log(w.inverse_sums[t]);
    }
    double* row(int64_t t) const { return w.forward + t * w.row; }
};

inline double sweep_log_forward(const CtcStates& states) {
    const int64_t num = states.count(), num_frames = states.u.num_frames;
    for (int64_t t = 0; t < num_frames; ++t) {
        for (int64_t s = 0; s < num; ++s) {
            double entering = s < 2 ? 0.0 : -HUGE_VAL;
            if (t > 0) {
                const double* before = states.row(t - 1);
                entering = before[s];
                if (s > 0) entering = add_logarithms(entering, before[s - 1]);
                if (states.may_skip_to(s)) entering = add_logarithms(entering, before[s - 2]);
            }
            states.row(t)[s] = entering + states.log_probability(t, s);
        }
    }
    const double* last = states.row(num_frames - 1);
    return num > 1 ? add_logarithms(last[num - 1], last[num - 2]) : last[0];
}

// `behind` holds the frames behind t from each state, their own probabilities included; becomes that of t.
inline void step_log_backward(const CtcStates& states, int64_t t, double total, double* behind) {
    const CtcWorkspace& w = states.w;
    const int64_t num = states.count();
    for (int64_t k = 0; k < w.num_symbols; ++k) w.posteriors[k] = 0.0;
    for (int64_t s = 0; s < num; ++s) {
        double leaving = s + 2 < num ? -HUGE_VAL : 0.0;
        if (t + 1 < states.u.num_frames) {
            leaving = behind[s];
            if (s + 1 < num) leaving = add_logarithms(leaving, behind[s + 1]);
            if (s + 2 < num && states.may_skip_to(s + 2)) leaving = add_logarithms(leaving, behind[s + 2]);
        }
        w.posteriors[states.symbol(s)] += std::exp(states.row(t)[s] + leaving - total);
        behind[s] = leaving + states.log_probability(t, s);
    }
}

inline double compute_with_logarithms(const CtcUtterance& u, const CtcWorkspace& w) {
    const CtcStates states{u, w};
    const double total = sweep_log_forward(states);
    double* behind = states.row(u.num_frames);  // one row more than frames is there
    for (int64_t t = u.num_frames - 1; t >= 0; --t) {
        step_log_backward(states, t, total, behind);
        for (int64_t k = 0; k + 1 < w.num_symbols; ++k) {
            const int64_t at = t * u.stride + w.classes[k];
            const double log_softmax = u.logits[at] - w.highest[t] + std::log(w.inverse_sums[t]);
            u.gradient[at] = static_cast<float>(std::exp(log_softmax) - w.posteriors[k]);
        }
    }
    return -total;
}

}  // namespace ds2::ISA
