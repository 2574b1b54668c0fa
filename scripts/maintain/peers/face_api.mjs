// @vladmandic/face-api on WebAssembly: SSD, 68 landmarks, and AgeGenderNet, as in its demo/node-wasm.js.

import path from 'node:path';
import { answer, load } from './photos.mjs';

const folder = process.argv[2];
const faceapi = load(folder, '@vladmandic/face-api/dist/face-api.node-wasm.js');
const { tf, nets } = faceapi;

tf.setWasmPaths(path.join(folder, 'node_modules/@tensorflow/tfjs-backend-wasm/dist/'));
if (!(await tf.setBackend('wasm'))) throw new Error('There is no WebAssembly backend.');
await tf.ready();
const models = path.join(folder, 'node_modules/@vladmandic/face-api/model');
for (const net of [nets.ssdMobilenetv1, nets.faceLandmark68Net, nets.ageGenderNet]) await net.loadFromDisk(models);

// with the default, 0.5, it misses most faces that fill their photo
const options = new faceapi.SsdMobilenetv1Options({ minConfidence: 0.1, maxResults: 10 });
await answer(tf, async (photo) => {
  const faces = await faceapi.detectAllFaces(photo, options).withFaceLandmarks().withAgeAndGender();
  return faces.map(({ detection: { box }, age }) => ({
    box: [box.left, box.top, box.right, box.bottom],
    ages: { 'face-api': age },
  }));
});
