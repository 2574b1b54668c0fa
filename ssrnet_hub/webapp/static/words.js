// @ts-check
/** A face in words. */
import { digits, inTenths, placesOf, signed } from './stages.js';

/**
 * @typedef {import('./stages.js').Reading} Reading
 * @typedef {ReturnType<typeof import('./strings.js').translator>} Say
 */

/** @param {Say} say @param {number} age */
export const inYears = (say, age) => (Number.isFinite(age) ? say('years', { age: inTenths(age) }) : say('no age'));

/** A bin in words. @param {Reading} reading @param {number} k @param {number} i @param {Say} say */
export function describe({ stages }, k, i, say) {
  const stage = stages[k];
  const { p, eta, shown } = stage.bins[i];
  const { fixed, moved } = placesOf(stage, i);
  const { start } = stage;
  const weight = { p: digits(p, 3), eta: signed(eta, 3), delta: signed(stage.delta, 3) };
  const [onGrid, after] = [fixed, moved].map((ends) => {
    const [low, high] = ends.map((end) => inTenths(start + end));
    return say('range', { low, high });
  });
  const facts = { ...weight, fixed: onGrid, moved: after, share: say('years', { age: inTenths(shown) }) };
  const how = say(k === 0 ? 'share.first' : 'share.later', {
    p: weight.p,
    place: inTenths(start + moved[0]),
    start: inTenths(start),
  });
  const share = say('years', { age: signed(shown) });
  return { facts, how, label: say('bin.label', { k: k + 1, i, ...facts, share }) };
}

/** The sum of the stages in numbers. @param {Reading} reading @param {Say} say */
export function equation({ stages, total, shown, age }, say) {
  if (!stages.length) return say('no stages');
  if (!Number.isFinite(total)) return say('no age');
  const sum = stages.map(({ shown }, k) =>
    k === 0 ? inTenths(shown) : `${shown < 0 ? '−' : '+'} ${inTenths(Math.abs(shown))}`,
  );
  const isClamped = Number.isFinite(age) && Math.abs(age - total) > 0.05;
  const years = inYears(say, shown);
  if (stages.length === 1 && !isClamped) return years;
  return say(isClamped ? 'clamped' : 'sum', { sum: sum.join(' '), total: years, age: inTenths(age) });
}
