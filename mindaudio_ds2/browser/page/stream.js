// A forward-only network, chunk by chunk: the same log probabilities as from the whole, for any cut.
// As mindaudio_ds2/portable/stream.py.

const UNKNOWN_NUM_FRAMES = 2 ** 40;

// One utterance. compute(name of each input -> { type, data, dims }) gives the same of each output.
export class NetworkStream {
  constructor(compute, plan) {
    this.compute = compute;
    this.plan = plan;
    this.states = {};
    for (const [name, dims] of Object.entries(plan.states)) {
      const size = dims.reduce((product, dim) => product * dim, 1);
      this.states[name] = { type: "float32", data: new Float32Array(size), dims };
    }
    const contexts = Object.entries(plan.states).filter(([name]) => name.startsWith("context_"));
    const frames = contexts.reduce((sum, [, dims]) => sum + dims[dims.length - 1], 0);
    this.delay = (frames + 1) * plan.time_stride; // frames after which the first output is sure to be known
    this.waiting = [];
    this.numFed = 0;
  }

  // Features, each (F,), to the log probabilities (S, V) that can be known by now.
  async feed(frames) {
    for (const frame of frames) this.waiting.push(frame);
    const ready = this.waiting.length - (this.waiting.length % this.plan.time_stride);
    if (ready === 0 || (this.numFed === 0 && ready <= this.delay)) return new Float32Array(0);
    return this.run(this.waiting.splice(0, ready), ready, UNKNOWN_NUM_FRAMES);
  }

  // The last log probabilities; the utterance ends with the last frame fed.
  async finish() {
    const numFrames = this.numFed + this.waiting.length, stride = this.plan.time_stride;
    if (numFrames === 0) return new Float32Array(0);
    const least = this.waiting.length + this.delay + stride;
    return this.run(this.waiting.splice(0), Math.ceil(least / stride) * stride, numFrames);
  }

  async run(frames, size, numFrames) {
    const width = this.plan.features.mean.length, data = new Float32Array(size * width);
    frames.forEach((frame, i) => data.set(frame, i * width));
    const whole = (value) => ({ type: "int64", data: BigInt64Array.of(BigInt(value)), dims: [1] });
    const found = await this.compute({
      features: { type: "float32", data, dims: [1, size, width] },
      first_frame: whole(this.numFed),
      num_frames: whole(numFrames),
      ...this.states,
    });
    for (const name of Object.keys(this.states)) this.states[name] = found[`next_${name}`];
    this.numFed += size;
    return found.logprobs.data;
  }
}
