// Where a recording is cut: in its silences, and where it has none, where it resembles speech least.
// The same stretches as mindaudio_ds2/segmentation (detectors.py, segmenter.py), for any blocks.

import { concatenate, findRuns, round, variance } from "./numbers.js";

const FRAME_SECONDS = 0.02;
export const CHUNK_SECONDS = 1;
const CHUNK_FRAMES = CHUNK_SECONDS / FRAME_SECONDS;
export const QUIETEST_DBFS = -120;
const LEAST_FLOOR_DBFS = -80, LARGEST_RANGE_DB = 50;
const PAST_CHUNKS = 15;
export const FUTURE_CHUNKS = 5;
const ON = 6, OFF = 3; // dB above the background: where speech begins, and ends
const CUT_SECONDS = 0.2;

// The level of every frame (dB of full scale); a short last one is measured with samples before it.
export function measureLevels(samples, size) {
  const levels = [];
  const add = (frame) => levels.push(10 * Math.log10(Math.max(variance(frame), 10 ** (QUIETEST_DBFS / 10))));
  const numWhole = Math.floor(samples.length / size);
  for (let i = 0; i < numWhole; i++) add(samples.subarray(i * size, (i + 1) * size));
  if (samples.length % size) add(samples.subarray(Math.max(0, samples.length - size)));
  return levels;
}

// Frames by how far they stand out of the background. futureChunks 0: for sound that is still going on.
export class EnergyDetector {
  constructor(rate, futureChunks) {
    this.frame = round(FRAME_SECONDS * rate);
    this.futureChunks = futureChunks;
    this.waiting = []; // levels of chunks, until what follows them is known
    this.surroundings = []; // lowest and highest level of each chunk
    this.numJudged = 0;
  }

  feed(chunk) {
    const before = this.waiting[this.waiting.length - 1];
    const isShort = chunk.length < this.frame && before; // a few samples tell no level
    const levels = isShort ? before.slice(-1) : measureLevels(chunk, this.frame);
    this.waiting.push(levels);
    this.surroundings.push([Math.min(...levels), Math.max(...levels)]);
    if (this.surroundings.length > PAST_CHUNKS + 1 + this.futureChunks) this.surroundings.shift();
    return this.waiting.length > this.futureChunks ? this.judge() : [];
  }

  finish() {
    const scores = [];
    while (this.waiting.length) {
      if (this.numJudged > PAST_CHUNKS) this.surroundings.shift();
      scores.push(...this.judge());
    }
    return scores;
  }

  judge() {
    const lowest = Math.min(...this.surroundings.map(([low]) => low));
    const highest = Math.max(...this.surroundings.map(([, high]) => high));
    const floor = Math.max(lowest, highest - LARGEST_RANGE_DB, LEAST_FLOOR_DBFS);
    this.numJudged++;
    return this.waiting.shift().map((level) => level - floor);
  }
}

// Takes blocks of any size and gives stretches { start, end, isSpeech, goesOn } in samples, as early as they are
// certain. limits: { max, silence, padding, overlap } in seconds.
export class Segmenter {
  constructor(detector, limits, rate) {
    this.detector = detector;
    this.frame = detector.frame;
    const framesPerSecond = rate / this.frame;
    this.max = Math.floor(limits.max * framesPerSecond);
    this.silence = round(limits.silence * framesPerSecond);
    this.padding = round(limits.padding * framesPerSecond);
    this.halfOverlap = Math.floor((Math.min(limits.overlap, limits.max / 4) * framesPerSecond) / 2);
    this.half = Math.floor(Math.max(1, round(CUT_SECONDS * framesPerSecond)) / 2);
    this.rest = new Float32Array(0);
    this.numSamples = 0; // taken
    this.numFrames = 0; // judged
    this.scores = []; // of the last frames that were judged: of the open segment
    this.isOn = false;
    this.start = 0; // frame where the open stretch begins
    this.speechEnd = null; // frame behind the open segment's last speech; null in silence
  }

  feed(block) {
    this.numSamples += block.length;
    const samples = concatenate(this.rest, block), size = CHUNK_FRAMES * this.frame, stretches = [];
    let place = 0;
    for (; place + size <= samples.length; place += size) {
      stretches.push(...this.judge(this.detector.feed(samples.subarray(place, place + size))));
    }
    this.rest = samples.slice(place);
    return stretches;
  }

  finish() {
    const stretches = this.rest.length ? this.judge(this.detector.feed(this.rest)) : [];
    stretches.push(...this.judge(this.detector.finish()));
    if (this.speechEnd !== null) stretches.push(this.close());
    if (this.start * this.frame < this.numSamples) stretches.push(this.make(this.start, this.numFrames, false));
    return stretches;
  }

  // The first sample that a segment yet to come may hold.
  get neededFrom() {
    const frame = this.speechEnd !== null ? this.start : Math.max(this.start, this.numFrames - this.padding);
    return Math.min(frame * this.frame, this.numSamples);
  }

  judge(scores) {
    if (!scores.length) return [];
    const first = this.numFrames, stretches = [];
    this.numFrames += scores.length;
    this.scores.push(...scores);
    const isSpeech = scores.map((score) => {
      if (score >= ON) this.isOn = true;
      else if (score < OFF) this.isOn = false;
      return this.isOn;
    });
    for (const [start, end] of findRuns(isSpeech)) {
      stretches.push(...this.closeBefore(first + start), ...this.takeSpeech(first + start, first + end));
    }
    stretches.push(...this.closeBefore(this.numFrames));
    this.scores = this.scores.slice(-Math.max(1, this.speechEnd !== null ? this.numFrames - this.start : 1));
    return stretches;
  }

  closeBefore(frame) {
    return this.speechEnd !== null && frame - this.speechEnd >= this.silence ? [this.close()] : [];
  }

  close() {
    const end = Math.min(this.speechEnd + this.padding, this.start + this.max, this.numFrames);
    const segment = this.make(this.start, end, true);
    this.start = end;
    this.speechEnd = null;
    return segment;
  }

  // Opens a segment at speech, or lengthens it, and cuts off what would be too long.
  takeSpeech(start, end) {
    const stretches = [];
    if (this.speechEnd === null) {
      const begin = Math.max(this.start, start - this.padding);
      if (begin > this.start) stretches.push(this.make(this.start, begin, false));
      this.start = begin;
    }
    this.speechEnd = end;
    while (end - this.start > this.max) {
      const [place, isPause] = this.findCut(), half = isPause ? 0 : this.halfOverlap;
      stretches.push(this.make(this.start, place + half, true, true));
      this.start = place - half;
    }
    return stretches;
  }

  // The frame in a longest segment's later half around which scores are lowest, and whether it is a pause.
  findCut() {
    const first = this.start + Math.floor(this.max / 2), last = this.start + this.max - this.halfOverlap;
    const offset = this.numFrames - this.scores.length, half = this.half, width = 2 * half + 1;
    const scores = this.scores.slice(first - half - offset, last + half + 1 - offset);
    let place = 0, least = Infinity;
    for (let i = 0; i + width <= scores.length; i++) {
      let sum = 0;
      for (let j = i; j < i + width; j++) sum += scores[j];
      if (sum < least - 1e-9) [place, least] = [i, sum];
    }
    return [first + place, scores.slice(place, place + width).every((score) => score < OFF)];
  }

  make(start, end, isSpeech, goesOn = false) {
    return { start: start * this.frame, end: Math.min(end * this.frame, this.numSamples), isSpeech, goesOn };
  }
}
