/**
 * The stages that led to the age of one face; a port of `ssrnet_hub/inference/stages.py`.
 *
 * @typedef {object} Stage One stage of the soft stagewise regression; names as in the paper.
 * @property {number[]} p Weight of each bin, >= 0; need not sum to 1.
 * @property {number[]} eta Shift of each bin, in bins, in (-1, 1).
 * @property {number} delta Relative change of the number of bins, in (-1, 1).
 * @property {number} width Width of a bin, years.
 * @property {number} contribution Contribution of the stage to the age, years.
 */

/**
 * What a network answers for a batch, as one list of stages a face.
 *
 * @param {Record<string, {data: ArrayLike<number | bigint | string>}>} answer
 * @param {number} count Faces.
 * @param {number[]} stageBins
 * @returns {Stage[][]}
 */
export function splitStages({ p, eta, delta, width, contribution }, count, stageBins) {
  const total = stageBins.reduce((sum, bins) => sum + bins, 0);
  /** @param {{data: ArrayLike<number | bigint | string>}} values @param {number} from @param {number} length */
  const read = ({ data }, from, length) => Array.from({ length }, (_, k) => Number(data[from + k]));
  return Array.from({ length: count }, (_, face) => {
    let start = face * total;
    return stageBins.map((bins, stage) => {
      const at = face * stageBins.length + stage;
      const [first] = [start, (start += bins)];
      return {
        p: read(p, first, bins),
        eta: read(eta, first, bins),
        delta: Number(delta.data[at]),
        width: Number(width.data[at]),
        contribution: Number(contribution.data[at]),
      };
    });
  });
}
