// What recognises: here, a worker of this page. The server's page has a module of the same face.

import { asSrt, asVtt, splitAtPauses } from "./subtitles.js";

export class EngineError extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

export const TOO_SLOW = "This machine is too slow for live speech; record a file and open that.";

const folder = new URL("./", document.baseURI).href;
const listeners = new Set();
let worker = null, lastId = 0;

// Started from a blob, the worker has this page's content security policy; from its own address it would have none.
function startWorker() {
  const script = `import ${JSON.stringify(new URL("page/worker.js", folder).href)};`;
  const address = URL.createObjectURL(new Blob([script], { type: "text/javascript" }));
  worker = new Worker(address, { type: "module" });
  worker.onmessage = ({ data }) => [...listeners].forEach((listener) => listener(data));
  worker.onerror = (event) => {
    event.preventDefault();
    const message = "The recogniser could not be started: this browser is too old, or files of the folder are missing.";
    [...listeners].forEach((listener) => listener({ type: "error", message }));
  };
}

const describeSpeed = (seconds, duration) => (
  `Recognised in ${seconds.toFixed(2)} s, ${(seconds / Math.max(duration, 0.01)).toFixed(3)} × real time.`
);

// Opens the network. onProgress gets shares from 0 to 1.
export function describe(onProgress) {
  startWorker();
  return new Promise((resolve, reject) => {
    const listener = (message) => {
      if (message.type === "loading") { onProgress(message.share); return; }
      listeners.delete(listener);
      if (message.type === "open") {
        resolve({ model: message.name, sample_rate_hz: message.rate });
      } else reject(new EngineError("", message.message));
    };
    listeners.add(listener);
    worker.postMessage({ type: "open", folder });
  });
}

// Recognises a file that is being decoded. onProgress gets shares from 0 to 1 and a text. Returns { answer, cancel() }.
export function sendFile(file, { decoding }, onProgress) {
  const id = ++lastId;
  let cancel = null;
  const answer = new Promise((resolve, reject) => {
    const listener = (message) => {
      if (message.id !== id) return;
      if (message.type === "progress") onProgress(message.share, "Recognising…");
      else if (message.type === "transcribed") stop(resolve, makeAnswer(message));
      else stop(reject, new EngineError("", message.message));
    };
    const stop = (settle, value) => { listeners.delete(listener); settle(value); };
    cancel = () => {
      worker.postMessage({ type: "cancel", id });
      stop(reject, new EngineError("cancelled", "Cancelled."));
    };
    listeners.add(listener);
    onProgress(0, `Reading ${file.name}…`);
    decoding.then((recording) => {
      if (!listeners.has(listener)) return;
      if (!recording) {
        const remedy = "convert it to WAV, FLAC or MP3";
        stop(reject, new EngineError("", `This browser cannot read ${file.name}; ${remedy}.`));
      } else if (!recording.length) {
        stop(reject, new EngineError("", `${file.name} holds no sound.`));
      } else {
        onProgress(0, "Recognising…");
        worker.postMessage({ type: "transcribe", id, samples: recording.samples.slice(0, recording.length) });
      }
    });
  });
  return { answer, cancel };
}

function makeAnswer({ words, notes, seconds, duration }) {
  const own = words.map(({ text, start, end, confidence }) => ({ word: text, start, end, confidence }));
  return {
    text: words.map((word) => word.text).join(" "), words: own, segments: splitAtPauses(words), notes, duration,
    speed: describeSpeed(seconds, duration),
  };
}

// Opens a live stream. onMessage gets every message; onClose an error, or null at a good end.
export function openStream(settings, onMessage, onClose) {
  const id = ++lastId;
  let waitingBytes = 0, numSamples = 0;
  const listener = (message) => {
    if (message.id !== id && message.id !== undefined) return; // without one, the worker itself failed
    if (message.type === "heard") waitingBytes -= message.numBytes;
    else if (message.type === "error") close(new EngineError("", message.message));
    else if (message.type === "done") close(null, describeSpeed(message.seconds, numSamples / settings.sample_rate_hz));
    else onMessage(message.type === "final" ? { ...message, words: message.words.map(toServerWord) } : message);
  };
  const close = (problem, speed = "") => {
    if (listeners.delete(listener)) onClose(problem, speed);
  };
  listeners.add(listener);
  worker.postMessage({ type: "start", id, rate: settings.sample_rate_hz });
  return {
    send(buffer) {
      const samples = new Int16Array(buffer);
      waitingBytes += samples.byteLength;
      numSamples += samples.length;
      worker.postMessage({ type: "feed", id, samples });
    },
    finish: () => worker.postMessage({ type: "finish", id }),
    get waitingBytes() { return waitingBytes; },
    close() {
      worker.postMessage({ type: "cancel", id });
      close(new EngineError("", TOO_SLOW));
    },
  };
}

const toServerWord = ({ text, start, end, confidence }) => (
  { text, start_seconds: start, end_seconds: end, confidence }
);

// Words as subtitles: "srt" or "vtt".
export async function makeSubtitles(words, format) {
  const own = words.map((word) => ({ text: word.text, start: word.start_seconds, end: word.end_seconds }));
  return format === "srt" ? asSrt(own) : asVtt(own);
}
