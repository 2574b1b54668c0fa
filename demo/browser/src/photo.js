/**
 * Anything a person may call a photo to upright pixels, with their colors as they are stored; a port of
 * `ssrnet_hub/images/loading.py` to what a browser decodes.
 *
 * @typedef {Blob | ImageData | CanvasImageSource | {width: number, height: number, data: Uint8ClampedArray}} Photo
 *   A file, an `<img>`, a canvas, a bitmap, a video frame, or RGBA pixels.
 */
import { PhotoError, PhotoTooLargeError } from './errors.js';
import { Picture } from './picture.js';

/** Default limit on the size of a photo, width x height. */
export const MAX_PIXELS = 120_000_000;

/**
 * @param {Photo} photo
 * @param {number} [maxPixels]
 * @returns {Promise<Picture>}
 * @throws {PhotoTooLargeError} It has more pixels than `maxPixels`, or than this browser holds.
 * @throws {PhotoError} It is no picture, or a damaged one.
 */
export async function loadPhoto(photo, maxPixels = MAX_PIXELS) {
  if (photo instanceof Picture) return photo;
  if ('data' in photo && photo.data instanceof Uint8ClampedArray) {
    check(photo.width, photo.height, maxPixels);
    return new Picture(photo.width, photo.height, photo.data);
  }
  const isFile = typeof Blob !== 'undefined' && photo instanceof Blob;
  const source = isFile ? await decode(photo, maxPixels) : /** @type {CanvasImageSource} */ (photo);
  try {
    const [width, height] = sizeOf(source);
    check(width, height, maxPixels);
    return draw(source, width, height);
  } finally {
    if (isFile) /** @type {ImageBitmap} */ (source).close();
  }
}

/**
 * A file as an upright bitmap.
 *
 * @param {Blob} file
 * @param {number} maxPixels
 * @returns {Promise<ImageBitmap>}
 */
export async function decode(file, maxPixels) {
  if (!file.size) throw new PhotoError('The photo is empty: 0 bytes.');
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { colorSpaceConversion: 'none', imageOrientation: 'from-image' });
  } catch (error) {
    throw new PhotoError('The photo is damaged, or of a format that this browser does not read.', { cause: error });
  }
  check(bitmap.width, bitmap.height, maxPixels);
  return bitmap;
}

/** @param {any} source @returns {[number, number]} */
function sizeOf(source) {
  return [
    source.naturalWidth ?? source.videoWidth ?? source.displayWidth ?? source.width,
    source.naturalHeight ?? source.videoHeight ?? source.displayHeight ?? source.height,
  ];
}

/** @param {number} width @param {number} height @param {number} maxPixels */
function check(width, height, maxPixels) {
  if (!(width > 0 && height > 0)) throw new PhotoError(`The photo has no pixels: ${width}x${height}.`);
  if (width * height > maxPixels) {
    throw new PhotoTooLargeError(`The photo has ${width}x${height} pixels, more than ${maxPixels} are not read.`);
  }
}

/** @type {OffscreenCanvasRenderingContext2D | undefined} */
let context;

/** @param {CanvasImageSource} source @param {number} width @param {number} height */
function draw(source, width, height) {
  try {
    if (context?.canvas.width !== width || context.canvas.height !== height) {
      context = /** @type {OffscreenCanvasRenderingContext2D} */ (
        new OffscreenCanvas(width, height).getContext('2d', { willReadFrequently: true })
      );
    }
    // what is transparent is laid over white
    context.fillStyle = '#fff';
    context.fillRect(0, 0, width, height);
    context.drawImage(source, 0, 0);
    return new Picture(width, height, context.getImageData(0, 0, width, height).data);
  } catch (error) {
    context = undefined;
    if (/** @type {Error} */ (error).name === 'SecurityError') {
      throw new PhotoError('The photo is from another site, which does not allow it to be read.', { cause: error });
    }
    const message = `This browser has no room for a photo of ${width}x${height} pixels.`;
    throw new PhotoTooLargeError(message, { cause: error });
  }
}
