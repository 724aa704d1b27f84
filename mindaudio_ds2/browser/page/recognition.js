// From sound to words with times: whole recordings, and speech that goes on, by way of segments.
// As mindaudio_ds2/transcribe.py and streaming/segments.py do it.

import { decode, partWords } from "./greedy.js";
import { concatenate, mean, variance } from "./numbers.js";
import { placeWords } from "./placing.js";
import { EnergyDetector, FUTURE_CHUNKS, QUIETEST_DBFS, Segmenter } from "./segmenter.js";

const LARGEST_OFFSET = 0.015, SILENCE = 10 ** (-60 / 20), LEAST_SPAN = 10 ** (QUIETEST_DBFS / 20);
const BLOCK_SECONDS = 30;
const OVERLAP_SECONDS = 2, PADDING_SECONDS = 0.3, SILENCE_SECONDS = 0.8;
const LONGEST_UTTERANCE_SECONDS = 20;

const findMiddle = (word) => (word.start + word.end) / 2;
const move = (words, seconds) => words.map((word) => ({ ...word, start: word.start + seconds, end: word.end + seconds }));

// Whether all samples are the same: digital silence, in which a network may find words.
function holdsNothing(samples) {
  const most = samples.reduce((one, other) => Math.max(one, other), -Infinity);
  return !samples.length || most - samples.reduce((one, other) => Math.min(one, other), Infinity) < LEAST_SPAN;
}

// Words of a segment. network: { about, recognize(samples) -> log probabilities (S, V) }.
async function hear(network, samples) {
  const { about } = network, logProbs = await network.recognize(samples);
  return placeWords(decode(logProbs, about.labels, about.secondsPerFrame), logProbs, samples, about);
}

// The stretches of a recording: one, or where that would be more than the network has learnt from, its segments.
export function cut(samples, { rate, longestSeconds }) {
  const max = Math.max(1, longestSeconds), size = BLOCK_SECONDS * rate;
  if (samples.length / rate <= max) return [{ start: 0, end: samples.length, isSpeech: true, goesOn: false }];
  const limits = { max, silence: SILENCE_SECONDS, padding: PADDING_SECONDS, overlap: OVERLAP_SECONDS };
  const segmenter = new Segmenter(new EnergyDetector(rate, FUTURE_CHUNKS), limits, rate), stretches = [];
  for (let i = 0; i < samples.length; i += size) stretches.push(...segmenter.feed(samples.subarray(i, i + size)));
  return [...stretches, ...segmenter.finish()];
}

// Puts words of segments together, those in an overlap once.
export class Stitcher {
  constructor(rate) {
    this.rate = rate;
    this.words = [];
    this.lastEnd = 0;
  }

  add(stretch, found) {
    const start = stretch.start / this.rate;
    let own = move(found, start);
    if (start < this.lastEnd) {
      const middle = (start + this.lastEnd) / 2;
      this.words = this.words.filter((word) => findMiddle(word) < middle);
      const takenUntil = this.words.length ? this.words[this.words.length - 1].end : middle;
      own = own.filter((word) => findMiddle(word) >= takenUntil);
    }
    this.words.push(...own);
    this.lastEnd = stretch.end / this.rate;
  }
}

// Takes away a constant, in place, and says what is strange about the sound, a line each.
export function prepare(samples) {
  const notes = [], middle = mean(samples);
  if (Math.abs(middle) > LARGEST_OFFSET || (samples.length > 1 && Math.abs(middle) > Math.sqrt(variance(samples)))) {
    for (let i = 0; i < samples.length; i++) samples[i] -= middle;
    notes.push(`A constant of ${middle.toPrecision(3)} was taken away from the sound.`);
  }
  const peak = samples.reduce((most, sample) => Math.max(most, Math.abs(sample)), 0);
  if (peak === 0) notes.push("The sound holds only zeros.");
  else if (peak <= SILENCE) notes.push("The sound is almost silent; speech is a thousand times as loud.");
  return notes;
}

// Words of sound of any length. goOn is told before each segment which share is done; false ends it all with null.
async function hearSegments(network, samples, goOn) {
  const stitcher = new Stitcher(network.about.rate);
  for (const stretch of cut(samples, network.about)) {
    if (!await goOn(stretch.start / samples.length)) return null;
    const own = samples.slice(stretch.start, stretch.end);
    if (stretch.isSpeech && !holdsNothing(own)) stitcher.add(stretch, await hear(network, own));
  }
  return partWords(stitcher.words, 0, stitcher.lastEnd);
}

// Words of a recording, and notes on its sound; null where goOn, as above, ended it.
export async function transcribe(network, samples, goOn) {
  const notes = prepare(samples), words = await hearSegments(network, samples, goOn);
  if (!words) return null;
  if (!words.length) notes.push("No speech was found in the sound.");
  return { words, notes };
}

// Live sound through a network that needs whole utterances: each is recognised when a pause has ended it.
// feed and finish give messages { type: "final", words } and { type: "endpoint" }.
export class SegmentStream {
  constructor(network) {
    const { rate } = network.about;
    this.network = network;
    this.rate = rate;
    const padding = Math.min(PADDING_SECONDS, SILENCE_SECONDS / 3);
    const limits = { max: LONGEST_UTTERANCE_SECONDS, silence: SILENCE_SECONDS, padding, overlap: OVERLAP_SECONDS };
    this.segmenter = new Segmenter(new EnergyDetector(rate, 0), limits, rate);
    this.kept = new Float32Array(0); // what a segment yet to come may hold
    this.keptFrom = 0;
    this.waiting = []; // the last words of a segment that goes on; the next one may know them better
    this.takenUntil = 0;
    this.overlapEnd = 0;
    this.heardUntil = 0;
    this.isOpen = false; // whether the utterance has words
  }

  feed(samples) { return this.take(samples, this.segmenter.feed(samples)); }

  async finish() {
    const messages = await this.take(new Float32Array(0), this.segmenter.finish());
    return [...messages, ...this.settle(this.waiting), ...this.end()];
  }

  async take(samples, stretches) {
    this.kept = concatenate(this.kept, samples);
    const messages = [];
    for (const stretch of stretches) if (stretch.isSpeech) messages.push(...await this.hear(stretch));
    const unneeded = this.segmenter.neededFrom - this.keptFrom;
    if (unneeded > this.kept.length / 2) { // seldom, so that no sample is copied often
      this.kept = this.kept.slice(unneeded);
      this.keptFrom += unneeded;
    }
    return messages;
  }

  async hear(stretch) {
    const start = stretch.start / this.rate, end = stretch.end / this.rate, messages = [];
    const samples = this.kept.slice(stretch.start - this.keptFrom, stretch.end - this.keptFrom);
    let found = move(await hearSegments(this.network, samples, () => true), start);
    this.heardUntil = end;
    if (this.waiting.length || start < this.overlapEnd) { // as Stitcher
      const middle = (start + this.overlapEnd) / 2;
      messages.push(...this.settle(this.waiting.filter((word) => findMiddle(word) < middle)));
      const takenUntil = this.isOpen ? this.takenUntil : middle;
      found = found.filter((word) => findMiddle(word) >= takenUntil);
    }
    this.waiting = [];
    this.overlapEnd = stretch.goesOn ? end : 0;
    if (!stretch.goesOn) return [...messages, ...this.settle(found), ...this.end()];
    const sure = found.filter((word) => findMiddle(word) < end - OVERLAP_SECONDS);
    this.waiting = found.slice(sure.length);
    return [...messages, ...this.settle(sure)];
  }

  settle(words) {
    if (!words.length) return [];
    const parted = partWords(words, this.takenUntil, this.heardUntil);
    this.isOpen = true;
    this.takenUntil = parted[parted.length - 1].end;
    return [{ type: "final", words: parted }];
  }

  end() {
    const wasOpen = this.isOpen;
    this.isOpen = false;
    return wasOpen ? [{ type: "endpoint" }] : [];
  }
}
