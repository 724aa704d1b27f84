// Waveform and spectrogram: the last seconds while sound comes, all of it afterwards.

const SIZE = 512; // of the Fourier transform
const LIVE_SECONDS = 12;
const QUIETEST = -85, LOUDEST = -15; // dB
const STOPS = {
  light: [[246, 247, 249], [160, 190, 235], [36, 86, 196], [20, 25, 70]],
  dark: [[17, 21, 27], [40, 60, 120], [110, 150, 250], [240, 245, 255]],
};

const cosines = new Float32Array(SIZE / 2), sines = new Float32Array(SIZE / 2), windowed = new Float32Array(SIZE);
for (let i = 0; i < SIZE / 2; i++) {
  cosines[i] = Math.cos((2 * Math.PI * i) / SIZE);
  sines[i] = Math.sin((2 * Math.PI * i) / SIZE);
}
for (let i = 0; i < SIZE; i++) windowed[i] = 0.5 - 0.5 * Math.cos((2 * Math.PI * i) / SIZE);
const real = new Float32Array(SIZE), imaginary = new Float32Array(SIZE);

// Levels (dB) of SIZE / 2 frequencies of the 16-bit samples around a place.
function transform(recording, place, levels) {
  let bits = Math.log2(SIZE);
  for (let i = 0; i < SIZE; i++) {
    const at = place - SIZE / 2 + i;
    const sample = at >= 0 && at < recording.length ? recording.samples[at] / 32768 : 0;
    let reversed = 0;
    for (let b = 0; b < bits; b++) if (i & (1 << b)) reversed |= 1 << (bits - 1 - b);
    real[reversed] = sample * windowed[i];
    imaginary[reversed] = 0;
  }
  for (let span = 1; span < SIZE; span *= 2) {
    const step = SIZE / (2 * span);
    for (let start = 0; start < SIZE; start += 2 * span) {
      for (let i = 0; i < span; i++) {
        const a = start + i, b = a + span, c = cosines[i * step], s = sines[i * step];
        const re = real[b] * c + imaginary[b] * s, im = imaginary[b] * c - real[b] * s;
        real[b] = real[a] - re; imaginary[b] = imaginary[a] - im;
        real[a] += re; imaginary[a] += im;
      }
    }
  }
  for (let i = 0; i < SIZE / 2; i++) {
    const power = (real[i] * real[i] + imaginary[i] * imaginary[i]) / (SIZE * SIZE / 16);
    levels[i] = 10 * Math.log10(power + 1e-12);
  }
}

function makePalette(theme) {
  const stops = STOPS[theme], palette = new Uint8ClampedArray(256 * 3);
  for (let i = 0; i < 256; i++) {
    const place = (i / 255) * (stops.length - 1), low = Math.min(stops.length - 2, Math.floor(place)), share = place - low;
    for (let c = 0; c < 3; c++) palette[3 * i + c] = stops[low][c] * (1 - share) + stops[low + 1][c] * share;
  }
  return palette;
}

// Height of a sample from 0 to 1: quiet speech is to be seen, too.
const enlarge = (sample) => (sample / 32768) ** 0.6;

export class Picture {
  constructor(wave, spectrogram) {
    this.wave = wave;
    this.spectrogram = spectrogram;
    this.levels = new Float32Array(SIZE / 2);
    this.setTheme("light");
    this.clear();
  }

  setTheme(theme) {
    this.palette = makePalette(theme);
    this.colour = getComputedStyle(document.documentElement).getPropertyValue("--wave");
  }

  clear() {
    this.drawn = 0; // columns of the live picture that are there
    const ratio = Math.min(2, window.devicePixelRatio || 1);
    for (const canvas of [this.wave, this.spectrogram]) {
      canvas.width = Math.max(1, Math.round(canvas.clientWidth * ratio));
      canvas.height = Math.max(1, Math.round(canvas.clientHeight * ratio));
    }
  }

  // The last LIVE_SECONDS, moving to the left; draws what is new only.
  follow(recording) {
    const width = this.wave.width, each = (LIVE_SECONDS * recording.rate) / width;
    const ready = Math.floor(Math.max(0, recording.length - SIZE / 2) / each), count = ready - this.drawn;
    if (count <= 0) return;
    const shown = Math.min(count, width);
    const moved = Math.max(0, ready - width) - Math.max(0, this.drawn - width);
    for (const canvas of [this.wave, this.spectrogram]) {
      const context = canvas.getContext("2d");
      if (moved > 0 && moved < width) {
        context.globalCompositeOperation = "copy";
        context.drawImage(canvas, -moved, 0);
        context.globalCompositeOperation = "source-over";
      }
    }
    const first = ready - shown;
    for (let i = first; i < ready; i++) {
      this.column(recording, i - Math.max(0, ready - width), i * each, (i + 1) * each);
    }
    this.drawn = ready;
  }

  // All of it.
  show(recording) {
    this.clear();
    const width = this.wave.width, each = recording.length / width;
    for (let x = 0; x < width; x++) this.column(recording, x, x * each, (x + 1) * each);
  }

  column(recording, x, from, to) {
    const start = Math.floor(from), end = Math.max(start + 1, Math.min(recording.length, Math.floor(to)));
    const step = Math.max(1, Math.floor((end - start) / 400));
    let low = 0, high = 0;
    for (let i = start; i < end; i += step) {
      const sample = recording.samples[i];
      if (sample < low) low = sample;
      if (sample > high) high = sample;
    }
    const wave = this.wave.getContext("2d"), middle = this.wave.height / 2;
    wave.clearRect(x, 0, 1, this.wave.height);
    wave.fillStyle = this.colour;
    const top = middle - enlarge(high) * middle;
    wave.fillRect(x, top, 1, Math.max(1, middle + enlarge(-low) * middle - top));
    transform(recording, Math.floor((start + end) / 2), this.levels);
    const height = this.spectrogram.height, context = this.spectrogram.getContext("2d");
    const column = context.createImageData(1, height);
    for (let y = 0; y < height; y++) {
      const level = this.levels[Math.floor(((height - 1 - y) / height) * (SIZE / 2))];
      const colour = Math.max(0, Math.min(255, Math.round(((level - QUIETEST) / (LOUDEST - QUIETEST)) * 255)));
      column.data.set(this.palette.subarray(3 * colour, 3 * colour + 3), 4 * y);
      column.data[4 * y + 3] = 255;
    }
    context.putImageData(column, x, 0);
  }
}
