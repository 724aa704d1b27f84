// Where words begin and end in the sound: the network's labels say about when, the sound's level says exactly.
// The same times as mindaudio_ds2/segmentation/word_times.py.

import { partWords } from "./greedy.js";
import { clip, findRuns, quantile, round } from "./numbers.js";
import { measureLevels } from "./segmenter.js";

const LEVEL_SECONDS = 0.01, LEAST_PAUSE_SECONDS = 0.05, LONGEST_REACH_SECONDS = 0.3;
const QUIET_SHARE = 0.2, LARGEST_RANGE_DB = 40, LEAST_PROBABILITY = 0.3;

// Words, as the decoder gives them, with the times of their sound. about: { labels, secondsPerFrame, rate }.
export function placeWords(words, logProbs, samples, about) {
  if (!words.length) return words;
  const duration = samples.length / about.rate, pauses = findPauses(samples, about.rate);
  let [first, last] = findExtent(pauses, duration);
  let latest = -Infinity;
  const held = words.map((word) => holdWord(word, logProbs, about).map((time) => {
    latest = Math.max(latest, clip(time, first, last));
    return latest;
  }));
  first = first || Math.max(0, held[0][0] - LONGEST_REACH_SECONDS);
  last = last < duration ? last : Math.min(duration, held[held.length - 1][1] + LONGEST_REACH_SECONDS);
  const gaps = [[0, first]];
  for (let i = 1; i < held.length; i++) gaps.push(findGap(pauses, held[i - 1], held[i]));
  gaps.push([last, duration]);
  return partWords(words.map((word, i) => ({ ...word, start: gaps[i][1], end: gaps[i + 1][0] })), 0, duration);
}

// The middles of a word's first and last label (seconds).
function holdWord(word, logProbs, { labels, secondsPerFrame }) {
  const numFrames = logProbs.length / labels.length, texts = labels.map((label) => label.trim());
  const first = Math.min(round(word.start / secondsPerFrame), numFrames - 1);
  const last = Math.max(first, Math.min(round(word.end / secondsPerFrame), numFrames) - 1);
  const find = (fits) => [...texts.keys()].filter((label) => texts[label] !== "" && fits(texts[label]));
  const logProb = (frame, label) => logProbs[frame * labels.length + label];
  // The middle of the frames from one on that show the likeliest of some labels there, counted from there; step is 1, or
  // -1 for backwards.
  const findMiddle = (from, step, candidates) => {
    if (!candidates.length) return 0;
    const label = candidates.reduce((one, other) => (logProb(from, other) > logProb(from, one) ? other : one));
    let total = 0, moment = 0;
    for (let i = 0; i <= last - first; i++) {
      const weight = Math.exp(logProb(from + step * i, label));
      if (i > 0 && weight < LEAST_PROBABILITY) break;
      total += weight;
      moment += weight * i;
    }
    return moment / Math.max(total, 1e-9);
  };
  const begins = find((text) => word.text.startsWith(text)), ends = find((text) => word.text.endsWith(text));
  const start = (first + findMiddle(first, 1, begins) + 0.5) * secondsPerFrame;
  const end = (last - findMiddle(last, -1, ends) + 0.5) * secondsPerFrame;
  return [start, Math.max(start, end)];
}

// Where the sound is quiet for a while: [from, until] in seconds.
function findPauses(samples, rate) {
  const frame = round(LEVEL_SECONDS * rate), levels = measureLevels(samples, frame);
  const loud = levels.reduce((one, other) => Math.max(one, other));
  const quiet = Math.max(quantile(levels, 0.05), loud - LARGEST_RANGE_DB);
  const runs = findRuns(levels.map((level) => level < quiet + QUIET_SHARE * (loud - quiet)));
  const least = round(LEAST_PAUSE_SECONDS / LEVEL_SECONDS);
  return runs.filter(([from, to]) => to - from >= least).map((run) => run.map((place) => (place * frame) / rate));
}

// Where the sound begins and ends: what lies between a pause at the start and one at the end.
function findExtent(pauses, duration) {
  const first = pauses.length && pauses[0][0] === 0 ? pauses[0][1] : 0;
  const last = pauses[pauses.length - 1];
  const isLast = last && last[1] >= duration - LEVEL_SECONDS && last[0] > first;
  return [first, isLast ? last[0] : duration];
}

// The end of a word and the start of the next, of which the first and last letters are held.
function findGap(pauses, one, other) {
  let best = null, most = 0;
  for (const pause of pauses) {
    const shared = Math.min(pause[1], other[0]) - Math.max(pause[0], one[1]);
    if (shared > most) [best, most] = [pause, shared];
  }
  // each word keeps its middle, so it ends after it begins
  if (best) return [Math.max(best[0], (one[0] + one[1]) / 2), Math.min(best[1], (other[0] + other[1]) / 2)];
  const middle = (one[1] + other[0]) / 2;
  return [Math.min(one[1] + LONGEST_REACH_SECONDS, middle), Math.max(other[0] - LONGEST_REACH_SECONDS, middle)];
}
