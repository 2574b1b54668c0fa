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
 */
import { ConfigError } from './errors.js';

// written out, so that bundlers find them
const FILES = {
  config: new URL('../model/config.json', import.meta.url),
  model: new URL('../model/model.onnx', import.meta.url),
  pnet: new URL('../model/pnet.onnx', import.meta.url),
  rnet: new URL('../model/rnet.onnx', import.meta.url),
  onet: new URL('../model/onet.onnx', import.meta.url),
};

/**
 * @param {string | URL} [folder]
 * @returns {Promise<{config: Config, graphs: Record<'model' | 'pnet' | 'rnet' | 'onet', Uint8Array>}>}
 */
export async function readModel(folder) {
  const base = folder === undefined ? undefined : new URL(`${folder}`.replace(/\/?$/, '/'), globalThis.location?.href);
  /** @param {keyof typeof FILES} name */
  const find = (name) => read(base ? new URL(FILES[name].pathname.replace(/.*\//, ''), base) : FILES[name]);
  const [config, model, pnet, rnet, onet] = await Promise.all([
    find('config'), find('model'), find('pnet'), find('rnet'), find('onet'),
  ]);
  return { config: JSON.parse(new TextDecoder().decode(config)), graphs: { model, pnet, rnet, onet } };
}

/** @param {URL} url @returns {Promise<Uint8Array>} */
async function read(url) {
  try {
    if (url.protocol === 'file:') {
      const { readFile } = await import('node:fs/promises');
      return await readFile(url);
    }
    const response = await fetch(url);
    if (!response.ok) throw new Error(`${response.status} ${response.statusText}`);
    return new Uint8Array(await response.arrayBuffer());
  } catch (error) {
    throw new ConfigError(`${url} cannot be read: is the folder of the model complete?`, { cause: error });
  }
}
