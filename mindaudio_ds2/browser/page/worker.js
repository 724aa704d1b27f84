// The worker: recognises beside the page, which stays alive meanwhile.

import { openNetwork } from "./network.js";
import { SegmentStream, transcribe } from "./recognition.js";
import { Resampler } from "./resampler.js";
import { LiveStream } from "./utterances.js";

const cancelled = new Set();
let network = null, stream = null;

const toFloat = (whole) => Float32Array.from(whole, (sample) => sample / 32768);
const answer = (message) => self.postMessage(message);
const turn = () => new Promise((resolve) => { setTimeout(resolve); }); // lets messages in

const actions = {
  async open({ folder }) {
    network = await openNetwork(folder, (share) => answer({ type: "loading", share }));
    answer({ type: "open", name: network.about.name, rate: network.about.rate });
  },

  async transcribe({ id, samples }) {
    const began = performance.now(), { rate } = network.about;
    const found = await transcribe(network, toFloat(samples), async (share) => {
      answer({ type: "progress", id, share });
      await turn();
      return !cancelled.has(id);
    });
    if (!found) return;
    const seconds = (performance.now() - began) / 1000;
    answer({ type: "transcribed", id, ...found, seconds, duration: samples.length / rate });
  },

  async start({ id, rate }) {
    const wanted = network.about.rate;
    stream = {
      words: network.isIncremental ? new LiveStream(network) : new SegmentStream(network),
      resampler: rate === wanted ? null : new Resampler(rate, wanted),
      seconds: 0,
    };
    answer({ type: "ready", id, is_incremental: network.isIncremental });
  },

  async feed({ id, samples }) {
    if (!stream || cancelled.has(id)) return;
    const began = performance.now(), sound = toFloat(samples);
    const messages = await stream.words.feed(stream.resampler ? stream.resampler.feed(sound) : sound);
    stream.seconds += (performance.now() - began) / 1000;
    messages.forEach((each) => answer({ ...each, id }));
    answer({ type: "heard", id, numBytes: samples.byteLength });
  },

  async finish({ id }) {
    if (!stream || cancelled.has(id)) return;
    const began = performance.now(), messages = [];
    if (stream.resampler) messages.push(...await stream.words.feed(stream.resampler.finish()));
    messages.push(...await stream.words.finish());
    messages.forEach((each) => answer({ ...each, id }));
    answer({ type: "done", id, seconds: stream.seconds + (performance.now() - began) / 1000 });
    stream = null;
  },
};

// One after the other; a cancellation, which overtakes them, is no action.
let queue = Promise.resolve();
self.onmessage = ({ data }) => {
  if (data.type === "cancel") {
    cancelled.add(data.id);
    return;
  }
  queue = queue.then(() => actions[data.type](data)).catch((error) => {
    answer({ type: "error", id: data.id, message: explain(error) });
  });
};

function explain(error) {
  const text = String(error?.message || error);
  if (/memory|allocat/i.test(text)) return "The browser has not enough memory for this; close other tabs or take a shorter recording.";
  return text;
}
