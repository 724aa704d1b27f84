// The recurrent layers as MindSpore operators: {Lstm,Gru}{1,2}{Forward,Inference,Backward}, {Lstm,Gru}{Pack,Resume}.
//
// All but Pack and Resume exist with the prefix Bf16, too: the same, multiplied in bfloat16. Inference and Resume exist
// with the prefix Int8: these take, in place of w_hh, packed weights and behind them scales (aot_int8.cpp), and of an LSTM
// the sum of both biases.
// 1 or 2 is the number of directions; the second reads each utterance from its last frame to its first. Arrays of one
// kind stand together, one a direction (G = 4 for LSTM, 3 for GRU):
//   LstmForward: projected (S, B, 4H), w_hh (4H, H), bias_ih (4H,), bias_hh (4H,), lengths (B,) int32
//       -> y (S, B, H), gates (S, B, 4H), cells (S, B, H), previous hidden states (S, B, H)
//   GruForward: projected (S, B, 3H), w_hh (3H, H), bias_ih (3H,), bias_hh (3H,), lengths
//       -> y, gates (S, B, 4H; r, z, n and W_hn h + b_hn), previous hidden states
//   ...Inference: the same -> y
//   ...Pack: w_hh -> packed (P,), as the processor's kernels read it
//   ...Resume: projected, packed, biases, lengths, states before the first frame, (B, H) of hidden, of an LSTM
//       also of cell -> y, and the states after each utterance's last frame; for one direction
//   LstmBackward: dy, w_hh, gates, cells, lengths -> dprojected (S, B, 4H)
//   GruBackward: dy, w_hh, gates, previous, lengths -> dprojected (S, B, 3H), dhidden (S, B, 3H)
// y and dy are for the sum over directions. Everything is zero beyond the lengths, which are from 0 to S.
#include <omp.h>

#include <algorithm>
#include <new>
#include <numeric>

#include "aot.h"
#include "dispatch.h"
#include "split.h"

namespace ds2 {
namespace {

enum class Precision { float32, bfloat16, int8 };

struct Kind {
    bool is_lstm;
    int num_directions;
    Precision precision = Precision::float32;

    int num_gates() const { return is_lstm ? 4 : 3; }
    int num_states() const { return is_lstm ? 2 : 1; }
    bool is_int8() const { return precision == Precision::int8; }
    // Null where this processor cannot.
    const RecurrentKernels* find_kernels() const {
        if (precision == Precision::float32) return &kernels().recurrent;
        return bfloat16_kernels() == nullptr ? nullptr : &bfloat16_kernels()->recurrent;
    }
    RunForward find_forward() const {
        if (is_int8()) return is_lstm ? int8_kernels().lstm_forward : int8_kernels().gru_forward;
        const RecurrentKernels* run = find_kernels();
        return run == nullptr ? nullptr : is_lstm ? run->lstm_forward : run->gru_forward;
    }

    // Of the arrays of one kind: projected, weights, scales, biases.
    int num_kinds() const { return is_int8() && !is_lstm ? 5 : 4; }
    int num_forward_inputs() const { return num_kinds() * num_directions + 1; }
};

enum class Mode { training, inference, resume };

int64_t round_up(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

// Utterances by descending length, and how many of them have each frame.
class Sorted {
public:
    Sorted(const int32_t* lengths, int64_t num_frames, int64_t num_utterances)
        : utterance_(num_utterances), num_active_(num_frames + 1) {
        std::iota(utterance_.begin(), utterance_.end(), int64_t{0});
        std::stable_sort(utterance_.begin(), utterance_.end(),
                         [lengths](int64_t a, int64_t b) { return lengths[a] > lengths[b]; });
        for (int64_t i = 0; i < num_utterances; ++i) {
            are_valid_ = are_valid_ && lengths[i] >= 0 && lengths[i] <= num_frames;
            if (are_valid_ && lengths[i] > 0) ++num_active_[lengths[i] - 1];
        }
        for (int64_t frame = num_frames - 2; frame >= 0; --frame) num_active_[frame] += num_active_[frame + 1];
        longest_ = are_valid_ && num_utterances > 0 ? lengths[utterance_[0]] : 0;
    }

    bool are_valid() const { return are_valid_; }

    Sequences describe(int64_t num_frames, int64_t num_hidden, int num_directions) const {
        const auto num_utterances = static_cast<int64_t>(utterance_.size());
        return {num_frames, num_utterances, num_hidden, num_directions, longest_, utterance_.data(),
                num_active_.data()};
    }

private:
    std::vector<int64_t> utterance_, num_active_;
    bool are_valid_ = true;
    int64_t longest_ = 0;
};

// Runs the kernel in each thread of the split. Where OpenMP starts fewer threads, they are one team.
template <typename Arguments>
void run_teams(void (*run)(const Arguments&, const Member&), const Arguments& arguments, Split split) {
    Barrier barriers[2], everyone_barrier;
    const int num_directions = arguments.sequences.num_directions;
#pragma omp parallel num_threads(split.num_threads())
    {
        const int thread = omp_get_thread_num(), everyone = omp_get_num_threads();
        const bool is_alone = split.num_teams == 2 && everyone == split.num_threads();
        const int team_size = is_alone ? split.team_size : everyone, team = thread / team_size;
        const int end = is_alone ? team + 1 : num_directions;
        run(arguments, {team, end, thread % team_size, team_size, thread, everyone, barriers[team], everyone_barrier});
    }
}

int64_t count_packed(int64_t H, int num_gates) { return round_up(H, kMaxLanes) * H * num_gates; }

// Floats of so many k as elements: in bfloat16 half as many, in whole steps of the product.
int64_t count_elements(Kind kind, int64_t num_k) {
    return kind.precision == Precision::bfloat16 ? round_up((num_k + 1) / 2, kMaxStep) : num_k;
}

// Floats of an operand, behind whose rows as many may be read as a product takes at once.
int64_t count_operand(int64_t num_k, int64_t num_rows) {
    return round_up(num_k, kOperandChunk) * num_rows + kMaxStep * kOperandChunk;
}

bool check_forward(const Call& call, Kind kind, Mode mode, int y, int64_t S, int64_t B, int64_t H) {
    const int n = kind.num_directions, G = kind.num_gates(), num_inputs = kind.num_forward_inputs();
    bool is_right = call.has_shape(num_inputs - 1, {B}) && call.has_shape(y, {S, B, H});
    if (mode == Mode::resume) {
        for (int i = 0; i < kind.num_states(); ++i) {
            is_right = is_right && call.has_shape(num_inputs + i, {B, H}) && call.has_shape(y + 1 + i, {B, H});
        }
    }
    const int64_t num_packed = kind.is_int8() ? int8_kernels().count_packed(H, H, G) : count_packed(H, G);
    for (int d = 0; d < n; ++d) {
        is_right = is_right && call.has_shape(d, {S, B, G * H});
        is_right = is_right && (mode == Mode::resume || kind.is_int8() ? call.has_shape(n + d, {num_packed})
                                                                       : call.has_shape(n + d, {G * H, H}));
        for (int i = 2 * n + d; i < num_inputs - 1; i += n) is_right = is_right && call.has_shape(i, {G * H});
        if (mode != Mode::training) continue;
        is_right = is_right && call.has_shape(y + 1 + d, {S, B, 4 * H});
        for (int i = y + 1 + n + d; i < call.num_arrays; i += n) is_right = is_right && call.has_shape(i, {S, B, H});
    }
    return is_right;
}

int forward(const Call& call, Kind kind, Mode mode) {
    const int n = kind.num_directions, G = kind.num_gates(), num_inputs = kind.num_forward_inputs();
    const int y = num_inputs + (mode == Mode::resume ? kind.num_states() : 0);
    const int num_saved = mode == Mode::training ? (kind.num_states() + 1) * n : y - num_inputs;
    const RunForward run = kind.find_forward();
    if (run == nullptr || call.num_arrays != y + 1 + num_saved || call.ranks[y] != 3) return 1;
    const int64_t S = call.shapes[y][0], B = call.shapes[y][1], H = call.shapes[y][2];
    if (!check_forward(call, kind, mode, y, S, B, H)) return 1;
    const Sorted sorted(call.integers(num_inputs - 1), S, B);
    if (!sorted.are_valid()) return 1;

    ForwardArguments p{};
    if (mode == Mode::resume) {
        for (int i = 0; i < kind.num_states(); ++i) {  // an utterance without frames leaves its states as they are
            std::copy_n(call.input(num_inputs + i), B * H, call.output(y + 1 + i));
        }
        p.start_hidden = call.input(num_inputs);
        p.end_hidden = call.output(y + 1);
        if (kind.is_lstm) p.start_cell = call.input(num_inputs + 1);
        if (kind.is_lstm) p.end_cell = call.output(y + 2);
    }
    if (S * B * H == 0) return 0;
    p.sequences = sorted.describe(S, H, n);
    p.y = call.output(y);
    const bool are_packed = mode == Mode::resume || kind.is_int8();
    const int first_bias = (kind.is_int8() ? 3 : 2) * n;
    for (int d = 0; d < n; ++d) {
        p.projected[d] = call.input(d);
        if (!are_packed) p.weights[d] = call.input(n + d);
        if (kind.is_int8()) p.scales[d] = call.input(2 * n + d);
        p.bias[d] = call.input(first_bias + d);
        if (!kind.is_lstm) p.bias_hidden[d] = call.input(first_bias + n + d);
        if (mode != Mode::training) continue;
        p.gates[d] = call.output(y + 1 + d);
        if (kind.is_lstm) p.cells[d] = call.output(y + 1 + n + d);
        p.previous[d] = call.output(call.num_arrays - n + d);
    }
    const Split split = choose_split_here({S, B, H, n, G});
    const int64_t rounded = round_up(H, kMaxLanes);
    const int64_t num_packed = are_packed ? 0 : rounded * G * count_elements(kind, H), num_hidden = count_operand(H, B);
    const int64_t num_totals = split.num_threads() * std::max(kLeastCells, B) * 4 * kMaxLanes;
    const bool has_operands = kind.precision != Precision::float32;  // there hidden states are operands
    const int64_t num_operands = has_operands ? 4 : 2;
    const int64_t num_states = num_operands * Scratch::rounded(num_hidden) + rounded * B;
    const int64_t num_of_team = Scratch::rounded(num_packed) + num_states;
    const int64_t num_biases = kind.is_lstm && !kind.is_int8() ? G * H : 0;
    Scratch scratch(split.num_teams * num_of_team + num_totals + n * Scratch::rounded(num_biases));
    for (int d = 0; d < n; ++d) {
        if (num_biases > 0) {
            float* sum = scratch.take(num_biases);
            for (int64_t i = 0; i < num_biases; ++i) sum[i] = p.bias[d][i] + call.input(first_bias + n + d)[i];
            p.bias[d] = sum;
        }
        const bool is_shared = d >= split.num_teams;
        p.packed[d] = are_packed  ? const_cast<float*>(call.input(n + d))  // only read
                      : is_shared ? p.packed[0]
                                  : scratch.take(num_packed);
        for (int i = 0; i < 2; ++i) {
            p.hidden[d][i] = is_shared ? p.hidden[0][i] : scratch.take(num_hidden);
            p.operand[d][i] = is_shared      ? p.operand[0][i]
                              : has_operands ? scratch.take(num_hidden)
                                             : p.hidden[d][i];
        }
        p.cell[d] = is_shared ? p.cell[0] : scratch.take(rounded * B);
    }
    p.totals = scratch.take(num_totals);
    run_teams(run, p, split);
    return 0;
}

bool check_backward(const Call& call, Kind kind, int64_t S, int64_t B, int64_t H) {
    const int n = kind.num_directions, G = kind.num_gates();
    bool is_right = call.has_shape(1 + 3 * n, {B});
    for (int d = 0; d < n; ++d) {
        is_right = is_right && call.has_shape(1 + d, {G * H, H}) && call.has_shape(1 + n + d, {S, B, 4 * H}) &&
                   call.has_shape(1 + 2 * n + d, {S, B, H});
        for (int i = 2 + 3 * n + d; i < call.num_arrays; i += n) {
            is_right = is_right && call.has_shape(i, {S, B, G * H});
        }
    }
    return is_right;
}

int backward(const Call& call, Kind kind) {
    const int n = kind.num_directions, G = kind.num_gates(), first_output = 2 + 3 * n;
    const RecurrentKernels* run = kind.find_kernels();
    if (run == nullptr || call.num_arrays != first_output + (kind.is_lstm ? 1 : 2) * n || call.ranks[0] != 3) return 1;
    const int64_t S = call.shapes[0][0], B = call.shapes[0][1], H = call.shapes[0][2];
    if (!check_backward(call, kind, S, B, H)) return 1;
    const Sorted sorted(call.integers(first_output - 1), S, B);
    if (!sorted.are_valid()) return 1;
    if (S * B * H == 0) return 0;

    BackwardArguments p{};
    p.sequences = sorted.describe(S, H, n);
    p.dy = call.input(0);
    for (int d = 0; d < n; ++d) {
        p.weights[d] = call.input(1 + d);
        p.gates[d] = call.input(1 + n + d);
        p.memory[d] = call.input(1 + 2 * n + d);
        p.dprojected[d] = call.output(first_output + d);
        if (!kind.is_lstm) p.dhidden[d] = call.output(first_output + n + d);
    }
    const int64_t rounded = round_up(H, kMaxLanes);
    const int64_t num_packed = rounded * count_elements(kind, rounded * G), num_operand = count_operand(rounded * G, B);
    const Split split = choose_split_here({S, B, H, n, G});
    Scratch scratch(split.num_teams * (Scratch::rounded(num_packed) + 2 * num_operand + 2 * rounded * B));
    for (int d = 0; d < n; ++d) {
        const bool is_shared = d >= split.num_teams;
        p.packed[d] = is_shared ? p.packed[0] : scratch.take(num_packed);
        for (int i = 0; i < 2; ++i) p.operand[d][i] = is_shared ? p.operand[0][i] : scratch.take(num_operand);
        p.carried_hidden[d] = is_shared ? p.carried_hidden[0] : scratch.take(rounded * B);
        p.carried_cell[d] = is_shared ? p.carried_cell[0] : scratch.take(rounded * B);
    }
    run_teams(kind.is_lstm ? run->lstm_backward : run->gru_backward, p, split);
    return 0;
}

// Runs `compute`, which returns 0 or an error; memory that cannot be had is one.
template <typename Compute>
int guard(const Compute& compute) noexcept {
    try {
        return compute();
    } catch (const std::bad_alloc&) {
        return 1;
    }
}

Shape infer_y(int64_t* const* shapes, Kind kind) {
    const int n = kind.num_directions;
    return {shapes[0][0], shapes[0][1], kind.is_int8() ? shapes[2 * n][0] / kind.num_gates() : shapes[n][1]};
}

std::vector<Shape> infer_forward(int64_t* const* shapes, Kind kind) {
    const Shape y = infer_y(shapes, kind);
    std::vector<Shape> outputs{y};
    outputs.insert(outputs.end(), kind.num_directions, Shape{y[0], y[1], y[2] < 0 ? -1 : 4 * y[2]});
    outputs.insert(outputs.end(), (kind.is_lstm ? 2 : 1) * kind.num_directions, y);
    return outputs;
}

std::vector<Shape> infer_resume(int64_t* const* shapes, Kind kind) {
    const int64_t* states = shapes[kind.num_forward_inputs()];
    std::vector<Shape> outputs{{shapes[0][0], shapes[0][1], states[1]}};
    outputs.insert(outputs.end(), kind.num_states(), Shape{states[0], states[1]});
    return outputs;
}

int pack(const Call& call, Kind kind) {
    const int G = kind.num_gates();
    if (call.num_arrays != 2 || call.ranks[0] != 2) return 1;
    const int64_t H = call.shapes[0][1];
    if (!call.has_shape(0, {G * H, H}) || !call.has_shape(1, {count_packed(H, G)})) return 1;
    const RecurrentKernels& run = kernels().recurrent;
    (kind.is_lstm ? run.lstm_pack : run.gru_pack)(call.input(0), H, call.output(1));
    return 0;
}

Shape infer_gradient(int64_t* const* shapes) { return {shapes[0][0], shapes[0][1], shapes[1][0]}; }

using Types = std::vector<mindspore::TypeId>;

}  // namespace
}  // namespace ds2

#define DS2_RUN(name, body)                                                                                        \
    DS2_EXPORT int name(int nparam, void** params, int* ndims, int64_t** shapes, const char**, void*, void*) {     \
        const ds2::Call call{nparam, params, ndims, shapes};                                                       \
        return ds2::guard([&] { return body; });                                                                   \
    }

// An operator with one output has other forms of the inferring functions than one with several.
#define DS2_INFER_ONE(name, shape)                                                                                 \
    DS2_EXPORT ds2::Shape name##InferShape(int*, int64_t** shapes, void*) { return shape; }                        \
    DS2_EXPORT mindspore::TypeId name##InferType(ds2::Types types, void*) { return types[0]; }

#define DS2_INFER_SEVERAL(name, inferred, num_outputs)                                                             \
    DS2_EXPORT std::vector<ds2::Shape> name##InferShape(int*, int64_t** shapes, void*) { return inferred; }        \
    DS2_EXPORT ds2::Types name##InferType(ds2::Types types, void*) { return ds2::Types(num_outputs, types[0]); }

#define DS2_INFERENCE(prefix, is_lstm, n, precision)                                                               \
    DS2_RUN(prefix##Inference, ds2::forward(call, {is_lstm, n, ds2::Precision::precision}, ds2::Mode::inference))  \
    DS2_INFER_ONE(prefix##Inference, ds2::infer_y(shapes, {is_lstm, n, ds2::Precision::precision}))

#define DS2_FORWARD(prefix, is_lstm, n, precision)                                                                 \
    DS2_RUN(prefix##Forward, ds2::forward(call, {is_lstm, n, ds2::Precision::precision}, ds2::Mode::training))     \
    DS2_INFER_SEVERAL(prefix##Forward, ds2::infer_forward(shapes, {is_lstm, n}), 1 + (is_lstm ? 3 : 2) * n)        \
    DS2_INFERENCE(prefix, is_lstm, n, precision)                                                                   \
    DS2_RUN(prefix##Backward, ds2::backward(call, {is_lstm, n, ds2::Precision::precision}))

#define DS2_PACK(prefix, is_lstm)                                                                                  \
    DS2_RUN(prefix##Pack, ds2::pack(call, {is_lstm, 1}))                                                           \
    DS2_INFER_ONE(prefix##Pack, ds2::Shape{ds2::count_packed(shapes[0][1], is_lstm ? 4 : 3)})

#define DS2_RESUME(prefix, is_lstm, precision)                                                                     \
    DS2_RUN(prefix##Resume, ds2::forward(call, {is_lstm, 1, ds2::Precision::precision}, ds2::Mode::resume))        \
    DS2_INFER_SEVERAL(prefix##Resume, ds2::infer_resume(shapes, {is_lstm, 1, ds2::Precision::precision}),          \
                      1 + (is_lstm ? 2 : 1))

#define DS2_INFER_GRADIENTS(name, num_outputs)                                                                     \
    DS2_INFER_SEVERAL(name, std::vector<ds2::Shape>(num_outputs, ds2::infer_gradient(shapes)), num_outputs)

#define DS2_LAYERS(prefix, precision)                                                                              \
    DS2_FORWARD(prefix##Lstm1, true, 1, precision)                                                                 \
    DS2_INFER_ONE(prefix##Lstm1Backward, ds2::infer_gradient(shapes))                                              \
    DS2_FORWARD(prefix##Lstm2, true, 2, precision)                                                                 \
    DS2_INFER_GRADIENTS(prefix##Lstm2Backward, 2)                                                                  \
    DS2_FORWARD(prefix##Gru1, false, 1, precision)                                                                 \
    DS2_INFER_GRADIENTS(prefix##Gru1Backward, 2)                                                                   \
    DS2_FORWARD(prefix##Gru2, false, 2, precision)                                                                 \
    DS2_INFER_GRADIENTS(prefix##Gru2Backward, 4)

DS2_LAYERS(, float32)
DS2_LAYERS(Bf16, bfloat16)
DS2_PACK(Lstm, true)
DS2_PACK(Gru, false)
DS2_RESUME(Lstm, true, float32)
DS2_RESUME(Gru, false, float32)
DS2_INFERENCE(Int8Lstm1, true, 1, int8)
DS2_INFERENCE(Int8Lstm2, true, 2, int8)
DS2_INFERENCE(Int8Gru1, false, 1, int8)
DS2_INFERENCE(Int8Gru2, false, 2, int8)
DS2_RESUME(Int8Lstm, true, int8)
DS2_RESUME(Int8Gru, false, int8)
