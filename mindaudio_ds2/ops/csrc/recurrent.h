// LSTM and GRU layers over right-padded sequences, forward and backward.
//
// The threads of a team work on one direction at a time, each on its own hidden units, and meet once a frame; each core
// reads only its own share of the direction's packed weights. There is one team, or one for each direction: split.h.
// Product, Float32, Bfloat16 or forward alone Int8, is what the weights are multiplied in; all else is float32 always.
#pragma once

#include <type_traits>

#include "panel.h"
#include "recurrent_arguments.h"
#include "recurrent_packing.h"

namespace ds2::ISA {

static_assert(kOperandChunk % kChunk == 0 && kMaxLanes % kLanes == 0, "scratch memory would be too small");

// A vector of hidden units of an utterance at a frame: what the cells below read and write through.
struct Place {
    int64_t position;  // frame * B + utterance
    int64_t unit;
    int64_t num_hidden;
    int num_units;  // kLanes or, at the end of H, fewer

    int64_t offset(int gate, int num_gates) const { return (position * num_gates + gate) * num_hidden + unit; }

    Vec read(const float* values, int gate = 0, int num_gates = 1) const {
        return load_upto(values + offset(gate, num_gates), num_units);
    }

    void write(float* values, Vec value, int gate = 0, int num_gates = 1) const {
        store_upto(values + offset(gate, num_gates), value, num_units);
    }

    Vec read_bias(const float* bias, int gate) const { return load_upto(bias + gate * num_hidden + unit, num_units); }

    Vec read_state(const float* states, int64_t utterance) const {
        return states == nullptr ? Vec{} : load_upto(states + utterance * num_hidden + unit, num_units);
    }

    void write_state(float* states, Vec value, int64_t utterance) const {
        store_upto(states + utterance * num_hidden + unit, value, num_units);
    }

    void fetch(const float* values, int num_gates) const {
        for (int gate = 0; gate < num_gates; ++gate) __builtin_prefetch(values + offset(gate, num_gates));
    }
};

inline Place find_place(const Sequences& s, int64_t frame, int64_t row, int64_t vector) {
    const int64_t unit = vector * kLanes;
    const int64_t num_units = std::min<int64_t>(kLanes, s.num_hidden - unit);
    return {frame * s.num_utterances + s.utterance[row], unit, s.num_hidden, static_cast<int>(num_units)};
}

// The i of begin .. end - 1 counted upwards at even steps, downwards at odd ones, so that the panels used last at one
// step, which are still in the cache, are used first at the next.
inline int64_t turn(int64_t i, int64_t step, int64_t begin, int64_t end) {
    return step % 2 == 0 ? i : begin + end - 1 - i;
}

// Zeroes this thread's frames of (S, B, width) beyond the utterances' lengths.
inline void zero_padding(const Sequences& s, float* values, int64_t width, int thread, int num_threads) {
    if (values == nullptr) return;
    const int64_t end = s.num_frames * (thread + 1) / num_threads;
    for (int64_t frame = s.num_frames * thread / num_threads; frame < end; ++frame) {
        for (int64_t row = s.num_active[frame]; row < s.num_utterances; ++row) {
            std::memset(values + (frame * s.num_utterances + s.utterance[row]) * width, 0, width * sizeof(float));
        }
    }
}

struct Lstm {
    static constexpr int kGates = 4;
    static constexpr bool kHasCell = true;

    // One step: totals are the products with the hidden state before; returns the hidden state after.
    static Vec step(const ForwardArguments& p, int d, const Place& at, const float* totals, Vec, float* cell) {
        Vec sums[kGates];
        for (int gate = 0; gate < kGates; ++gate) {
            sums[gate] = load(totals + gate * kLanes) + at.read(p.projected[d], gate, kGates) +
                         at.read_bias(p.bias[d], gate);
        }
        const Vec i = sigmoid(sums[0]), f = sigmoid(sums[1]), g = tanh(sums[2]), o = sigmoid(sums[3]);
        const Vec c = f * load(cell) + i * g;
        store(cell, c);
        if (p.gates[d] != nullptr) {
            at.write(p.gates[d], i, 0, 4);
            at.write(p.gates[d], f, 1, 4);
            at.write(p.gates[d], g, 2, 4);
            at.write(p.gates[d], o, 3, 4);
            at.write(p.cells[d], c);
        }
        return o * tanh(c);
    }

    // One step back: from the gradient of the hidden state to the operand of the product and the outputs. `carried`
    // becomes the part of the gradient that reaches the hidden state before without the product.
    static void step_back(const BackwardArguments& p, int d, const Place& at, const Place* before, Vec dh,
                          float* carried, float* carried_cell, Vec* operand) {
        const Vec i = at.read(p.gates[d], 0, 4), f = at.read(p.gates[d], 1, 4);
        const Vec g = at.read(p.gates[d], 2, 4), o = at.read(p.gates[d], 3, 4);
        const Vec c = tanh(at.read(p.memory[d]));
        const Vec c_before = before != nullptr ? before->read(p.memory[d]) : Vec{};
        const Vec dc = load(carried_cell) + dh * o * (1.0f - c * c);
        store(carried_cell, dc * f);
        store(carried, Vec{});
        operand[0] = dc * g * i * (1.0f - i);
        operand[1] = dc * c_before * f * (1.0f - f);
        operand[2] = dc * i * (1.0f - g * g);
        operand[3] = dh * c * o * (1.0f - o);
        for (int gate = 0; gate < kGates; ++gate) at.write(p.dprojected[d], operand[gate], gate, kGates);
    }
};

struct Gru {
    static constexpr int kGates = 3;
    static constexpr bool kHasCell = false;

    static Vec step(const ForwardArguments& p, int d, const Place& at, const float* totals, Vec h, float*) {
        Vec input[kGates], hidden[kGates];
        for (int gate = 0; gate < kGates; ++gate) {
            input[gate] = at.read(p.projected[d], gate, kGates) + at.read_bias(p.bias[d], gate);
            hidden[gate] = load(totals + gate * kLanes) + at.read_bias(p.bias_hidden[d], gate);
        }
        const Vec r = sigmoid(input[0] + hidden[0]), z = sigmoid(input[1] + hidden[1]);
        const Vec n = tanh(input[2] + r * hidden[2]);
        if (p.gates[d] != nullptr) {
            at.write(p.gates[d], r, 0, 4);
            at.write(p.gates[d], z, 1, 4);
            at.write(p.gates[d], n, 2, 4);
            at.write(p.gates[d], hidden[2], 3, 4);
        }
        return n + z * (h - n);
    }

    static void step_back(const BackwardArguments& p, int d, const Place& at, const Place*, Vec dh, float* carried,
                          float*, Vec* operand) {
        const Vec r = at.read(p.gates[d], 0, 4), z = at.read(p.gates[d], 1, 4);
        const Vec n = at.read(p.gates[d], 2, 4), hidden = at.read(p.gates[d], 3, 4);
        const Vec h = at.read(p.memory[d]);
        const Vec dn = dh * (1.0f - z) * (1.0f - n * n);
        store(carried, dh * z);
        operand[0] = dn * hidden * r * (1.0f - r);
        operand[1] = dh * (h - n) * z * (1.0f - z);
        operand[2] = dn * r;
        at.write(p.dprojected[d], operand[0], 0, kGates);
        at.write(p.dprojected[d], operand[1], 1, kGates);
        at.write(p.dprojected[d], dn, 2, kGates);
        for (int gate = 0; gate < kGates; ++gate) at.write(p.dhidden[d], operand[gate], gate, kGates);
    }
};

// Where the elements of a row's vector of numbers along k begin in an operand.
template <typename Product>
int64_t element_index(int64_t row, int64_t k, int64_t num_rows) {
    return operand_index(row, k / Product::kDepth, num_rows);
}

// Zeroes, in all rows, what stands behind num_k numbers and is multiplied with them.
template <typename Product>
void zero_tail(float* operand, int64_t num_k, int64_t num_rows) {
    for (int64_t k = ceil_divide(num_k, Product::kDepth); k < count_elements<Product>(num_k); ++k) {
        for (int64_t row = 0; row < num_rows; ++row) operand[operand_index(row, k, num_rows)] = 0.0f;
    }
}

// A hidden state, which in float32 is also the operand of the next product.
template <typename Product>
void store_hidden(const ForwardArguments& p, int d, int64_t step, int64_t row, int64_t vector, Vec h) {
    const int64_t num_rows = p.sequences.num_utterances, k = vector * kLanes;
    store(p.hidden[d][step % 2] + operand_index(row, k, num_rows), h);
    if (Product::kIsStored) return;
    Product::store_elements(p.operand[d][step % 2] + element_index<Product>(row, k, num_rows), h);
}

// The cells of a vector of hidden units at a frame, from the totals (active, G * kLanes) of their products.
template <typename Product, typename Cell>
void step_cells(const ForwardArguments& p, int d, int64_t step, bool is_added, int64_t frame, int64_t vector,
                const float* totals) {
    const Sequences& s = p.sequences;
    for (int64_t row = 0; row < s.num_active[frame]; ++row) {
        const Place at = find_place(s, frame, row, vector);
        const int64_t k = operand_index(row, vector * kLanes, s.num_utterances);
        float* cell = p.cell[d] + (vector * s.num_utterances + row) * kLanes;
        const Vec h_before = load(p.hidden[d][step % 2] + k);
        const Vec h = Cell::step(p, d, at, totals + row * Cell::kGates * kLanes, h_before, cell);
        store_hidden<Product>(p, d, step + 1, row, vector, h);
        at.write(p.y, is_added ? h + at.read(p.y) : h);
        if (p.previous[d] != nullptr) at.write(p.previous[d], h_before);
        if (p.end_hidden != nullptr) at.write_state(p.end_hidden, h, s.utterance[row]);
        if (p.end_cell != nullptr) at.write_state(p.end_cell, load(cell), s.utterance[row]);
    }
}

// A cell is a long chain of dependent operations, so the processor should have kLeastCells to work on at once: with few
// rows those of several panels. More would keep the next panel, fetched meanwhile, from coming.
template <typename Product, typename Cell>
void step_forward(const ForwardArguments& p, int d, int64_t step, bool is_added, const Share& share, float* totals) {
    constexpr int G = Cell::kGates;
    const Sequences& s = p.sequences;
    const int64_t frame = d == 0 ? step : s.longest - 1 - step, active = s.num_active[frame];
    const int64_t num_k = count_elements<Product>(s.num_hidden);
    const int64_t panel_floats = num_k * G * kLanes, panel_totals = active * G * kLanes;
    const int64_t block = std::max<int64_t>(1, kLeastCells / active);
    for (int64_t first = share.begin; first < share.end; first += block) {
        const int64_t end = std::min(share.end, first + block);
        std::memset(totals, 0, (end - first) * panel_totals * sizeof(float));
        for (int64_t i = first; i < end; ++i) {
            const int64_t vector = turn(i, step, share.begin, share.end);
            const int64_t next = i + 1 < share.end ? turn(i + 1, step, share.begin, share.end) : vector;
            for (int64_t row = 0; row < active; ++row) find_place(s, frame, row, vector).fetch(p.projected[d], G);
            multiply_panel<Product, G>(p.operand[d][step % 2], s.num_utterances, active,
                                       p.packed[d] + vector * panel_floats, num_k, totals + (i - first) * panel_totals,
                                       p.packed[d] + next * panel_floats);
            if constexpr (!std::is_same_v<typename Product::Sum, Vec>) {
                Product::template finish_totals<G>(p, d, vector, active, totals + (i - first) * panel_totals);
            }
        }
        for (int64_t i = first; i < end; ++i) {
            const int64_t vector = turn(i, step, share.begin, share.end);
            step_cells<Product, Cell>(p, d, step, is_added, frame, vector, totals + (i - first) * panel_totals);
        }
    }
}

// Packs this thread's weights of a direction and sets its states before the first step.
template <typename Product, typename Cell>
void start_forward(const ForwardArguments& p, int d, const Share& share) {
    const Sequences& s = p.sequences;
    if constexpr (std::is_same_v<typename Product::Sum, Vec>) {
        if (p.weights[d] != nullptr) {
            pack_forward<Product, Cell::kGates>(p.weights[d], s.num_hidden, share, p.packed[d]);
        }
    }
    for (int64_t vector = share.begin; vector < share.end; ++vector) {
        for (int64_t row = 0; row < s.num_utterances; ++row) {
            const Place at = find_place(s, 0, row, vector);
            store_hidden<Product>(p, d, 0, row, vector, at.read_state(p.start_hidden, s.utterance[row]));
            store_hidden<Product>(p, d, 1, row, vector, Vec{});
            store(p.cell[d] + (vector * s.num_utterances + row) * kLanes,
                  at.read_state(p.start_cell, s.utterance[row]));
        }
    }
    if (share.end < share.all) return;
    for (float* operand : p.operand[d]) zero_tail<Product>(operand, share.all * kLanes, s.num_utterances);
}

// Both directions write y. Who comes to a frame first writes, who comes second adds: the sum of two floats does not
// depend on their order. Teams that run side by side come from both ends and meet once, in the middle.
template <typename Product, typename Cell>
void run_forward(const ForwardArguments& p, const Member& member) {
    const Sequences& s = p.sequences;
    const Share share(s.num_hidden, member.thread, member.num_threads);
    const int64_t num_totals = std::max(kLeastCells, s.num_utterances) * kMaxVectors * kMaxLanes;
    float* totals = p.totals + member.everyone_thread * num_totals;
    [[maybe_unused]] const typename Product::Registers registers{};
    zero_padding(s, p.y, s.num_hidden, member.everyone_thread, member.everyone);
    for (int d = member.first_direction; d < member.end_direction; ++d) {
        zero_padding(s, p.gates[d], 4 * s.num_hidden, member.thread, member.num_threads);
        zero_padding(s, p.cells[d], s.num_hidden, member.thread, member.num_threads);
        zero_padding(s, p.previous[d], s.num_hidden, member.thread, member.num_threads);
        start_forward<Product, Cell>(p, d, share);
        member.team_barrier.wait(member.num_threads);
        const int64_t num_written = member.has_direction_alone() ? (s.longest + 1 - d) / 2 : d == 0 ? s.longest : 0;
        for (int64_t step = 0; step < s.longest; ++step) {
            if (step == num_written) member.meet_other_team();
            step_forward<Product, Cell>(p, d, step, step >= num_written, share, totals);
            member.team_barrier.wait(member.num_threads);
        }
        if (num_written == s.longest) member.meet_other_team();
    }
}

// Gradients of this thread's gates at one frame, left in the outputs and in the operand of the product to come.
template <typename Product, typename Cell>
void step_gates_back(const BackwardArguments& p, int d, int64_t step, const Panels& panels) {
    constexpr int G = Cell::kGates;
    const Sequences& s = p.sequences;
    const int64_t frame = d == 0 ? s.longest - 1 - step : step, active = s.num_active[frame];
    const int64_t frame_before = d == 0 ? frame - 1 : frame + 1;
    const int64_t rounded = panels.share.all * kLanes;
    float* out = p.operand[d][step % 2];
    for (int64_t panel = 0; panel < panels.count; ++panel) {
        const int64_t first = panels.begin(panel);
        const int num_vectors = panels.num_vectors(panel);
        for (int64_t row = 0; row < active; ++row) {
            const bool has_before = frame_before >= 0 && frame_before < s.longest && row < s.num_active[frame_before];
            for (int v = 0; v < num_vectors; ++v) {
                const Place at = find_place(s, frame, row, first + v);
                const Place before = find_place(s, frame_before, row, first + v);
                float* carried = p.carried_hidden[d] + (first * s.num_utterances + row * num_vectors + v) * kLanes;
                float* carried_cell = p.carried_cell[d] + (first * s.num_utterances + row * num_vectors + v) * kLanes;
                Vec operand[G];
                Cell::step_back(p, d, at, has_before ? &before : nullptr, load(carried) + at.read(p.dy), carried,
                                carried_cell, operand);
                for (int gate = 0; gate < G; ++gate) {
                    const int64_t k = gate * rounded + at.unit;
                    Product::store_elements(out + element_index<Product>(row, k, s.num_utterances), operand[gate]);
                }
            }
        }
    }
}

// Adds to the carried gradient what reaches this thread's hidden units through the weights.
template <typename Product, typename Cell>
void step_hidden_back(const BackwardArguments& p, int d, int64_t step, const Panels& panels) {
    const Sequences& s = p.sequences;
    const int64_t active = s.num_active[d == 0 ? s.longest - 1 - step : step];
    const int64_t num_k = count_elements<Product>(Cell::kGates * panels.share.all * kLanes);
    const float* operand = p.operand[d][step % 2];
    for (int64_t i = 0; i < panels.count; ++i) {
        const int64_t panel = turn(i, step, 0, panels.count);
        const int64_t next_panel = i + 1 < panels.count ? turn(i + 1, step, 0, panels.count) : panel;
        const int64_t first = panels.begin(panel) * kLanes;
        const float* weights = p.packed[d] + first * num_k;
        const float* next = p.packed[d] + panels.begin(next_panel) * kLanes * num_k;
        float* totals = p.carried_hidden[d] + first * s.num_utterances;
        switch (panels.num_vectors(panel)) {
            case 1: multiply_panel<Product, 1>(operand, s.num_utterances, active, weights, num_k, totals, next); break;
            case 2: multiply_panel<Product, 2>(operand, s.num_utterances, active, weights, num_k, totals, next); break;
            case 3: multiply_panel<Product, 3>(operand, s.num_utterances, active, weights, num_k, totals, next); break;
            default: multiply_panel<Product, 4>(operand, s.num_utterances, active, weights, num_k, totals, next); break;
        }
    }
}

template <typename Product, typename Cell>
void run_backward(const BackwardArguments& p, const Member& member) {
    const Sequences& s = p.sequences;
    const Panels panels(Share(s.num_hidden, member.thread, member.num_threads));
    const int64_t carried_begin = panels.share.begin * s.num_utterances * kLanes;
    const int64_t carried_end = panels.share.end * s.num_utterances * kLanes;
    const bool is_last = panels.share.end == panels.share.all;
    [[maybe_unused]] const typename Product::Registers registers{};
    for (int d = member.first_direction; d < member.end_direction; ++d) {
        zero_padding(s, p.dprojected[d], Cell::kGates * s.num_hidden, member.thread, member.num_threads);
        zero_padding(s, p.dhidden[d], Cell::kGates * s.num_hidden, member.thread, member.num_threads);
        pack_backward<Product, Cell::kGates>(p.weights[d], s.num_hidden, panels, p.packed[d]);
        for (int i = 0; i < 2 && is_last; ++i) {
            zero_tail<Product>(p.operand[d][i], Cell::kGates * panels.share.all * kLanes, s.num_utterances);
        }
        set_zero(p.carried_hidden[d] + carried_begin, carried_end - carried_begin);
        if (Cell::kHasCell) set_zero(p.carried_cell[d] + carried_begin, carried_end - carried_begin);
        for (int64_t step = 0; step < s.longest; ++step) {
            step_gates_back<Product, Cell>(p, d, step, panels);
            member.team_barrier.wait(member.num_threads);
            if (step + 1 < s.longest) step_hidden_back<Product, Cell>(p, d, step, panels);
        }
        // Here the last barrier is behind all threads and no product follows it, so that operands may be overwritten.
    }
}

template <typename Product>
constexpr RecurrentKernels find_recurrent() {
    return {run_forward<Product, Lstm>, run_forward<Product, Gru>,   pack_all<Product, Lstm>,
            pack_all<Product, Gru>,     run_backward<Product, Lstm>, run_backward<Product, Gru>};
}

}  // namespace ds2::ISA
