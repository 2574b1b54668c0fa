/**
 * People before a camera: found by a search now and then, followed between searches, and their ages smoothed over time,
 * as `ssrnet_hub/inference/tracking.py` does.
 *
 * @typedef {import('./estimator.js').Face} Face
 * @typedef {{person: number, face: Face, age: number}} Sighting A person, numbered from 1, and the smoothed age, years.
 */

/** Overlap from which two boxes are of one person. */
const SAME = 0.3;

/** Follows the people in one film. */
export class AgeTracker {
  /**
   * @param {import('./estimator.js').AgeEstimator} estimator
   * @param {{memory?: number, patience?: number, every?: number, minFace?: number}} [options] Time constant of the mean
   *   of ages; after how long a person who is not seen gets a new number; how often all of a frame is searched: seconds.
   */
  constructor(estimator, { memory = 2, patience = 1, every = 1, minFace = 40 } = {}) {
    this.estimator = estimator;
    this.memory = memory;
    this.patience = patience;
    this.every = every;
    this.minFace = minFace;
    this.searched = -Infinity;
    this.count = 0;
    /**
     * @type {{person: number, box: import('./picture.js').Box, seen: number, added: number, total: number, weight: number}[]}
     */
    this.people = [];
  }

  /**
   * @param {import('./photo.js').Photo} frame
   * @param {number} seconds When it was taken.
   * @returns {Promise<Sighting[]>} The largest face first.
   */
  async track(frame, seconds) {
    const inSight = this.people.filter(({ seen }) => seen === this.last);
    this.last = seconds;
    /** @type {[Face, AgeTracker['people'][number]][]} */
    let pairs;
    if (seconds - this.searched >= this.every) {
      this.searched = seconds;
      pairs = this.#match(await this.estimator(frame, { uprightOnly: true, minFace: this.minFace }), seconds);
    } else {
      const faces = inSight.length ? await this.estimator.follow(frame, inSight.map(({ box }) => box)) : [];
      pairs = inSight.flatMap((person, k) => {
        const face = faces[k];
        return face ? [/** @type {[Face, typeof person]} */ ([face, person])] : [];
      });
    }
    this.people = this.people.filter(({ seen }) => seconds - seen <= this.patience);
    return pairs.flatMap(([face, person]) => {
      person.box = face.box;
      person.seen = seconds;
      if (!this.people.includes(person)) this.people.push(person);
      if (face.age === null) return [];
      const fade = Math.exp(-(seconds - person.added) / this.memory);
      person.total = fade * person.total + face.age;
      person.weight = fade * person.weight + 1;
      person.added = seconds;
      return [{ person: person.person, face, age: person.total / person.weight }];
    });
  }

  /** Who is who, the best overlap first. @param {Face[]} faces @param {number} seconds */
  #match(faces, seconds) {
    const overlaps = faces
      .flatMap((face) => this.people.map((person) => ({ face, person, overlap: overlapOf(face.box, person.box) })))
      .filter(({ overlap }) => overlap >= SAME)
      .sort((a, b) => b.overlap - a.overlap);
    const known = new Map();
    for (const { face, person } of overlaps) {
      if (!known.has(face) && ![...known.values()].includes(person)) known.set(face, person);
    }
    return faces.map((face) => {
      const newcomer = () => ({ person: ++this.count, box: face.box, seen: seconds, added: seconds, total: 0, weight: 0 });
      return /** @type {[Face, AgeTracker['people'][number]]} */ ([face, known.get(face) ?? newcomer()]);
    });
  }
}

/** Intersection over union. @param {readonly number[]} a @param {readonly number[]} b */
function overlapOf(a, b) {
  const across = Math.max(Math.min(a[2], b[2]) - Math.max(a[0], b[0]), 0);
  const down = Math.max(Math.min(a[3], b[3]) - Math.max(a[1], b[1]), 0);
  const shared = across * down;
  return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared);
}
