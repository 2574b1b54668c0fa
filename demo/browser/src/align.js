/**
 * How a face is cut out for the weights that look at it; a port of `ssrnet_hub/images/alignment.py`.
 *
 * @typedef {import('./picture.js').Box} Box
 * @typedef {import('./picture.js').Size} Size
 * @typedef {[number, number]} Point
 */
import { Picture } from './picture.js';

// where MTCNN finds them in the square around its box, in fractions of its side
/** @type {Point[]} */
const BOX_LANDMARKS = [[0.31, 0.351], [0.69, 0.351], [0.5, 0.574], [0.333, 0.743], [0.667, 0.743]];

const SAMPLES = 16;

/** How weights expect faces to be cropped. */
export class Framing {
  /** @param {{size: number, template: Point[] | null, margin: number}} config */
  constructor({ size, template, margin }) {
    this.size = size;
    this.template = template;
    this.margin = margin;
  }

  /**
   * Cut a face out of a photo.
   *
   * @param {Picture} picture
   * @param {Box} box The detector's.
   * @param {Point[] | null} landmarks
   * @param {number} turned Degrees counterclockwise.
   * @returns {Picture} Of `size` by `size`; black where the frame reaches over the edge.
   */
  crop(picture, box, landmarks, turned) {
    if (!this.template) return cropBox(picture, box, this.margin, this.size).rotate((360 - turned) % 360);
    const template = this.template.map(([x, y]) => /** @type {Point} */ ([x * this.size, y * this.size]));
    return align(picture, landmarks ?? usualLandmarks(box, turned), template, this.size);
  }

  /**
   * The share of `crop` that a picture of this size fills, in [0, 1].
   *
   * @param {Size} size
   * @param {Box} box
   * @param {Point[] | null} landmarks
   * @param {number} turned
   */
  visible(size, box, landmarks, turned) {
    if (!this.template) return 1;
    const { turn, shift } = fit(landmarks ?? usualLandmarks(box, turned), this.template);
    let inside = 0;
    for (let k = 0; k < SAMPLES * SAMPLES; k++) {
      const [u, v] = [((k % SAMPLES) + 0.5) / SAMPLES, (Math.floor(k / SAMPLES) + 0.5) / SAMPLES];
      const [x, y] = [turn[0] * u - turn[1] * v + shift[0], turn[0] * v + turn[1] * u + shift[1]];
      if (x >= 0 && x < size[0] && y >= 0 && y < size[1]) inside++;
    }
    return inside / SAMPLES ** 2;
  }

  /**
   * The side of what `crop` shows, pixels of the photo.
   *
   * @param {Box} box
   * @param {Point[] | null} landmarks
   * @param {number} turned
   */
  side(box, landmarks, turned) {
    if (!this.template) return (1 + 2 * this.margin) * Math.min(box[2] - box[0], box[3] - box[1]);
    return Math.hypot(...fit(landmarks ?? usualLandmarks(box, turned), this.template).turn);
  }
}

/**
 * Where points of a picture are once it is turned.
 *
 * @param {Point[]} points
 * @param {number} turned Degrees counterclockwise.
 * @param {Size} size Of the picture before.
 * @returns {Point[]}
 */
export function turnPoints(points, turned, size) {
  const middle = turned % 180 ? [size[1] / 2, size[0] / 2] : [size[0] / 2, size[1] / 2];
  return points.map((point) => {
    let [x, y] = [point[0] - size[0] / 2, point[1] - size[1] / 2];
    for (let k = 0; k < turned / 90; k++) [x, y] = [y, -x];
    return [x + middle[0], y + middle[1]];
  });
}

/**
 * How far a nose is from the middle of the eyes, in distances between them: 0 from the front.
 *
 * @param {Point[]} landmarks
 */
export function noseOffset([left, right, nose]) {
  const [dx, dy] = [right[0] - left[0], right[1] - left[1]];
  if (!dx && !dy) return Infinity;
  return Math.abs(((nose[0] - left[0]) * dx + (nose[1] - left[1]) * dy) / (dx * dx + dy * dy) - 0.5);
}

/** @param {Box} box @param {number} turned @returns {Point[]} */
function usualLandmarks([x1, y1, x2, y2], turned) {
  const side = Math.max(x2 - x1, y2 - y1);
  return turnPoints(BOX_LANDMARKS, turned, [1, 1]).map(([x, y]) => [
    (x1 + x2) / 2 + side * (x - 0.5),
    (y1 + y2) / 2 + side * (y - 0.5),
  ]);
}

/** @param {Picture} picture @param {Box} box @param {number} margin @param {number} size */
function cropBox(picture, [x1, y1, x2, y2], margin, size) {
  const [dx, dy] = [margin * (x2 - x1), margin * (y2 - y1)];
  /** @type {Box} */
  const part = [
    Math.max(x1 - dx, 0),
    Math.max(y1 - dy, 0),
    Math.min(x2 + dx, picture.width),
    Math.min(y2 + dy, picture.height),
  ];
  return picture.resize([size, size], 'bicubic', part, 3);
}

/**
 * Turn, scale and shift a picture so that points of it come to lie where a template has them.
 *
 * @param {Picture} picture @param {Point[]} landmarks @param {Point[]} template Pixels of the result.
 * @param {number} size @returns {Picture}
 */
function align(picture, landmarks, template, size) {
  const { turn, shift } = fit(landmarks, template);
  const scale = Math.max(Math.hypot(...turn), 1e-3);

  // the warp reads single pixels: to shrink without aliasing, first resize the part that it reads
  const xs = [0, turn[0] * size, -turn[1] * size, (turn[0] - turn[1]) * size].map((x) => x + shift[0]);
  const ys = [0, turn[1] * size, turn[0] * size, (turn[0] + turn[1]) * size].map((y) => y + shift[1]);
  const reach = 3 * scale;
  const x1 = Math.max(Math.floor(Math.min(...xs) - reach), 0);
  const y1 = Math.max(Math.floor(Math.min(...ys) - reach), 0);
  const x2 = Math.min(Math.ceil(Math.max(...xs) + reach), picture.width);
  const y2 = Math.min(Math.ceil(Math.max(...ys) + reach), picture.height);
  if (x2 <= x1 || y2 <= y1) return new Picture(size, size);
  const shrink = Math.max(scale, 1);
  const width = Math.max(roundHalfEven((x2 - x1) / shrink), 1);
  const height = Math.max(roundHalfEven((y2 - y1) / shrink), 1);
  const part = picture.resize([width, height], 'bicubic', [x1, y1, x2, y2], 3);
  const [fx, fy] = [width / (x2 - x1), height / (y2 - y1)];
  return part.transform(
    [size, size],
    [turn[0] * fx, -turn[1] * fx, (shift[0] - x1) * fx, turn[1] * fy, turn[0] * fy, (shift[1] - y1) * fy],
  );
}

/**
 * The least squares similarity, as complex numbers: landmark = turn * template + shift.
 *
 * @param {Point[]} landmarks @param {Point[]} template @returns {{turn: Point, shift: Point}}
 */
function fit(landmarks, template) {
  const [p, q] = [mean(landmarks), mean(template)];
  let [real, imaginary, norm] = [0, 0, 0];
  template.forEach(([x, y], k) => {
    const [u, v] = [landmarks[k][0] - p[0], landmarks[k][1] - p[1]];
    [x, y] = [x - q[0], y - q[1]];
    real += x * u + y * v;
    imaginary += x * v - y * u;
    norm += x * x + y * y;
  });
  const [a, b] = [real / norm, imaginary / norm];
  return { turn: [a, b], shift: [p[0] - (a * q[0] - b * q[1]), p[1] - (a * q[1] + b * q[0])] };
}

/** @param {Point[]} points @returns {Point} */
function mean(points) {
  const sum = (/** @type {0 | 1} */ k) => points.reduce((total, point) => total + point[k], 0);
  return [sum(0) / points.length, sum(1) / points.length];
}

/** As Python rounds. @param {number} value */
export function roundHalfEven(value) {
  const whole = Math.round(value);
  return whole - value === 0.5 && whole % 2 ? whole - 1 : whole;
}
