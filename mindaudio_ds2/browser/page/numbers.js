// Arithmetic as Python and NumPy do it, so that what follows from it is the same here and there.

// To the nearest whole number; halves to the even one.
export function round(value) {
  const low = Math.floor(value), rest = value - low;
  if (rest !== 0.5) return Math.round(value);
  return low % 2 === 0 ? low : low + 1;
}

export const clip = (value, low, high) => Math.min(Math.max(value, low), high);

export function mean(values) {
  let sum = 0;
  for (const value of values) sum += value;
  return sum / values.length;
}

export function variance(values) {
  const middle = mean(values);
  let sum = 0;
  for (const value of values) sum += (value - middle) * (value - middle);
  return sum / values.length;
}

// Linear between neighbours; share from 0 to 1.
export function quantile(values, share) {
  const sorted = Float64Array.from(values).sort(), place = share * (sorted.length - 1), low = Math.floor(place);
  return sorted[low] + (place - low) * (sorted[Math.min(low + 1, sorted.length - 1)] - sorted[low]);
}

// Where values are true: [first, behind the last] of each run.
export function findRuns(values) {
  const runs = [];
  for (let i = 0; i < values.length; i++) {
    if (values[i] && !values[i - 1]) runs.push([i, i + 1]);
    else if (values[i]) runs[runs.length - 1][1] = i + 1;
  }
  return runs;
}

export function concatenate(one, other) {
  const joined = new Float32Array(one.length + other.length);
  joined.set(one);
  joined.set(other, one.length);
  return joined;
}
