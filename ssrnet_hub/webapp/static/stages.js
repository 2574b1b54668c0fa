// @ts-check
/** The numbers of the stages, as `ssrnet_hub/inference/stages.py` has them; what they are read from may be anything. */

/**
 * A face as `Face.to_dict()` of Python has it, where null is a number that was not finite.
 *
 * @typedef {{p: (number | null)[], eta: (number | null)[], delta: number | null, width: number | null,
 *   contribution: number | null}} Stage
 * @typedef {{age: number | null, interval: [number, number] | null, doubts: string[] | null, stages: Stage[],
 *   V?: number | null}} Face
 * @typedef {{weights: string, face: Face}} Entry
 *
 * What is read of it: NaN where there is no number. `fixed` is the width of a bin on the fixed grid, `factor` the
 * change of the number of bins (1 + δ), `start` the sum of the stages before; `shown` are rounded such that they add up.
 * @typedef {{p: number, eta: number, share: number, shown: number}} Bin
 * @typedef {{bins: Bin[], delta: number, width: number, fixed: number, factor: number, start: number,
 *   contribution: number, shown: number}} Read
 * @typedef {{weights: string, age: number, interval: [number, number] | null, doubts: unknown[], stages: Read[],
 *   total: number, shown: number, V: number}} Reading
 */

const MOST_STAGES = 8;
const MOST_BINS = 400;
const MOST_YEARS = 1e6;

/** @param {unknown} value */
const number = (value) => (typeof value === 'number' && Math.abs(value) < MOST_YEARS ? value : NaN);

/** @param {unknown} value @param {number} most @returns {any[]} */
export const list = (value, most) => (Array.isArray(value) ? value.slice(0, most) : []);

/** To a tenth, ties to even as in Python. @param {number} value */
const tenth = (value) =>
  (Math.abs((value * 4) % 2) === 1 ? (2 * Math.round(value * 5)) / 10 : Number(value.toFixed(1))) + 0;

/** @param {number} value @param {number} places */
export const digits = (value, places) => (Number.isFinite(value) ? value.toFixed(places) : '?').replace('-', '−');

/** @param {number} value */
export const inTenths = (value) => digits(tenth(value), 1);

/** @param {number} value @param {number} [places] */
export const signed = (value, places = 1) =>
  (value >= 0 ? '+' : '') + (places === 1 ? inTenths(value) : digits(value, places));

/**
 * Parts of a sum to a tenth, such that they add up to the rounded sum; each is off by 0.1 at most.
 *
 * @param {number[]} parts @param {number} start The sum before the first. @param {number} end The sum after the last.
 */
function roundedParts(parts, start, end) {
  let total = start;
  return parts.map((part, i) => {
    const before = tenth(total);
    total = i === parts.length - 1 ? end : total + part;
    return tenth(tenth(total) - before);
  });
}

/** @param {any} entry @returns {Reading} */
export function readEntry(entry) {
  const face = entry?.face ?? {};
  const given = list(face.stages, MOST_STAGES);
  const counts = given.map((stage) => list(stage?.p, MOST_BINS).length);
  // the width of the first stage's bins tells the range as well
  const implied = number(given[0]?.width) * counts[0] * (1 + number(given[0]?.delta));
  const V = [number(face.V), implied].find((years) => years > 0) ?? 101;
  let fixed = V;
  let before = V;
  let total = 0;
  const stages = given.map((stage, k) => {
    const etas = list(stage?.eta, MOST_BINS);
    const count = counts[k] || 1;
    const [delta, width, contribution] = [stage?.delta, stage?.width, stage?.contribution].map(number);
    const bins = list(stage?.p, MOST_BINS).map((value, i) => {
      const p = number(value);
      const eta = number(etas[i]);
      return { p, eta, share: p * (i + eta) * width, shown: NaN };
    });
    const start = total;
    const factor = before / (width * count);
    [fixed, before, total] = [fixed / count, width, total + contribution];
    roundedParts(
      bins.map((bin) => bin.share),
      start,
      total,
    ).forEach((shown, i) => (bins[i].shown = shown));
    return { bins, delta, width, fixed, factor, start, contribution, shown: NaN };
  });
  roundedParts(
    stages.map((stage) => stage.contribution),
    0,
    total,
  ).forEach((shown, k) => (stages[k].shown = shown));
  const [low, high, ...more] = list(face.interval, 3).map(number);
  const interval = /** @type {[number, number] | null} */ (low <= high && !more.length ? [low, high] : null);
  const name = String(entry?.weights ?? '');
  const doubts = list(face.doubts, 20);
  return { weights: name, age: number(face.age), interval, doubts, stages, total, shown: tenth(total), V };
}

/** Where a bin lies, from where its stage starts, years. @param {Read} stage @param {number} i */
export function placesOf({ bins, width, fixed }, i) {
  const left = (i + bins[i].eta) * width;
  return { fixed: [i * fixed, (i + 1) * fixed], moved: [left, left + width] };
}

/** From a to b, and exactly a or b at the ends. @param {number} a @param {number} b @param {number} t */
export const mix = (a, b, t) => (t <= 0 ? a : t >= 1 ? b : a + (b - a) * t);

/** Slow at both ends. @param {number} t */
const ease = (t) => ((t = Math.min(Math.max(t, 0), 1)), t * t * (3 - 2 * t));

/**
 * What of a face is there at a time: stage k moves its bins from k to k + 1/2, and is added to the sum until k + 1.
 *
 * @param {Reading} reading @param {number} t
 * @returns {{start: number, width: number, moved: number, added: number, run: number}[]} Of each stage: the sum before
 *   it, the width of its bins, how far they have moved and are added, and the sum after it.
 */
export function stagesAt({ stages, V }, t) {
  let width = V;
  let run = 0;
  return stages.map(({ bins, factor, contribution }, k) => {
    const moved = ease(2 * (t - k));
    const added = ease(2 * (t - k) - 1);
    const start = run;
    width /= (bins.length || 1) * mix(1, factor, moved);
    run += mix(0, contribution, added);
    return { start, width, moved, added, run };
  });
}
