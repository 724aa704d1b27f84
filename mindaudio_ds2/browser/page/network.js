// The network, through ONNX Runtime: one thread with SIMD, which any host of files allows.

import * as ort from "../runtime/ort.js";
import { FeatureStream } from "./features.js";
import { NetworkStream } from "./stream.js";

const CHUNK_FRAMES = 1024; // of a recording that is there as a whole

// Opens the network of a folder. onProgress gets shares of what is loaded.
export async function openNetwork(folder, onProgress) {
  ort.env.wasm.numThreads = 1; // more would need headers that make the page cross-origin isolated
  ort.env.wasm.wasmPaths = {
    mjs: new URL("runtime/ort-wasm.js", folder).href, wasm: new URL("runtime/ort-wasm.wasm", folder).href,
  };
  const about = await readAbout(folder);
  const content = await load(new URL("model.onnx", folder), about.num_bytes, onProgress);
  const session = await ort.InferenceSession.create(content, { executionProviders: ["wasm"], logSeverityLevel: 4 });
  const found = {
    name: about.name,
    rate: about.sample_rate_hz,
    labels: about.labels,
    secondsPerFrame: about.seconds_per_output_frame,
    longestSeconds: about.longest_seconds,
  };
  return about.stream ? new StreamNetwork(session, found, about.stream) : new Network(session, found);
}

async function readAbout(folder) {
  const response = await fetch(new URL("model.json", folder), { cache: "no-cache" });
  if (!response.ok) throw new Error(`model.json is not there (${response.status}); put the whole folder on the server.`);
  return response.json();
}

async function load(address, numBytes, onProgress) {
  const response = await fetch(address), name = address.pathname.split("/").pop();
  if (!response.ok) throw new Error(`${name} is not there (${response.status}); put the whole folder on the server.`);
  const content = new Uint8Array(numBytes), reader = response.body.getReader();
  let filled = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    if (filled + value.length > numBytes) throw new Error(`${name} is longer than it should be; copy the folder again.`);
    content.set(value, filled);
    filled += value.length;
    onProgress(filled / numBytes);
  }
  if (filled < numBytes) throw new Error(`${name} is not whole (${filled} of ${numBytes} bytes); copy the folder again.`);
  return content;
}

// For whole utterances.
class Network {
  isIncremental = false;

  constructor(session, about) {
    this.session = session;
    this.about = about;
  }

  // Log probabilities (S, V) of a waveform.
  async recognize(samples) {
    const length = BigInt64Array.of(BigInt(samples.length));
    const found = await this.session.run({
      waveforms: new ort.Tensor("float32", samples, [1, samples.length]),
      waveforms_lens: new ort.Tensor("int64", length, [1]),
    });
    const numFrames = Number(found.logprobs_lens.data[0]), size = this.about.labels.length;
    return found.logprobs.data.subarray(0, numFrames * size);
  }
}

// For utterances that go on, too.
class StreamNetwork {
  isIncremental = true;

  constructor(session, about, plan) {
    this.session = session;
    this.about = about;
    this.plan = plan;
  }

  startFeatures() { return new FeatureStream(this.plan.features); }

  startStream() { return new NetworkStream((inputs) => this.compute(inputs), this.plan); }

  compute(inputs) {
    const tensors = Object.entries(inputs).map(([name, { type, data, dims }]) => [name, new ort.Tensor(type, data, dims)]);
    return this.session.run(Object.fromEntries(tensors));
  }

  async recognize(samples) {
    const features = this.startFeatures(), stream = this.startStream(), parts = [];
    const frames = [...features.feed(samples), ...features.finish()];
    for (let i = 0; i < frames.length; i += CHUNK_FRAMES) parts.push(await stream.feed(frames.slice(i, i + CHUNK_FRAMES)));
    parts.push(await stream.finish());
    return Float32Array.from(parts.flatMap((part) => [...part]));
  }
}
