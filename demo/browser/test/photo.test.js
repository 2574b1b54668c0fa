import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PhotoError, PhotoTooLargeError } from '../src/errors.js';
import { loadPhoto } from '../src/photo.js';

const pixels = (width, height) => ({ width, height, data: new Uint8ClampedArray(4 * width * height) });

test('pixels are taken as they are', async () => {
  const picture = await loadPhoto(pixels(3, 2));
  assert.deepEqual(picture.size, [3, 2]);
});

test('what is no photo is refused', async () => {
  await assert.rejects(loadPhoto(new Blob([])), PhotoError);
  await assert.rejects(loadPhoto(new Blob(['no photo'])), PhotoError);
  await assert.rejects(loadPhoto(pixels(0, 5)), /no pixels/);
  await assert.rejects(loadPhoto(pixels(20, 20), 399), PhotoTooLargeError);
});
