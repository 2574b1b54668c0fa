/**
 * The cascade of MTCNN around its three networks: a port of ssrnet_hub's, which finds the same faces. See
 * `ssrnet_hub/inference/cascade.py` for why things are as they are.
 *
 * @typedef {import('./picture.js').Picture} Picture
 * @typedef {number[]} Square x1, y1, x2, y2 in pixels.
 * @typedef {{box: Square, score: number, points: [number, number][]}} Hit
 */
import { Tensor } from './ort.js';

/** Side of what the last network looks at, pixels. */
export const LOOK = 48;

const FACTOR = 0.709;
const STOCK_FACE = 20;
const THRESHOLDS = [Math.fround(0.6), Math.fround(0.7), Math.fround(0.7)];
const CELL = 12;
const STRIDE = 2;
const MARGIN = CELL / 2;
const WITHOUT_MARGIN = 2;
const FADE = 0.07;
const DETAIL = 1.4;
const [REDUCED, LEAST_REDUCED] = [1.5, 512];
const PIXELS_AT_ONCE = 250_000;
const CROPS_AT_ONCE = { rnet: 64, onet: 16 };

const { fround } = Math;

/** The way of the candidates through the three networks. */
export class Cascade {
  /**
   * @param {{pnet: Network, rnet: Network, onet: Network}} networks
   * @typedef {import('./network.js').Session} Network
   */
  constructor(networks) {
    this.networks = networks;
  }

  /**
   * The faces in a picture.
   *
   * @param {Picture} picture
   * @param {number} minFace Side of the smallest face that has to be found, pixels, 12 or more.
   * @returns {Promise<Hit[]>} Boxes may reach over the edge.
   */
  async search(picture, minFace) {
    const levels = new Levels(picture, minFace);
    return this.#confirm(levels, await this.#refine(levels, await this.#propose(levels)));
  }

  /**
   * What the last network says of crops that are known to be about a face.
   *
   * @param {Float32Array[]} crops As `cut` answers them.
   * @returns {Promise<{score: number, moves: number[], points: [number, number][]}[]>} Moves of the crop's corners to
   *   the face's box, and landmarks, in shares of the crop's side.
   */
  async look(crops) {
    const answers = await this.#run('onet', crops, LOOK);
    return answers.map(({ score, moves, points }) => ({ score, moves, points: pairs(points) }));
  }

  /**
   * Landmarks of faces that are cut off, in shares of the crop's side.
   *
   * @param {Network} network @param {Float32Array[]} crops As `cut` answers them.
   */
  async place(network, crops) {
    const answers = await run(network, crops, LOOK, CROPS_AT_ONCE.onet);
    return answers.map(({ points }) => pairs(points));
  }

  /** @param {Levels} levels */
  async #propose(levels) {
    /** @type {{box: Square, score: number, moves: number[]}[]} */
    const found = [];
    for (const [step, scale] of levels.scanned.entries()) {
      const level = levels.get(scale);
      // without a margin, what is smaller than a cell cannot be seen
      const margin = step < WITHOUT_MARGIN && Math.min(level.width, level.height) >= CELL ? 0 : MARGIN;
      const candidates = await this.#scan(level, scale, margin);
      found.push(...nms(candidates, 0.5).map((number) => candidates[number]));
    }
    return nms(found, 0.7).map((number) => {
      const { box, moves } = found[number];
      const sides = [fround(box[2] - box[0]), fround(box[3] - box[1])];
      return toSquare(box.map((end, k) => fround(end + fround(moves[k] * sides[k % 2]))));
    });
  }

  /**
   * What the first network sees at a scale, strip by strip.
   *
   * @param {Picture} level
   * @param {number} scale
   * @param {number} margin
   */
  async #scan(level, scale, margin) {
    const [width, height] = [level.width + 2 * margin, level.height + 2 * margin];
    const rows = Math.max(Math.floor((Math.floor(PIXELS_AT_ONCE / width) - CELL) / STRIDE) + 1, 16);
    const candidates = [];
    const divisor = fround(scale);
    for (let top = 0; top === 0 || top + CELL <= height; top += STRIDE * rows) {
      let bottom = top + STRIDE * (rows - 1) + CELL;
      // the last row of views may reach over the edge by a pixel
      if (bottom + STRIDE > height) bottom = height;
      const pixels = new Tensor('float32', pad(level, margin, top, bottom), [1, 3, bottom - top, width]);
      const { moves, scores } = await this.networks.pnet.run({ pixels });
      const [down, across] = scores.dims.slice(2);
      const count = down * across;
      const [said, moved] = [/** @type {Float32Array} */ (scores.data), /** @type {Float32Array} */ (moves.data)];
      for (let at = 0; at < count; at++) {
        if (said[at] < THRESHOLDS[0]) continue;
        const x = STRIDE * (at % across) - margin;
        const y = STRIDE * Math.floor(at / across) + top - margin;
        const box = [x + 1, y + 1, x + CELL, y + CELL].map((end) => Math.floor(fround(end / divisor)));
        candidates.push({ box, score: said[at], moves: [0, 1, 2, 3].map((k) => moved[k * count + at]) });
      }
    }
    return candidates;
  }

  /** What the second network keeps of candidates, better placed. @param {Levels} levels @param {Square[]} boxes */
  async #refine(levels, boxes) {
    const answers = await this.#ask('rnet', levels, boxes, 24, THRESHOLDS[1]);
    return nms(answers, 0.7).map((number) => toSquare(move(answers[number])));
  }

  /** What the last network keeps of them. @param {Levels} levels @param {Square[]} boxes */
  async #confirm(levels, boxes) {
    const answers = await this.#ask('onet', levels, boxes, LOOK, THRESHOLDS[2]);
    /** @type {Hit[]} */
    const hits = answers.map((answer) => {
      const { box } = answer;
      const points = pairs(answer.points).map(([x, y]) => /** @type {[number, number]} */ ([
        fround(fround(fround(x * fround(box[2] - box[0] + 1)) + box[0]) - 1),
        fround(fround(fround(y * fround(box[3] - box[1] + 1)) + box[1]) - 1),
      ]));
      return { box: move(answer), score: answer.score, points };
    });
    return nmsBySmaller(hits, 0.7).map((number) => hits[number]);
  }

  /**
   * @param {'rnet' | 'onet'} name @param {Levels} levels @param {Square[]} boxes @param {number} side
   * @param {number} threshold
   */
  async #ask(name, levels, boxes, side, threshold) {
    boxes = boxes.filter((box) => levels.reaches(box));
    const crops = boxes.map((box) => levels.cut(box, side));
    const answers = await this.#run(name, crops, side);
    return answers
      .map((answer, number) => ({ ...answer, box: boxes[number] }))
      .filter(({ score }) => score > threshold);
  }

  /** @param {'rnet' | 'onet'} name @param {Float32Array[]} crops @param {number} side */
  #run(name, crops, side) {
    return run(this.networks[name], crops, side, CROPS_AT_ONCE[name]);
  }
}

/** @param {Network} network @param {Float32Array[]} crops @param {number} side @param {number} atOnce */
async function run(network, crops, side, atOnce) {
  const answers = [];
  const length = 3 * side * side;
  for (let start = 0; start < crops.length; start += atOnce) {
    const part = crops.slice(start, start + atOnce);
    const values = new Float32Array(part.length * length);
    part.forEach((crop, number) => values.set(crop, number * length));
    const tensor = new Tensor('float32', values, [part.length, 3, side, side]);
    const { moves, points, scores } = await network.run({ crops: tensor });
    for (let k = 0; k < part.length; k++) {
      answers.push({
        score: scores ? Number(scores.data[k]) : NaN,
        moves: moves ? [.../** @type {Float32Array} */ (moves.data).slice(4 * k, 4 * k + 4)] : [],
        points: points ? [.../** @type {Float32Array} */ (points.data).slice(10 * k, 10 * k + 10)] : [],
      });
    }
  }
  return answers;
}

/** A picture at the scales that it is looked at, each made once and when it is needed. */
class Levels {
  /** @param {Picture} picture @param {number} minFace */
  constructor(picture, minFace) {
    this.width = picture.width;
    this.height = picture.height;
    this.reduced = new Map([[1, picture]]);
    /** @type {Map<number, Picture>} */
    this.made = new Map();
    // a picture is not enlarged for what is smaller still; of the largest faces it has half
    const first = stepOf(Math.max(minFace, CELL));
    const last = stepOf(2 * Math.min(this.width, this.height));
    const ladder = [];
    for (let step = Math.min(first, 0); step <= last; step++) ladder.push((CELL / STOCK_FACE) * FACTOR ** step);
    this.scanned = ladder.slice(Math.max(first, 0));
    this.scales = [1, ...ladder.filter((scale) => scale < 1)];
  }

  /** @param {number} scale @returns {Picture} */
  get(scale) {
    const made = this.made.get(scale) ?? this.#resize(scale);
    this.made.set(scale, made);
    return made;
  }

  /** @param {number} scale @returns {import('./picture.js').Size} */
  size(scale) {
    if (scale === 1) return [this.width, this.height];
    return [Math.trunc(this.width * scale + 1), Math.trunc(this.height * scale + 1)];
  }

  /** @param {number} scale */
  #resize(scale) {
    let factor = 1;
    while (2 * factor * Math.max(REDUCED * scale, LEAST_REDUCED / Math.max(this.width, this.height)) <= 1) factor *= 2;
    const picture = this.#reduce(factor);
    if (scale === 1) return picture;
    return picture.resize(this.size(scale), 'bilinear', [0, 0, this.width / factor, this.height / factor]);
  }

  /** @param {number} factor @returns {Picture} */
  #reduce(factor) {
    const reduced = this.reduced.get(factor) ?? this.#reduce(factor / 2).reduce(2, 2);
    this.reduced.set(factor, reduced);
    return reduced;
  }

  /** Whether a box is not outside of the picture. @param {Square} box */
  reaches(box) {
    const [x1, y1, x2, y2] = toCorners(box);
    return x2 > Math.max(x1, 0) && y2 > Math.max(y1, 0) && x1 < this.width && y1 < this.height;
  }

  /** Cut a box out of the picture; beyond its edges it is gray. @param {Square} box @param {number} side */
  cut(box, side) {
    const corners = toCorners(box);
    const longest = Math.max(corners[2] - corners[0], corners[3] - corners[1]);
    const enough = this.scales.filter((scale) => fround(longest * fround(scale)) >= DETAIL * side).length;
    const scale = this.scales[Math.max(enough, 1) - 1];
    const [width, height] = this.size(scale);
    const square = corners.map((end, k) => end * (k % 2 ? height / this.height : width / this.width));
    return cut(this.get(scale), square, side);
  }
}

/**
 * A square of a picture as the networks want it; beyond the edge the crop fades into gray.
 *
 * @param {Picture} picture Of about the size that the square is seen at, or up to twice that.
 * @param {Square} square
 * @param {number} [side]
 * @returns {Float32Array} `(3, side, side)`, normalized.
 */
export function cut(picture, square, side = LOOK) {
  const columns = weigh(square[0], square[2], picture.width, side);
  const rows = weigh(square[1], square[3], picture.height, side);
  const first = columns.pixels[0];
  const width = columns.pixels[2 * side - 1] - first + 2;
  const crop = new Float32Array(3 * side * side);
  const line = new Float32Array(3 * width);
  for (let y = 0; y < side; y++) {
    line.fill(0);
    for (let k = 4 * y; k < 4 * y + 4; k++) {
      const weight = rows.weights[k];
      const row = rows.pixels[k >> 1] + (k & 1);
      if (!weight || row >= picture.height) continue;
      let p = (row * picture.width + first) * 4;
      for (let x = 0; x < 3 * width && first + x / 3 < picture.width; x += 3, p += 4) {
        line[x] += weight * (picture.data[p] - 127.5);
        line[x + 1] += weight * (picture.data[p + 1] - 127.5);
        line[x + 2] += weight * (picture.data[p + 2] - 127.5);
      }
    }
    for (let x = 0; x < side; x++) {
      let r = 0;
      let g = 0;
      let b = 0;
      for (let k = 4 * x; k < 4 * x + 4; k++) {
        const weight = columns.weights[k];
        const p = 3 * (columns.pixels[k >> 1] + (k & 1) - first);
        if (!weight) continue;
        r += weight * line[p];
        g += weight * line[p + 1];
        b += weight * line[p + 2];
      }
      const q = y * side + x;
      crop[q] = r / 128;
      crop[q + side * side] = g / 128;
      crop[q + 2 * side * side] = b / 128;
    }
  }
  return crop;
}

/**
 * How pixels along an axis are averaged: two points a pixel of the crop, linearly between the pixels beside them.
 *
 * @param {number} begin @param {number} end @param {number} length Of the picture. @param {number} side Of the crop.
 * @returns {{pixels: Int32Array, weights: Float32Array}} Of each point the first of the two pixels, and both weights.
 */
function weigh(begin, end, length, side) {
  const pixels = new Int32Array(2 * side);
  const weights = new Float32Array(4 * side);
  let fade = 1;
  for (let k = 0; k < 2 * side; k++) {
    const point = begin + (end - begin) * ((k + 0.5) / (2 * side));
    const inner = Math.min(Math.max(point - 0.5, 0), length - 1);
    pixels[k] = inner;
    const share = (inner - pixels[k]) / 2;
    // both points of a pixel fade as the first does
    if (k % 2 === 0) {
      const beyond = Math.abs(point - Math.min(Math.max(point, 0), length));
      fade = Math.exp(-beyond / (end - begin) / FADE);
    }
    weights[2 * k] = (0.5 - share) * fade;
    weights[2 * k + 1] = share * fade;
  }
  return { pixels, weights };
}

/**
 * Rows of a picture with a margin of gray, `(3, bottom - top, width + 2 * margin)`.
 *
 * @param {Picture} picture
 * @param {number} margin
 * @param {number} top
 * @param {number} bottom
 */
function pad(picture, margin, top, bottom) {
  const width = picture.width + 2 * margin;
  const count = (bottom - top) * width;
  const padded = new Float32Array(3 * count).fill(127.5);
  const last = Math.min(bottom - margin, picture.height);
  for (let y = Math.max(top - margin, 0); y < last; y++) {
    let q = (y + margin - top) * width + margin;
    for (let p = y * picture.width * 4; p < (y + 1) * picture.width * 4; p += 4, q++) {
      padded[q] = picture.data[p];
      padded[q + count] = picture.data[p + 1];
      padded[q + 2 * count] = picture.data[p + 2];
    }
  }
  return padded;
}

/**
 * How far down the ladder a face of this side fills what the first network sees, or a little more.
 *
 * @param {number} face
 */
function stepOf(face) {
  return Math.floor(Math.log(STOCK_FACE / face) / Math.log(FACTOR) + 1e-9);
}

/** As facenet-pytorch has it, the first pixel is number 1, and the last is part of the box. @param {Square} box */
function toCorners([x1, y1, x2, y2]) {
  return [Math.floor(x1) - 1, Math.floor(y1) - 1, Math.floor(x2), Math.floor(y2)];
}

/** The square around the middle of a box. @param {Square} box */
function toSquare([x1, y1, x2, y2]) {
  const [width, height] = [fround(x2 - x1), fround(y2 - y1)];
  const side = Math.max(width, height);
  const x = fround(fround(x1 + fround(width * 0.5)) - fround(side * 0.5));
  const y = fround(fround(y1 + fround(height * 0.5)) - fround(side * 0.5));
  return [x, y, fround(x + side), fround(y + side)];
}

/** @param {{box: Square, moves: number[]}} answer */
function move({ box, moves }) {
  const sides = [fround(fround(box[2] - box[0]) + 1), fround(fround(box[3] - box[1]) + 1)];
  return box.map((end, k) => fround(end + fround(moves[k] * sides[k % 2])));
}

/** @param {number[]} points @returns {[number, number][]} */
function pairs(points) {
  return Array.from({ length: 5 }, (_, k) => [points[k], points[k + 5]]);
}

/**
 * Non-maximum suppression by intersection over union: numbers of those that are kept, the surest first.
 *
 * @param {{box: Square, score: number}[]} candidates
 * @param {number} threshold
 */
function nms(candidates, threshold) {
  const order = candidates.map((_, number) => number).sort((a, b) => candidates[b].score - candidates[a].score || a - b);
  /** @type {number[]} */
  const kept = [];
  for (const number of order) {
    const [x1, y1, x2, y2] = candidates[number].box;
    const area = (x2 - x1) * (y2 - y1);
    const isFree = kept.every((other) => {
      const [u1, v1, u2, v2] = candidates[other].box;
      const across = Math.min(x2, u2) - Math.max(x1, u1);
      const down = Math.min(y2, v2) - Math.max(y1, v1);
      if (across <= 0 || down <= 0) return true;
      const shared = across * down;
      return fround(shared / (area + (u2 - u1) * (v2 - v1) - shared)) <= fround(threshold);
    });
    if (isFree) kept.push(number);
  }
  return kept;
}

/**
 * Non-maximum suppression by overlap as a share of the smaller box.
 *
 * @param {{box: Square, score: number}[]} hits
 * @param {number} threshold
 */
function nmsBySmaller(hits, threshold) {
  const areas = hits.map(({ box }) => (box[2] - box[0] + 1) * (box[3] - box[1] + 1));
  let order = hits.map((_, number) => number).sort((a, b) => hits[b].score - hits[a].score || b - a);
  const kept = [];
  while (order.length) {
    const [best, ...others] = order;
    kept.push(best);
    order = others.filter((other) => {
      const [a, b] = [hits[best].box, hits[other].box];
      const across = Math.max(Math.min(a[2], b[2]) - Math.max(a[0], b[0]) + 1, 0);
      const down = Math.max(Math.min(a[3], b[3]) - Math.max(a[1], b[1]) + 1, 0);
      return (across * down) / Math.min(areas[best], areas[other]) <= threshold;
    });
  }
  return kept;
}
