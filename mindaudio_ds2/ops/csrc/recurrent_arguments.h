// What aot_recurrent.cpp hands to the kernels of recurrent.h; knows of no instruction set.
//
// S frames, B utterances, H hidden units, G gates (LSTM i, f, g, o; GRU r, z, n). Arrays of two have one entry a
// direction. "Sorted" rows are utterances by descending length, so that those active at a frame come first.
#pragma once

#include <cstdint>

#include "threads.h"

namespace ds2 {

constexpr int64_t kMaxLanes = 16;      // of any instruction set
constexpr int64_t kMaxStep = 16;       // elements along k, and rows, that any product takes at once
constexpr int64_t kOperandChunk = 64;  // the k of an operand of a product are rounded up to it

constexpr int64_t kLeastCells = 4;     // rows times panels whose products come before their cells

struct Sequences {
    int64_t num_frames, num_utterances, num_hidden;
    int num_directions;
    int64_t longest;            // frames of the longest utterance
    const int64_t* utterance;   // (B,) that stands in each sorted row
    const int64_t* num_active;  // (S,) rows that have such a frame
};

struct ForwardArguments {
    Sequences sequences;
    const float* projected[2];    // (S, B, G * H)
    const float* weights[2];      // (G * H, H); null where `packed` is ready
    const float* scales[2];       // (G * H,) of weights in eight bits, else null
    const float* bias[2];         // (G * H,) LSTM: the sum of both biases
    const float* bias_hidden[2];  // (G * H,) GRU only
    float* y;                     // (S, B, H)
    float* gates[2];              // (S, B, 4 * H), null where no gradient is wanted; so are the next two
    float* cells[2];              // (S, B, H) LSTM only
    float* previous[2];           // (S, B, H)
    const float* start_hidden;    // (B, H) states before the first frame; null for zeros
    const float* start_cell;      // (B, H) LSTM only
    float* end_hidden;            // (B, H) states after the last frame of each utterance; null where nobody asks
    float* end_cell;              // (B, H) LSTM only
    float* packed[2];             // scratch, as sized in aot_recurrent.cpp; a team's directions may share theirs
    float* hidden[2][2];          // of the frame before and this one
    float* operand[2][2];         // the same as the product takes them: in float32 `hidden` itself
    float* cell[2];
    float* totals;                // of all threads
};

struct BackwardArguments {
    Sequences sequences;
    const float* dy;          // (S, B, H)
    const float* weights[2];  // (G * H, H)
    const float* gates[2];    // (S, B, 4 * H)
    const float* memory[2];   // (S, B, H) cells of an LSTM, previous hidden states of a GRU
    float* dprojected[2];     // (S, B, G * H)
    float* dhidden[2];        // (S, B, G * H) GRU only
    float* packed[2];         // scratch, as above
    float* operand[2][2];
    float* carried_hidden[2];
    float* carried_cell[2];
};

// One thread's place. Its team works on the directions first_direction .. end_direction - 1, one after the other.
struct Member {
    int first_direction, end_direction;
    int thread, num_threads;  // in its team
    int everyone_thread, everyone;  // among all
    Barrier& team_barrier;
    Barrier& everyone_barrier;

    bool has_direction_alone() const { return num_threads < everyone; }

    void meet_other_team() const {
        if (has_direction_alone()) everyone_barrier.wait(everyone);
    }
};

// Each thread calls the function with the same arguments, as the member that it is.
using RunForward = void (*)(const ForwardArguments&, const Member&);
using PackForward = void (*)(const float* weights, int64_t num_hidden, float* packed);
using RunBackward = void (*)(const BackwardArguments&, const Member&);

struct RecurrentKernels {
    RunForward lstm_forward, gru_forward;
    PackForward lstm_pack, gru_pack;
    RunBackward lstm_backward, gru_backward;
};

}  // namespace ds2
