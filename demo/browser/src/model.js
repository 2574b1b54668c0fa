/**
 * The files of a model, as `scripts/build_browser.py` writes them.
 *
 * @typedef {object} Config
 * @property {string} name Of the weights.
 * @property {string} license
 * @property {number} V Upper end of their range, years.
 * @property {number[]} stage_bins
 * @property {import('./network.js').InputConfig} input
 * @property {{size: number, template: [number, number][] | null, margin: number}} framing
 * @property {[number, number][]} template Where landmarks of an upright face are, for the detector.
 * @property {ConstructorParameters<typeof import('./calibration.js').Calibration>[0] | null} calibration
 *
 * @typedef {Record<'config.json' | 'model.onnx' | 'pnet.onnx' | 'rnet.onnx' | 'onet.onnx' | 'cut_faces.onnx', Uint8Array>} Files
 */
import { ConfigError } from './errors.js';

// written out, so that bundlers find them
const OWN = {
  'config.json': new URL('../model/config.json', import.meta.url),
  'model.onnx': new URL('../model/model.onnx', import.meta.url),
  'pnet.onnx': new URL('../model/pnet.onnx', import.meta.url),
  'rnet.onnx': new URL('../model/rnet.onnx', import.meta.url),
  'onet.onnx': new URL('../model/onet.onnx', import.meta.url),
  'cut_faces.onnx': new URL('../model/cut_faces.onnx', import.meta.url),
};

/**
 * @param {string | URL | Files} [model] Where they are, or they themselves; this package's by default.
 * @returns {{config: Promise<Config>, graphs: Promise<Uint8Array>[], readCutFaces: () => Promise<Uint8Array>}} The
 *   graphs of `model`, `pnet`, `rnet` and `onet`, each as it comes; that of `cut_faces` is read on request.
 */
export function readModel(model) {
  /** @param {keyof Files} name */
  const load = async (name) => {
    if (model === undefined) return read(OWN[name]);
    if (typeof model === 'string' || model instanceof URL) {
      return read(new URL(name, new URL(`${model}`.replace(/\/?$/, '/'), globalThis.location?.href)));
    }
    return model[name];
  };
  return {
    config: load('config.json').then((text) => JSON.parse(new TextDecoder().decode(text))),
    graphs: [load('model.onnx'), load('pnet.onnx'), load('rnet.onnx'), load('onet.onnx')],
    readCutFaces: () => load('cut_faces.onnx'),
  };
}

/** @param {URL} url */
async function read(url) {
  try {
    const response = await fetch(url);
    if (!response.ok) throw new Error(`${response.status} ${response.statusText}`);
    return new Uint8Array(await response.arrayBuffer());
  } catch (error) {
    throw new ConfigError(`${url} cannot be loaded: is the folder of the model complete?`, { cause: error });
  }
}
