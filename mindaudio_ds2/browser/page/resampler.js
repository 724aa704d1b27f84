// Another sample rate, for browsers that give the microphone at its own rate only: a windowed sinc, in chunks.

const ZEROS = 24; // crossings of zero to each side

export class Resampler {
  constructor(from, to) {
    this.step = from / to; // input samples for one of output
    this.cutoff = 0.95 * Math.min(1, to / from);
    this.reach = Math.ceil(ZEROS / this.cutoff);
    this.kept = new Float32Array(this.reach); // silence before the first sample
    this.keptFrom = -this.reach;
    this.next = 0; // number of the next sample of output
    this.numFed = 0;
  }

  // What is certain of the output.
  feed(samples) {
    this.numFed += samples.length;
    const all = new Float32Array(this.kept.length + samples.length);
    all.set(this.kept);
    all.set(samples, this.kept.length);
    const output = [];
    for (; this.next * this.step + this.reach < this.keptFrom + all.length; this.next++) {
      output.push(this.interpolate(all, this.next * this.step - this.keptFrom));
    }
    const unneeded = Math.max(0, Math.floor(this.next * this.step) - this.reach - this.keptFrom);
    this.kept = all.slice(unneeded);
    this.keptFrom += unneeded;
    return Float32Array.from(output);
  }

  // The rest: as much as the input lasted.
  finish() {
    const wanted = Math.ceil(this.numFed / this.step) - this.next;
    return this.feed(new Float32Array(2 * this.reach + 2)).subarray(0, Math.max(0, wanted));
  }

  interpolate(samples, place) {
    let sum = 0;
    for (let i = Math.ceil(place - this.reach); i <= place + this.reach; i++) {
      const distance = (place - i) * this.cutoff, angle = Math.PI * distance;
      const sinc = distance === 0 ? 1 : Math.sin(angle) / angle;
      const window = 0.5 + 0.5 * Math.cos((Math.PI * (place - i)) / (this.reach + 1));
      sum += (samples[i] || 0) * sinc * window * this.cutoff;
    }
    return sum;
  }
}
