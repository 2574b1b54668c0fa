// @vladmandic/human on WebAssembly: BlazeFace, FaceMesh, and FaceRes, with faces turned upright.

import { readFileSync } from 'node:fs';
import path from 'node:path';
import { answer, load } from './photos.mjs';

const folder = process.argv[2];
const { Human } = load(folder, '@vladmandic/human/dist/human.node-wasm.js');
const models = 'http://models.invalid/';

// its WebAssembly build loads models from URLs only: map these to files of the package, and fetch nothing else
globalThis.fetch = async (address) => {
  if (!String(address).startsWith(models)) throw new Error(`Not fetched: ${address}`);
  const name = path.basename(new URL(address).pathname);
  return new Response(readFileSync(path.join(folder, 'node_modules/@vladmandic/human/models', name)));
};

const off = { enabled: false };
const human = new Human({
  backend: 'wasm',
  wasmPath: path.join(folder, 'node_modules/@tensorflow/tfjs-backend-wasm/dist/'),
  modelBasePath: models,
  // consecutive photos are unrelated
  cacheSensitivity: 0,
  filter: off,
  gesture: off,
  body: off,
  hand: off,
  object: off,
  segmentation: off,
  face: {
    detector: { rotation: true, maxDetected: 10 },
    iris: off,
    emotion: off,
  },
});
await human.load();
if (human.tf.getBackend() !== 'wasm') throw new Error('There is no WebAssembly backend.');

await answer(human.tf, async (photo) => {
  const { face, error } = await human.detect(photo);
  if (error) throw new Error(error);
  return face.map(({ box: [x, y, width, height], age }) => ({
    box: [x, y, x + width, y + height],
    ages: { human: age ?? null },
  }));
});
