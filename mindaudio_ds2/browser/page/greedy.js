// Greedy decoding: the best label of every output frame, repeats collapsed, blanks dropped.
// The same words, times and confidences as mindaudio_ds2/decoding/greedy.py.

// An utterance on its way. labels: the text of each, with a space before it if it begins a word, "" for the blank.
// A word is { text, start, end, confidence }.
export class GreedyStream {
  constructor(labels, secondsPerFrame) {
    this.labels = labels;
    this.secondsPerFrame = secondsPerFrame;
    this.numFrames = 0;
    this.last = labels.indexOf("");
    this.runs = []; // of the word begun: { label, first, end, peak }
    this.words = [];
  }

  // Goes on with natural log probabilities (S, V), row by row; equally likely labels: the first.
  feed(logProbs) {
    const size = this.labels.length;
    for (let row = 0; row < logProbs.length; row += size) {
      let label = 0;
      for (let i = 1; i < size; i++) if (logProbs[row + i] > logProbs[row + label]) label = i;
      this.add(label, logProbs[row + label]);
      this.numFrames++;
    }
  }

  add(label, peak) {
    const isRepeat = label === this.last, hasText = this.labels[label].trim() !== "";
    this.last = label;
    if (isRepeat && hasText) {
      const run = this.runs[this.runs.length - 1];
      run.end = this.numFrames + 1;
      run.peak = Math.max(run.peak, peak);
      return;
    }
    if (this.labels[label].startsWith(" ")) {
      this.words.push(...this.spell());
      this.runs = [];
    }
    if (hasText) this.runs.push({ label, first: this.numFrames, end: this.numFrames + 1, peak });
  }

  // The word begun, if there is one.
  spell() {
    const runs = this.runs;
    if (!runs.length) return [];
    return [{
      text: runs.map((run) => this.labels[run.label].trim()).join(""),
      start: runs[0].first * this.secondsPerFrame,
      end: runs[runs.length - 1].end * this.secondsPerFrame,
      confidence: Math.exp(runs.reduce((sum, run) => sum + run.peak, 0) / runs.length),
    }];
  }

  // The words that nothing can change any more, each once.
  take() { return this.words.splice(0); }

  // What has been recognised and not taken so far; the last word may be unfinished.
  read() { return [...this.words, ...this.spell()]; }
}

export function decode(logProbs, labels, secondsPerFrame) {
  const stream = new GreedyStream(labels, secondsPerFrame);
  stream.feed(logProbs);
  return stream.read();
}

const LEAST_WORD_SECONDS = 0.01;

// Words one behind the other, each with a duration: where two share time, the later one begins when the other ends. None
// begins before first or ends behind last. As part_words of mindaudio_ds2/decoding/hypothesis.py.
export function partWords(words, first, last) {
  const least = Math.min(LEAST_WORD_SECONDS, Math.max(0, last - first) / Math.max(1, words.length)), times = [];
  let takenUntil = first;
  for (const word of words) {
    const start = Math.max(word.start, takenUntil);
    takenUntil = Math.max(word.end, start + least);
    times.push([start, takenUntil]);
  }
  const parted = [];
  for (let i = words.length - 1; i >= 0; i--) {
    const start = times[i][0], end = Math.min(times[i][1], last);
    last = start + least <= end ? start : Math.max(first, end - least);
    parted.unshift({ ...words[i], start: last, end });
  }
  return parted;
}
