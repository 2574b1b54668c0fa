// @ts-check
/** The pictures of the breakdown at any time: the stages of a face, and their sum. */
import { clamp, put, s } from './dom.js';
import { digits, inTenths, mix, placesOf, signed, stagesAt } from './stages.js';
import { describe, equation, inYears } from './words.js';

/**
 * @typedef {import('./stages.js').Reading} Reading
 * @typedef {import('./words.js').Say} Say
 * @typedef {[number, number]} Span
 * @typedef {{entry: number, stage: number, bin: number}} Place
 */

const FEW = 12; // bins that have room for a label each
// heights of the parts of a lane in pixels, where LINK + CELL is a fingertip, and where they begin
const PAD = 12;
const TITLE = 24;
const BARS = 64;
const PEAK = 48;
const LINK = 16;
const CELL = 28;
const RULER = 36;
const GAP = 18;
const BASE = TITLE + BARS;
const GRID = BASE + LINK;
const AXIS = GRID + CELL;
const LANE = AXIS + RULER;

/** @param {(years: number) => number} x @param {number} a @param {number} b */
const between = (x, a, b) => ({ x: Math.min(x(a), x(b)), width: Math.abs(x(b) - x(a)) });

/** @param {number} k */
export const colorOf = (k) => `ssrnet-stage-${(k % 4) + 1}`;

/** @param {Span} span Years. @param {number} width Pixels. @returns {(years: number) => number} */
const scale =
  ([low, high], width) =>
  (years) =>
    PAD + ((years - low) / (high - low)) * (width - 2 * PAD);

/**
 * What a stage of several faces is drawn on, years from where it starts.
 *
 * @param {Reading[]} readings @param {number} k @returns {Span}
 */
export function spanOf(readings, k) {
  let low = 0;
  let high = k === 0 ? 100 : 0;
  for (const stage of readings.flatMap((reading) => reading.stages[k] ?? [])) {
    const grid = stage.fixed * stage.bins.length;
    const ends = [...stage.bins.flatMap((_, i) => placesOf(stage, i).moved), stage.contribution].filter(
      Number.isFinite,
    );
    // a network may move bins anywhere; what is too far off is not worth a smaller picture of the others
    low = Math.max(Math.min(low, ...ends), -grid);
    high = Math.max(high, grid, Math.min(Math.max(...ends), 2 * grid));
  }
  return [low, high || 1];
}

/**
 * A ruler of years that can roll.
 *
 * @param {Element} parent @param {number} y @param {Span} span @param {number} width Pixels.
 * @returns {(start: number) => void} Draws the ticks, with the span from a year.
 */
function drawRuler(parent, y, [low, high], width) {
  const x = scale([low, high], width);
  const years = high - low;
  const step = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100].find((step) => (step / years) * width >= 54) ?? years;
  const ticks = Array.from({ length: Math.floor(years / step) + 2 }, () => ({
    line: s('line', { class: 'ssrnet-tick', y1: y, y2: y + 5 }),
    text: s('text', { class: 'ssrnet-tick-label', y: y + 18, 'text-anchor': 'middle' }),
  }));
  parent.append(...ticks.flatMap(({ line, text }) => [line, text]));
  return (start) => {
    const first = Math.ceil((start + low) / step - 1e-9);
    ticks.forEach(({ line, text }, i) => {
      const value = (first + i) * step;
      const at = x(value - start);
      const seen = at < width - PAD + 1 ? at : NaN;
      put(line, { x1: seen, x2: seen });
      put(text, { x: seen });
      text.textContent = digits(value + 0, step < 1 ? 1 : 0);
    });
  };
}

/**
 * The stages of a face, each a closer look at where the ones before ended.
 *
 * @param {Reading} reading @param {number} entry @param {Span[]} spans @param {number} highest p that has room.
 * @param {number} width Pixels. @param {Say} say @param {string} label
 */
export function drawStages(reading, entry, spans, highest, width, say, label) {
  const { stages } = reading;
  const height = Math.max(stages.length * (LANE + GAP) - GAP, 0);
  const svg = s('svg', { class: 'ssrnet-stages', width, height, role: 'group', 'aria-label': label });
  const lanes = stages.map((stage, k) => {
    const x = scale(spans[k], width);
    const few = stage.bins.length <= FEW;
    const y = k * (LANE + GAP);
    const kind = stages.length === 1 ? '' : say(k === 0 ? 'coarse' : k === stages.length - 1 ? 'finest' : 'finer');
    const title = s('text', { class: 'ssrnet-title', x: PAD, y: 18 }, say('stage', { k: k + 1 }));
    title.append(s('tspan', { class: 'ssrnet-kind', dx: 8 }, kind));
    const lane = s('svg', { class: `${colorOf(k)}${few ? '' : ' ssrnet-many'}`, y, width, height: LANE });
    const says = s('text', { class: 'ssrnet-says', x: width - PAD, y: 18, 'text-anchor': 'end' });
    const lever = s('rect', { class: 'ssrnet-lever' });
    const reach = s('text', { class: 'ssrnet-reach' });
    const mark = s('circle', { class: 'ssrnet-mark', cy: AXIS + 8, r: 5.5 });
    const funnel = s('polygon', { class: `ssrnet-funnel ${colorOf(k)}` });
    const bins = stage.bins.map((bin, i) => {
      const [left, right] = placesOf(stage, i).fixed;
      const cell = between(x, left, right);
      const said = describe(reading, k, i, say).label;
      const address = { 'data-entry': entry, 'data-stage': k, 'data-bin': i };
      const node = s('g', { class: 'ssrnet-bin', role: 'button', 'aria-label': said, ...address });
      const bar = s('rect', { class: 'ssrnet-bar' });
      const link = s('path', { class: 'ssrnet-link' });
      link.setAttribute('opacity', String(clamp(bin.p / highest || 0, 0.12, 1)));
      node.append(
        link,
        bar,
        s('rect', { class: few ? 'ssrnet-cell' : 'ssrnet-slot', ...cell, y: GRID, height: CELL, rx: few ? 6 : 0 }),
      );
      if (few) {
        const text = s('text', { x: cell.x + cell.width / 2, y: GRID + 19, 'text-anchor': 'middle' });
        text.append(
          s('tspan', { class: 'ssrnet-index' }, cell.width > 96 ? say('bin.short', { i }) : String(i)),
          ' ',
          s('tspan', { dx: 4 }, signed(bin.shown)),
        );
        node.append(text);
      }
      node.append(
        s('rect', { class: 'ssrnet-hit', ...cell, y: few ? BASE : TITLE, height: AXIS - (few ? BASE : TITLE) }),
      );
      const p = s('text', { class: 'ssrnet-p', 'text-anchor': 'middle' }, `p ${digits(bin.p, 3)}`);
      return { node, bar, link, cell, p, part: s('rect', { class: 'ssrnet-part', y: AXIS + 5, height: 6 }) };
    });
    const group = s('g', {
      role: 'group',
      'aria-label': `${say('stage', { k: k + 1 })}: ${inYears(say, stage.shown)}`,
    });
    group.append(...bins.map((bin) => bin.node));
    lane.append(s('rect', { class: 'ssrnet-lane', width, height: LANE, rx: 10 }), title, says);
    lane.append(s('line', { class: 'ssrnet-origin', x1: x(0), x2: x(0), y1: TITLE + 4, y2: AXIS }), lever, group);
    lane.append(...bins.flatMap(({ part, p }) => [part, p]), mark, reach);
    svg.append(funnel, lane);
    return {
      stage,
      x,
      y,
      lane,
      says,
      lever,
      reach,
      mark,
      funnel,
      bins,
      roll: drawRuler(lane, AXIS + 15, spans[k], width),
    };
  });
  /** @type {Place | null} */
  let chosen = null;
  let now = 0;

  /** @param {number} t */
  function draw(t) {
    now = t;
    const at = stagesAt(reading, t);
    lanes.forEach(({ stage, x, y, lane, says, lever, reach, mark, funnel, bins, roll }, k) => {
      const { start, width: bin, moved, added, run } = at[k];
      lane.classList.toggle('ssrnet-waiting', t > 0 && t < k);
      for (const element of [lever, reach]) put(element, { x: NaN });
      let total = 0;
      bins.forEach(({ bar, link, cell, p: label, part }, i) => {
        const { p, eta, share } = stage.bins[i];
        const left = (i + mix(0, eta, moved)) * bin;
        const place = between(x, left, left + bin);
        const tall = (clamp(p, 0, highest) / highest) * PEAK;
        const right = place.x + place.width;
        put(bar, { ...place, y: BASE - tall, height: tall });
        const middle = BASE + LINK / 2;
        const end = cell.x + cell.width;
        const ribbon = [
          `M${place.x} ${BASE}C${place.x} ${middle} ${cell.x} ${middle} ${cell.x} ${GRID}`,
          `H${end}C${end} ${middle} ${right} ${middle} ${right} ${BASE}Z`,
        ];
        link.setAttribute('d', Number.isFinite(right) ? ribbon.join('') : '');
        put(part, between(x, total, (total += share * added)));
        const isChosen = chosen?.stage === k && chosen.bin === i;
        put(label, { x: isChosen ? clamp(place.x + place.width / 2, 36, width - 36) : NaN, y: BASE - tall - 8 });
        if (!isChosen) return;
        const arm = between(x, 0, left);
        put(lever, { ...arm, y: BASE - tall, height: tall });
        reach.textContent = inYears(say, left);
        put(reach, { x: arm.width > 72 && tall > 18 ? arm.x + 8 : NaN, y: BASE - tall / 2 + 5 });
      });
      put(mark, { cx: x(run - start) });
      const said = mix(0, stage.shown, added);
      says.textContent = Number.isFinite(said) ? say('years', { age: k === 0 ? inTenths(said) : signed(said) }) : '';
      roll(start);
      const ends =
        k === 0 ? [NaN] : spans[k].map((end) => clamp(lanes[k - 1].x(start + end - at[k - 1].start), 0, width));
      const points = `${ends[0]},${y - GAP} ${ends[1]},${y - GAP} ${width - 10},${y} 10,${y}`;
      funnel.setAttribute('points', ends.every(Number.isFinite) ? points : '');
    });
  }

  /** @param {Place | null} place */
  function select(place) {
    chosen = place?.entry === entry ? place : null;
    lanes.forEach(({ bins }, k) =>
      bins.forEach(({ node, part }, i) => {
        const isChosen = chosen?.stage === k && chosen.bin === i;
        const isFirst = !chosen && k === 0 && i === 0;
        node.setAttribute('aria-pressed', String(isChosen));
        node.setAttribute('tabindex', isChosen || isFirst ? '0' : '-1');
        part.classList.toggle('ssrnet-chosen', isChosen);
      }),
    );
    draw(now);
  }
  return { svg, draw, select, nodes: lanes.map(({ bins }) => bins.map(({ node }) => node)) };
}

/**
 * The stages added up to the ages, a row for each reading, on one axis.
 *
 * @param {Reading[]} readings @param {Span} span @param {number} width Pixels. @param {Say} say
 */
export function drawSum(readings, span, width, say) {
  const several = readings.length > 1;
  const head = several ? 20 : 0;
  const row = 40 + head;
  const x = scale(span, width);
  const height = row * readings.length + 24;
  const said = readings.map((reading) => equation(reading, say)).join('; ');
  const svg = s('svg', { class: 'ssrnet-sum', width, height, role: 'img', 'aria-label': `${say('axis')}: ${said}` });
  const rows = readings.map(({ weights, stages, interval }, r) => {
    const y = r * row + head;
    if (several) svg.append(s('text', { class: 'ssrnet-row', x: PAD, y: y - 5 }, weights));
    const band = s('rect', { class: 'ssrnet-band', y, height: 34, rx: 5 });
    const mark = s('line', { class: 'ssrnet-total', y1: y, y2: y + 34 });
    put(band, between(x, ...(interval ?? [NaN, NaN])));
    const terms = stages.map((_, k) => s('rect', { class: `ssrnet-term ${colorOf(k)}`, y: y + 9, height: 16 }));
    const text = s('text', { class: 'ssrnet-total-label', y: y + 23 });
    svg.append(band, ...terms, mark, text);
    return { terms, mark, text };
  });
  drawRuler(svg, height - 23, span, width)(0);
  /** @param {number} t */
  const draw = (t) =>
    readings.forEach((reading, r) => {
      const { terms, mark, text } = rows[r];
      const at = stagesAt(reading, t);
      at.forEach(({ start, run }, k) => put(terms[k], between(x, start, run)));
      const run = at.at(-1)?.run ?? reading.age;
      const ends = [run, ...(reading.interval ?? [])].map(x);
      const right = Math.max(...ends);
      const fits = right + 110 < width;
      put(mark, { x1: x(run), x2: x(run) });
      put(text, { x: fits ? right + 8 : Math.min(...ends) - 8 });
      text.setAttribute('text-anchor', fits ? 'start' : 'end');
      text.textContent = inYears(say, run);
    });
  return { svg, draw };
}
