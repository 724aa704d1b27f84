#include "split.h"

#include <omp.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>

#include "recurrent_arguments.h"

namespace ds2 {
namespace {

// Threads meet once a frame, so a frame must have work for them all: about ten microseconds each.
constexpr int64_t kLeastFrameWork = 1 << 20;  // products
// Teams of one thread meet twice a layer.
constexpr int64_t kLeastLayerWork = 1 << 20;
constexpr int64_t kDefaultCacheBytes = 8 << 20;

std::atomic<int> forced_teams{0};

int64_t find_cache_bytes() {
#if defined(_SC_LEVEL3_CACHE_SIZE)
    static const int64_t found = sysconf(_SC_LEVEL3_CACHE_SIZE);
    if (found > 0) return found;
#endif
    return kDefaultCacheBytes;
}

// The threads of a team that meet once a frame.
int choose_team_size(const LayerSize& size, int max_threads) {
    const int64_t work = size.num_utterances * size.num_hidden * size.num_hidden * size.num_gates;
    const int64_t num_useful = std::min(work / kLeastFrameWork, size.num_hidden / kMaxLanes);
    return static_cast<int>(std::clamp<int64_t>(num_useful, 1, max_threads));
}

}  // namespace

Split choose_split(const LayerSize& size, int max_threads, int64_t cache_bytes) {
    const Split rows{1, choose_team_size(size, max_threads)};
    if (size.num_directions < 2 || max_threads < 2) return rows;
    const Split directions{2, choose_team_size(size, max_threads / 2)};
    const int64_t weights = size.num_hidden * size.num_hidden * size.num_gates;
    const int64_t bytes = 2 * weights * static_cast<int64_t>(sizeof(float));
    if (bytes > cache_bytes) return rows;
    if (size.num_frames * size.num_utterances * weights < kLeastLayerWork) return {1, 1};
    return directions.num_threads() < rows.num_threads() ? rows : directions;
}

Split choose_split_here(const LayerSize& size) {
    const int max_threads = omp_get_max_threads();
    const int forced = forced_teams.load(std::memory_order_relaxed);
    if (forced == 1 || (forced == 2 && (size.num_directions < 2 || max_threads < 2))) {
        return {1, choose_team_size(size, max_threads)};
    }
    if (forced == 2) return {2, choose_team_size(size, max_threads / 2)};
    return choose_split(size, max_threads, find_cache_bytes());
}

}  // namespace ds2

#define DS2_EXPORT extern "C" __attribute__((visibility("default")))

// For tests and benchmarks: 1 or 2 teams wherever that can be, 0 as the rule says.
DS2_EXPORT void ds2_set_teams(int num_teams) { ds2::forced_teams.store(num_teams, std::memory_order_relaxed); }

// For tests: what the rule says, as teams * 1000 + threads of each.
DS2_EXPORT int ds2_choose_split(int64_t num_frames, int64_t num_utterances, int64_t num_hidden, int num_directions,
                                int num_gates, int max_threads, int64_t cache_bytes) {
    const ds2::LayerSize size{num_frames, num_utterances, num_hidden, num_directions, num_gates};
    const ds2::Split split = ds2::choose_split(size, max_threads, cache_bytes);
    return split.num_teams * 1000 + split.team_size;
}
