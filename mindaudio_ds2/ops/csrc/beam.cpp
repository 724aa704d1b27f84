#include "beam.h"

#include <functional>
#include <memory>

namespace ds2 {

Stream::Stream(const Decoder& decoder) : decoder_(decoder) {
  Prefix root;
  if (decoder_.model) root.state = decoder_.model->start();
  prefixes_.push_back(root);
  Entry entry;
  entry.prefix = 0;
  entry.blank = entry.blank_path.score = 0;
  entries_.push_back(entry);
}

void Stream::feed(const float* log_probs, int num_frames) {
  for (int at = 0; at < num_frames; ++at) advance(log_probs + at * decoder_.labels.size());
}

void Stream::advance(const float* frame) {
  const uint32_t size = static_cast<uint32_t>(decoder_.labels.size());
  const uint32_t best = static_cast<uint32_t>(std::max_element(frame, frame + size) - frame);
  kept_labels_.clear();
  for (uint32_t label = 0; label < size; ++label)
    if (label == best || frame[label] >= decoder_.settings.token_threshold) kept_labels_.push_back(label);

  // Which of the present prefixes are children of which: a list for each parent.
  const uint32_t num = static_cast<uint32_t>(entries_.size());
  slot_of_.resize(prefixes_.size(), NONE);
  for (uint32_t slot = 0; slot < num; ++slot) slot_of_[entries_[slot].prefix] = slot;
  first_child_.assign(num, NONE);
  next_sibling_.assign(num, NONE);
  for (uint32_t slot = 0; slot < num; ++slot) {
    const uint32_t parent = prefixes_[entries_[slot].prefix].parent;
    if (parent == NONE || slot_of_[parent] == NONE) continue;
    next_sibling_[slot] = first_child_[slot_of_[parent]];
    first_child_[slot_of_[parent]] = slot;
  }
  next_.resize(num);
  candidates_.clear();
  double best_stay = MINUS_INFINITY;
  for (uint32_t slot = 0; slot < num; ++slot) {
    stay(frame, entries_[slot], next_[slot]);
    best_stay = std::max(best_stay, next_[slot].acoustic() + prefixes_[next_[slot].prefix].fusion());
  }
  // No extension is worth more than this beside its sound, for a language model only takes. A label may end a word and
  // begin another.
  hopeless_ = best_stay - decoder_.settings.beam_threshold - std::max(decoder_.settings.bonus, 0.0) * 2 -
              std::max(decoder_.settings.unknown, 0.0) * 2 - decoder_.hotwords.most();
  for (uint32_t slot = 0; slot < num; ++slot) extend(frame, slot);
  for (uint32_t slot = 0; slot < num; ++slot) slot_of_[entries_[slot].prefix] = NONE;
  select();
  ++frame_;
  if (prefixes_.size() + marks_.size() + rivals_.size() > garbage_limit_) collect_garbage();
}

// Paths that write nothing new: a blank, the last label again, a space where a word has yet to begin.
void Stream::stay(const float* frame, const Entry& old, Entry& now) const {
  now = Entry();
  now.prefix = old.prefix;
  const Prefix& prefix = prefixes_[old.prefix];
  const double acoustic = old.acoustic();
  for (const uint32_t label : kept_labels_) {
    const double score = frame[label];
    if (static_cast<int>(label) == decoder_.blank) {
      now.blank = acoustic + score;
      now.blank_path = old.path();
      now.blank_path.score += score;
    } else if (prefix.at_word_start && decoder_.labels[label].text.empty()) {
      now.label = log_add(now.label, acoustic + score);
      if (old.path().score + score > now.label_path.score) {
        now.label_path = old.path();
        now.label_path.score += score;
      }
    } else if (label == prefix.label) {
      now.label = log_add(now.label, old.label + score);
      now.label_path = old.label_path;
      now.label_path.score += score;
      now.label_path.end = frame_ + 1;
      now.label_path.peak = std::max(now.label_path.peak, frame[label]);
    }
  }
}

void Stream::extend(const float* frame, uint32_t slot) {
  const Entry& old = entries_[slot];
  const Prefix parent = prefixes_[old.prefix];
  const double acoustic = old.acoustic();
  for (const uint32_t label : kept_labels_) {
    if (static_cast<int>(label) == decoder_.blank) continue;
    if (parent.at_word_start && decoder_.labels[label].text.empty()) continue;
    const double score = (label == parent.label ? old.blank : acoustic) + frame[label];
    if (score == MINUS_INFINITY) continue;
    Timing from = label == parent.label ? old.blank_path : old.path();
    from.score += frame[label];
    uint32_t child = first_child_[slot];
    while (child != NONE && prefixes_[entries_[child].prefix].label != label) child = next_sibling_[child];
    if (child == NONE) {
      if (score + parent.settled < hopeless_) continue;  // would be dropped: spares the model
      candidates_.push_back({slot, score, from, frame[label], append(parent, old.prefix, label)});
      continue;
    }
    Entry& now = next_[child];
    now.label = log_add(now.label, score);
    if (from.score > now.label_path.score) {
      marks_.push_back({from.mark, label, frame_, from.end, from.peak});
      now.label_path = {from.score, static_cast<uint32_t>(marks_.size() - 1), frame_ + 1, frame[label]};
    }
  }
}

// The best `beam_width` prefixes within `beam_threshold` of the best; of equal ones those that were there before.
void Stream::select() {
  const size_t num_old = next_.size();
  const auto score_of = [&](uint32_t at) {
    return at < num_old ? next_[at].acoustic() + prefixes_[next_[at].prefix].fusion()
                        : candidates_[at - num_old].score + candidates_[at - num_old].prefix.fusion();
  };
  ranked_.clear();
  double best = MINUS_INFINITY;
  for (uint32_t at = 0; at < num_old + candidates_.size(); ++at) {
    const double score = score_of(at);
    if (score == MINUS_INFINITY) continue;
    best = std::max(best, score);
    ranked_.emplace_back(-score, at);
  }
  const double limit = -(best - decoder_.settings.beam_threshold);
  ranked_.erase(std::remove_if(ranked_.begin(), ranked_.end(), [&](const auto& pair) { return pair.first > limit; }),
                ranked_.end());
  std::make_heap(ranked_.begin(), ranked_.end(), std::greater<>());
  const size_t width = static_cast<size_t>(decoder_.settings.beam_width);
  std::vector<Entry> chosen;
  chosen.reserve(std::min(ranked_.size(), width));
  alike_.clear(std::min(ranked_.size(), width));
  for (auto end = ranked_.end(); end != ranked_.begin() && chosen.size() < width;) {
    std::pop_heap(ranked_.begin(), end, std::greater<>());
    const auto [cost, at] = *--end;
    const Prefix& prefix = at < num_old ? prefixes_[next_[at].prefix] : candidates_[at - num_old].prefix;
    Group& group = alike_.find(prefix, prefixes_);
    if (group.count == static_cast<uint32_t>(decoder_.settings.num_best)) {
      remember(group.first, prefix, group.cost - cost);
      continue;
    }
    chosen.push_back(at < num_old ? next_[at] : enter(candidates_[at - num_old]));
    if (group.count++ == 0) group = {chosen.back().prefix, 1, cost};
  }
  if (!chosen.empty()) entries_.swap(chosen);  // a frame in which nothing is possible is passed over
}

Entry Stream::enter(const Candidate& candidate) {
  Entry entry;
  entry.prefix = static_cast<uint32_t>(prefixes_.size());
  prefixes_.push_back(candidate.prefix);
  marks_.push_back({candidate.from.mark, candidate.prefix.label, frame_, candidate.from.end, candidate.from.peak});
  entry.label = candidate.score;
  entry.label_path = {candidate.from.score, static_cast<uint32_t>(marks_.size() - 1), frame_ + 1, candidate.peak};
  return entry;
}

// Which of the kept prefix's labels another, that is dropped, has otherwise, and how likely that was beside it.
void Stream::remember(uint32_t kept, const Prefix& other, double log_odds) {
  if (log_odds < LEAST_ODDS) return;
  const Prefix *one = &prefixes_[kept], *two = &other;
  const auto step = [&](const Prefix*& prefix) { prefix = &prefixes_[prefix->parent]; };
  while (one->parent != NONE && two->parent != NONE && one->label == two->label) {  // they end alike
    if (one->parent == two->parent) return;  // the same text: dropped once, and come back
    step(one);
    step(two);
  }
  if (one->parent == NONE && two->parent == NONE) return;
  Rival rival{0, prefixes_[kept].length - one->length, 1, log_odds, prefixes_[kept].rivals};
  while (one->parent != two->parent || one->label != two->label) {  // up to where they part
    const uint32_t longer = std::max(one->length, two->length);
    if (two->length == longer) step(two);
    if (one->length < longer) continue;
    if (!decoder_.labels[one->label].text.empty()) rival.touch = 0;
    step(one);
  }
  rival.first_back = prefixes_[kept].length - one->length;
  for (uint32_t at = rival.next; at != NONE; at = rivals_[at].next) {
    if (rivals_[at].first_back != rival.first_back || rivals_[at].end_back != rival.end_back) continue;
    rivals_[at].log_odds = std::max(rivals_[at].log_odds, log_odds);
    return;
  }
  prefixes_[kept].rivals = static_cast<uint32_t>(rivals_.size());
  rivals_.push_back(rival);
}

Prefix Stream::append(const Prefix& parent, uint32_t parent_index, uint32_t label) const {
  const Label& added = decoder_.labels[label];
  Prefix prefix = parent;
  prefix.parent = parent_index;
  prefix.label = label;
  prefix.length = parent.length + 1;
  prefix.rivals = NONE;
  prefix.tail = parent.tail << 16 | (label & 0xFFFF);
  if (added.starts_word && !prefix.at_word_start) end_word(prefix);
  const NgramModel* model = decoder_.model;
  if (model && model->scores_labels)
    prefix.settled += decoder_.settings.weight * LN10 * model->score(prefix.state, added.word, &prefix.state);
  if (added.text.empty()) return prefix;
  prefix.at_word_start = false;
  for (const char byte : added.text) {
    if (model && !model->scores_labels) prefix.spelt = model->step(prefix.spelt, static_cast<uint8_t>(byte));
    prefix.hot = decoder_.hotwords.step(prefix.hot, static_cast<uint8_t>(byte));
    prefix.hot_word = decoder_.hotwords.step_word(prefix.hot_word, static_cast<uint8_t>(byte));
  }
  prefix.pending = foresee(prefix) + decoder_.hotwords.lent(prefix.hot);
  return prefix;
}

// What the word begun will cost at least, as far as that is known: otherwise a prefix that has just ended a word would
// stand far behind those that have yet to pay for theirs.
double Stream::foresee(const Prefix& prefix) const {
  const NgramModel* model = decoder_.model;
  double sum = decoder_.settings.bonus;
  if (!model || model->scores_labels) return sum;
  double ahead = model->ahead(prefix.spelt);
  if (prefix.hot_word != NONE) ahead = std::max(ahead, model->ahead(NONE));
  else if (prefix.spelt == NONE) sum += decoder_.settings.unknown;
  return sum + decoder_.settings.weight * LN10 * ahead;
}

void Stream::end_word(Prefix& prefix) const {
  const NgramModel* model = decoder_.model;
  prefix.settled += decoder_.settings.bonus + decoder_.hotwords.worth(prefix.hot);
  if (model && !model->scores_labels) {
    const uint32_t word = model->word_at(prefix.spelt);
    prefix.settled += decoder_.settings.weight * LN10 * model->score(prefix.state, word, &prefix.state);
    if (word == UNKNOWN && !decoder_.hotwords.is_word(prefix.hot_word)) prefix.settled += decoder_.settings.unknown;
  }
  prefix.spelt = prefix.hot_word = 0;
  prefix.hot = decoder_.hotwords.step(prefix.hot, ' ');
  prefix.pending = decoder_.hotwords.lent(prefix.hot);
  prefix.at_word_start = true;
}

// Keeps what the present prefixes are made of; a stream of any length takes memory for its text alone.
void Stream::collect_garbage() {
  std::vector<uint32_t> prefix_map(prefixes_.size(), NONE), mark_map(marks_.size(), NONE);
  for (const Entry& entry : entries_) {
    for (uint32_t at = entry.prefix; at != NONE && prefix_map[at] == NONE; at = prefixes_[at].parent) prefix_map[at] = 0;
    for (const Timing* path : {&entry.blank_path, &entry.label_path})
      for (uint32_t at = path->mark; at != NONE && mark_map[at] == NONE; at = marks_[at].before) mark_map[at] = 0;
  }
  const auto compact = [](auto& items, std::vector<uint32_t>& map, auto link) {
    uint32_t kept = 0;
    for (uint32_t at = 0; at < items.size(); ++at) {
      if (map[at] == NONE) continue;
      map[at] = kept;  // what an item is linked to stands before it
      items[kept] = items[at];
      uint32_t& linked = items[kept].*link;
      if (linked != NONE) linked = map[linked];
      ++kept;
    }
    items.resize(kept);
  };
  std::vector<uint32_t> rival_map(rivals_.size(), NONE);
  for (uint32_t at = 0; at < prefixes_.size(); ++at) {
    if (prefix_map[at] == NONE) continue;
    for (uint32_t rival = prefixes_[at].rivals; rival != NONE; rival = rivals_[rival].next) rival_map[rival] = 0;
  }
  compact(rivals_, rival_map, &Rival::next);
  compact(prefixes_, prefix_map, &Prefix::parent);
  for (Prefix& prefix : prefixes_)
    if (prefix.rivals != NONE) prefix.rivals = rival_map[prefix.rivals];
  compact(marks_, mark_map, &Mark::before);
  for (Entry& entry : entries_) {
    entry.prefix = prefix_map[entry.prefix];
    for (Timing* path : {&entry.blank_path, &entry.label_path})
      if (path->mark != NONE) path->mark = mark_map[path->mark];
  }
  slot_of_.assign(prefixes_.size(), NONE);
  garbage_limit_ = 2 * (prefixes_.size() + marks_.size() + rivals_.size()) + (1 << 16);
}

Spoken Stream::spell(const Entry& entry) const {
  std::vector<Mark> path;  // each with its own end and peak
  uint32_t end = entry.path().end;
  float peak = entry.path().peak;
  for (uint32_t at = entry.path().mark; at != NONE; at = marks_[at].before) {
    path.push_back({at, marks_[at].label, marks_[at].first, end, peak});
    end = marks_[at].end_before;
    peak = marks_[at].peak_before;
  }
  std::reverse(path.begin(), path.end());
  Spoken spoken;
  bool is_new = true;
  for (const Mark& mark : path) {
    const Label& label = decoder_.labels[mark.label];
    is_new = is_new || label.starts_word;
    if (label.text.empty()) continue;
    const uint32_t place = static_cast<uint32_t>(&mark - path.data());
    if (is_new) spoken.words.push_back({"", mark.first, mark.end_before, place, place});
    SpokenWord& word = spoken.words.back();
    word.end_label = place + 1;
    word.text += label.text;
    word.end = mark.end_before;
    word.peaks += mark.peak_before;
    ++word.num_labels;
    is_new = false;
  }
  for (const SpokenWord& word : spoken.words) spoken.text += (spoken.text.empty() ? "" : " ") + word.text;
  contest(entry, spoken);
  return spoken;
}

// Into each word: the odds of what was dropped for it, of all that had something else in its place.
void Stream::contest(const Entry& entry, Spoken& spoken) const {
  const std::vector<uint32_t> chain = list_chain(entry.prefix);
  for (size_t depth = 1; depth <= chain.size(); ++depth) {
    for (uint32_t at = prefixes_[chain[depth - 1]].rivals; at != NONE; at = rivals_[at].next) {
      const size_t end = depth - std::min<size_t>(depth, rivals_[at].end_back);
      const size_t first = depth - std::min<size_t>(depth, rivals_[at].first_back);
      const size_t touch = rivals_[at].touch;
      for (SpokenWord& word : spoken.words)
        if (word.first_label < end + touch && word.end_label + touch > first)
          word.rival_odds += std::exp(rivals_[at].log_odds);
    }
  }
}

// Into each word of the first hypotheses: the share of all hypotheses that have this word at this time, those that were
// dropped because nothing could have told them apart any more included.
static void find_posteriors(std::vector<Spoken>& all, size_t num_best) {
  double total = MINUS_INFINITY;
  for (const Spoken& spoken : all) total = log_add(total, spoken.score);
  for (size_t best = 0; best < std::min(num_best, all.size()); ++best) {
    for (const Spoken& other : all) {
      const double share = std::exp(other.score - total);
      size_t first = 0;
      for (SpokenWord& word : all[best].words) {
        while (first < other.words.size() && other.words[first].end <= word.first) ++first;
        for (size_t at = first; at < other.words.size() && other.words[at].first < word.end; ++at) {
          if (other.words[at].text != word.text) continue;
          word.posterior += share;
          break;
        }
      }
    }
    for (SpokenWord& word : all[best].words) word.posterior /= 1 + word.rival_odds;
  }
}

std::vector<Spoken> Stream::read(bool is_finished) const {
  std::vector<Spoken> all;
  std::unordered_map<std::string, size_t> place_of;
  for (const Entry& entry : entries_) {
    Prefix prefix = prefixes_[entry.prefix];
    if (!prefix.at_word_start) end_word(prefix);
    prefix.pending = 0;  // what was lent to a phrase that has not come
    if (is_finished && decoder_.model)
      prefix.settled +=
          decoder_.settings.weight * LN10 * decoder_.model->score(prefix.state, SENTENCE_END, &prefix.state);
    Spoken spoken = spell(entry);
    spoken.acoustic = entry.acoustic();
    spoken.score = spoken.acoustic + prefix.fusion();
    const auto [place, is_new] = place_of.emplace(spoken.text, all.size());
    if (is_new) {
      all.push_back(std::move(spoken));
      continue;
    }
    Spoken& same = all[place->second];  // with and without a space at its end
    const double score = log_add(same.score, spoken.score), acoustic = log_add(same.acoustic, spoken.acoustic);
    if (spoken.score > same.score) same = std::move(spoken);
    same.score = score;
    same.acoustic = acoustic;
  }
  std::stable_sort(all.begin(), all.end(), [](const Spoken& a, const Spoken& b) { return a.score > b.score; });
  const size_t num_best = std::min(all.size(), static_cast<size_t>(decoder_.settings.num_best));
  find_posteriors(all, num_best);
  all.resize(num_best);
  return all;
}

// The prefixes from the first label to this one.
std::vector<uint32_t> Stream::list_chain(uint32_t prefix) const {
  std::vector<uint32_t> chain;
  for (; prefixes_[prefix].parent != NONE; prefix = prefixes_[prefix].parent) chain.push_back(prefix);
  std::reverse(chain.begin(), chain.end());
  return chain;
}

// How many labels of a chain stand before the start of its last word.
size_t Stream::count_whole(const std::vector<uint32_t>& chain) const {
  size_t num_labels = 0;
  bool has_text = false;
  for (size_t at = 0; at < chain.size(); ++at) {
    const Label& label = decoder_.labels[prefixes_[chain[at]].label];
    if (label.starts_word && has_text) num_labels = at;
    has_text = has_text || !label.text.empty();
  }
  return num_labels;
}

// How many labels two chains begin with alike. A prefix that was dropped and came back stands there twice.
size_t Stream::count_shared(const std::vector<uint32_t>& one, const std::vector<uint32_t>& other) const {
  size_t at = 0;
  while (at < std::min(one.size(), other.size()) && prefixes_[one[at]].label == prefixes_[other[at]].label) ++at;
  return at;
}

void Stream::settle() {
  const std::vector<uint32_t> best = list_chain(entries_[0].prefix);
  const size_t num_labels = count_whole(best);
  if (num_labels == 0) return;
  const auto strays = [&](const Entry& entry) { return count_shared(best, list_chain(entry.prefix)) < num_labels; };
  entries_.erase(std::remove_if(entries_.begin(), entries_.end(), strays), entries_.end());
}

std::vector<SpokenWord> Stream::take() {
  std::vector<uint32_t> shared = list_chain(entries_[0].prefix);
  for (const Entry& entry : entries_) shared.resize(count_shared(shared, list_chain(entry.prefix)));
  const size_t num_labels = count_whole(shared);
  if (num_labels == 0) return {};
  size_t num_words = 0;
  bool is_new = true;
  for (size_t at = 0; at < num_labels; ++at) {
    const Label& label = decoder_.labels[prefixes_[shared[at]].label];
    is_new = is_new || label.starts_word;
    if (label.text.empty()) continue;
    num_words += is_new;
    is_new = false;
  }
  std::vector<SpokenWord> words = read(false)[0].words;
  words.resize(num_words);
  forget(num_labels);
  return words;
}

// Forgets the first labels of every prefix and path. They are shared, so all are found before any is changed.
void Stream::forget(size_t num_labels) {
  std::vector<uint32_t> roots, first_kept;
  for (Entry& entry : entries_) {
    roots.push_back(list_chain(entry.prefix)[num_labels - 1]);
    for (Timing* path : {&entry.blank_path, &entry.label_path}) {
      std::vector<uint32_t> marks;
      for (uint32_t at = path->mark; at != NONE; at = marks_[at].before) marks.push_back(at);
      if (marks.size() > num_labels) first_kept.push_back(marks[marks.size() - 1 - num_labels]);
      else path->mark = NONE;
    }
  }
  for (const uint32_t root : roots) prefixes_[root].parent = NONE;
  for (const uint32_t mark : first_kept) marks_[mark].before = NONE;
}

}  // namespace ds2

// What decoding/beam.py calls. Nothing here throws but for want of memory.
#define DS2_EXPORT extern "C" __attribute__((visibility("default")))

namespace {

struct OpenDecoder {
  ds2::NgramModel model;
  ds2::Decoder decoder;
};

struct OpenStream {
  explicit OpenStream(const ds2::Decoder& decoder) : stream(decoder) {}
  ds2::Stream stream;
  std::string text;             // hypotheses, one a line, words with spaces between
  std::vector<double> numbers;  // of each: score, acoustic score, words; of each word: first, end, posterior, peak

  void write(const std::vector<ds2::Spoken>& all, const char** text_out, int64_t* num_bytes, const double** numbers_out,
             int64_t* num_numbers) {
    text.clear();
    numbers.clear();
    for (const ds2::Spoken& spoken : all) {
      text += spoken.text + "\n";
      numbers.insert(numbers.end(), {spoken.score, spoken.acoustic, static_cast<double>(spoken.words.size())});
      for (const ds2::SpokenWord& word : spoken.words)
        numbers.insert(numbers.end(), {static_cast<double>(word.first), static_cast<double>(word.end), word.posterior,
                                       word.peaks / word.num_labels});
    }
    *text_out = text.data();
    *num_bytes = static_cast<int64_t>(text.size());
    *numbers_out = numbers.data();
    *num_numbers = static_cast<int64_t>(numbers.size());
  }
};

}  // namespace

// `texts` holds labels, then hotwords, one behind the other; `ends` says where each ends. `settings` are beam width,
// number of hypotheses, token threshold, beam threshold, weight, bonus, unknown. `lent` has a number for each byte of the
// hotwords.
DS2_EXPORT void* ds2_decoder_open(const char* texts, const int64_t* ends, int num_labels, const uint8_t* starts_word,
                                  const uint32_t* label_words, int blank, const double* settings, int num_hotwords,
                                  const double* worths, const double* lent, const uint8_t* model, size_t model_size) {
  auto opened = std::make_unique<OpenDecoder>();
  ds2::Decoder& decoder = opened->decoder;
  if (model && !opened->model.open(model, model_size)) return nullptr;
  decoder.model = model ? &opened->model : nullptr;
  if (model && !opened->model.scores_labels) opened->model.look_ahead();
  decoder.blank = blank;
  decoder.settings = {static_cast<int>(settings[0]), static_cast<int>(settings[1]), settings[2], settings[3],
                      settings[4], settings[5], settings[6]};
  int64_t first = 0;
  for (int at = 0; at < num_labels + num_hotwords; ++at) {
    const std::string text(texts + first, texts + ends[at]);
    first = ends[at];
    if (at < num_labels) decoder.labels.push_back({text, starts_word[at] != 0, label_words[at]});
    else decoder.hotwords.add(text, worths[at - num_labels], lent);
    if (at >= num_labels) lent += text.size();
  }
  decoder.hotwords.link();
  return opened.release();
}

DS2_EXPORT void ds2_decoder_close(void* opened) { delete static_cast<OpenDecoder*>(opened); }

DS2_EXPORT void* ds2_stream_open(void* opened) { return new OpenStream(static_cast<OpenDecoder*>(opened)->decoder); }

DS2_EXPORT void ds2_stream_close(void* stream) { delete static_cast<OpenStream*>(stream); }

DS2_EXPORT void ds2_stream_feed(void* stream, const float* log_probs, int num_frames) {
  static_cast<OpenStream*>(stream)->stream.feed(log_probs, num_frames);
}

// Valid until the next call for this stream.
DS2_EXPORT void ds2_stream_read(void* stream, int is_finished, const char** text, int64_t* num_bytes,
                                const double** numbers, int64_t* num_numbers) {
  OpenStream& open = *static_cast<OpenStream*>(stream);
  open.write(open.stream.read(is_finished != 0), text, num_bytes, numbers, num_numbers);
}

DS2_EXPORT void ds2_stream_settle(void* stream) { static_cast<OpenStream*>(stream)->stream.settle(); }

// As `ds2_stream_read`, a single hypothesis without scores: the words that nothing can change any more.
DS2_EXPORT void ds2_stream_take(void* stream, const char** text, int64_t* num_bytes, const double** numbers,
                                int64_t* num_numbers) {
  OpenStream& open = *static_cast<OpenStream*>(stream);
  ds2::Spoken spoken{"", 0, 0, open.stream.take()};
  for (const ds2::SpokenWord& word : spoken.words) spoken.text += (spoken.text.empty() ? "" : " ") + word.text;
  open.write({spoken}, text, num_bytes, numbers, num_numbers);
}

// log10 of each of `num_words` words in a row, the first after the start of a sentence; each word `SENTENCE_END` begins
// a new one. Returns 0 where the model cannot be opened.
DS2_EXPORT int ds2_model_score(const uint8_t* data, size_t size, const uint32_t* words, int64_t num_words,
                               double* scores) {
  ds2::NgramModel model;
  if (!model.open(data, size)) return 0;
  uint32_t state = model.start();
  for (int64_t at = 0; at < num_words; ++at) {
    scores[at] = model.score(state, words[at], &state);
    if (words[at] == ds2::SENTENCE_END) state = model.start();
  }
  return 1;
}
