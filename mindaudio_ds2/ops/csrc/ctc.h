// The connectionist temporal classification loss and its gradient (Graves et al. 2006), an utterance a thread.
//
// Forward and backward probabilities are kept in double precision and scaled frame by frame; labels and blanks stand
// in rows of their own, so that a step is a few products of vectors. Every path through the labels enters each of them
// once, so a factor on entering a label changes all paths alike: it is chosen such that labels are entered at an even
// pace, which keeps what comes from the start and what comes from the end in reach of each other even where a network
// is all but certain of blanks. Where they still are not, the utterance is computed again with logarithms (ctc_log.h).
#pragma once

#include <omp.h>

#include <cmath>

#include "ctc_arguments.h"
#include "ctc_log.h"
#include "ctc_workspace.h"
#include "simd.h"

namespace ds2::ISA {

// Below it a frame's likelihood may miss paths: products below 1e-308 were lost, of factors up to kMostEager.
constexpr double kLeastLikelihood = 1e-220;
constexpr double kMostEager = 1e60;

// e^x for x <= 0 to a relative error of 1e-14; 3e-308 below -708.
inline DoubleVec exp_negative(DoubleVec x) {
    const DoubleVec low = broadcast_double(-708.0);
    x = x < low ? low : x;
    // x = n ln 2 + r with |r| <= ln 2 / 2; adding and subtracting 1.5 * 2^52 rounds to the nearest integer.
    const DoubleVec magic = broadcast_double(6755399441055744.0);
    const DoubleVec shifted = x * 1.4426950408889634 + magic;
    const DoubleVec n = shifted - magic;
    const DoubleVec r = x - n * 0.693147180369123816490 - n * 1.90821492927058770002e-10;
    DoubleVec p = broadcast_double(1.0 / 39916800);
    p = p * r + 1.0 / 3628800;
    p = p * r + 1.0 / 362880;
    p = p * r + 1.0 / 40320;
    p = p * r + 1.0 / 5040;
    p = p * r + 1.0 / 720;
    p = p * r + 1.0 / 120;
    p = p * r + 1.0 / 24;
    p = p * r + 1.0 / 6;
    p = p * r + 0.5;
    p = p * r + 1.0;
    p = p * r + 1.0;
    LongVec bits, result;
    std::memcpy(&bits, &shifted, sizeof bits);
    std::memcpy(&result, &p, sizeof result);
    result += bits << 52;  // n stands in the low bits of `shifted`; p * 2^n
    std::memcpy(&p, &result, sizeof p);
    return p;
}

// Exponentials of a frame's logits less the highest of them, and their sum. False where a logit is not finite.
inline bool exponentiate(const float* logits, int64_t num_classes, const CtcWorkspace& w, int64_t t) {
    const int64_t whole = CtcSizes::to_multiple(num_classes, kLanes);
    std::memcpy(w.logits, logits, num_classes * sizeof(float));
    for (int64_t v = num_classes; v < whole; ++v) w.logits[v] = -3e38f;
    Vec highest = load(w.logits), nothing = {};
    for (int64_t v = 0; v < whole; v += kLanes) {
        const Vec x = load(w.logits + v);
        highest = x > highest ? x : highest;
        nothing += x * 0.0f;  // NaN from any that is not finite
    }
    float most = highest[0], bad = 0.0f;
    for (int i = 0; i < kLanes; ++i) {
        most = highest[i] > most ? highest[i] : most;
        bad += nothing[i];
    }
    if (bad != 0.0f) return false;  // also where it is NaN
    DoubleVec sums{};
    for (int64_t v = 0; v < whole; v += kDoubles) {
        HalfVec x;
        std::memcpy(&x, w.logits + v, sizeof x);
        const DoubleVec e = exp_negative(__builtin_convertvector(x, DoubleVec) - static_cast<double>(most));
        store_doubles(w.exponentials + v, e);
        sums += e;
    }
    w.highest[t] = most;
    w.inverse_sums[t] = 1.0 / sum_lanes(sums);
    return true;
}

// The softmax goes into the gradient; what the labels need of it stays, not yet divided by the sum.
inline bool find_probabilities(const CtcUtterance& u, const CtcWorkspace& w) {
    for (int64_t t = 0; t < u.num_frames; ++t) {
        if (!exponentiate(u.logits + t * u.stride, u.num_classes, w, t)) return false;
        float* gradient = u.gradient + t * u.stride;
        const double scale = w.inverse_sums[t];
        for (int64_t v = 0; v < u.num_classes; ++v) gradient[v] = static_cast<float>(w.exponentials[v] * scale);
        double* likely = w.likely + t * w.num_symbols;
        for (int64_t k = 0; k + 1 < w.num_symbols; ++k) likely[k] = w.exponentials[w.classes[k]];
        likely[w.num_symbols - 1] = 0.0;  // of the labels behind the last one
    }
    return true;
}

// Chooses the factors on entering labels and puts them to the probabilities; returns the logarithm of their product.
inline double set_pace(const CtcUtterance& u, const CtcWorkspace& w) {
    const int64_t num = w.num_symbols;
    for (int64_t k = 0; k < num; ++k) w.pace[k] = 0.0;
    for (int64_t t = 0; t < u.num_frames; ++t) {
        for (int64_t k = 1; k + 1 < num; ++k) w.pace[k] += w.likely[t * num + k];
    }
    w.pace[0] = w.pace[num - 1] = 1.0;
    for (int64_t k = 1; k + 1 < num; ++k) {
        const double factor = u.num_labels / w.pace[k];
        w.pace[k] = factor < kMostEager ? factor : kMostEager;
    }
    for (int64_t t = 0; t < u.num_frames; ++t) {
        for (int64_t k = 1; k + 1 < num; ++k) w.likely[t * num + k] *= w.pace[k];
    }
    double logarithm = 0.0;
    for (int64_t i = 0; i < u.num_labels; ++i) {
        w.staying[i] = 1.0 / w.pace[w.symbols[i]];  // who stays in a label does not enter it
        logarithm += std::log(w.pace[w.symbols[i]]);
    }
    return logarithm;
}

// Labels [begin, end) of whole vectors that can be reached by frame t and from which the end can be reached.
struct Band {
    int64_t begin, end;

    Band(const CtcUtterance& u, int64_t t) {
        const int64_t low = u.num_labels - u.num_frames + t, high = t < u.num_labels ? t : u.num_labels;
        begin = (low > 0 ? low : 0) / kDoubles * kDoubles;
        end = (high / kDoubles + 1) * kDoubles;
    }
};

inline void gather_emissions(const CtcWorkspace& w, const double* likely, double scale, Band band) {
    for (int64_t i = band.begin; i < band.end; ++i) w.emissions[i] = likely[w.symbols[i]] * scale;
}

// Row t + 1 of the forward probabilities from row t, which is that of frame t - 1; returns its sum.
inline double step_forward(const CtcUtterance& u, const CtcWorkspace& w, int64_t t, double scale) {
    const Band band(u, t);
    const double *labels = w.forward_labels(t), *blanks = w.forward_blanks(t), *likely = w.likely + t * w.num_symbols;
    double *new_labels = w.forward_labels(t + 1), *new_blanks = w.forward_blanks(t + 1);
    gather_emissions(w, likely, scale, band);
    const DoubleVec blank = broadcast_double(likely[0] * scale);
    DoubleVec sums{};
    for (int64_t i = band.begin; i < band.end; i += kDoubles) {
        const DoubleVec before = load_doubles(labels + i - 1), from_blank = load_doubles(blanks + i);
        const DoubleVec entering = from_blank + load_doubles(w.skipping + i) * before;
        const DoubleVec staying = load_doubles(w.staying + i) * load_doubles(labels + i);
        const DoubleVec label = (entering + staying) * load_doubles(w.emissions + i);
        const DoubleVec between = (from_blank + before) * blank;
        store_doubles(new_labels + i, label);
        store_doubles(new_blanks + i, between);
        sums += label + between;
    }
    new_labels[band.begin - 1] = 0.0;  // the next row reads one before and one vector beyond
    store_doubles(new_labels + band.end, DoubleVec{});
    store_doubles(new_blanks + band.end, DoubleVec{});
    return sum_lanes(sums);
}

// Fills all rows; returns the log-likelihood less that of the softmax's sums and of the pace.
inline double sweep_forward(const CtcUtterance& u, const CtcWorkspace& w) {
    for (int64_t i = 0; i < w.row; ++i) w.forward[i] = 0.0;
    w.forward_blanks(0)[0] = 1.0;
    double scale = 1.0, logarithm = 0.0;
    for (int64_t t = 0; t < u.num_frames; ++t) {
        const double sum = step_forward(u, w, t, scale);
        scale = 1.0 / sum;
        if (t + 1 < u.num_frames) logarithm += std::log(sum);
    }
    const double last = w.forward_labels(u.num_frames)[u.num_labels - 1] + w.forward_blanks(u.num_frames)[u.num_labels];
    return logarithm + std::log(last);
}

struct BackwardSums {
    double behind, likelihood, blank;  // of what goes on to the frame before; of all states; of blanks
};

// Backward probabilities of frame t times those of that frame itself, from the ones of the frame behind it.
inline BackwardSums step_backward(const CtcUtterance& u, const CtcWorkspace& w, int64_t t, double scale) {
    const Band band(u, t);
    const double *forward_labels = w.forward_labels(t + 1), *forward_blanks = w.forward_blanks(t + 1);
    const double* likely = w.likely + t * w.num_symbols;
    gather_emissions(w, likely, scale, band);
    const DoubleVec blank = broadcast_double(likely[0] * scale);
    DoubleVec behind{}, likelihoods{}, of_blanks{};
    for (int64_t i = band.begin; i < band.end; i += kDoubles) {
        const DoubleVec same = load_doubles(w.behind_labels + i), following = load_doubles(w.behind_labels + i + 1);
        const DoubleVec same_blank = load_doubles(w.behind_blanks + i);
        const DoubleVec label = load_doubles(w.staying + i) * same + load_doubles(w.behind_blanks + i + 1) +
                                load_doubles(w.skipping + i + 1) * following;
        const DoubleVec between = same_blank + same;
        const DoubleVec of_label = load_doubles(forward_labels + i) * label;
        of_blanks += load_doubles(forward_blanks + i) * between;
        likelihoods += of_label;
        store_doubles(w.of_labels + i, of_label);
        const DoubleVec new_label = label * load_doubles(w.emissions + i), new_blank = between * blank;
        store_doubles(w.behind_labels + i, new_label);
        store_doubles(w.behind_blanks + i, new_blank);
        behind += new_label + new_blank;
    }
    const double of_all_blanks = sum_lanes(of_blanks);
    return {sum_lanes(behind), sum_lanes(likelihoods) + of_all_blanks, of_all_blanks};
}

// Takes the posteriors of the labels' classes off the softmax. False where the range of a double was too small.
inline bool sweep_backward(const CtcUtterance& u, const CtcWorkspace& w) {
    for (int64_t i = 0; i < w.states; ++i) w.behind_labels[i] = w.behind_blanks[i] = 0.0;
    w.behind_blanks[u.num_labels] = 1.0;
    double scale = 1.0;
    for (int64_t t = u.num_frames - 1; t >= 0; --t) {
        const Band band(u, t);
        const BackwardSums sums = step_backward(u, w, t, scale);
        if (!(sums.likelihood > kLeastLikelihood && sums.likelihood < 1e300)) return false;
        scale = 1.0 / sums.behind;
        for (int64_t k = 0; k < w.num_symbols; ++k) w.posteriors[k] = 0.0;
        for (int64_t i = band.begin; i < band.end; ++i) w.posteriors[w.symbols[i]] += w.of_labels[i];
        w.posteriors[0] = sums.blank;
        const double *likely = w.likely + t * w.num_symbols, share = 1.0 / sums.likelihood;
        float* gradient = u.gradient + t * u.stride;
        for (int64_t k = 0; k + 1 < w.num_symbols; ++k) {
            const double probability = likely[k] * w.inverse_paces[k] * w.inverse_sums[t];
            gradient[w.classes[k]] = static_cast<float>(probability - w.posteriors[k] * share);
        }
    }
    return true;
}

// The loss in nats. The gradient of all its frames was set to zero before.
inline double compute_ctc(const CtcUtterance& u, CtcWorkspace& w) {
    if (!w.set_labels(u)) return HUGE_VAL;
    if (!find_probabilities(u, w)) {
        for (int64_t t = 0; t < u.num_frames; ++t) clear_frame(u, t);
        return NAN;
    }
    if (u.num_frames == 0) return 0.0;
    double logarithm = 0.0;
    for (int64_t t = 0; t < u.num_frames; ++t) logarithm += std::log(w.inverse_sums[t]);
    const double pace = set_pace(u, w);
    for (int64_t k = 0; k < w.num_symbols; ++k) w.inverse_paces[k] = 1.0 / w.pace[k];
    const double swept = sweep_forward(u, w);
    if (swept > -HUGE_VAL && sweep_backward(u, w)) return pace - swept - logarithm;
    return compute_with_logarithms(u, w);
}

inline void run_ctc(const CtcArguments& a) {
#pragma omp parallel for schedule(dynamic) num_threads(a.num_threads)
    for (int64_t b = 0; b < a.B; ++b) {
        const CtcUtterance u{a.logits + b * a.V, a.gradient + b * a.V, a.B * a.V,       a.V, a.num_frames[b],
                             a.labels + b * a.L, a.num_labels[b],      a.blank};
        const bool is_inside = u.num_frames >= 0 && u.num_frames <= a.S && u.num_labels >= 0 && u.num_labels <= a.L;
        const int64_t begin = is_inside ? u.num_frames : 0;
        for (int64_t t = begin; t < a.S; ++t) clear_frame(u, t);
        if (!is_inside) {
            a.losses[b] = HUGE_VALF;
            continue;
        }
        CtcWorkspace w(a.scratch + omp_get_thread_num() * a.num_scratch, u);
        a.losses[b] = static_cast<float>(compute_ctc(u, w));
    }
}

}  // namespace ds2::ISA
