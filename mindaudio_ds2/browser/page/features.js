// Features of sound that is still going on: the same as those of the whole, for any cut.
// As mindaudio_ds2/audio/feature_stream.py; what does not change with the sound comes with the network (model.json).

import { mean } from "./numbers.js";

export class FeatureStream {
  constructor(plan) {
    this.plan = plan;
    this.size = plan.mean.length; // F
    this.window = Float64Array.from(plan.window);
    this.numBins = Math.floor(plan.fft_size / 2) + 1;
    const turns = Float64Array.from({ length: plan.fft_size }, (_, i) => (2 * Math.PI * i) / plan.fft_size);
    this.cosines = turns.map(Math.cos);
    this.sines = turns.map(Math.sin);
    this.samples = []; // that frames yet to come will see
    this.numSamples = 0;
    this.numFrames = 0;
    this.powers = new Array(plan.loudest_frames - 1).fill(0);
    this.means = new Array(plan.memory_frames).fill(0); // from the first that a waiting frame looks back to
    this.energies = []; // of frames that wait for their level
  }

  // More sound to the frames that can be known by now, each a Float32Array (F,).
  feed(samples) {
    if (!samples.length) return [];
    if (this.numSamples === 0) this.samples = new Array(this.plan.num_before).fill(samples[0]);
    this.numSamples += samples.length;
    for (const sample of samples) this.samples.push(sample);
    const { hop, window, ahead_frames: ahead } = this.plan;
    this.transform(Math.floor((this.samples.length - window.length + hop) / hop));
    return this.release(this.energies.length - ahead);
  }

  // The last frames; the sound ends with the last sample fed.
  finish() {
    if (this.numSamples === 0) return [];
    const last = this.samples[this.samples.length - 1], { hop, window, ahead_frames: ahead } = this.plan;
    for (let i = 0; i < window.length; i++) this.samples.push(last);
    this.transform(1 + Math.floor(this.numSamples / hop) - this.numFrames);
    for (let i = 0; i < ahead; i++) this.means.push(0);
    return this.release(this.energies.length);
  }

  transform(numFrames) {
    const { hop, window, level_bands: levelBands, loudest_frames: loudest } = this.plan;
    for (let i = 0; i < numFrames; i++) {
      const energies = this.measure(this.samples.slice(i * hop, i * hop + window.length));
      this.energies.push(energies);
      this.powers.push(mean(levelBands.map((band) => energies[band])));
      this.means.push(mean(this.powers.slice(-loudest)));
      this.powers.splice(0, this.powers.length - loudest + 1);
    }
    if (numFrames > 0) {
      this.samples.splice(0, numFrames * hop);
      this.numFrames += numFrames;
    }
  }

  // Energies of the bands of one frame, without its mean.
  measure(frame) {
    const middle = mean(frame), size = this.plan.fft_size, squares = new Float64Array(this.numBins);
    for (let i = 0; i < frame.length; i++) frame[i] = (frame[i] - middle) * this.window[i];
    for (let bin = 0; bin < this.numBins; bin++) {
      let real = 0, imaginary = 0, angle = 0;
      for (let i = 0; i < frame.length; i++) {
        real += frame[i] * this.cosines[angle];
        imaginary += frame[i] * this.sines[angle];
        angle += bin;
        if (angle >= size) angle -= size;
      }
      squares[bin] = real * real + imaginary * imaginary;
    }
    if (!this.plan.filters) return Float32Array.from(squares);
    return Float32Array.from(this.plan.filters, ({ first, weights }) => (
      weights.reduce((sum, weight, i) => sum + weight * squares[first + i], 0)
    ));
  }

  // Gives away so many frames, whose levels are known.
  release(numFrames) {
    const { memory_frames: before, ahead_frames: ahead, least_level: least, floor, deviation } = this.plan, frames = [];
    for (let i = 0; i < numFrames; i++) {
      let level = least;
      for (let j = i; j <= i + before + ahead; j++) if (this.means[j] > level) level = this.means[j];
      frames.push(this.energies[i].map((energy, band) => (
        (Math.log(energy / level + floor) - this.plan.mean[band]) / deviation[band]
      )));
    }
    if (numFrames > 0) {
      this.energies.splice(0, numFrames);
      this.means.splice(0, numFrames);
    }
    return frames;
  }
}
