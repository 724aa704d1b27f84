// Phrases that are to be heard more readily: an automaton (Aho and Corasick, 1975) whose matches begin at word starts.
//
// A phrase is worth something once its last word is complete. While it is being spelt, a part is lent, so that the beam
// does not lose it, and taken back where the spelling goes another way. How much, decoding/hotwords.py says.

#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "ngram.h"

namespace ds2 {

class Hotwords {
 public:
  static constexpr uint32_t ROOT = 0;  // at the start of a word, nothing matched; NONE: within a word, nothing matched

  // `lents`: for each byte, what is lent from there on.
  void add(const std::string& phrase, double worth, const double* lents) {
    uint32_t node = ROOT;
    for (size_t place = 0; place < phrase.size(); ++place) {
      node = grow(node, static_cast<uint8_t>(phrase[place]));
      nodes_[node].lent = nodes_[node].is_lent ? std::max(nodes_[node].lent, lents[place]) : lents[place];
      nodes_[node].is_lent = true;
    }
    nodes_[node].worth += worth;
    for (size_t first = 0; first < phrase.size();) {
      const size_t space = std::min(phrase.find(' ', first), phrase.size());
      words_[phrase.substr(first, space - first)] = true;
      first = space + 1;
    }
  }

  // To be called once, after the last `add`.
  void link() {
    std::vector<uint32_t> queue{ROOT};
    double most = 0;
    for (size_t at = 0; at < queue.size(); ++at) {
      const uint32_t node = queue[at];
      for (const auto& [byte, child] : nodes_[node].children) {
        nodes_[child].fail = node == ROOT ? NONE : step(nodes_[node].fail, byte);
        if (nodes_[child].fail != NONE) nodes_[child].worth += nodes_[nodes_[child].fail].worth;
        queue.push_back(child);
        most = std::max({most, nodes_[child].lent, nodes_[child].worth});
      }
    }
    most_ = 2 * most;  // a phrase ends, and the next is begun
    for (const auto& [word, unused] : words_) {
      uint32_t node = 0;
      for (const char byte : word) node = grow_word(node, static_cast<uint8_t>(byte));
      word_ends_[node] = true;
    }
  }

  uint32_t step(uint32_t node, uint8_t byte) const {
    for (; node != NONE; node = nodes_[node].fail) {
      const auto found = nodes_[node].children.find(byte);
      if (found != nodes_[node].children.end()) return found->second;
    }
    return byte == ' ' ? ROOT : NONE;
  }

  double lent(uint32_t node) const { return node == NONE ? 0.0 : nodes_[node].lent; }

  // What the phrases that end here are worth together; a word must end here, too.
  double worth(uint32_t node) const { return node == NONE ? 0.0 : nodes_[node].worth; }

  // No step gains more than this.
  double most() const { return most_; }

  // The words of all phrases as a prefix tree, for they are known even where the language model knows them not.
  uint32_t step_word(uint32_t node, uint8_t byte) const {
    if (node == NONE) return NONE;
    const auto found = word_tree_[node].find(byte);
    return found == word_tree_[node].end() ? NONE : found->second;
  }
  bool is_word(uint32_t node) const { return node != NONE && word_ends_[node]; }
  bool empty() const { return nodes_.size() == 1; }

 private:
  struct Node {
    std::map<uint8_t, uint32_t> children;
    uint32_t fail = NONE;
    double lent = 0, worth = 0;
    bool is_lent = false;
  };

  uint32_t grow(uint32_t node, uint8_t byte) {
    const auto [place, is_new] = nodes_[node].children.emplace(byte, static_cast<uint32_t>(nodes_.size()));
    const uint32_t child = place->second;
    if (is_new) nodes_.emplace_back();
    return child;
  }

  uint32_t grow_word(uint32_t node, uint8_t byte) {
    const auto [place, is_new] = word_tree_[node].emplace(byte, static_cast<uint32_t>(word_tree_.size()));
    const uint32_t child = place->second;
    if (is_new) {
      word_tree_.emplace_back();
      word_ends_.push_back(false);
    }
    return child;
  }

  double most_ = 0;
  std::vector<Node> nodes_ = std::vector<Node>(1);
  std::map<std::string, bool> words_;
  std::vector<std::map<uint8_t, uint32_t>> word_tree_ = std::vector<std::map<uint8_t, uint32_t>>(1);
  std::vector<bool> word_ends_ = std::vector<bool>(1, false);
};

}  // namespace ds2
