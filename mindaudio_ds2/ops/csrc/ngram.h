// A back-off n-gram model in a file that is mapped, never copied: what decoding/language_model.py writes and describes.
//
// The file may be hostile. Only its size and header are checked when it is opened, so that this takes no time; every
// index that is read from it is checked where it is used, and whatever points astray counts as absent.

#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

namespace ds2 {

constexpr uint32_t NONE = 0xFFFFFFFFu;
constexpr int MAX_ORDER = 6;
constexpr uint32_t UNKNOWN = 0, SENTENCE_START = 1, SENTENCE_END = 2;

class NgramModel {
 public:
  uint32_t num_words = 0;
  bool scores_labels = false;  // its words are the labels of the network (characters), not words of a language

  // False where the bytes are no such file. They stay the caller's and outlive this object.
  bool open(const uint8_t* data, size_t size) {
    uint64_t header[16];
    if (size < sizeof header || reinterpret_cast<uintptr_t>(data) % 8 != 0) return false;
    std::memcpy(header, data, sizeof header);
    if (std::memcmp(data, "DS2NGRAM", 8) != 0 || header[1] != 1) return false;
    const uint64_t order = header[2], num_trie = header[10], num_bytes = header[11], num_metadata = header[12];
    if (order < 1 || order > MAX_ORDER || header[3] > 1) return false;
    uint64_t total = 0;
    for (int level = 0; level < MAX_ORDER; ++level) {
      const uint64_t count = header[4 + level];
      if (count >= NONE || (level < static_cast<int>(order)) != (count > 0)) return false;
      begin_[level] = static_cast<uint32_t>(total);
      total += count;
      if (total >= NONE) return false;
    }
    const uint64_t words = header[4], inner = total - header[3 + order];
    if (words < 3 || num_trie < 1 || num_trie >= NONE || num_bytes >= NONE || num_metadata >= NONE) return false;
    size_t at = sizeof header;
    const auto take = [&](uint64_t bytes) {
      const size_t start = at;
      at += (bytes + 7) / 8 * 8;
      return data + start;
    };
    take(num_metadata);
    word_ = reinterpret_cast<const uint32_t*>(take(4 * total));
    log_prob_ = reinterpret_cast<const float*>(take(4 * total));
    suffix_ = reinterpret_cast<const uint32_t*>(take(4 * total));
    backoff_ = reinterpret_cast<const float*>(take(4 * inner));
    child_ = reinterpret_cast<const uint32_t*>(take(4 * (inner + 1)));
    trie_child_ = reinterpret_cast<const uint32_t*>(take(4 * (num_trie + 1)));
    trie_word_ = reinterpret_cast<const uint32_t*>(take(4 * num_trie));
    trie_byte_ = take(num_trie);
    take(4 * (words + 1));
    take(num_bytes);
    if (at != size) return false;
    order_ = static_cast<int>(order);
    num_words = static_cast<uint32_t>(words);
    num_inner_ = static_cast<uint32_t>(inner);
    num_nodes_ = static_cast<uint32_t>(total);
    num_trie_ = static_cast<uint32_t>(num_trie);
    scores_labels = header[3] == 1;
    return true;
  }

  // The state in which a sentence begins.
  uint32_t start() const { return order_ > 1 ? SENTENCE_START : NONE; }

  // log10 of the probability of a word after a state, and the state that follows.
  double score(uint32_t state, uint32_t word, uint32_t* next) const {
    if (word >= num_words) word = UNKNOWN;
    double sum = 0;
    for (uint32_t node = state; node < num_inner_; node = suffix(node)) {
      const uint32_t child = find(node, word);
      if (child != NONE) {
        *next = child < num_inner_ ? child : suffix(child);
        return sum + log_prob_[child];
      }
      sum += backoff_[node];
    }
    *next = order_ > 1 ? word : NONE;
    return sum + log_prob_[word];
  }

  // The node of the prefix tree of all words that lies one byte further, or NONE. Its root is 0.
  uint32_t step(uint32_t node, uint8_t byte) const {
    if (node >= num_trie_) return NONE;
    const uint32_t first = trie_child_[node], end = trie_child_[node + 1];
    if (first <= node || end > num_trie_) return NONE;
    for (uint32_t at = first; at < end; ++at)
      if (trie_byte_[at] == byte) return at;
    return NONE;
  }

  // Finds, for every node of the prefix tree, the likeliest word (by unigram) that begins so, for `ahead`.
  void look_ahead() {
    ahead_.assign(num_trie_, log_prob_[UNKNOWN]);
    for (uint32_t node = num_trie_; node-- > 0;) {
      const uint32_t word = word_at(node), first = trie_child_[node], end = trie_child_[node + 1];
      bool is_found = word != UNKNOWN;
      if (is_found) ahead_[node] = log_prob_[word];
      if (first <= node || end > num_trie_) continue;
      for (uint32_t child = first; child < end; ++child) {
        ahead_[node] = is_found ? std::max(ahead_[node], ahead_[child]) : ahead_[child];
        is_found = true;
      }
    }
  }

  // log10 of the unigram probability of the likeliest word that begins as a node's path, or of <unk> where none does.
  double ahead(uint32_t node) const { return node < ahead_.size() ? ahead_[node] : log_prob_[UNKNOWN]; }

  // The word that ends at a node of the prefix tree, or UNKNOWN.
  uint32_t word_at(uint32_t node) const {
    return node < num_trie_ && trie_word_[node] < num_words ? trie_word_[node] : UNKNOWN;
  }

 private:
  int level_of(uint32_t node) const {
    int level = order_ - 1;
    while (level > 0 && node < begin_[level]) --level;
    return level;
  }

  uint32_t suffix(uint32_t node) const {
    const uint32_t found = suffix_[node];
    return found < begin_[level_of(node)] ? found : NONE;  // shorter by at least a word, so every chain ends
  }

  uint32_t find(uint32_t node, uint32_t word) const {
    uint32_t low = child_[node], high = child_[node + 1];
    if (low <= node || high > num_nodes_) return NONE;
    const uint32_t end = high;
    while (low < high) {
      const uint32_t middle = low + (high - low) / 2;
      if (word_[middle] < word) low = middle + 1;
      else high = middle;
    }
    return low < end && word_[low] == word ? low : NONE;
  }

  int order_ = 0;
  uint32_t begin_[MAX_ORDER] = {}, num_inner_ = 0, num_nodes_ = 0, num_trie_ = 0;
  const uint32_t *word_ = nullptr, *suffix_ = nullptr, *child_ = nullptr, *trie_child_ = nullptr, *trie_word_ = nullptr;
  const float *log_prob_ = nullptr, *backoff_ = nullptr;
  const uint8_t* trie_byte_ = nullptr;
  std::vector<float> ahead_;
};

}  // namespace ds2
