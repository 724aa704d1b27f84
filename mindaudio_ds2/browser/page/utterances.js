// From log probabilities to messages: decoding that goes on, and where utterances end.
// As mindaudio_ds2/streaming/utterances.py with the greedy decoder.

import { GreedyStream, partWords } from "./greedy.js";

const STEP_FRAMES = 4;
const SILENCE_SECONDS = 0.8, MAX_SECONDS = 20;

// feed and finish give { type: "final", words }, { type: "partial", text } and { type: "endpoint" }.
export class UtteranceStream {
  constructor({ labels, secondsPerFrame }) {
    this.labels = labels;
    this.secondsPerFrame = secondsPerFrame;
    this.isLetter = labels.map((text) => text.trim() !== "");
    this.silenceFrames = SILENCE_SECONDS / secondsPerFrame;
    this.maxFrames = MAX_SECONDS / secondsPerFrame;
    this.numFrames = 0;
    this.isOpen = false; // whether the utterance has words that were final
    this.takenUntil = null; // end of the last of them
    this.shown = ""; // the last partial
    this.begin();
  }

  begin() {
    this.decoder = new GreedyStream(this.labels, this.secondsPerFrame);
    this.offset = this.numFrames * this.secondsPerFrame;
    this.speechStart = null; // frame of the utterance's first letter
    this.numSilent = 0; // frames since the last letter
  }

  feed(logProbs) {
    const messages = [], size = this.labels.length;
    for (let row = 0; row < logProbs.length; row += size) {
      this.hear(logProbs.subarray(row, row + size));
      if (this.numFrames % STEP_FRAMES === 0) messages.push(...this.look());
    }
    return [...messages, ...this.show()];
  }

  finish(duration) { return this.end(duration); }

  hear(frame) {
    this.decoder.feed(frame);
    if (this.isLetter[frame.indexOf(Math.max(...frame))]) {
      this.speechStart ??= this.numFrames;
      this.numSilent = 0;
    } else this.numSilent++;
    this.numFrames++;
  }

  // What became certain, and whether the utterance ends here.
  look() {
    const messages = this.release(this.decoder.take());
    if (this.speechStart === null) return messages;
    if (this.numSilent >= this.silenceFrames) return [...messages, ...this.end(Infinity)];
    if (this.numFrames - this.speechStart >= this.maxFrames && this.isOpen) {
      messages.push(this.close());
      this.speechStart = this.numFrames;
    }
    return messages;
  }

  end(limit) {
    const messages = this.release(this.decoder.read(), limit);
    if (this.isOpen) messages.push(this.close());
    else if (this.shown) {
      this.shown = "";
      messages.push({ type: "partial", text: "" });
    }
    this.begin();
    return messages;
  }

  close() {
    this.isOpen = false;
    this.takenUntil = null;
    this.shown = "";
    return { type: "endpoint" };
  }

  release(words, limit = Infinity) {
    if (!words.length) return [];
    this.isOpen = true;
    this.shown = "";
    const moved = words.map((word) => ({ ...word, start: word.start + this.offset, end: word.end + this.offset }));
    const placed = partWords(moved, this.takenUntil ?? this.offset, limit);
    this.takenUntil = placed[placed.length - 1].end;
    return [{ type: "final", words: placed }];
  }

  // What may still change, if it is not what was shown last.
  show() {
    const text = this.decoder.read().map((word) => word.text).join(" ");
    if (text === this.shown) return [];
    this.shown = text;
    return [{ type: "partial", text }];
  }
}

// Live sound through a forward-only network. network: { about, startFeatures(), startStream() }.
export class LiveStream {
  constructor(network) {
    this.rate = network.about.rate;
    this.features = network.startFeatures();
    this.network = network.startStream();
    this.utterances = new UtteranceStream(network.about);
    this.numSamples = 0;
  }

  async feed(samples) {
    this.numSamples += samples.length;
    return this.utterances.feed(await this.network.feed(this.features.feed(samples)));
  }

  async finish() {
    const messages = this.utterances.feed(await this.network.feed(this.features.finish()));
    messages.push(...this.utterances.feed(await this.network.finish()));
    const ended = this.utterances.finish(this.numSamples / this.rate);
    return [...messages.filter((message) => message.type !== "partial"), ...ended];
  }
}
