// Sound in the browser: the microphone, files, and playing a part of either.

const LEAST_MIX_POWER = 0.01; // share of the channels' power below which their mean has lost them

// Opens the microphone. onBlock gets Float32Arrays. Returns { rate, stop() }.
export async function openMicrophone(wishedRate, onBlock) {
  if (!navigator.mediaDevices) {
    throw new Error("The browser gives the microphone to localhost and to https pages only.");
  }
  const media = await navigator.mediaDevices.getUserMedia({
    audio: { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false },
  });
  let context, source;
  try {
    context = new AudioContext({ sampleRate: wishedRate });
    source = context.createMediaStreamSource(media);
  } catch (error) { // some browsers want the microphone's own rate; the server converts it
    if (context) await context.close();
    context = new AudioContext();
    source = context.createMediaStreamSource(media);
  }
  const node = await makeCapture(context, onBlock);
  source.connect(node);
  if (node instanceof AudioNode && node.numberOfOutputs) node.connect(context.destination); // silent, but keeps it going
  return {
    rate: context.sampleRate,
    async stop() {
      media.getTracks().forEach((track) => track.stop());
      source.disconnect();
      await context.close();
    },
  };
}

async function makeCapture(context, onBlock) {
  if (context.audioWorklet) {
    await context.audioWorklet.addModule("page/worklet.js");
    const node = new AudioWorkletNode(context, "capture", { numberOfOutputs: 1, outputChannelCount: [1] });
    node.port.onmessage = (event) => onBlock(event.data);
    return node;
  }
  const node = context.createScriptProcessor(2048, 1, 1);
  node.onaudioprocess = (event) => onBlock(event.inputBuffer.getChannelData(0).slice());
  return node;
}

export function toInt16(samples) {
  const whole = new Int16Array(samples.length);
  for (let i = 0; i < samples.length; i++) {
    whole[i] = Math.max(-32768, Math.min(32767, Math.round(samples[i] * 32768)));
  }
  return whole;
}

// A recording that grows: 16-bit, as the server hears it.
export class Recording {
  constructor(rate) {
    this.rate = rate;
    this.samples = new Int16Array(rate * 30);
    this.length = 0;
  }

  add(block) {
    if (this.length + block.length > this.samples.length) {
      const larger = new Int16Array(2 * this.samples.length + block.length);
      larger.set(this.samples.subarray(0, this.length));
      this.samples = larger;
    }
    this.samples.set(block, this.length);
    this.length += block.length;
  }

  get seconds() { return this.length / this.rate; }
}

// The loudest of channels that cancel in their mean, alone; else all.
function chooseChannels(channels) {
  const powers = channels.map((samples) => samples.reduce((sum, sample) => sum + sample * sample, 0));
  let mixed = 0;
  for (let i = 0; i < channels[0].length; i++) {
    let sum = 0;
    for (const channel of channels) sum += channel[i];
    mixed += (sum / channels.length) ** 2;
  }
  const total = powers.reduce((sum, power) => sum + power, 0);
  if (mixed >= (LEAST_MIX_POWER * total) / channels.length) return channels;
  return [channels[powers.indexOf(Math.max(...powers))]];
}

// A file as the browser decodes it, one channel; null where it cannot.
export async function decodeFile(file, rate) {
  try {
    const context = new OfflineAudioContext(1, 1, rate);
    const buffer = await context.decodeAudioData(await file.arrayBuffer());
    const recording = new Recording(buffer.sampleRate);
    const all = [...Array(buffer.numberOfChannels).keys()].map((i) => buffer.getChannelData(i));
    const channels = all.length > 1 ? chooseChannels(all) : all;
    const block = new Float32Array(65536);
    for (let start = 0; start < buffer.length; start += block.length) {
      const size = Math.min(block.length, buffer.length - start);
      for (let i = 0; i < size; i++) {
        let sum = 0;
        for (const channel of channels) sum += channel[start + i];
        block[i] = sum / channels.length;
      }
      recording.add(toInt16(block.subarray(0, size)));
    }
    return recording;
  } catch (error) {
    return null;
  }
}

// Plays parts of a recording.
export class Player {
  constructor(onTime, onEnd) {
    this.onTime = onTime;
    this.onEnd = onEnd;
    this.source = null;
  }

  play(recording, from, to) {
    this.stop();
    const start = Math.max(0, Math.floor(from * recording.rate));
    const end = Math.min(recording.length, Math.ceil(to * recording.rate));
    if (end <= start) return;
    this.context ??= new AudioContext();
    this.context.resume();
    const buffer = this.context.createBuffer(1, end - start, recording.rate);
    const channel = buffer.getChannelData(0);
    for (let i = 0; i < channel.length; i++) channel[i] = recording.samples[start + i] / 32768;
    const source = this.context.createBufferSource();
    source.buffer = buffer;
    source.connect(this.context.destination);
    source.onended = () => { if (this.source === source) { this.source = null; this.onEnd(to); } };
    const began = this.context.currentTime;
    source.start();
    this.source = source;
    const tick = () => {
      if (this.source !== source) return;
      this.onTime(Math.min(to, from + this.context.currentTime - began));
      requestAnimationFrame(tick);
    };
    tick();
  }

  stop() {
    if (this.source) {
      const source = this.source;
      this.source = null;
      source.stop();
    }
  }
}
