// What recognises: here, the server. The page without a server has a module of the same face.

export const TOO_SLOW = "The connection is too slow for live speech; record a file and send that.";

export class ServerError extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

function readError(status, text) {
  try {
    const { error } = JSON.parse(text);
    return new ServerError(status, error.code, error.message);
  } catch {
    return new ServerError(status, "", status ? `The server answered ${status}.` : "The server cannot be reached.");
  }
}

// Sends a file. onProgress gets shares from 0 to 1 and a text. Returns { answer, cancel() }.
export function sendFile(file, { hotwords, token }, onProgress) {
  const request = new XMLHttpRequest();
  const answer = new Promise((resolve, reject) => {
    request.open("POST", "v1/audio/transcriptions");
    if (token) request.setRequestHeader("Authorization", `Bearer ${token}`);
    const sending = `Sending ${file.name}…`;
    onProgress(0, sending);
    request.upload.onprogress = (event) => onProgress(event.lengthComputable ? event.loaded / event.total : 0, sending);
    request.upload.onload = () => onProgress(1, "Recognising…");
    request.onload = () => {
      if (request.status === 200) resolve(JSON.parse(request.responseText));
      else reject(readError(request.status, request.responseText));
    };
    request.onerror = () => reject(readError(0, ""));
    request.onabort = () => reject(new ServerError(0, "cancelled", "Cancelled."));
    const form = new FormData();
    form.append("response_format", "verbose_json");
    form.append("timestamp_granularities[]", "word");
    form.append("timestamp_granularities[]", "segment");
    if (hotwords.trim()) form.append("hotwords", hotwords);
    form.append("file", file);
    request.send(form);
  });
  return { answer, cancel: () => request.abort() };
}

// Opens a live stream. onMessage gets every message; onClose an error, or null at a good end.
export function openStream(settings, onMessage, onClose) {
  const address = new URL("v1/stream", document.baseURI);
  address.protocol = address.protocol.replace("http", "ws");
  const socket = new WebSocket(address);
  socket.binaryType = "arraybuffer";
  let isReady = false, isDone = false, problem = null;
  const waiting = [];
  socket.onopen = () => socket.send(JSON.stringify({ type: "start", ...settings }));
  socket.onmessage = (event) => {
    const message = JSON.parse(event.data);
    if (message.type === "error") problem = new ServerError(0, message.code, message.message);
    if (message.type === "done") isDone = true;
    if (message.type === "ready") {
      isReady = true;
      waiting.splice(0).forEach((each) => socket.send(each));
    }
    onMessage(message);
  };
  socket.onclose = () => onClose(problem || (isDone ? null : readError(0, "")));
  const send = (what) => (isReady ? socket.send(what) : waiting.push(what));
  return {
    send,
    finish: () => send(JSON.stringify({ type: "finish" })),
    get waitingBytes() { return socket.bufferedAmount; },
    close: () => socket.close(),
  };
}

export async function describe() {
  const response = await fetch("health").catch(() => { throw readError(0, ""); });
  return response.json();
}

// Words as subtitles: "srt" or "vtt".
export async function makeSubtitles(words, format, token) {
  const headers = { "Content-Type": "application/json", ...(token ? { Authorization: `Bearer ${token}` } : {}) };
  const response = await fetch("v1/subtitles", { method: "POST", headers, body: JSON.stringify({ format, words }) });
  const text = await response.text();
  if (!response.ok) throw readError(response.status, text);
  return text;
}
