/**
 * Networks in ONNX Runtime, and the pixels that they want to see.
 *
 * @typedef {import('onnxruntime-web/wasm').Tensor} OrtTensor
 * @typedef {{run: (inputs: Record<string, OrtTensor>) => Promise<Record<string, OrtTensor>>}} Session
 */
import { roundHalfEven } from './align.js';
import { env, InferenceSession, Tensor } from './ort.js';
import { splitStages } from './stages.js';

/** @typedef {{channels: number, size: number, scaled: number, interpolation: string}} InputConfig */

let opening = Promise.resolve();

/**
 * Open a graph.
 *
 * @param {Uint8Array} graph
 * @returns {Promise<Session>}
 */
export async function openSession(graph) {
  // several threads need memory that they share, which a page has with COOP and COEP alone
  env.wasm.numThreads = globalThis.crossOriginIsolated ? Math.min(navigator.hardwareConcurrency, 4) : 1;
  env.logLevel = 'error';
  // one at a time, as the runtime starts with the first
  const session = opening.then(() => InferenceSession.create(graph, { executionProviders: ['wasm'] }));
  opening = session.then(() => undefined, () => undefined);
  const opened = await session;
  let running = Promise.resolve();
  return {
    run(inputs) {
      // a session answers one question at a time
      const answer = running.then(() => opened.run(inputs));
      running = answer.then(() => undefined, () => undefined);
      return answer;
    },
  };
}

/** The weights that estimate ages. */
export class AgeNetwork {
  /** @param {Session} session @param {InputConfig} input @param {number[]} stageBins */
  constructor(session, input, stageBins) {
    this.session = session;
    this.input = input;
    this.stageBins = stageBins;
  }

  /**
   * @param {import('./picture.js').Picture[]} crops
   * @returns {Promise<{age: number, stages: import('./stages.js').Stage[]}[]>} Years, not clamped.
   */
  async estimate(crops) {
    const answers = [];
    // as many at a time as ONNX Runtime's memory stays small with
    for (let start = 0; start < crops.length; start += 16) {
      const part = crops.slice(start, start + 16).map((crop) => this.#prepare(crop));
      const { channels, size } = this.input;
      const pixels = new Uint8Array(part.length * size * size * channels);
      part.forEach((own, number) => pixels.set(own, number * own.length));
      const tensor = new Tensor('uint8', pixels, [part.length, size, size, channels]);
      const answer = await this.session.run({ pixels: tensor });
      const stages = splitStages(answer, part.length, this.stageBins);
      answers.push(...stages.map((own, number) => ({ age: Number(answer.age.data[number]), stages: own })));
    }
    return answers;
  }

  /** @param {import('./picture.js').Picture} crop */
  #prepare(crop) {
    const { channels, size, scaled, interpolation } = this.input;
    const picture = (channels === 1 ? crop.toGray() : crop).resize([scaled, scaled], interpolation);
    const start = roundHalfEven((scaled - size) / 2);
    const { data } = picture.crop([start, start, start + size, start + size]);
    if (channels === 1) return data;
    const colors = new Uint8Array(3 * size * size);
    for (let p = 0, q = 0; p < data.length; p += 4, q += 3) {
      colors[q] = data[p];
      colors[q + 1] = data[p + 1];
      colors[q + 2] = data[p + 2];
    }
    return colors;
  }
}
