/**
 * The arithmetic of Pillow, to the bit: what Python and this package see of a photo is the same.
 *
 * @typedef {readonly [number, number, number, number]} Box x1, y1, x2, y2 in pixels.
 * @typedef {readonly [number, number]} Size Width and height in pixels.
 */

const PRECISION = 22;

/** @type {Record<string, {support: number, weigh: (x: number) => number}>} */
const FILTERS = {
  bilinear: { support: 1, weigh: (x) => Math.max(1 - Math.abs(x), 0) },
  bicubic: {
    support: 2,
    weigh: (x) => {
      const a = -0.5;
      x = Math.abs(x);
      if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
      return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
    },
  },
};

/**
 * Pixels, row by row; of a photo four bytes each: red, green, blue, and one that is never looked at, as `ImageData` has
 * them; of a gray picture one.
 */
export class Picture {
  /**
   * @param {number} width
   * @param {number} height
   * @param {Uint8ClampedArray} [data] Black without.
   * @param {number} [channels] 4 or 1.
   */
  constructor(width, height, data, channels = 4) {
    this.width = width;
    this.height = height;
    this.channels = channels;
    this.data = data ?? new Uint8ClampedArray(width * height * channels);
  }

  /** @returns {Size} */
  get size() {
    return [this.width, this.height];
  }

  /**
   * @param {Size} size
   * @param {string} filter `"bilinear"` or `"bicubic"`.
   * @param {Box} [box] The part to resize.
   * @param {number} [reducingGap] Average whole pixels first where the result is smaller by more than this factor.
   * @returns {Picture}
   */
  resize(size, filter, box = [0, 0, this.width, this.height], reducingGap) {
    /** @type {Picture} */
    let picture = this;
    if (reducingGap !== undefined) {
      const factors = [0, 1].map((k) => Math.trunc((box[k + 2] - box[k]) / size[k] / reducingGap) || 1);
      if (Math.max(...factors) > 1) {
        const support = FILTERS[filter].support - 0.5;
        const [x, y] = [0, 1].map((k) => (support * (box[k + 2] - box[k])) / size[k]);
        /** @type {Box} */
        const safe = [
          Math.max(0, Math.trunc(box[0] - x)),
          Math.max(0, Math.trunc(box[1] - y)),
          Math.min(this.width, Math.ceil(box[2] + x)),
          Math.min(this.height, Math.ceil(box[3] + y)),
        ];
        picture = this.reduce(factors[0], factors[1], safe);
        box = [
          (box[0] - safe[0]) / factors[0],
          (box[1] - safe[1]) / factors[1],
          (box[2] - safe[0]) / factors[0],
          (box[3] - safe[1]) / factors[1],
        ];
      }
    }
    const [left, top, right, bottom] = box;
    if (left % 1 === 0 && top % 1 === 0 && right - left === size[0] && bottom - top === size[1]) {
      return picture.crop([left, top, right, bottom]);
    }
    const columns = weighAxis(picture.width, left, right, size[0], FILTERS[filter]);
    const rows = weighAxis(picture.height, top, bottom, size[1], FILTERS[filter]);
    if (size[0] !== picture.width || left || right !== size[0]) {
      const first = rows.starts[0];
      const last = rows.starts[size[1] - 1] + rows.counts[size[1] - 1];
      picture = resizeRows(picture, first, last, columns, size[0]);
      for (let y = 0; y < size[1]; y++) rows.starts[y] -= first;
    }
    if (size[1] !== picture.height || top || bottom !== size[1]) picture = resizeColumns(picture, rows, size[1]);
    return picture;
  }

  /**
   * Average blocks of whole pixels.
   *
   * @param {number} across
   * @param {number} down
   * @param {Box} [box]
   * @returns {Picture}
   */
  reduce(across, down, box = [0, 0, this.width, this.height]) {
    const [left, top, right, bottom] = box;
    const { channels, data } = this;
    const size = [Math.ceil((right - left) / across), Math.ceil((bottom - top) / down)];
    const reduced = new Picture(size[0], size[1], undefined, channels);
    const colors = Math.min(channels, 3);
    const whole = across * down;
    const usual = multiplierOf(whole);
    // the usual case, halves, is faster with two colors in one number
    const halves = whole === 4 && across === 2 && channels === 4;
    const from = halves ? wordsOf(data) : undefined;
    const to = halves ? wordsOf(reduced.data) : undefined;
    let q = 0;
    for (let y = 0; y < reduced.height; y++) {
      const y1 = top + y * down;
      const y2 = Math.min(y1 + down, bottom);
      let x = 0;
      if (from && to && y2 - y1 === 2) {
        let p = y1 * this.width + left;
        const row = y * reduced.width;
        for (const last = (right - left) >> 1; x < last; x++, p += 2, q += 4) {
          const [a, b, c, d] = [from[p], from[p + 1], from[p + this.width], from[p + this.width + 1]];
          const even = (a & 0xff00ff) + (b & 0xff00ff) + (c & 0xff00ff) + (d & 0xff00ff) + 0x20002;
          const odd = ((a >> 8) & 0xff) + ((b >> 8) & 0xff) + ((c >> 8) & 0xff) + ((d >> 8) & 0xff) + 2;
          to[row + x] = ((even >> 2) & 0xff00ff) | ((odd << 6) & 0xff00);
        }
      }
      for (; x < reduced.width; x++, q += channels) {
        const x1 = left + x * across;
        const x2 = Math.min(x1 + across, right);
        const count = (y2 - y1) * (x2 - x1);
        const multiplier = count === whole ? usual : multiplierOf(count);
        for (let c = 0; c < colors; c++) {
          let sum = count >> 1;
          for (let v = y1; v < y2; v++) {
            const row = (v * this.width + x1) * channels + c;
            for (let p = row; p < row + (x2 - x1) * channels; p += channels) sum += data[p];
          }
          reduced.data[q + c] = Math.floor((sum * multiplier) / 0x1000000);
        }
      }
    }
    return reduced;
  }

  /**
   * @param {Box} box Whole pixels; black beyond the edge.
   * @returns {Picture}
   */
  crop(box) {
    const [left, top, right, bottom] = box;
    const part = new Picture(right - left, bottom - top, undefined, this.channels);
    const [x1, x2] = [Math.max(left, 0), Math.min(right, this.width)];
    for (let y = Math.max(top, 0); y < Math.min(bottom, this.height) && x1 < x2; y++) {
      const row = this.data.subarray((y * this.width + x1) * this.channels, (y * this.width + x2) * this.channels);
      part.data.set(row, ((y - top) * part.width + x1 - left) * this.channels);
    }
    return part;
  }

  /**
   * @param {number} degrees Counterclockwise: 0, 90, 180 or 270.
   * @returns {Picture}
   */
  rotate(degrees) {
    if (!degrees) return this;
    const { width, height } = this;
    const turned = degrees % 180 ? new Picture(height, width) : new Picture(width, height);
    const from = wordsOf(this.data);
    const to = wordsOf(turned.data);
    for (let y = 0, p = 0; y < height; y++) {
      for (let x = 0; x < width; x++, p++) {
        if (degrees === 90) to[(width - 1 - x) * height + y] = from[p];
        else if (degrees === 180) to[(height - 1 - y) * width + width - 1 - x] = from[p];
        else to[x * height + height - 1 - y] = from[p];
      }
    }
    return turned;
  }

  /**
   * What an affine map shows of the picture, by bicubic interpolation; black beyond the edge.
   *
   * @param {Size} size Of the result.
   * @param {readonly number[]} matrix Six numbers: pixels of the result to those of the picture.
   * @returns {Picture}
   */
  transform(size, matrix) {
    const [a, b, c, d, e, f] = matrix;
    const result = new Picture(...size);
    const { width, height, data } = this;
    const pixels = result.data;
    for (let v = 0, q = 0; v < size[1]; v++) {
      for (let u = 0; u < size[0]; u++, q += 4) {
        const x = a * (u + 0.5) + b * (v + 0.5) + c;
        const y = d * (u + 0.5) + e * (v + 0.5) + f;
        if (!(x >= 0 && x < width && y >= 0 && y < height)) continue;
        const left = Math.floor(x - 0.5);
        const top = Math.floor(y - 0.5);
        const dx = x - 0.5 - left;
        const dy = y - 0.5 - top;
        const p0 = clip(left - 1, width) * 4;
        const p1 = clip(left, width) * 4;
        const p2 = clip(left + 1, width) * 4;
        const p3 = clip(left + 2, width) * 4;
        const r0 = clip(top - 1, height) * width * 4;
        const r1 = clip(top, height) * width * 4;
        const r2 = clip(top + 1, height) * width * 4;
        const r3 = clip(top + 2, height) * width * 4;
        for (let k = 0; k < 3; k++) {
          const value = cubic(
            cubic(data[r0 + p0 + k], data[r0 + p1 + k], data[r0 + p2 + k], data[r0 + p3 + k], dx),
            cubic(data[r1 + p0 + k], data[r1 + p1 + k], data[r1 + p2 + k], data[r1 + p3 + k], dx),
            cubic(data[r2 + p0 + k], data[r2 + p1 + k], data[r2 + p2 + k], data[r2 + p3 + k], dx),
            cubic(data[r3 + p0 + k], data[r3 + p1 + k], data[r3 + p2 + k], data[r3 + p3 + k], dx),
            dy,
          );
          // as Pillow, which cuts fractions off
          pixels[q + k] = value > 0 ? Math.floor(value) : 0;
        }
      }
    }
    return result;
  }

  /** The pixels of a photo as browsers draw them. */
  toImageData() {
    for (let p = 3; p < this.data.length; p += 4) this.data[p] = 255;
    const { width, height, data } = this;
    if (typeof ImageData === 'undefined') return { width, height, data };
    return new ImageData(new Uint8ClampedArray(data), width, height);
  }

  /** @returns {Picture} */
  toGray() {
    if (this.channels === 1) return this;
    const gray = new Picture(this.width, this.height, undefined, 1);
    for (let q = 0, p = 0; q < gray.data.length; q++, p += 4) {
      gray.data[q] = (this.data[p] * 19595 + this.data[p + 1] * 38470 + this.data[p + 2] * 7471 + 0x8000) >> 16;
    }
    return gray;
  }

  /** The saturation of each pixel, 0 to 255, as in HSV. @returns {Uint8Array} */
  saturation() {
    const saturation = new Uint8Array(this.width * this.height);
    for (let q = 0, p = 0; q < saturation.length; q++, p += 4) {
      const colors = [this.data[p], this.data[p + 1], this.data[p + 2]];
      const most = Math.max(...colors);
      if (most) saturation[q] = Math.trunc(Math.fround((most - Math.min(...colors)) / most) * 255);
    }
    return saturation;
  }
}

/**
 * Pixels of four bytes, a number each: red is the lowest byte, as on every machine that runs WebAssembly.
 *
 * @param {Uint8ClampedArray} data
 */
function wordsOf(data) {
  const { buffer, byteOffset, length } = data.byteOffset % 4 ? data.slice() : data;
  return new Uint32Array(buffer, byteOffset, length >> 2);
}

/** Pillow divides by multiplying in 32 bits. @param {number} count */
function multiplierOf(count) {
  return Math.trunc(Math.fround(2 ** 32 / (256 * count)));
}

/** @param {number} place @param {number} size */
function clip(place, size) {
  return place < 0 ? 0 : place < size ? place : size - 1;
}

/** @param {number} a @param {number} b @param {number} c @param {number} d @param {number} t */
function cubic(a, b, c, d, t) {
  return b + t * (-a + c + t * (2 * (a - b) + c - d + t * (-a + b - c + d)));
}

/** @typedef {{starts: Int32Array, counts: Int32Array, weights: Int32Array, step: number}} Weights */

/**
 * Which pixels along an axis make each pixel of the result, and their weights in fixed point.
 *
 * @param {number} length @param {number} from @param {number} to @param {number} size
 * @param {{support: number, weigh: (x: number) => number}} filter
 * @returns {Weights}
 */
function weighAxis(length, from, to, size, filter) {
  [from, to] = [Math.fround(from), Math.fround(to)];
  const scale = Math.fround(to - from) / size;
  const filterScale = Math.max(scale, 1);
  const support = filter.support * filterScale;
  const step = Math.ceil(support) * 2 + 1;
  const [starts, counts] = [new Int32Array(size), new Int32Array(size)];
  const weights = new Int32Array(size * step);
  const values = new Float64Array(step);
  for (let k = 0; k < size; k++) {
    const center = from + (k + 0.5) * scale;
    const first = Math.max(Math.trunc(center - support + 0.5), 0);
    const count = Math.min(Math.trunc(center + support + 0.5), length) - first;
    let total = 0;
    for (let x = 0; x < count; x++) {
      values[x] = filter.weigh((x + first - center + 0.5) * (1 / filterScale));
      total += values[x];
    }
    for (let x = 0; x < count; x++) {
      const share = (total ? values[x] / total : values[x]) * (1 << PRECISION);
      weights[k * step + x] = Math.trunc(share < 0 ? share - 0.5 : share + 0.5);
    }
    starts[k] = first;
    counts[k] = count;
  }
  return { starts, counts, weights, step };
}

/**
 * @param {Picture} picture @param {number} first @param {number} last Rows that are needed.
 * @param {Weights} columns @param {number} width
 */
function resizeRows(picture, first, last, { starts, counts, weights, step }, width) {
  const result = new Picture(width, last - first, undefined, picture.channels);
  const [mix, pixels] = picture.channels === 4 ? [mixColors, wordsOf(picture.data)] : [mixGrays, picture.data];
  for (let y = first, q = 0; y < last; y++) {
    const row = y * picture.width;
    for (let x = 0; x < width; x++, q++) mix(result.data, q, pixels, row + starts[x], 1, weights, x * step, counts[x]);
  }
  return result;
}

/** @param {Picture} picture @param {Weights} rows @param {number} height */
function resizeColumns(picture, { starts, counts, weights, step }, height) {
  const { width } = picture;
  const result = new Picture(width, height, undefined, picture.channels);
  const [mix, pixels] = picture.channels === 4 ? [mixColors, wordsOf(picture.data)] : [mixGrays, picture.data];
  for (let y = 0, q = 0; y < height; y++) {
    const row = starts[y] * width;
    for (let x = 0; x < width; x++, q++) mix(result.data, q, pixels, row + x, width, weights, y * step, counts[y]);
  }
  return result;
}

/**
 * Pixel number `q` of a picture as a weighted sum of others: every `stride`-th from number `p`.
 *
 * @param {Uint8ClampedArray} out @param {number} q @param {Uint32Array | Uint8ClampedArray} pixels @param {number} p
 * @param {number} stride @param {Int32Array} weights @param {number} from @param {number} count
 */
function mixColors(out, q, pixels, p, stride, weights, from, count) {
  let r = 1 << (PRECISION - 1);
  let g = r;
  let b = r;
  // a pixel at a time is faster than a byte at a time
  for (let k = from; k < from + count; k++, p += stride) {
    const pixel = pixels[p];
    const weight = weights[k];
    r = (r + Math.imul(pixel & 255, weight)) | 0;
    g = (g + Math.imul((pixel >>> 8) & 255, weight)) | 0;
    b = (b + Math.imul((pixel >>> 16) & 255, weight)) | 0;
  }
  out[4 * q] = r >> PRECISION;
  out[4 * q + 1] = g >> PRECISION;
  out[4 * q + 2] = b >> PRECISION;
}

/** @type {typeof mixColors} */
function mixGrays(out, q, pixels, p, stride, weights, from, count) {
  let sum = 1 << (PRECISION - 1);
  for (let k = from; k < from + count; k++, p += stride) sum = (sum + Math.imul(pixels[p], weights[k])) | 0;
  out[q] = sum >> PRECISION;
}
