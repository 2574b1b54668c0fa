/**
 * Finding the faces in a picture, and following faces whose boxes are known; a port of
 * `ssrnet_hub/inference/detector.py`, which says why things are as they are.
 *
 * @typedef {import('./picture.js').Box} Box
 * @typedef {import('./picture.js').Picture} Picture
 * @typedef {import('./picture.js').Size} Size
 * @typedef {import('./align.js').Point} Point
 * @typedef {object} Detection A face that was found.
 * @property {Box} box x1, y1, x2, y2 in pixels of the picture, within it.
 * @property {Point[] | null} landmarks Left eye, right eye, nose, left and right corner of the mouth.
 * @property {number} score How sure the detector is, in [0, 1].
 * @property {number} turned Degrees by which the face is turned, counterclockwise: 0, 90, 180 or 270.
 * @typedef {object} Look What the last network says of a face in each of four turns.
 * @property {number} first Log-odds of the first look at it upright.
 * @property {number[]} odds Sums of the log-odds of the looks.
 * @property {number[]} scores Of the last look.
 * @property {number[][]} boxes As they should be.
 * @property {Point[][]} landmarks
 * @typedef {{detection: Detection, odds: number, doubtful: boolean}} Found
 */
import { roundHalfEven, turnPoints } from './align.js';
import { Cascade, cut, LOOK } from './cascade.js';

const TURNED = 5;
const CERTAIN = 0.9999;
const SURE = 8;
const CUT = 0.1;
const HIDDEN = 0.3;
const AGREED = 0.06;
const ROUNDS = [[1], [1], [0.85, 1, 1.18]];
const SQUARE = 2.9;
const TRUST = 0.05;

/** @typedef {{minScore?: number, minLocated?: number, minFace?: number, maxSide?: number}} DetectorOptions */

/** MTCNN, with a second look at each face in four turns. */
export class Detector {
  /**
   * @param {{pnet: import('./network.js').Session, rnet: import('./network.js').Session, onet: import('./network.js').Session}} networks
   * @param {() => Promise<import('./network.js').Session>} openCutFaces
   * @param {Point[]} template Where the landmarks of an upright face are, in shares of any square.
   * @param {DetectorOptions} [options] Names and defaults as in Python.
   */
  constructor(networks, openCutFaces, template, { minScore = 0.9, minLocated = 0.7, minFace, maxSide = 2048 } = {}) {
    this.cascade = new Cascade(networks);
    this.openCutFaces = openCutFaces;
    this.template = template;
    this.minScore = minScore;
    this.minLocated = minLocated;
    this.minFace = minFace;
    this.maxSide = maxSide;
  }

  /**
   * The faces in an upright picture, the largest first.
   *
   * @param {Picture} picture
   * @param {{uprightOnly?: boolean, minFace?: number}} [options] Take all faces as upright, which is faster; another
   *   `minFace` for this picture.
   * @returns {Promise<Detection[]>}
   */
  async detect(picture, { uprightOnly = false, minFace = this.minFace } = {}) {
    let found = await this.#searchUpright(picture, uprightOnly, minFace);
    // one upright face says that the picture is upright
    if (!uprightOnly && found.every((face) => face.doubtful)) {
      let odds = Math.max(SURE, ...found.map((face) => face.odds));
      for (const turned of [90, 180, 270]) {
        const again = await this.#searchUpright(picture.rotate(360 - turned), false, minFace);
        const best = Math.max(...again.filter((face) => !face.doubtful).map((face) => face.odds));
        if (best > odds) {
          odds = best;
          found = again.map((face) => turnBack(face, turned, picture.size));
        }
      }
    }
    return found.map((face) => face.detection).sort((a, b) => areaOf(b.box) - areaOf(a.box));
  }

  /**
   * The faces in boxes where they were a moment ago, each upright and better placed; those that are gone are left out.
   *
   * @param {Picture} picture
   * @param {Box[]} boxes
   * @returns {Promise<(Detection | null)[]>} One a box.
   */
  async follow(picture, boxes) {
    const looks = await this.#look(picture, boxes.map((box) => [box]), boxes.map(() => true));
    const followed = [];
    for (const look of looks) {
      const box = within(look.boxes[0], picture.size);
      if (look.scores[0] < this.minLocated || !areaOf(box)) {
        followed.push(null);
        continue;
      }
      let landmarks = this.#toLandmarks(look.landmarks[0], look.boxes[0], picture.size);
      if (beyond(look.boxes[0], picture.size) > HIDDEN) {
        landmarks = await this.#place(picture, look.boxes[0], landmarks);
      }
      followed.push({ box, landmarks, score: look.scores[0], turned: 0 });
    }
    return followed;
  }

  /** @param {Picture} picture @param {boolean} uprightOnly @param {number} [minFace] @returns {Promise<Found[]>} */
  async #searchUpright(picture, uprightOnly, minFace) {
    const seen = this.#reduce(picture);
    const smallest = smallestOf(seen.size, minFace);
    if (Math.min(...seen.size) < smallest) return [];
    const [across, down] = [picture.width / seen.width, picture.height / seen.height];
    const hits = (await this.cascade.search(seen, smallest))
      .map(({ box, score, points }) => ({
        box: box.map((end, k) => end * (k % 2 ? down : across)),
        score,
        landmarks: points.map(([x, y]) => /** @type {Point} */ ([x * across, y * down])),
      }))
      .filter(({ box, score }) => score >= this.minScore && areaOf(within(box, picture.size)) > 0)
      .sort((a, b) => areaOf(within(b.box, picture.size)) - areaOf(within(a.box, picture.size)));
    const upright = hits.map((hit) => uprightOnly || hit.score >= CERTAIN);
    const looks = await this.#ask(picture, hits.map((hit) => hit.box), upright);
    const found = hits.map((hit, number) => this.#judge(hit, looks[number], picture.size));
    for (const [number, { detection }] of found.entries()) {
      const { box } = hits[number];
      if (!detection.turned && beyond(box, picture.size) > HIDDEN) {
        detection.landmarks = await this.#place(picture, box, /** @type {Point[]} */ (detection.landmarks));
      }
    }
    return found;
  }

  /**
   * Landmarks of an upright face of which much is hidden.
   *
   * @param {Picture} picture @param {number[]} box @param {Point[]} known Those of the last network.
   */
  async #place(picture, box, known) {
    const network = await this.openCutFaces();
    let { middle, side } = squareOf(box);
    const largest = AGREED * side;
    /** @type {Point[]} */
    let landmarks = [];
    for (const scales of ROUNDS) {
      const [center, length] = [middle, side];
      const lengths = scales.map((scale) => scale * length);
      const crops = lengths.map((own) => cutSquare(picture, [
        center[0] - own / 2, center[1] - own / 2, center[0] + own / 2, center[1] + own / 2,
      ]));
      const answers = (await this.cascade.place(network, crops)).map((points, k) =>
        points.map(([x, y]) => [center[0] + lengths[k] * (x - 0.5), center[1] + lengths[k] * (y - 0.5)]),
      );
      landmarks = answers[0].map((_, k) => middleOf(answers.map((points) => points[k])));
      const [[ex, ey], [mx, my]] = [middleOf(landmarks.slice(0, 2)), middleOf(landmarks.slice(3))];
      middle = [(ex + mx) / 2, (ey + my) / 2];
      // a network that is lost says anything
      side = Math.min(Math.max(SQUARE * Math.hypot(ex - mx, ey - my), 0.5 * length), 2 * length);
    }
    const apart = landmarks.map(([x, y], k) => Math.hypot(x - known[k][0], y - known[k][1]));
    return Math.max(...apart) < largest ? landmarks.map((point, k) => middleOf([point, known[k]])) : landmarks;
  }

  /** @param {Picture} picture */
  #reduce(picture) {
    const longest = Math.max(...picture.size);
    if (longest <= this.maxSide) return picture;
    const ratio = this.maxSide / longest;
    const [width, height] = picture.size.map((side) => Math.max(roundHalfEven(side * ratio), 1));
    return picture.resize([width, height], 'bicubic', undefined, 2);
  }

  /**
   * What the last network says of faces in each turn, with another look at those that do not look best upright.
   *
   * @param {Picture} picture @param {number[][]} boxes @param {boolean[]} upright @returns {Promise<Look[]>}
   */
  async #ask(picture, boxes, upright) {
    const looks = await this.#look(picture, boxes.map((box) => [box]), upright);
    const again = looks.map((_, number) => number).filter((number) => argmax(looks[number].odds));
    const seconds = await this.#look(
      picture,
      again.map((number) => looks[number].boxes),
      again.map((number) => upright[number]),
    );
    again.forEach((number, k) => {
      const { first, odds } = looks[number];
      looks[number] = { ...seconds[k], first, odds: odds.map((value, turn) => value + seconds[k].odds[turn]) };
    });
    return looks;
  }

  /**
   * A look at each face in each turn, in the square around its box, of which there is one, or one a turn.
   *
   * @param {Picture} picture @param {(readonly number[])[][]} boxes @param {boolean[]} upright @returns {Promise<Look[]>}
   */
  async #look(picture, boxes, upright) {
    const crops = [];
    /** @type {[number, number][]} */
    const asked = [];
    for (const [face, own] of boxes.entries()) {
      const cuts = own.map((box) => cutSquare(picture, box));
      for (let turn = 0; turn < (upright[face] ? 1 : 4); turn++) {
        crops.push(turnCrop(cuts[turn % own.length], turn));
        asked.push([face, turn]);
      }
    }
    const answers = await this.cascade.look(crops);
    // one that is not asked about is no face
    /** @type {Look[]} */
    const looks = boxes.map(() => ({ first: 0, odds: [], scores: [0, 0, 0, 0], boxes: [], landmarks: [] }));
    asked.forEach(([face, turn], k) => {
      const { score, moves, points } = answers[k];
      const { middle, side } = squareOf(boxes[face][turn % boxes[face].length]);
      const ends = [[moves[0], moves[1]], [moves[2] + 1, moves[3] + 1]];
      // from the crop as the network saw it to the picture
      const placed = [...ends, ...points].map((point) => {
        let [x, y] = [point[0] - 0.5, point[1] - 0.5];
        for (let quarter = 0; quarter < turn; quarter++) [x, y] = [y, -x];
        return /** @type {Point} */ ([middle[0] + side * x, middle[1] + side * y]);
      });
      const [xs, ys] = [0, 1].map((axis) => placed.slice(0, 2).map((point) => point[axis]));
      looks[face].scores[turn] = score;
      looks[face].boxes[turn] = [Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)];
      looks[face].landmarks[turn] = placed.slice(2);
    });
    for (const look of looks) {
      look.odds = look.scores.map(logOdds);
      look.first = look.odds[0];
    }
    return looks;
  }

  /**
   * A face by what the search and a look say of it.
   *
   * @param {{box: number[], score: number, landmarks: Point[]}} hit @param {Look} look @param {Size} size
   * @returns {Found}
   */
  #judge(hit, look, size) {
    const [searched, outside] = [logOdds(hit.score), beyond(hit.box, size)];
    // the looks alone are easily wrong about what is left of a face
    const odds = look.odds.map((value, turn) => (turn || outside <= HIDDEN ? value : value + searched));
    const turn = turnOf({ ...look, odds });
    let { box, score, landmarks } = hit;
    if (turn) {
      [box, score, landmarks] = [look.boxes[turn], look.scores[turn], look.landmarks[turn]];
    } else if (outside > CUT) {
      // what the edge hides is guessed: two guesses are better than one
      landmarks = landmarks.map(([x, y], k) => [(x + look.landmarks[0][k][0]) / 2, (y + look.landmarks[0][k][1]) / 2]);
    } else {
      landmarks = look.landmarks[0];
    }
    return {
      detection: {
        box: within(box, size),
        landmarks: this.#toLandmarks(landmarks, box, size),
        score,
        turned: 90 * turn,
      },
      odds: searched + look.first,
      doubtful: argmax(odds) > 0,
    };
  }

  /**
   * Landmarks with a mouth beyond the picture's edge where the eyes say.
   *
   * @param {Point[]} points @param {number[]} box @param {Size} size @returns {Point[]}
   */
  #toLandmarks(points, box, size) {
    const longest = Math.max(box[2] - box[0], box[3] - box[1]);
    const hidden = points.map((point) =>
      Math.max(...point.map((end, k) => Math.abs(end - Math.min(Math.max(end, 0), size[k])) / longest)),
    );
    if (hidden[0] || hidden[1]) return points;
    const [left, right] = this.template;
    const norm = (right[0] - left[0]) ** 2 + (right[1] - left[1]) ** 2;
    const [ex, ey] = [points[1][0] - points[0][0], points[1][1] - points[0][1]];
    const [tx, ty] = [right[0] - left[0], right[1] - left[1]];
    const [a, b] = [(ex * tx + ey * ty) / norm, (ey * tx - ex * ty) / norm];
    return points.map((point, k) => {
      if (k < 3) return point;
      const [x, y] = [this.template[k][0] - left[0], this.template[k][1] - left[1]];
      const usual = [points[0][0] + a * x - b * y, points[0][1] + a * y + b * x];
      const trust = Math.exp(-hidden[k] / TRUST);
      return [trust * point[0] + (1 - trust) * usual[0], trust * point[1] + (1 - trust) * usual[1]];
    });
  }
}

/** How far a box extends beyond the picture, in shares of its longer side. @param {number[]} box @param {Size} size */
function beyond(box, size) {
  const inside = within(box, size);
  return Math.max(...box.map((end, k) => Math.abs(end - inside[k]))) / Math.max(box[2] - box[0], box[3] - box[1]);
}

/** @param {number[][]} points */
function middleOf(points) {
  const [x, y] = [0, 1].map((axis) => points.reduce((sum, point) => sum + point[axis], 0) / points.length);
  return /** @type {Point} */ ([x, y]);
}

/** @param {Size} size @param {number} [minFace] */
function smallestOf(size, minFace) {
  if (minFace === undefined) return Math.max(20, Math.max(...size) / 50);
  return minFace < 1 ? minFace * Math.min(...size) : minFace;
}

/** By how many quarters a face is turned. @param {Look} look */
function turnOf({ odds, scores }) {
  const turn = argmax(odds);
  return odds[turn] - odds[0] > TURNED && scores[turn] > 0.9 ? turn : 0;
}

/**
 * A face that was found in a picture that was turned back by so many degrees.
 *
 * @param {Found} face
 * @param {number} turned
 * @param {Size} size
 * @returns {Found}
 */
function turnBack(face, turned, size) {
  const { box, landmarks, score } = face.detection;
  /** @type {Size} */
  const seen = turned % 180 ? [size[1], size[0]] : size;
  const [[x1, y1], [x2, y2]] = turnPoints([[box[0], box[1]], [box[2], box[3]]], turned, seen);
  const detection = {
    box: /** @type {Box} */ ([Math.min(x1, x2), Math.min(y1, y2), Math.max(x1, x2), Math.max(y1, y2)]),
    landmarks: landmarks && turnPoints(landmarks, turned, seen),
    score,
    turned: (face.detection.turned + turned) % 360,
  };
  return { ...face, detection };
}

/** @param {readonly number[]} box */
function squareOf([x1, y1, x2, y2]) {
  return { middle: [(x1 + x2) / 2, (y1 + y2) / 2], side: Math.max(x2 - x1, y2 - y1) };
}

/** The square around a box as the last network wants it. @param {Picture} picture @param {readonly number[]} box */
function cutSquare(picture, box) {
  const { middle, side } = squareOf(box);
  const square = [middle[0] - side / 2, middle[1] - side / 2, middle[0] + side / 2, middle[1] + side / 2];
  // the part of the picture that it shows, and what goes into its outermost pixels
  const low = [0, 1].map((k) => Math.min(Math.max(Math.floor(square[k] - side / LOOK), 0), picture.size[k] - 1));
  const high = [0, 1].map((k) =>
    Math.min(Math.max(Math.ceil(square[k + 2] + side / LOOK), low[k] + 1), picture.size[k]),
  );
  const shrink = Math.min((2 * LOOK) / side, 1);
  const [width, height] = [0, 1].map((k) => Math.ceil((high[k] - low[k]) * shrink));
  const part = picture.resize([width, height], 'bicubic', [low[0], low[1], high[0], high[1]], 3);
  const scale = [width / (high[0] - low[0]), height / (high[1] - low[1])];
  return cut(part, square.map((end, k) => (end - low[k % 2]) * scale[k % 2]));
}

/**
 * A crop `(3, LOOK, LOOK)` turned clockwise by so many quarters.
 *
 * @param {Float32Array} crop
 * @param {number} quarters
 */
function turnCrop(crop, quarters) {
  if (!quarters) return crop;
  const turned = new Float32Array(crop.length);
  const last = LOOK - 1;
  for (let at = 0; at < crop.length; at++) {
    const x = at % LOOK;
    const y = Math.floor(at / LOOK) % LOOK;
    const u = quarters === 1 ? y : quarters === 2 ? last - x : last - y;
    const v = quarters === 1 ? last - x : quarters === 2 ? last - y : x;
    turned[at] = crop[at - (at % (LOOK * LOOK)) + v * LOOK + u];
  }
  return turned;
}

/** @param {number} score */
function logOdds(score) {
  const bounded = Math.min(Math.max(score, 1 - CERTAIN), CERTAIN);
  return Math.log(bounded / (1 - bounded));
}

/** @param {number[]} values */
function argmax(values) {
  return values.indexOf(Math.max(...values));
}

/** The part of a box that a picture of this size has. @param {readonly number[]} box @param {Size} size */
function within(box, [width, height]) {
  return /** @type {Box} */ (
    /** @type {unknown} */ (box.map((end, k) => Math.min(Math.max(end, 0), k % 2 ? height : width)))
  );
}

/** @param {readonly number[]} box */
function areaOf([x1, y1, x2, y2]) {
  return Math.max(x2 - x1, 0) * Math.max(y2 - y1, 0);
}
