// Words in groups: segments between pauses, and subtitles within the field's limits.
// The same files as mindaudio_ds2/decoding/segments.py and transcript_formats.py write.

import { round } from "./numbers.js";

const PAUSE_SECONDS = 1;
const LINE_CHARACTERS = 42, MOST_LINES = 2;
const LONGEST_SECONDS = 7, LEAST_SECONDS = 1, CHARACTERS_A_SECOND = 17;
const GAP_MILLISECONDS = 80;
const WORD_JOINER = "\u2060"; // invisible; keeps players from taking text for a tag

function group(words, joins) {
  const groups = [];
  for (const word of words) {
    const last = groups[groups.length - 1];
    if (last && joins(last, word)) last.push(word);
    else groups.push([word]);
  }
  return groups.map((own) => ({
    text: own.map((word) => word.text).join(" "), start: own[0].start, end: own[own.length - 1].end, words: own,
  }));
}

const follows = (own, word) => word.start - own[own.length - 1].end <= PAUSE_SECONDS;

export const splitAtPauses = (words) => group(words, follows);

// Lines of LINE_CHARACTERS at most, filled one after the other; a longer word is broken.
function wrap(text) {
  const lines = [];
  let line = [];
  for (let word of text.split(" ").map((each) => [...each])) {
    if (line.length && line.length + 1 + word.length > LINE_CHARACTERS) {
      if (word.length > LINE_CHARACTERS && line.length + 1 < LINE_CHARACTERS) {
        const room = LINE_CHARACTERS - line.length - 1;
        lines.push([...line, " ", ...word.slice(0, room)]);
        word = word.slice(room);
      } else lines.push(line);
      line = [];
    }
    for (; word.length > LINE_CHARACTERS; word = word.slice(LINE_CHARACTERS)) lines.push(word.slice(0, LINE_CHARACTERS));
    line = line.length ? [...line, " ", ...word] : word;
  }
  return [...lines, line].map((each) => each.join(""));
}

function fits(own, word) {
  if (!follows(own, word) || word.end - own[0].start > LONGEST_SECONDS) return false;
  return wrap([...own, word].map((each) => each.text).join(" ")).length <= MOST_LINES;
}

// Each stands while its words are said, and longer for the reader where there is room (milliseconds).
function makeCues(words) {
  const segments = group(words, fits), starts = [];
  let least = 0;
  for (const segment of segments) {
    starts.push(Math.max(round(1000 * segment.start), least));
    least = starts[starts.length - 1] + 2;
  }
  return segments.map((segment, i) => {
    const start = starts[i], reading = Math.max(LEAST_SECONDS, [...segment.text].length / CHARACTERS_A_SECOND);
    const shown = Math.min(round(1000 * reading), 1000 * LONGEST_SECONDS);
    let end = Math.max(round(1000 * segment.end), start + shown);
    if (i + 1 < starts.length) {
      const gap = starts[i + 1] - start > 2 * GAP_MILLISECONDS ? GAP_MILLISECONDS : 1;
      end = Math.min(end, starts[i + 1] - gap);
    }
    return { start, end: Math.max(end, start + 1), lines: wrap(segment.text) };
  });
}

function clock(milliseconds, point) {
  const pad = (value, size) => String(value).padStart(size, "0");
  const seconds = Math.floor(milliseconds / 1000);
  const parts = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  return `${parts.map((part) => pad(part, 2)).join(":")}${point}${pad(milliseconds % 1000, 3)}`;
}

export function asSrt(words) {
  return makeCues(words).map((cue, i) => {
    const lines = cue.lines.map((line) => line.replace(/[<{\\]/g, `$&${WORD_JOINER}`));
    return [i + 1, `${clock(cue.start, ",")} --> ${clock(cue.end, ",")}`, ...lines, ""].join("\n");
  }).join("\n");
}

export function asVtt(words) {
  const escape = (line) => line.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  return ["WEBVTT\n", ...makeCues(words).map((cue) => (
    [`${clock(cue.start, ".")} --> ${clock(cue.end, ".")}`, ...cue.lines.map(escape), ""].join("\n")
  ))].join("\n");
}
