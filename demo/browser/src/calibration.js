/**
 * The calibration of weights: prediction intervals, and which ages not to trust; a port of
 * `ssrnet_hub/inference/calibration.py`, `intervals.py`, `reliability.py` and `doubts.py`.
 *
 * @typedef {import('./picture.js').Picture} Picture
 * @typedef {import('./stages.js').Stage} Stage
 * @typedef {{scores: number[], n: number}} Scores
 * @typedef {Scores & {knots: number[], scale: number[], weights: number[], offset: number,
 *   true_knots?: number[], factors?: number[], youngest?: number, bands: (Scores & {low: number})[]}} Intervals
 * @typedef {{mean: number[], precision: number[][], threshold: number}} Reliability
 * @typedef {{names: string[], weights: number[][], offsets: number[], thresholds: number[]}} Doubts
 */
const LARGEST_ERROR = 20;
const MOST_FACTOR = 6;
const BANDS = 8;

/** Calibration of weights on faces that they were not trained on. */
export class Calibration {
  /** @param {{intervals: Intervals, reliability: Reliability, doubts?: Doubts}} config */
  constructor({ intervals, reliability, doubts }) {
    this.intervals = intervals;
    this.reliability = reliability;
    this.doubts = doubts;
  }

  /** Features of a face that the other methods take. @param {Stage[]} stages @param {Picture} crop */
  describe(stages, crop) {
    const gray = crop.toGray();
    const said = stages.flatMap(({ p, eta, delta }) => [...p, ...eta, delta]);
    const whole = sample(gray, 64);
    const answer = [...said, logDetail(whole), logContrast(whole)];
    if (!this.doubts) return answer;
    const spreads = stages.map((stage) => Math.log(spread(stage) + 0.5));
    // calibrations of earlier versions lack the last features
    return [...answer, ...spreads, ...describeCrop(crop, gray, whole)].slice(0, this.doubts.weights[0].length);
  }

  /**
   * Lower and upper end of the interval, years; may be outside of the possible ages.
   *
   * @param {number} age @param {number} level Between 0 and 1. @param {number[]} description
   * @returns {[number, number]}
   */
  bounds(age, level, description) {
    if (!(level > 0 && level < 1)) throw new RangeError(`The level of an interval is between 0 and 1, not ${level}.`);
    const { intervals } = this;
    const band = intervals.bands.findLast(({ low }) => age >= low);
    const quantile = quantileOf(band ?? intervals, level) || quantileOf(intervals, level);
    if (quantile === null) {
      const n = intervals.n;
      throw new RangeError(`A calibration on ${n} faces supports levels up to ${(n / (n + 1)).toFixed(4)}.`);
    }
    const error = quantile * this.#expect(age, description);
    const low = findEnd(intervals, age, error, -1);
    // labels do not distinguish younger people from the youngest label
    return [low <= (intervals.youngest ?? 0) ? Math.min(low, 0) : low, findEnd(intervals, age, error, 1)];
  }

  /** Expected error, years, for a factor of 1. @param {number} age @param {number[]} description */
  #expect(age, description) {
    const { knots, scale, weights, offset } = this.intervals;
    const expected = interpolate(age, knots, scale);
    if (!this.doubts || !weights.length) return expected;
    const most = Math.log(MOST_FACTOR);
    const logarithm = dot(weights, description) + offset;
    return expected * Math.exp(Number.isNaN(logarithm) ? most : Math.min(Math.max(logarithm, -most), most));
  }

  /** Out-of-distribution score: about 1 for an ordinary face. @param {number[]} description */
  oddness(description) {
    const { mean, precision, threshold } = this.reliability;
    const away = mean.map((value, k) => description[k] - value);
    const unlike = description.slice(0, mean.length).every(Number.isFinite)
      ? Math.sqrt(Math.max(dot(away, precision.map((row) => dot(row, away))), 0) / mean.length)
      : Infinity;
    if (!this.doubts) return unlike;
    const excess = Math.max(...this.#excess(description));
    return Math.max(unlike, threshold * Math.exp(Math.min(excess, 50)));
  }

  /** Reasons not to trust an age. @param {number} age @param {number[]} description @returns {string[]} */
  doubt(age, description) {
    const excess = this.#excess(description);
    const doubts = (this.doubts?.names ?? []).filter((_, k) => excess[k] > 0);
    if (!doubts.length && this.oddness(description) > this.reliability.threshold) doubts.push('not a face');
    if (this.doubts && !Number.isNaN(age) && this.#expect(age, description) > LARGEST_ERROR) doubts.push('uncertain');
    return doubts;
  }

  /** Log-odds of each kind of poor picture minus its threshold. @param {number[]} description */
  #excess(description) {
    if (!this.doubts) return [];
    const { weights, offsets, thresholds } = this.doubts;
    if (!description.every(Number.isFinite)) return weights.map(() => 0);
    return weights.map((row, k) => dot(row, description) + offsets[k] - thresholds[k]);
  }
}

/**
 * Upper bound of the score of a new face; null if that takes more faces.
 *
 * @param {Scores} scores
 * @param {number} level
 */
function quantileOf({ scores, n }, level) {
  const share = Math.ceil((n + 1) * level) / n;
  if (share > 1) return null;
  return interpolate(share, scores.map((_, k) => (k + 1) / scores.length), scores);
}

/**
 * Farthest true age on one side that is at most `error` times its factor away.
 *
 * @param {Intervals} intervals @param {number} age @param {number} error Years. @param {1 | -1} side
 */
function findEnd({ true_knots: trueKnots = [], factors = [] }, age, error, side) {
  /** @param {number} years */
  const factor = (years) => (factors.length ? interpolate(years, trueKnots, factors) : 1);
  const knots = trueKnots.filter((knot) => side * (knot - age) > 0).sort((a, b) => side * (b - a));
  const farthest = age + side * error * factor(side * Infinity);
  if (!knots.length || side * (farthest - knots[0]) > 0) return farthest;
  let outer = knots[0];
  let excess = Math.abs(outer - age) - error * factor(outer);
  for (const inner of [...knots.slice(1), age]) {
    const before = excess;
    excess = Math.abs(inner - age) - error * factor(inner);
    // both are linear between knots
    if (excess <= 0) return inner + (before > 0 ? excess / (excess - before) : 1) * (outer - inner);
    outer = inner;
  }
  return age;
}

/** As `numpy.interp`. @param {number} x @param {number[]} xs @param {number[]} ys */
function interpolate(x, xs, ys) {
  const next = xs.findIndex((value) => value > x);
  if (next <= 0) return next ? ys[ys.length - 1] : ys[0];
  return ys[next - 1] + ((ys[next] - ys[next - 1]) / (xs[next] - xs[next - 1])) * (x - xs[next - 1]);
}

/** Standard deviation of a stage's bins, years. @param {Stage} stage */
function spread({ p, eta, width }) {
  const places = eta.map((shift, k) => (k + shift) * width);
  return Math.sqrt(Math.max(dot(p, places.map((place) => place ** 2)) - dot(p, places) ** 2, 0));
}

/** @typedef {{width: number, height: number, data: Uint8ClampedArray}} Gray */

/** @param {Picture} crop @param {Picture} gray @param {Gray} whole */
function describeCrop(crop, gray, whole) {
  const [eyes, mouth] = [rowsOf(whole, 12, 28), rowsOf(whole, 32, 56)];
  const small = sample(gray, 16);
  const saturation = crop.resize([16, 16], 'bicubic').saturation();
  const { width, data } = whole;
  let asymmetry = 0;
  for (let k = 0; k < data.length; k++) {
    const column = k % width;
    asymmetry += Math.abs(data[k] - data[k - column + width - 1 - column]);
  }
  return [
    ...[sample(gray, 128), sample(gray, 32), small].map(logDetail),
    logDetail(eyes),
    logDetail(mouth),
    logContrast(eyes),
    logContrast(mouth),
    momentsOf(data).mean / 100,
    Math.log(asymmetry / data.length + 2),
    Math.log(momentsOf(saturation).mean + 2),
    Math.log(momentsOf(saturation).deviation + 2),
    ...describeLayout(small, whole),
  ];
}

/** Brightness and vertical detail of each eighth of the height. @param {Gray} small @param {Gray} whole */
function describeLayout(small, whole) {
  const { mean, deviation } = momentsOf(small.data);
  const light = bandsOf(small).map(({ data }) => (momentsOf(data).mean - mean) / (deviation + 2));
  const detail = bandsOf(whole).map(({ width, data }) => {
    let sum = 0;
    for (let k = width; k < data.length; k++) sum += Math.abs(data[k] - data[k - width]);
    return Math.log(sum / (data.length - width) + 0.5);
  });
  return [...light, ...detail.map((value) => value - momentsOf(detail).mean)];
}

/** @param {Gray} gray @returns {Gray[]} */
function bandsOf(gray) {
  const height = gray.height / BANDS;
  return Array.from({ length: BANDS }, (_, k) => rowsOf(gray, k * height, (k + 1) * height));
}

/** @param {Picture} gray @param {number} side @returns {Gray} */
function sample(gray, side) {
  return gray.resize([side, side], 'bicubic');
}

/** @param {Gray} gray @param {number} from @param {number} to @returns {Gray} */
function rowsOf({ width, data }, from, to) {
  return { width, height: to - from, data: data.subarray(from * width, to * width) };
}

/** Logarithm of the mean absolute second difference. @param {Gray} gray */
function logDetail({ width, height, data }) {
  let sum = 0;
  for (let y = 1; y < height - 1; y++) {
    for (let k = y * width + 1; k < (y + 1) * width - 1; k++) {
      sum += Math.abs(4 * data[k] - data[k - width] - data[k + width] - data[k - 1] - data[k + 1]);
    }
  }
  return Math.log(sum / ((width - 2) * (height - 2)) + 0.5);
}

/** Logarithm of the standard deviation. @param {Gray} gray */
function logContrast({ data }) {
  return Math.log(momentsOf(data).deviation + 2);
}

/** @param {ArrayLike<number>} values */
function momentsOf(values) {
  let [sum, squares] = [0, 0];
  for (let k = 0; k < values.length; k++) sum += values[k];
  const mean = sum / values.length;
  for (let k = 0; k < values.length; k++) squares += (values[k] - mean) ** 2;
  return { mean, deviation: Math.sqrt(squares / values.length) };
}

/** @param {number[]} a @param {number[]} b */
function dot(a, b) {
  return a.reduce((sum, value, k) => sum + value * b[k], 0);
}
