// How the threads share a recurrent layer: the one rule.
//
// One team takes the directions one after the other: its threads share the hidden units and meet once a frame. Two teams
// take a direction each and meet once, in the middle; with a thread each, that is all. Meeting costs some microseconds,
// and more where other programs run; but two teams read the weights of both directions at the same time, which then have
// to stay in the caches. Results are the same bit for bit.
#pragma once

#include <cstdint>

namespace ds2 {

struct Split {
    int num_teams;  // 1, or 2 for two directions
    int team_size;  // threads of a team

    int num_threads() const { return num_teams * team_size; }
};

struct LayerSize {
    int64_t num_frames, num_utterances, num_hidden;  // S, B, H
    int num_directions, num_gates;
};

// The rule, for as many threads as OpenMP would start and a last-level cache of so many bytes.
Split choose_split(const LayerSize& size, int max_threads, int64_t cache_bytes);

// The rule on this machine, or as many teams as ds2_set_teams said.
Split choose_split_here(const LayerSize& size);

}  // namespace ds2
