/**
 * The same answers as Python's, on what SSRNET_HUB_CASES holds: the files of a model, `cases.json` and raw pixels.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { Framing } from '../src/align.js';
import { createEstimator } from '../src/estimator.js';
import { Picture } from '../src/picture.js';

const folder = process.env.SSRNET_HUB_CASES;
const skip = folder ? false : 'SSRNET_HUB_CASES is not set: the Python tests set it';
const cases = skip ? {} : JSON.parse(readFileSync(join(folder, 'cases.json'), 'utf-8'));
const read = (name) => new Uint8ClampedArray(readFileSync(join(folder, name)));

/** The largest difference between two arrays of numbers, nested alike. */
function difference(a, b) {
  const [x, y] = [a.flat(), b.flat()];
  assert.equal(x.length, y.length);
  return x.reduce((most, value, k) => Math.max(most, Math.abs(value - y[k])), 0);
}

test('pictures are resized, reduced and turned to the bit', { skip }, () => {
  const { width, height } = cases.picture;
  const picture = new Picture(width, height, read('picture.rgba'));
  for (const { file, method, arguments: given, channels } of cases.arithmetic) {
    const source = channels === 1 ? picture.toGray() : picture;
    const result = source[method](...given);
    const values = (result.data ?? result).filter((_, k) => !result.data || channels === 1 || k % 4 < 3);
    assert.deepEqual(Buffer.from(values), readFileSync(join(folder, file)), `${method} ${JSON.stringify(given)}`);
  }
});

test('faces are cut out to the bit', { skip }, () => {
  const { width, height } = cases.picture;
  const picture = new Picture(width, height, read('picture.rgba'));
  for (const { file, framing, box, landmarks, turned, visible, side } of cases.crops) {
    const own = new Framing(framing);
    const { data } = own.crop(picture, box, landmarks, turned);
    const expected = readFileSync(join(folder, file));
    const off = data.filter((_, k) => k % 4 < 3).map((value, k) => Math.abs(value - expected[k]));
    // matrices differ in their last digits, and a pixel in thousands is rounded another way
    assert.ok(Math.max(...off) <= 1 && off.filter(Boolean).length <= off.length / 500, file);
    assert.ok(Math.abs(own.visible(picture.size, box, landmarks, turned) - visible) < 1e-9);
    assert.ok(Math.abs(own.side(box, landmarks, turned) - side) < 1e-6);
  }
});

test('the same faces, ages, intervals and doubts', { skip }, async () => {
  const names = ['config.json', 'model.onnx', 'pnet.onnx', 'rnet.onnx', 'onet.onnx', 'cut_faces.onnx'];
  const model = Object.fromEntries(names.map((name) => [name, readFileSync(join(folder, 'model', name))]));
  const estimator = await createEstimator({ model });
  for (const { file, width, height, faces: expected } of cases.photos) {
    const faces = await estimator({ width, height, data: read(file) });
    assert.equal(faces.length, expected.length, file);
    faces.forEach((face, k) => {
      const other = expected[k];
      const { crop, ...told } = face;
      assert.deepEqual(Object.keys(told).sort(), Object.keys(other).filter((key) => key !== 'gender_score').sort());
      assert.ok(difference(face.box, other.box) < 0.05 && difference(face.landmarks, other.landmarks) < 0.05, file);
      for (const key of ['in_range', 'aligned', 'turned', 'doubts', 'reliable']) assert.deepEqual(face[key], other[key]);
      assert.ok(Math.abs(face.age - other.age) < 0.05, `${file}: ${face.age}, not ${other.age}`);
      assert.ok(Math.abs(face.score - other.score) < 1e-3, file);
      // an exponential, in the hundreds for poor pictures
      assert.ok(Math.abs(Math.log(face.oddness / other.oddness)) < 0.01, `${file}: ${face.oddness}, not ${other.oddness}`);
      assert.ok(difference(face.interval, other.interval) < 0.1);
      assert.ok(Math.abs(face.stages.reduce((sum, { contribution }) => sum + contribution, 0) - face.raw_age) < 1e-3);
      face.stages.forEach((stage, n) => {
        assert.ok(difference([stage.p, stage.eta], [other.stages[n].p, other.stages[n].eta]) < 5e-3);
        assert.ok(Math.abs(stage.width - other.stages[n].width) < 0.05);
      });
      assert.deepEqual([crop.width, crop.height], [cases.size, cases.size]);
    });
    if (faces.length && !faces[0].turned && file !== 'mostly hidden.rgba') {
      // what is followed stays where it is, unless its box shows only a part of it
      const [followed] = await estimator.follow({ width, height, data: read(file) }, [faces[0].box]);
      assert.ok(difference(followed.landmarks, faces[0].landmarks) < 0.1 * faces[0].side, file);
    }
  }
});
