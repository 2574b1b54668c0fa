/**
 * The estimator in a thread of its own, so that the page answers while it works.
 *
 * @typedef {{id: number, photo: ImageBitmap, seconds?: number, restart?: boolean}} Request With `seconds`, a frame of a
 *   camera.
 * @typedef {{id: number, faces?: import('./estimator.js').Face[], sightings?: import('./track.js').Sighting[],
 *   photo?: ImageBitmap, error?: {name: string, message: string}}} Reply A frame comes back, to be drawn.
 */
import { createEstimator } from './estimator.js';
import { AgeTracker } from './track.js';

const ready = createEstimator();
/** @type {AgeTracker | undefined} */
let tracker;

ready.then(
  ({ config }) => postMessage({ id: 0, config }),
  (error) => postMessage({ id: 0, error: describe(error) }),
);

addEventListener('message', async (/** @type {MessageEvent<Request>} */ { data }) => {
  const { id, photo, seconds, restart } = data;
  try {
    const estimator = await ready;
    if (restart || !tracker) tracker = new AgeTracker(estimator);
    if (seconds !== undefined) {
      postMessage({ id, sightings: await tracker.track(photo, seconds), photo }, { transfer: [photo] });
      return;
    }
    postMessage({ id, faces: await estimator(photo) });
  } catch (error) {
    postMessage({ id, error: describe(/** @type {Error} */ (error)) });
  }
  photo.close();
});

/** @param {Error} error */
function describe({ name, message }) {
  return { name, message };
}
