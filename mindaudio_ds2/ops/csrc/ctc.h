// The connectionist temporal classification loss of one utterance and its gradient (Graves et al. 2006).
//
// States are the labels with a blank before, between and behind them. Forward and backward probabilities are kept in
// double precision and scaled frame by frame, so that a state costs a few additions and one product. Where a
// probability leaves the range even of that, the utterance is computed again with logarithms.
#pragma once

#include <cstdint>
#include <vector>

namespace ds2 {

struct CtcUtterance {
    const float* logits;  // frame t is at logits + t * stride, num_classes of them
    float* gradient;      // likewise; of the loss by the logits
    int64_t stride, num_classes, num_frames;
    const int32_t* labels;
    int64_t num_labels;
    int32_t blank;
};

class Ctc {
public:
    // Returns the loss in nats and writes the gradient of all num_frames frames. Labels that cannot be aligned, or that
    // are no classes, give infinity and a gradient of zero; logits that are not finite give NaN and zero.
    double compute(const CtcUtterance& utterance);

private:
    bool prepare();
    bool find_probabilities();
    bool compute_scaled(double& loss);
    double scale_forward();
    double scale_backward();
    bool add_posteriors(int64_t frame, const double* forward, const double* backward);
    double compute_with_logarithms();
    void write_gradient();

    // States that can be reached from the start by a frame, and from which the end can still be reached.
    int64_t first_state(int64_t frame) const;
    int64_t end_state(int64_t frame) const;

    CtcUtterance u_{};
    int64_t num_states_ = 0;
    std::vector<int32_t> classes_;       // (N,) of each state
    std::vector<double> may_skip_;       // (N,) 1 where the state before last leads here, else 0
    std::vector<double> log_probs_;      // (T, V)
    std::vector<double> probs_;          // (T, V)
    std::vector<double> posteriors_;     // (T, V)
    std::vector<double> forward_;        // (T, 2 + N); two zeros in front spare the ends their own case
    std::vector<double> row_, next_;     // (N + 2,)
};

}  // namespace ds2
