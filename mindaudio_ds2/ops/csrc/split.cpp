#include "split.h"

#include <omp.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>

#include "recurrent_arguments.h"

namespace ds2 {
namespace {

constexpr int64_t kLeastFrameWork = 1 << 20;  // products a thread: some ten microseconds, if it meets others each frame
constexpr int64_t kMostFrameWork = 2 << 20;   // products of a direction: above it, meetings hardly count
constexpr int64_t kCacheShare = 8;  // of the last level, for the weights of layers whose frames have more work than that
constexpr int64_t kLeastLayerWork = 1 << 20;  // products of a direction: below it, starting a thread costs more
constexpr int64_t kDefaultCacheBytes = 8 << 20;

std::atomic<int> forced_teams{0};

int64_t find_cache_bytes() {
#if defined(_SC_LEVEL3_CACHE_SIZE)
    static const int64_t found = sysconf(_SC_LEVEL3_CACHE_SIZE);
    if (found > 0) return found;
#endif
    return kDefaultCacheBytes;
}

int64_t count_weights(const LayerSize& size) { return size.num_hidden * size.num_hidden * size.num_gates; }

// The threads of a team: so many that a frame has work for each.
int choose_team_size(const LayerSize& size, int max_threads) {
    const int64_t frame_work = size.num_utterances * count_weights(size);
    const int64_t num_useful = std::min(frame_work / kLeastFrameWork, size.num_hidden / kMaxLanes);
    return static_cast<int>(std::clamp<int64_t>(num_useful, 1, max_threads));
}

}  // namespace

Split choose_split(const LayerSize& size, int max_threads, int64_t cache_bytes) {
    const Split one{1, choose_team_size(size, max_threads)};
    if (size.num_directions < 2 || max_threads < 2) return one;
    const Split two{2, choose_team_size(size, max_threads / 2)};
    const int64_t weights = count_weights(size), frame_work = size.num_utterances * weights;
    const int64_t bytes = 2 * weights * static_cast<int64_t>(sizeof(float));
    const int64_t room = frame_work <= kMostFrameWork ? cache_bytes : cache_bytes / kCacheShare;
    const bool is_worth_it = frame_work * size.num_frames >= kLeastLayerWork && two.num_threads() >= one.num_threads();
    return is_worth_it && bytes <= room ? two : one;
}

Split choose_split_here(const LayerSize& size) {
    const int max_threads = omp_get_max_threads(), forced = forced_teams.load(std::memory_order_relaxed);
    if (forced == 0) return choose_split(size, max_threads, find_cache_bytes());
    const int num_teams = max_threads >= 2 ? std::min(forced, size.num_directions) : 1;
    return {num_teams, choose_team_size(size, max_threads / num_teams)};
}

}  // namespace ds2

#define DS2_EXPORT extern "C" __attribute__((visibility("default")))

// For tests and benchmarks: 1 or 2 teams wherever that can be; 0 leaves it to the rule.
DS2_EXPORT void ds2_set_teams(int num_teams) { ds2::forced_teams.store(num_teams, std::memory_order_relaxed); }

// For tests: what the rule says, as num_teams * 1000 + team_size.
DS2_EXPORT int ds2_choose_split(int64_t num_frames, int64_t num_utterances, int64_t num_hidden, int num_directions,
                                int num_gates, int max_threads, int64_t cache_bytes) {
    const ds2::LayerSize size{num_frames, num_utterances, num_hidden, num_directions, num_gates};
    const ds2::Split split = ds2::choose_split(size, max_threads, cache_bytes);
    return split.num_teams * 1000 + split.team_size;
}
