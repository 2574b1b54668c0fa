/**
 * From a photo to the age of every face in it.
 *
 * @typedef {import('./detect.js').Detection} Detection
 * @typedef {import('./picture.js').Box} Box
 * @typedef {object} Face A face and its age; names as in Python's `Face.to_dict()`.
 * @property {number | null} age Years, clamped to [0, V]; null if the network gave no number, as all others.
 * @property {number | null} raw_age Raw output of the network, years.
 * @property {boolean} in_range Whether `raw_age` is within [0, V].
 * @property {number} V Upper end of the range of the weights, years.
 * @property {Box} box x1, y1, x2, y2 in pixels of the upright photo.
 * @property {[number, number][] | null} landmarks Left eye, right eye, nose, left and right corner of the mouth.
 * @property {number} score Confidence of the detector, in [0, 1].
 * @property {boolean} aligned Whether the face was aligned by its landmarks.
 * @property {number} turned Rotation of the face in the photo, degrees counterclockwise: 0, 90, 180 or 270.
 * @property {number} visible Share of the crop that lies within the photo, in [0, 1].
 * @property {number} side Side of what the crop shows, pixels of the photo.
 * @property {[number, number] | null} interval The 90% prediction interval, years.
 * @property {number | null} oddness About 1 for an ordinary face.
 * @property {boolean | null} reliable False if there are doubts; null if the weights have no calibration.
 * @property {string[] | null} doubts Reasons not to trust the age.
 * @property {import('./stages.js').Stage[]} stages Their contributions add up to `raw_age`.
 * @property {ImageData | {width: number, height: number, data: Uint8ClampedArray}} crop What the network saw.
 *
 * @typedef {object} Options
 * @property {string | URL | import('./model.js').Files} [model] Folder of the files that `scripts/build_browser.py`
 *   writes, or their contents; default: this package's.
 * @property {number} [maxPixels] Largest photo, width x height.
 * @property {number} [minFace] Smallest face to detect, pixels; below 1, a share of the short side.
 * @property {number} [minScore] Lowest score to keep, in [0, 1].
 *
 * @typedef {{uprightOnly?: boolean, minFace?: number}} Search Take all faces as upright, which is faster; another
 *   `minFace` for this photo.
 *
 * @typedef {((photo: import('./photo.js').Photo, options?: Search) => Promise<Face[]>) & {
 *   follow: (photo: import('./photo.js').Photo, boxes: Box[]) => Promise<(Face | null)[]>,
 *   config: {name: string, V: number, license: string},
 * }} AgeEstimator Faces in a photo, largest first. `follow`: those in boxes where they were a moment ago, null where one is gone.
 */
import { Framing, noseOffset } from './align.js';
import { Calibration } from './calibration.js';
import { Detector } from './detect.js';
import { readModel } from './model.js';
import { AgeNetwork, openSession } from './network.js';
import { loadPhoto, MAX_PIXELS } from './photo.js';

export { ConfigError, PhotoError, PhotoTooLargeError, SSRNetHubError } from './errors.js';

const SMALL = 40;
const PROFILE = 0.5;
const LEAST_VISIBLE = 5 / 6;
const LEVEL = 0.9;

/**
 * Load the networks.
 *
 * @param {Options} [options]
 * @returns {Promise<AgeEstimator>}
 * @throws {import('./errors.js').ConfigError} The files of the model cannot be read.
 */
export async function createEstimator({ model, maxPixels = MAX_PIXELS, minFace, minScore } = {}) {
  const files = readModel(model);
  // the first to come starts the runtime
  const opened = files.graphs.map(async (graph) => openSession(await graph));
  const [config, age, pnet, rnet, onet] = await Promise.all([files.config, ...opened]);
  const framing = new Framing(config.framing);
  const calibration = config.calibration && new Calibration(config.calibration);
  const network = new AgeNetwork(age, config.input, config.stage_bins);
  // loaded now, for when the server is gone, but opened only for the first face that is cut off
  let cutFaces = files.readCutFaces();
  cutFaces.catch(() => undefined);
  /** @type {Promise<import('./network.js').Session> | undefined} */
  let opening;
  const openCutFaces = () => {
    opening ??= cutFaces.then(openSession);
    opening.catch(() => {
      [opening, cutFaces] = [undefined, files.readCutFaces()];
      cutFaces.catch(() => undefined);
    });
    return opening;
  };
  const detector = new Detector({ pnet, rnet, onet }, openCutFaces, config.template, { minFace, minScore });

  /** @param {import('./picture.js').Picture} picture @param {Detection[]} detections @returns {Promise<Face[]>} */
  async function estimate(picture, detections) {
    const cuts = detections.map(({ box, landmarks, turned }) => ({
      crop: framing.crop(picture, box, landmarks, turned),
      visible: framing.visible(picture.size, box, landmarks, turned),
      side: framing.side(box, landmarks, turned),
    }));
    const answers = await network.estimate(cuts.map(({ crop }) => crop));
    return detections.map((detection, k) => makeFace(detection, cuts[k], answers[k]));
  }

  /**
   * @param {Detection} detection
   * @param {{crop: import('./picture.js').Picture, visible: number, side: number}} cut
   * @param {{age: number, stages: import('./stages.js').Stage[]}} answer
   * @returns {Face}
   */
  function makeFace(detection, { crop, visible, side }, { age: raw, stages }) {
    const { V } = config;
    const age = Math.min(Math.max(raw, 0), V);
    return {
      age: orNull(age),
      raw_age: orNull(raw),
      in_range: age === raw,
      V,
      box: detection.box,
      landmarks: detection.landmarks,
      score: detection.score,
      aligned: detection.landmarks !== null && framing.template !== null,
      turned: detection.turned,
      visible,
      side,
      ...judge(detection, { crop, visible, side }, age, stages),
      stages,
      crop: crop.toImageData(),
    };
  }

  /**
   * How far an age is to be trusted.
   *
   * @param {Detection} detection
   * @param {{crop: import('./picture.js').Picture, visible: number, side: number}} cut
   * @param {number} age
   * @param {import('./stages.js').Stage[]} stages
   * @returns {Pick<Face, 'interval' | 'oddness' | 'reliable' | 'doubts'>}
   */
  function judge({ landmarks }, { crop, visible, side }, age, stages) {
    if (!calibration) return { interval: null, oddness: null, reliable: null, doubts: null };
    const description = calibration.describe(stages, crop);
    const told = calibration.doubt(age, description);
    let doubts = told.map((doubt) => (doubt === 'blurred' && side < SMALL ? 'small' : doubt));
    if (landmarks && noseOffset(landmarks) > PROFILE) doubts.push('profile');
    if (visible < LEAST_VISIBLE) {
      // the black beyond the edge resembles a face the other way up
      doubts = [...doubts.filter((doubt) => doubt !== 'turned' && doubt !== 'not a face'), 'cut off'];
    }
    const [low, high] = calibration.bounds(age, LEVEL, description);
    return {
      interval: Number.isNaN(age) ? null : [Math.max(low, 0), Math.min(high, config.V)],
      oddness: orNull(calibration.oddness(description)),
      reliable: !doubts.length,
      doubts,
    };
  }

  /** @type {AgeEstimator} */
  const estimator = Object.assign(
    /** @param {import('./photo.js').Photo} photo @param {Search} [options] */
    async (photo, options) => {
      const picture = await loadPhoto(photo, maxPixels);
      return estimate(picture, await detector.detect(picture, options));
    },
    {
      /** @param {import('./photo.js').Photo} photo @param {Box[]} boxes */
      async follow(photo, boxes) {
        const picture = await loadPhoto(photo, maxPixels);
        const found = await detector.follow(picture, boxes);
        const faces = await estimate(picture, found.filter((face) => face !== null));
        return found.map((face) => (face && faces.shift()) ?? null);
      },
      config: { name: config.name, V: config.V, license: config.license },
    },
  );
  return estimator;
}

/** @param {number} value */
function orNull(value) {
  return Number.isFinite(value) ? value : null;
}
