// CTC prefix beam search with an n-gram model and hotwords; decoding/beam.py says what a score is made of.
//
// A prefix is what has been written so far. Its probability is the sum over all paths that write it, kept apart by
// whether they end in a blank (arXiv:1408.2873). Spaces at the start and side by side write nothing. Beside the sums
// goes the best single path (Viterbi), which says when each label was heard.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <unordered_map>
#include <vector>

#include "hotwords.h"
#include "ngram.h"

namespace ds2 {

constexpr double MINUS_INFINITY = -std::numeric_limits<double>::infinity();
constexpr double LN10 = 2.302585092994046;
constexpr double LEAST_ODDS = -7;  // a thousandth; what is less likely than that puts no word in doubt

inline double log_add(double a, double b) {
  if (a < b) std::swap(a, b);
  return b == MINUS_INFINITY ? a : a + std::log1p(std::exp(b - a));
}

struct Label {
  std::string text;  // UTF-8, without the space before it
  bool starts_word;  // a word ends before it; the space itself does that and has no text
  uint32_t word;     // its number in a model that scores labels
};

struct Settings {
  int beam_width, num_best;  // of prefixes that nothing later can tell apart, too, `num_best` are kept
  double token_threshold, beam_threshold;  // nats: of a label, and below the best prefix
  double weight, bonus, unknown;           // of the language model; for each word; for each word unknown to it
};

struct Decoder {
  std::vector<Label> labels;
  int blank;
  Settings settings;
  const NgramModel* model;  // or nullptr
  Hotwords hotwords;
};

// What a prefix knows of its text.
struct Prefix {
  uint32_t parent = NONE, label = NONE, length = 0, rivals = NONE;
  uint64_t tail = 0;  // the last four labels
  uint32_t state = NONE, spelt = 0, hot = Hotwords::ROOT, hot_word = 0;
  double settled = 0, pending = 0;  // nats beside the acoustic ones: for whole words, and for the word begun
  bool at_word_start = true;

  double fusion() const { return settled + pending; }
};

// What was dropped beside a prefix, because nothing later could tell them apart: it had something else in place of some
// labels. They are counted from the end of the one that was kept, so that a beginning may be forgotten.
struct Rival {
  uint32_t first_back, end_back;
  uint32_t touch;  // 1 where these labels are spaces or none at all, so that the words beside them are in doubt
  double log_odds;  // of the other one; not positive
  uint32_t next;
};

// The labels of a best path: where each begins. Ends are known when the next begins.
struct Mark {
  uint32_t before, label, first, end_before;
  float peak_before;
};

struct Timing {
  double score = MINUS_INFINITY;
  uint32_t mark = NONE, end = 0;
  float peak = 0;
};

struct Entry {
  uint32_t prefix = NONE;
  double blank = MINUS_INFINITY, label = MINUS_INFINITY;
  Timing blank_path, label_path;

  double acoustic() const { return log_add(blank, label); }
  const Timing& path() const { return label_path.score > blank_path.score ? label_path : blank_path; }
};

// Prefixes that go on alike: with the same place in the language model, word and phrase begun, and last four labels,
// which may still be growing likelier as the prefixes that they come from do.
struct Group {
  uint32_t first = NONE, count = 0;  // the best of them, which is in `prefixes`; how many were kept
  double cost = 0;                   // of the best
};

class Alike {
 public:
  // For a frame in which at most so many are kept.
  void clear(size_t num_kept) {
    size_t size = 16;
    while (size < 2 * num_kept + 2) size *= 2;
    groups_.assign(size, Group());
  }

  // The group of a prefix, with count 0 where it is the first of it. Valid until the next call.
  Group& find(const Prefix& prefix, const std::vector<Prefix>& prefixes) {
    uint64_t hash = prefix.tail;
    for (const uint32_t part : {prefix.state, prefix.spelt, prefix.hot, prefix.hot_word})
      hash = (hash ^ part) * 0x9E3779B97F4A7C15u, hash ^= hash >> 29;
    for (size_t at = hash & (groups_.size() - 1);; at = (at + 1) & (groups_.size() - 1))
      if (groups_[at].count == 0 || are_alike(prefixes[groups_[at].first], prefix)) return groups_[at];
  }

 private:
  static bool are_alike(const Prefix& a, const Prefix& b) {
    return a.tail == b.tail && a.state == b.state && a.spelt == b.spelt && a.hot == b.hot &&
           a.hot_word == b.hot_word && a.at_word_start == b.at_word_start;
  }

  std::vector<Group> groups_;
};

struct SpokenWord {
  std::string text;
  uint32_t first, end;  // frames
  uint32_t first_label, end_label;
  double peaks = 0, posterior = 0, rival_odds = 0;
  int num_labels = 0;
};

struct Spoken {
  std::string text;
  double score, acoustic;
  std::vector<SpokenWord> words;
};

class Stream {
 public:
  explicit Stream(const Decoder& decoder);
  void feed(const float* log_probs, int num_frames);
  // Best first. A sentence that goes on is not charged for its end.
  std::vector<Spoken> read(bool is_finished) const;
  // Drops what disagrees with the best prefix's whole words.
  void settle();
  // The words that all prefixes share and go on from, as the best path has them; they are forgotten here.
  std::vector<SpokenWord> take();

 private:
  struct Candidate {
    uint32_t slot;  // of the parent
    double score;
    Timing from;
    float peak;
    Prefix prefix;
  };

  void advance(const float* frame);
  void stay(const float* frame, const Entry& old, Entry& now) const;
  void extend(const float* frame, uint32_t slot);
  void select();
  Entry enter(const Candidate& candidate);
  void remember(uint32_t kept, const Prefix& other, double log_odds);
  void contest(const Entry& entry, Spoken& spoken) const;
  Prefix append(const Prefix& parent, uint32_t parent_index, uint32_t label) const;
  double foresee(const Prefix& prefix) const;
  void end_word(Prefix& prefix) const;
  void collect_garbage();
  Spoken spell(const Entry& entry) const;
  std::vector<uint32_t> list_chain(uint32_t prefix) const;
  size_t count_whole(const std::vector<uint32_t>& chain) const;
  size_t count_shared(const std::vector<uint32_t>& one, const std::vector<uint32_t>& other) const;
  void forget(size_t num_labels);

  const Decoder& decoder_;
  uint32_t frame_ = 0;
  double hopeless_ = MINUS_INFINITY;
  std::vector<Prefix> prefixes_;
  std::vector<Mark> marks_;
  std::vector<Rival> rivals_;
  std::vector<Entry> entries_, next_;
  std::vector<Candidate> candidates_;
  std::vector<std::pair<double, uint32_t>> ranked_;
  Alike alike_;
  std::vector<uint32_t> kept_labels_, first_child_, next_sibling_, slot_of_;
  size_t garbage_limit_ = 1 << 16;
};

}  // namespace ds2
