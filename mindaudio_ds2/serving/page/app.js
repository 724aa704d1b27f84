// The page: what is pressed, and what happens then.

import { Picture } from "./picture.js";
import { describe, makeSubtitles, openStream, sendFile, TOO_SLOW } from "./engine.js";
import { decodeFile, openMicrophone, Player, Recording, toInt16 } from "./sound.js";
import { Transcript } from "./words.js";

const find = (id) => document.getElementById(id);
const read = (id) => find(id)?.value || ""; // a page without a server has neither hotwords nor token
const MOST_WAITING_SECONDS = 20, LEAST_TRANSCRIPT_PIXELS = 110; // three lines
const state = {
  rate: 16000, recording: null, name: "speech", stopping: null, cancel: null, abandon: null, duration: 0, notes: [],
  session: 0, // grows with every recording: what still comes for one before is not shown
};

const picture = new Picture(find("wave"), find("spectrogram"));
const transcript = new Transcript(find("transcript"), find("live"), (word) => play(word.start, word.end));
const player = new Player(showTime, (seconds) => { showTime(seconds); transcript.mark(null); showPlaying(false); });

// Status and theme -----------------------------------------------------------------------------------------------

function say(text, isBad = false) {
  find("status").textContent = text;
  find("status").classList.toggle("bad", isBad);
}

function complain(error) {
  if (error.code === "invalid_api_key") {
    find("token").closest("details").open = true;
    find("token").focus();
  }
  say(error.message, error.code !== "cancelled");
}

const themes = ["auto", "light", "dark"];
const darkness = matchMedia("(prefers-color-scheme: dark)");

function setTheme(theme) {
  const shown = theme === "auto" ? (darkness.matches ? "dark" : "light") : theme;
  document.documentElement.dataset.theme = shown;
  find("theme").textContent = `Theme: ${theme}`;
  localStorage.setItem("theme", theme);
  picture.setTheme(shown);
  drawAnew();
}

function drawAnew() {
  if (state.stopping) picture.clear(); // what comes is drawn with what came before it
  else if (state.recording) picture.show(state.recording);
}

find("theme").addEventListener("click", () => {
  setTheme(themes[(themes.indexOf(localStorage.getItem("theme")) + 1) % themes.length]);
});
darkness.addEventListener("change", () => setTheme(localStorage.getItem("theme")));
if (find("token")) {
  find("token").value = sessionStorage.getItem("token") || "";
  find("token").addEventListener("change", () => sessionStorage.setItem("token", read("token")));
}

// A recording and its words --------------------------------------------------------------------------------------

function begin(name) {
  const session = ++state.session;
  state.abandon?.();
  state.cancel?.();
  player.stop();
  transcript.clear();
  Object.assign(state, { recording: null, name, cancel: null, abandon: null, duration: 0, notes: [] });
  find("notes").replaceChildren();
  find("sound").hidden = true;
  setReady(false);
  return session;
}

function setReady(isReady) {
  document.querySelectorAll("#downloads button").forEach((button) => { button.disabled = !isReady; });
  const canPlay = isReady && state.recording !== null;
  find("play").disabled = find("position").disabled = !canPlay;
  if (canPlay) {
    find("position").max = state.recording.seconds;
    showTime(0);
  }
}

function showTime(seconds) {
  if (!state.recording) return;
  find("playhead").hidden = false;
  find("playhead").style.left = `${(100 * seconds) / Math.max(state.recording.seconds, 0.01)}%`;
  find("position").value = seconds;
  const clock = (s) => `${Math.floor(s / 60)}:${String(Math.floor(s % 60)).padStart(2, "0")}`;
  find("clock").textContent = `${clock(seconds)} / ${clock(state.recording.seconds)}`;
  transcript.mark(seconds);
}

function showPlaying(isPlaying) {
  find("play").textContent = isPlaying ? "Stop" : "Play";
}

function play(from, to) {
  if (!state.recording || state.stopping) return;
  showPlaying(true);
  player.play(state.recording, from, to);
}

find("play").addEventListener("click", () => {
  if (player.source) {
    player.stop();
    transcript.mark(null);
    showPlaying(false);
    return;
  }
  const position = Number(find("position").value);
  const end = state.recording.seconds;
  play(position < end - 0.05 ? position : 0, end);
});

find("position").addEventListener("input", () => {
  const wasPlaying = player.source !== null;
  player.stop();
  showTime(Number(find("position").value));
  if (wasPlaying) play(Number(find("position").value), state.recording.seconds);
});

find("stage").addEventListener("click", (event) => {
  if (!state.recording || state.stopping) return;
  const box = find("stage").getBoundingClientRect();
  play(((event.clientX - box.left) / box.width) * state.recording.seconds, state.recording.seconds);
});

window.addEventListener("resize", () => {
  drawAnew();
  if (state.stopping) fitTranscript(true);
});

// Files ----------------------------------------------------------------------------------------------------------

async function transcribe(file) {
  if (find("choose").disabled && !state.stopping) return; // not ready
  const session = begin(file.name.replace(/\.[^.]*$/, "") || "speech");
  const isOver = () => session !== state.session;
  setBusy(true);
  find("progress").hidden = false;
  const decoding = decodeFile(file, state.rate);
  const asked = { hotwords: read("hotwords"), token: read("token"), decoding };
  const sent = sendFile(file, asked, (share, text) => {
    if (isOver()) return;
    find("progress").value = share;
    say(text);
  });
  state.cancel = sent.cancel;
  decoding.then((recording) => {
    if (recording && state.cancel === sent.cancel) showRecording(recording);
  });
  try {
    const answer = await sent.answer;
    const recording = await decoding;
    if (isOver()) return;
    state.duration = answer.duration;
    state.notes = answer.notes || [];
    showSegments(answer);
    const heard = describeResult(answer.words.length, answer.duration, answer.speed);
    say(recording ? heard : `${heard} This browser cannot play the file.`);
    setReady(true);
  } catch (error) {
    if (!isOver()) complain(error);
  } finally {
    if (!isOver()) {
      state.cancel = null;
      setBusy(false);
      find("progress").hidden = true;
    }
  }
}

function describeResult(numWords, seconds, speed = "") {
  return `${numWords} ${numWords === 1 ? "word" : "words"} in ${seconds.toFixed(1)} s of sound. ${speed}`.trim();
}

function showRecording(recording) {
  state.recording = recording;
  find("sound").hidden = false;
  picture.show(recording);
}

function showSegments(answer) {
  let place = 0;
  for (const segment of answer.segments) {
    const words = [];
    while (place < answer.words.length && answer.words[place].start <= segment.end) {
      const { word, start, end, confidence } = answer.words[place++];
      words.push({ text: word, start, end, confidence });
    }
    transcript.add(words);
    transcript.end();
  }
  transcript.live.textContent = answer.text;
  find("transcript").scrollTop = 0;
  find("notes").replaceChildren(...state.notes.map((note) => {
    const item = document.createElement("li");
    item.textContent = note;
    return item;
  }));
}

function setBusy(isBusy) {
  find("cancel").hidden = !isBusy;
  find("mic").disabled = isBusy;
}

find("cancel").addEventListener("click", () => state.cancel?.());
find("choose").addEventListener("click", () => find("file").click());
find("file").addEventListener("change", () => {
  const [file] = find("file").files;
  if (file) transcribe(file);
  find("file").value = "";
});
for (const kind of ["dragenter", "dragover"]) {
  document.addEventListener(kind, (event) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    find("input").classList.add("over");
  });
}
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) find("input").classList.remove("over");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  find("input").classList.remove("over");
  const [file] = event.dataTransfer?.files || [];
  if (file) transcribe(file);
});

// The microphone -------------------------------------------------------------------------------------------------

async function listen() {
  const session = begin("microphone");
  const isOver = () => session !== state.session;
  say("Opening the microphone…");
  find("mic").disabled = true;
  let stream = null, recording = null, microphone = null, isEnding = false;
  const early = [];
  const hear = (block) => {
    if (isOver()) return;
    if (!stream) { early.push(block); return; }
    const whole = toInt16(block);
    recording.add(whole);
    if (!isEnding) stream.send(whole.buffer);
    if (stream.waitingBytes > 2 * recording.rate * MOST_WAITING_SECONDS) {
      say(TOO_SLOW, true);
      stream.close();
    }
  };
  try {
    microphone = await openMicrophone(state.rate, hear);
  } catch (error) {
    if (isOver()) return;
    find("mic").disabled = false;
    say(error.name === "NotAllowedError" ? "The browser was not allowed to use the microphone." : error.message, true);
    return;
  }
  if (isOver()) { // a file came while the browser asked
    await microphone.stop();
    return;
  }
  recording = state.recording = new Recording(microphone.rate);
  find("sound").hidden = false;
  find("playhead").hidden = true;
  picture.clear();
  showRecordingState(true);
  const settings = { sample_rate_hz: microphone.rate, encoding: "pcm_s16le" };
  const hotwords = read("hotwords").split("\n").map((line) => line.trim()).filter(Boolean);
  if (hotwords.length) settings.hotwords = hotwords;
  if (read("token")) settings.token = read("token");
  stream = openStream(settings, (message) => { if (!isOver()) showEvent(message); }, (problem, speed) => leave(problem, speed));
  early.splice(0).forEach(hear);
  const draw = () => {
    if (state.stopping !== end) return;
    picture.follow(recording);
    find("clock").textContent = `${recording.seconds.toFixed(0)} s`;
    requestAnimationFrame(draw);
  };
  async function end() {
    if (isEnding) return;
    isEnding = true;
    say("Finishing…");
    await microphone.stop();
    stream.finish();
  }
  async function leave(problem, speed) {
    if (!isEnding) { isEnding = true; await microphone.stop(); }
    if (isOver()) return;
    state.stopping = state.abandon = null;
    state.duration = recording.seconds;
    showRecordingState(false);
    transcript.showPartial("");
    picture.show(recording);
    setReady(true);
    if (problem) complain(problem);
    else say(describeResult(transcript.words.length, recording.seconds, speed));
  }
  function abandon() {
    if (!isEnding) { isEnding = true; microphone.stop(); }
    stream.close();
    state.stopping = null;
    showRecordingState(false);
  }
  Object.assign(state, { stopping: end, abandon });
  draw();
}

function showEvent(message) {
  if (message.type === "ready") {
    say(message.is_incremental ? "Listening." : "Listening. Words appear after each pause.");
  } else if (message.type === "partial") {
    transcript.showPartial(message.text);
  } else if (message.type === "final") {
    transcript.showPartial("");
    transcript.add(message.words.map((w) => ({
      text: w.text, start: w.start_seconds, end: w.end_seconds, confidence: w.confidence,
    })));
  } else if (message.type === "endpoint") {
    transcript.end();
  }
}

function showRecordingState(isOn) {
  find("mic").disabled = false;
  find("mic").setAttribute("aria-pressed", String(isOn));
  find("mic-label").textContent = isOn ? "Stop" : "Speak";
  find("choose").disabled = isOn;
  find("play").hidden = find("position").hidden = isOn;
  fitTranscript(isOn);
}

// While one speaks, the newest words are in sight together with the button that stops.
function fitTranscript(isLive) {
  const element = find("transcript"), top = element.getBoundingClientRect().top + window.scrollY;
  const room = Math.max(LEAST_TRANSCRIPT_PIXELS, window.innerHeight - top - 24);
  element.style.maxHeight = isLive ? `${room}px` : "";
  transcript.scroll();
}

find("mic").addEventListener("click", () => (state.stopping ? state.stopping() : listen()));

// Downloads ------------------------------------------------------------------------------------------------------

const TYPES = { txt: "text/plain", srt: "application/x-subrip", vtt: "text/vtt", json: "application/json" };

async function download(format) {
  const words = transcript.words.map((w) => ({
    text: w.text, start_seconds: w.start, end_seconds: w.end, confidence: w.confidence,
  }));
  let content;
  if (format === "txt") content = `${transcript.text}\n`;
  else if (format === "json") {
    const row = { duration_seconds: state.duration, text: transcript.text, words, notes: state.notes };
    content = `${JSON.stringify(row, null, 2)}\n`;
  } else content = await makeSubtitles(words, format, read("token"));
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([content], { type: TYPES[format] }));
  link.download = `${state.name}.${format}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

for (const button of document.querySelectorAll("#downloads button")) {
  button.addEventListener("click", () => download(button.dataset.format).catch(complain));
}

// Beginning ------------------------------------------------------------------------------------------------------

setTheme(themes.includes(localStorage.getItem("theme")) ? localStorage.getItem("theme") : "auto");
try {
  const about = await describe((share) => {
    find("progress").hidden = false;
    find("progress").value = share;
    say(`Loading the network… ${Math.round(100 * share)} %`);
  });
  state.rate = about.sample_rate_hz;
  find("model").textContent = about.model;
  find("mic").disabled = find("choose").disabled = false;
  say("Ready.");
} catch (error) {
  say(error.message, true);
}
find("progress").hidden = true;
