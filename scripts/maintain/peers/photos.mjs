// Photos in, faces out: the protocol between scripts/maintain/benchmark_peers.py and its processes.
//
// Standard input is a sequence of photos: width and height as 32-bit little-endian integers, then RGB bytes.
// Standard output has a line of JSON per photo, {"faces": [{"box": [x1, y1, x2, y2], "ages": {NAME: years}}]}.

import { readSync, writeSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';

// the libraries log to standard output
console.log = console.error;

/** Load a file of a package installed in a folder, regardless of the package's exports. */
export function load(folder, file) {
  return createRequire(path.join(folder, 'package.json'))(path.join(folder, 'node_modules', file));
}

/** Process photos until the end of the input; find takes an int32 tensor (height, width, 3). */
export async function answer(tf, find) {
  for (let header = read(8); header; header = read(8)) {
    const [width, height] = [header.readUInt32LE(0), header.readUInt32LE(4)];
    const tensor = tf.tensor3d(read(3 * width * height), [height, width, 3], 'int32');
    const faces = await find(tensor);
    tensor.dispose();
    writeSync(1, `${JSON.stringify({ faces })}\n`);
  }
}

function read(size) {
  const bytes = Buffer.alloc(size);
  let done = 0;
  while (done < size) {
    const got = readSync(0, bytes, done, size - done, null);
    if (!got) return null;
    done += got;
  }
  return bytes;
}
