#include "ctc.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace ds2 {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

double add_logarithms(double a, double b) {
    if (a < b) std::swap(a, b);
    return b == -kInfinity ? a : a + std::log1p(std::exp(b - a));
}

}  // namespace

double Ctc::compute(const CtcUtterance& utterance) {
    u_ = utterance;
    for (int64_t t = 0; t < u_.num_frames; ++t) std::fill_n(u_.gradient + t * u_.stride, u_.num_classes, 0.0f);
    if (!prepare()) return kInfinity;
    if (!find_probabilities()) return std::numeric_limits<double>::quiet_NaN();
    if (u_.num_frames == 0) return 0.0;
    double loss = 0;
    if (!compute_scaled(loss)) loss = compute_with_logarithms();
    if (std::isfinite(loss)) write_gradient();
    return loss;
}

// The states; false where no path of num_frames frames has these labels.
bool Ctc::prepare() {
    num_states_ = 2 * u_.num_labels + 1;
    classes_.assign(num_states_, u_.blank);
    may_skip_.assign(num_states_, 0.0);
    int64_t num_needed = u_.num_labels;
    for (int64_t i = 0; i < u_.num_labels; ++i) {
        const int32_t label = u_.labels[i];
        if (label < 0 || label >= u_.num_classes || label == u_.blank) return false;
        const bool is_repeat = i > 0 && label == u_.labels[i - 1];
        if (is_repeat) ++num_needed;
        classes_[2 * i + 1] = label;
        may_skip_[2 * i + 1] = i > 0 && !is_repeat ? 1.0 : 0.0;
    }
    return num_needed <= u_.num_frames;
}

// The log-softmax of every frame; false where a frame has none.
bool Ctc::find_probabilities() {
    log_probs_.resize(u_.num_frames * u_.num_classes);
    probs_.resize(log_probs_.size());
    for (int64_t t = 0; t < u_.num_frames; ++t) {
        const float* logits = u_.logits + t * u_.stride;
        const double highest = *std::max_element(logits, logits + u_.num_classes);
        double sum = 0;
        for (int64_t v = 0; v < u_.num_classes; ++v) sum += std::exp(logits[v] - highest);
        const double total = highest + std::log(sum);
        if (!std::isfinite(total)) return false;
        for (int64_t v = 0; v < u_.num_classes; ++v) {
            log_probs_[t * u_.num_classes + v] = logits[v] - total;
            probs_[t * u_.num_classes + v] = std::exp(logits[v] - total);
        }
    }
    return true;
}

int64_t Ctc::first_state(int64_t frame) const {
    return std::max<int64_t>(0, num_states_ - 2 * (u_.num_frames - frame));
}

int64_t Ctc::end_state(int64_t frame) const { return std::min(num_states_, 2 * (frame + 1)); }

// False where something under- or overflowed: then logarithms are needed.
bool Ctc::compute_scaled(double& loss) {
    const double forward = scale_forward(), backward = scale_backward();
    loss = -forward;
    // A path that is lost on the way from one end is the best one from the other end: both must find the same.
    return std::isfinite(forward) && std::isfinite(backward) &&
           std::abs(forward - backward) <= 1e-7 * std::max(1.0, std::abs(forward));
}

// Fills forward_ with probabilities that sum to one in each frame; returns the log-likelihood.
double Ctc::scale_forward() {
    const int64_t width = num_states_ + 2;
    forward_.assign(u_.num_frames * width, 0.0);
    double log_likelihood = 0;
    for (int64_t t = 0; t < u_.num_frames; ++t) {
        double* now = &forward_[t * width + 2];
        const double* before = now - width;
        const double* probs = &probs_[t * u_.num_classes];
        const int64_t first = first_state(t), end = end_state(t);
        double sum = 0;
        for (int64_t s = first; s < end; ++s) {
            const double entering = t == 0 ? 1.0 : before[s] + before[s - 1] + may_skip_[s] * before[s - 2];
            now[s] = entering * probs[classes_[s]];
            sum += now[s];
        }
        if (t + 1 == u_.num_frames) break;
        const double scale = 1.0 / sum;
        for (int64_t s = first; s < end; ++s) now[s] *= scale;
        log_likelihood += std::log(sum);
    }
    const double* last = &forward_[(u_.num_frames - 1) * width + 2];
    return log_likelihood + std::log(last[num_states_ - 1] + (num_states_ > 1 ? last[num_states_ - 2] : 0.0));
}

// Goes back over the frames, leaves the posteriors of the classes in posteriors_; returns the log-likelihood, or NaN.
double Ctc::scale_backward() {
    posteriors_.assign(u_.num_frames * u_.num_classes, 0.0);
    row_.assign(num_states_ + 2, 0.0);   // probability of the frames behind this one, from each state
    next_.assign(num_states_ + 2, 0.0);  // the same of the next frame, times that frame's own probability
    double log_likelihood = 0;
    for (int64_t t = u_.num_frames - 1; t >= 0; --t) {
        const int64_t first = first_state(t), end = end_state(t);
        double sum = 0;
        std::fill(row_.begin(), row_.end(), 0.0);
        for (int64_t s = first; s < end; ++s) {
            const double skipping = s + 2 < num_states_ ? may_skip_[s + 2] * next_[s + 2] : 0.0;
            row_[s] = t + 1 == u_.num_frames ? (s >= num_states_ - 2 ? 1.0 : 0.0) : next_[s] + next_[s + 1] + skipping;
            sum += row_[s];
        }
        if (!add_posteriors(t, &forward_[t * (num_states_ + 2) + 2], row_.data())) return -kInfinity;
        const double scale = 1.0 / sum;
        log_likelihood += std::log(sum);
        const double* probs = &probs_[t * u_.num_classes];
        std::fill(next_.begin(), next_.end(), 0.0);
        for (int64_t s = first; s < end; ++s) next_[s] = row_[s] * scale * probs[classes_[s]];
    }
    return log_likelihood + std::log(next_[0] + (num_states_ > 1 ? next_[1] : 0.0));
}

bool Ctc::add_posteriors(int64_t frame, const double* forward, const double* backward) {
    const int64_t first = first_state(frame), end = end_state(frame);
    double sum = 0;
    for (int64_t s = first; s < end; ++s) sum += forward[s] * backward[s];
    if (!(sum > 0) || !std::isfinite(sum)) return false;
    const double scale = 1.0 / sum;
    double* posteriors = &posteriors_[frame * u_.num_classes];
    for (int64_t s = first; s < end; ++s) posteriors[classes_[s]] += forward[s] * backward[s] * scale;
    return true;
}

double Ctc::compute_with_logarithms() {
    const int64_t T = u_.num_frames, N = num_states_, V = u_.num_classes;
    forward_.assign(T * N, -kInfinity);
    for (int64_t t = 0; t < T; ++t) {
        for (int64_t s = first_state(t); s < end_state(t); ++s) {
            double entering = t == 0 ? 0.0 : forward_[(t - 1) * N + s];
            if (t > 0 && s > 0) entering = add_logarithms(entering, forward_[(t - 1) * N + s - 1]);
            if (t > 0 && may_skip_[s] > 0) entering = add_logarithms(entering, forward_[(t - 1) * N + s - 2]);
            forward_[t * N + s] = entering + log_probs_[t * V + classes_[s]];
        }
    }
    const double* last = &forward_[(T - 1) * N];
    const double total = N > 1 ? add_logarithms(last[N - 1], last[N - 2]) : last[0];
    posteriors_.assign(T * V, 0.0);
    next_.assign(N, -kInfinity);
    for (int64_t t = T - 1; t >= 0; --t) {
        row_.assign(N, -kInfinity);
        for (int64_t s = first_state(t); s < end_state(t); ++s) {
            double& leaving = row_[s];
            if (t + 1 == T) {
                leaving = s >= N - 2 ? 0.0 : -kInfinity;
            } else {
                leaving = next_[s];
                if (s + 1 < N) leaving = add_logarithms(leaving, next_[s + 1]);
                if (s + 2 < N && may_skip_[s + 2] > 0) leaving = add_logarithms(leaving, next_[s + 2]);
            }
            posteriors_[t * V + classes_[s]] += std::exp(forward_[t * N + s] + leaving - total);
        }
        next_.assign(N, -kInfinity);
        for (int64_t s = first_state(t); s < end_state(t); ++s) next_[s] = row_[s] + log_probs_[t * V + classes_[s]];
    }
    return -total;
}

void Ctc::write_gradient() {
    for (int64_t t = 0; t < u_.num_frames; ++t) {
        for (int64_t v = 0; v < u_.num_classes; ++v) {
            const int64_t i = t * u_.num_classes + v;
            u_.gradient[t * u_.stride + v] = static_cast<float>(probs_[i] - posteriors_[i]);
        }
    }
}

}  // namespace ds2
