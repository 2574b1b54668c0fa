/** The thread that does the work. It starts while the rest of the page is on its way. */

// all that it loads, in one step instead of one a level of imports
const MODULES = [
  '../ort/ort.wasm.bundle.min.mjs', 'ort.js', 'errors.js', 'picture.js', 'align.js', 'stages.js', 'network.js',
  'cascade.js', 'detect.js', 'calibration.js', 'model.js', 'photo.js', 'estimator.js', 'track.js', 'worker.js',
];

// A thread of such an address has the page's own policy; one that is loaded from a file would have none.
const source = MODULES.map((name) => `import ${JSON.stringify(new URL(name, import.meta.url).href)};\n`);

export const worker = new Worker(URL.createObjectURL(new Blob(source, { type: 'text/javascript' })), { type: 'module' });
